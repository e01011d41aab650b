//! System mode: the broker under a user of its own, and what the user's own processes can do then.

mod agent;
mod exchange;
mod peer;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zagi_integration::broker::{ASK, Broker};
use zagi_integration::https::{self, Https};
use zagi_integration::machine::{Machine, Said, Who, processes};

const KEY: &str = "sk_live_c4nary0b7e5a1d99";
const RAW: &str = "r4w-c4nary-0c55aa91";

/// A machine in system mode with a project.
struct System {
    machine: Machine,
    broker: Broker,
    upstream: Https,
    origin: PathBuf,
    dir: PathBuf,
}

impl System {
    fn new() -> System {
        System::with("")
    }

    /// Whose project has this `env.toml`.
    fn with(environment: &str) -> System {
        let machine = Machine::new(Who::Ordinary);
        let upstream = https::start(KEY);
        let broker = Broker::start(&machine, Some(&upstream.certificate));
        let origin = super::git::repository(&machine, "app");
        let app = "echo \"has $KEY and $RAW\"; echo made > made; id -u; sleep \"${1:-0}\"\n";
        std::fs::write(origin.join("app.sh"), app).expect("the repository is there");
        if !environment.is_empty() {
            std::fs::create_dir(origin.join(".zagi")).expect("the repository is there");
            std::fs::write(origin.join(".zagi/env.toml"), environment).expect("it is");
        }
        machine.git(&origin, &["add", "-A"]).ok();
        machine.git(&origin, &["commit", "-qm", "app"]).ok();
        machine.zagi(&["mount", "--allow-other", origin.to_str().expect("text"), "w"]).ok();
        let dir = machine.work().join("w");
        System { machine, broker, upstream, origin, dir }
    }

    fn zagi(&self, argv: &[&str]) -> Said {
        Said::of(&mut self.machine.zagi_in(&self.dir, argv))
    }

    fn set(&self, name: &str, value: &str, more: &str) {
        let zagi = self.machine.program().display();
        let script = format!("printf %s '{value}' | {zagi} secrets set {name} {more}");
        let said = self.machine.sh(&self.dir, &script).ok();
        // The user's file is spoken of, and not the broker's copy.
        let file = self.dir.join(".zagi/secrets.enc").display().to_string();
        let state = self.broker.state().display().to_string();
        assert!(said.err.contains(&file) && !said.err.contains(&state), "{said:?}");
    }

    /// `zagi` as root, by `sudo` of the user.
    fn sudo(&self, argv: &[&str], answer: &str) -> Said {
        Said::of(&mut self.broker.sudo(&self.machine, &self.dir, &argv.join(" "), answer))
    }
}

/// Ends with the value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a process with the group that it leads, and so nobody of another test's.
fn end(mut leader: Child) {
    let group = nix::unistd::Pid::from_raw(leader.id() as i32);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).expect("ours");
    leader.wait().expect("ours");
}

/// What the user's own shell reads of a process, by every way there is.
fn look(machine: &Machine, dir: &Path, pids: &[u32]) -> String {
    let mut script = String::new();
    for pid in pids {
        script.push_str(&format!(
            "tr '\\0' '\\n' < /proc/{pid}/environ; cat /proc/{pid}/root/run/secrets/*; \
             strings -n 8 /proc/{pid}/mem; cat /proc/{pid}/fd/0 < /dev/null; \
             python3 -c 'import ctypes; l = ctypes.CDLL(None); print(\"traced\" if l.ptrace(16, {pid}, 0, 0) == 0 else \"no\")'; "
        ));
    }
    let said = Said::of(machine.command("sh", dir).args(["-c", &format!("{script} true")]));
    said.out + &said.err
}

const RUN: [&str; 4] = ["run", "--", "sh", "app.sh"];

#[test]
fn not_even_the_users_own_processes_see_a_value() {
    let mut system = System::new();
    what_changes_meanwhile_is_no_matter_of_an_app(&system);
    what_shows_or_approves_is_roots_to_ask(&system);
    the_control_is_seen(&system);
    the_app_and_the_broker_are_not(&system);
    what_is_the_brokers_own_is_shown_by_nobodys_word(&system);
    a_dead_broker_gives_nothing(&mut system);
}

/// A secret is set while an app runs: both end well, and the secret stays.
fn what_changes_meanwhile_is_no_matter_of_an_app(system: &System) {
    let mut run = system.machine.zagi_in(&system.dir, &["run", "--", "sh", "-c", "echo up; cat"]);
    let mut app = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it was built");
    let mut line = String::new();
    let output = app.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("it says that it is up");
    assert_eq!(line, "up\n");
    system.set("LATER", "later-value", "--raw");
    drop(app.stdin.take());
    assert_eq!(app.wait().expect("ours").code(), Some(0));
    assert!(system.zagi(&["secrets", "list"]).ok().out.contains("LATER"));
    system.zagi(&["secrets", "remove", "LATER"]).ok();
}

fn what_shows_or_approves_is_roots_to_ask(system: &System) {
    let at = system.upstream.port;
    system.set(
        "KEY",
        KEY,
        &format!("--host localhost:{at} --header Authorization --format 'Bearer {{}}'"),
    );
    system.set("RAW", RAW, "--raw");
    // The file is the user's own, in their tree; its identity is not.
    assert!(system.dir.join(".zagi/secrets.enc").is_file());
    let names = system.zagi(&["secrets", "list"]).ok().out;
    assert!(names.contains("KEY") && names.contains("RAW"), "{names}");
    assert!(!system.machine.home().join("secrets/identity").exists());

    // What shows a value, or approves, is root's to ask.
    for argv in [
        &["secrets", "get", "RAW", "--reveal"][..],
        &["secrets", "grant", "RAW", "--agent", "t"],
        &["secrets", "set", "KEY", "--keep", "--host", "elsewhere.test", "--header", "A"],
        &["secrets", "share", "age1x", "--name", "x"],
    ] {
        let said = system.zagi(argv);
        assert!(said.code == 1 && said.err.contains("root's to ask"), "{argv:?}: {said:?}");
    }
    let said = system.zagi(&RUN);
    assert!(said.code == 1 && said.err.contains("an approval"), "{said:?}");
    let zagi = system.machine.program().display();
    let own_pty = format!("printf 'y\\n' | script -qec \"{zagi} run -- sh app.sh\" /dev/null");
    let said = system.machine.sh(&system.dir, &own_pty);
    assert!(
        said.out.contains("root's to ask") && !said.out.contains("has "),
        "a pty of its own: {said:?}"
    );
    let said = system.sudo(&RUN, "y\\n");
    let stars = "*".repeat(RAW.len());
    assert!(said.out.contains(&format!("and {stars}")), "{said:?}");
    // From now on for the user, too: as a user of the sandbox's, from a copy.
    let said = system.zagi(&RUN).ok();
    assert!(
        said.out.contains("has zagi-placeholder-")
            && said.out.contains(&format!("and {stars}\n1000\n")),
        "{said:?}"
    );
    assert!(!system.dir.join("made").exists());
}

/// What is looked for is there to be seen.
fn the_control_is_seen(system: &System) {
    // The same looks into a process of the user's own.
    let mut control = system.machine.command("sh", &system.dir);
    control.args(["-c", "sleep 371; true"]).env("RAW", RAW).process_group(0);
    let control = control.spawn().expect("starts");
    let begun = Instant::now();
    while processes("sleep\x00371").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = look(&system.machine, &system.dir, &processes("sleep\x00371"));
    assert!(seen.contains(RAW) && seen.contains("traced"), "the control: {seen}");
    end(control);
}

/// A run that lasts, approved by root; and it ends with who asked.
fn the_app_and_the_broker_are_not(system: &System) {
    let command = "run -- sh app.sh 373";
    let mut command = system.broker.sudo(&system.machine, &system.dir, command, "y\\n");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let running = command.process_group(0).spawn().expect("starts");
    // Another test's terminal.
    let mut other = Command::new("script");
    other.args(["-qec", "sleep 374", "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut other = Ended(other.spawn().expect("starts"));
    let begun = Instant::now();
    while processes("sleep\x00373").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut pids = processes("sleep\x00373");
    pids.extend(processes("app.sh\x00373"));
    pids.push(system.broker.id());
    pids.extend(processes("__lent"));
    let seen = look(&system.machine, &system.dir, &pids);
    assert!(!seen.contains(RAW) && !seen.contains(KEY) && !seen.contains("traced"), "{seen}");
    // Nor where the broker keeps its own.
    let state = system.broker.state();
    let said = system.machine.sh(&system.dir, &format!("ls {} || true", state.display())).ok();
    assert!(said.out.is_empty() && said.err.contains("Permission denied"), "{said:?}");
    let found = Said::of(Command::new("grep").args(["-rlaF", RAW]).arg(&state));
    assert_eq!(found.out, "", "nor does it keep one");

    // It ends with who asked.
    end(running);
    assert!(other.0.try_wait().expect("ours").is_none(), "who is not of the test lives on");
    let begun = Instant::now();
    while !processes("sleep\x00373").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it runs on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The user names the broker's own directories as a project, and as a part of an environment.
fn what_is_the_brokers_own_is_shown_by_nobodys_word(system: &System) {
    let (machine, state) = (&system.machine, system.broker.state());
    let home = machine.home();
    let uid = nix::unistd::User::from_name(zagi_integration::machine::ORDINARY);
    let uid = uid.ok().flatten().expect("it is there").uid;
    let own = state.join(format!("users/{uid}/home"));
    let socket = state.with_file_name("run").join("socket");
    let ask = |root: &Path| {
        let mut command = machine.command("/usr/bin/python3", &machine.work());
        command.args(["-c", ASK]).arg(&socket).arg(&home).arg(root);
        Said::of(command.args(["run", "--", "id", "-u"])).ok().out
    };
    let for_app = ["secrets", "grant", "RAW", "--command", "'sh app.sh'"];
    system.sudo(&for_app, "").ok();
    // The control: so it can be asked.
    assert!(ask(&system.dir).starts_with("1000\n"), "{}", ask(&system.dir));
    assert!(ask(&own).contains("cannot look into"), "{}", ask(&own));
    let forge = format!(
        "cd {}/workspaces/????????????/; mkdir -p ../../envs/evil1; cp workspace.toml kept; \
         sed -i 's/^environment = .*/environment = \"evil1\"/' workspace.toml; \
         printf '{{\"version\":1,\"key\":\"evil1\",\"root\":\"/\",\"path\":[],\"vars\":{{}},\"trees\":[\"%s\"]}}' {} > ../../envs/evil1/activate.json",
        home.display(),
        state.parent().expect("it has one").display(),
    );
    machine.sh(&system.dir, &forge).ok();
    let said = system.zagi(&["run", "--", "id", "-u"]);
    assert!(said.code == 1 && said.err.contains("permission denied"), "{said:?}");
    machine
        .sh(
            &system.dir,
            &format!("cd {}/workspaces/????????????/; mv kept workspace.toml", home.display()),
        )
        .ok();
    system.zagi(&["run", "--", "id", "-u"]).ok();
}

fn a_dead_broker_gives_nothing(system: &mut System) {
    system.broker.kill();
    let said = system.zagi(&RUN);
    assert!(said.code == 1 && said.err.contains("does not answer"), "{said:?}");
}

#[test]
fn an_app_has_its_services_from_the_broker_too() {
    let system = System::with("[services]\npostgres = \"16\"\n");
    let ask = ["run", "--", "psql", "-Atc", "select 'answered by ' || current_user"];
    for _ in 0..2 {
        let said = system.zagi(&ask).ok();
        assert!(said.out.contains("answered by "), "{said:?}");
    }
    // Its keeper is the broker's, and stays for the next.
    let kept = processes(&format!("__keep\x00{}", system.broker.state().display()));
    assert_eq!(kept.len(), 1, "{kept:?}");
    for pid in kept {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
}
