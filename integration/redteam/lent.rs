//! In system mode: attacks by the user's own processes, unconfined, on what the broker takes that user's
//! word for (variables, tools), on the broker's own processes, and by an agent on the broker's socket.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::agent::Running;
use super::app::{Stage, found};
use super::{Mode, Shown, ends};
use crate::broker::ASK;
use crate::machine::{Said, processes};

/// What bash runs before a script, with the proof in it.
const BEFORE: &str = "$(printf %s \"$RAW\" | sha256sum >&2)";
const POISON: &str = "#!/bin/sh\nprintf %s \"$RAW\" | sha256sum\n";

/// Looks into the processes `$P`, and says what it got.
const LOOK: &str = r#"for p in $P; do
tr '\0' '\n' < /proc/$p/environ | grep -q . && echo got environ
ls /proc/$p/root/ >/dev/null && ls /proc/$p/cwd/ >/dev/null && echo got root
ls -l /proc/$p/fd | grep -q -- '->' && echo got fd
/usr/bin/python3 -c 'import ctypes, sys; print("got ptrace" if ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0 else "not traced")' $p
/usr/bin/python3 -c 'import os, sys; f = os.open(f"/proc/{sys.argv[1]}/mem", os.O_RDONLY); print("got mem")' $p
/usr/bin/python3 -c 'import os, sys; os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY); print("got namespaces")' $p
kill -0 $p && echo got signal
done 2>&1"#;
/// All of that.
const GOT: [&str; 7] = ["environ", "root", "fd", "ptrace", "mem", "namespaces", "signal"];

pub(super) fn measure() -> Vec<Shown> {
    let script =
        "echo 'tool; git hook run --ignore-missing later' > app.sh; echo 'sleep 414' > wait.sh";
    let stage = Stage::of(Mode::System, ["core"], script);
    stage.set("RAW", "raw", "bash app.sh");
    stage.set("CORE", "core", "sh wait.sh");
    let mut shown = vec![tools(&stage), variables(&stage), hook(&stage), socket(&stage)];
    shown.extend(of_the_broker(&stage));
    shown
}

/// A tool of the environment is exchanged after the approval.
fn tools(stage: &Stage) -> Shown {
    let home = stage.machine.home();
    let tree = stage.machine.work().join("tree");
    let script = format!(
        "mkdir -p ../tree/bin {home}/envs/forged; printf '#!/bin/sh\\necho fine\\n' > ../tree/bin/tool; \
         chmod +x ../tree/bin/tool; chmod a+rx ../tree ../tree/bin; \
         printf '{{\"version\":1,\"key\":\"forged\",\"root\":\"{home}\",\"path\":[\"{tree}/bin\"],\"vars\":{{}},\"trees\":[\"{tree}\"]}}' \
         > {home}/envs/forged/activate.json; \
         sed -i 's/^environment = .*/environment = \"forged\"/' {home}/workspaces/*/workspace.toml",
        home = home.display(),
        tree = tree.display()
    );
    stage.sh(&script).ok();
    stage.approve("bash app.sh").ok();
    let fine = stage.run("bash app.sh").ok();
    assert!(fine.out.contains("fine"), "{fine:?}");
    std::fs::write(stage.machine.work().join("poison"), POISON).expect("written");
    stage.sh("cat ../poison > ../tree/bin/tool").ok();
    let inside = stage.run("bash app.sh");
    let raw = stage.canaries.of("raw").expect("it has one").text();
    let control = stage.sh(&format!("RAW={raw} ../tree/bin/tool"));
    stage.sh("printf '#!/bin/sh\\necho fine\\n' > ../tree/bin/tool").ok();
    Shown::new(2, "outside-tools", stage.had(&control), stage.had(&inside))
}

/// A variable of the project's is added to what the user's home says of the workspace.
fn variables(stage: &Stage) -> Shown {
    stage.approve("bash app.sh").ok();
    stage.run("bash app.sh").ok();
    let home = stage.machine.home().display().to_string();
    std::fs::write(stage.machine.work().join("env"), format!("\n[env]\nBASH_ENV = '{BEFORE}'\n"))
        .expect("written");
    stage
        .sh(&format!("for f in {home}/workspaces/*/workspace.toml; do cat ../env >> $f; done"))
        .ok();
    let inside = stage.run("bash app.sh");
    let control = stage.approve("bash app.sh");
    stage.sh(&format!("sed -i '/^.env.$/d; /^BASH_ENV/d' {home}/workspaces/*/workspace.toml")).ok();
    Shown::new(4, "outside-variables", stage.had(&control), stage.had(&inside))
}

/// A hook of git's, which the app runs.
fn hook(stage: &Stage) -> Shown {
    stage.approve("bash app.sh").ok();
    stage.run("bash app.sh").ok();
    stage.sh("cp ../poison .git/hooks/later; chmod +x .git/hooks/later").ok();
    let inside = stage.run("bash app.sh");
    let control = stage.approve("bash app.sh");
    stage.sh("rm .git/hooks/later").ok();
    Shown::new(49, "outside-hook", stage.had(&control), stage.had(&inside))
}

/// An agent asks the broker.
fn socket(stage: &Stage) -> Shown {
    std::fs::write(stage.machine.work().join("ask"), ASK).expect("written");
    stage.sh("cp ../ask ask.py").ok();
    let broker = stage.broker.as_ref().expect("system mode");
    let command = format!(
        "/usr/bin/python3 ask.py {} {} {} secrets list",
        broker.state().with_file_name("run").join("socket").display(),
        stage.machine.home().display(),
        stage.dir.display()
    );
    let got = |said: &Said| match said.out.contains("CORE") {
        true => Ok(()),
        false => Err(ends(&said.err)),
    };
    let (control, inside) = (stage.sh(&command), stage.agent(&command));
    stage.sh("rm ask.py").ok();
    Shown::new(48, "broker-socket", got(&control), got(&inside))
}

/// The broker's processes, while an app runs that has values.
fn of_the_broker(stage: &Stage) -> [Shown; 2] {
    let broker = stage.broker.as_ref().expect("system mode");
    let value = stage.canaries.of("core").expect("it has one").text();
    let mut careless = stage.machine.command("sh", &stage.machine.work());
    careless.args(["-c", "ulimit -c unlimited; exec sleep 415"]).env("CORE", value);
    let careless = Running(careless.spawn().expect("it starts"));
    wait("sleep\x00415");
    let look = |pids: &[u32]| {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut shell = stage.machine.command("sh", &stage.machine.work());
        Said::of(shell.args(["-c", LOOK]).env("P", pids.join(" ")))
    };
    let said = look(&[careless.id()]);
    let missing: Vec<&str> =
        GOT.into_iter().filter(|what| !said.out.contains(&format!("got {what}\n"))).collect();
    let control = match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("no {}: {}", missing.join(", "), said.out)),
    };
    let mut app = broker.sudo(&stage.machine, &stage.dir, "run -- sh wait.sh", "y\\n");
    let app = app.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let _app = Running(app);
    wait("sleep\x00414");
    // Others on this machine may have brokers, too.
    let is_ours = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{}", broker.id()))
    };
    let lent: Vec<u32> = processes("__lent").into_iter().filter(is_ours).collect();
    assert!(!lent.is_empty());
    let said = look(&[&[broker.id()], &lent[..]].concat());
    let inside = match said.out.contains("got ") {
        true => Ok(()),
        false => Err(ends(&said.out)),
    };
    let looked = Shown::new(23, "outside-processes", control, inside);

    // Made to die: by the user, who may not; and by root, for whose eyes there is no dump.
    let canary = stage.canaries.of("core").expect("it has one");
    let work = stage.machine.work();
    let abort = |pid: u32| stage.machine.sh(&work, &format!("kill -ABRT {pid} 2>&1 || true"));
    let pid = careless.id();
    abort(pid);
    // Its dump is whole when it is dead.
    let dump = format!(
        "for i in $(seq 200); do grep -q '^State:.[ZX]' /proc/{pid}/status && break; sleep 0.02; done; \
         cat core*; rm -f core*"
    );
    let control = found(canary, &stage.machine.sh(&work, &dump));
    drop(careless);
    let mut all = String::new();
    for pid in &lent {
        all.push_str(&abort(*pid).out);
        assert!(std::fs::exists(format!("/proc/{pid}")).expect("it can be seen"), "{all}");
        let mut root = Command::new("sh");
        let dump = format!("kill -ABRT {pid}; sleep 1; cat core* /core* {}/core*", work.display());
        let said = Said::of(root.args(["-c", &dump]).current_dir(broker.state()));
        all.push_str(&said.out);
    }
    let inside = match canary.found_in(all.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(ends(&all)),
    };
    [looked, Shown::new(24, "outside-core", control, inside)]
}

fn wait(word: &str) {
    let begun = Instant::now();
    while processes(word).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{word}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
