//! In system mode: attacks by the user's own processes, unconfined, on an app that has secrets and on
//! the broker. The control is the same attack on a process of that user's own.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use zagi::redteam::{Canaries, Canary};

use super::agent::SEARCH;
use super::{Shown, ends};
use crate::broker::Broker;
use crate::machine::{Machine, Said, Who};

/// Vector, name, and what is run with processes in `$P`.
const ATTACKS: [(u8, &str, &str); 6] = [
    (16, "outside-environ", "for p in $P; do tr '\\0' '\\n' < /proc/$p/environ; done"),
    (17, "outside-mem", "/usr/bin/python3 -c \"$SEARCH\" outside-mem $P"),
    (18, "outside-ptrace", "for p in $P; do /usr/bin/python3 -c \"$TRACE\" $p; done"),
    (19, "outside-readv", "for p in $P; do /usr/bin/python3 -c \"$READV\" $p; done"),
    (
        21,
        "outside-root",
        "for p in $P; do cat /proc/$p/root/run/secrets/* /proc/$p/cwd/outside-root; done",
    ),
    (23, "outside-broker", "/usr/bin/python3 -c \"$SEARCH\" outside-broker $P $BROKER"),
];

/// Attaches to a process (ptrace(2), `PTRACE_SEIZE`) and, if it may, prints what it was started with.
const TRACE: &str = "
import ctypes, sys
c = ctypes.CDLL(None, use_errno=True)
if c.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0:
    print(open(f'/proc/{sys.argv[1]}/environ').read())
else: print('not traced:', ctypes.get_errno())
";

/// Reads a process's stack by process_vm_readv(2).
const READV: &str = "
import ctypes, sys
class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
c = ctypes.CDLL(None, use_errno=True)
c.process_vm_readv.argtypes = [ctypes.c_int, ctypes.POINTER(V), ctypes.c_ulong, ctypes.POINTER(V), ctypes.c_ulong, ctypes.c_ulong]
c.process_vm_readv.restype = ctypes.c_ssize_t
try: maps = open(f'/proc/{sys.argv[1]}/maps').read().splitlines()
except OSError as e: sys.exit(f'{e}')
for line in maps:
    if '[stack]' not in line: continue
    begin, end = (int(x, 16) for x in line.split()[0].split('-'))
    into = ctypes.create_string_buffer(end - begin)
    here, there = V(ctypes.addressof(into), end - begin), V(begin, end - begin)
    got = c.process_vm_readv(int(sys.argv[1]), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    print(into.raw[:max(got, 0)].replace(b'\\0', b'\\n').decode(errors='replace'))
";

struct Stage {
    machine: Machine,
    broker: Broker,
    dir: std::path::PathBuf,
    canaries: Canaries,
}

/// Ends with this value, and all below it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn measure() -> Vec<Shown> {
    let stage = Stage::new();
    let mut shown = vec![stage.identity(), stage.approval()];
    let control = {
        let _own = stage.own();
        stage.attack(&stage.processes("sleep\x00411"))
    };
    let _app = stage.app();
    let app = stage.attack(&stage.processes("sleep\x00412"));
    for (vector, id, _) in ATTACKS {
        let canary = stage.canaries.of(id).expect("each has one");
        let of = |said: &Said| found(canary, said, id);
        shown.push(Shown::new(vector, id, of(&control), of(&app)));
    }
    shown
}

impl Stage {
    fn new() -> Stage {
        let machine = Machine::new(Who::Ordinary);
        let broker = Broker::start(&machine, None);
        let ids = ATTACKS.iter().map(|(_, id, _)| *id).chain(["outside-identity", "outside-yes"]);
        let canaries = Canaries::new(ids).expect("the kernel has random bytes");
        let work = machine.work();
        let script = "mkdir origin; cd origin; git init -q; echo 'sleep 412' > app.sh; \
                      echo 'printf %s \"$YES\" | rev' > yes.sh; git add -A; \
                      git -c user.name=T -c user.email=t@localhost commit -qm first";
        machine.sh(&work, script).ok();
        machine.zagi(&["mount", "--no-deps", "--allow-other", "./origin", "w"]).ok();
        let stage = Stage { dir: work.join("w"), machine, broker, canaries };
        for (_, id, _) in ATTACKS {
            let how = if id == "outside-root" { "--file outside-root" } else { "--raw" };
            stage.set(&id.replace('-', "_").to_uppercase(), id, how, "sh app.sh");
        }
        stage.set("YES", "outside-yes", "--raw", "sh yes.sh");
        stage
    }

    fn value(&self, id: &str) -> String {
        self.canaries.of(id).expect("each has one").text()
    }

    fn set(&self, name: &str, id: &str, how: &str, command: &str) {
        let (zagi, value) = (self.machine.program().display(), self.value(id));
        let script = format!("printf %s {value} | {zagi} secrets set {name} {how}");
        self.machine.sh(&self.dir, &script).ok();
        let grant = format!("secrets grant {name} --command '{command}'");
        Said::of(&mut self.broker.sudo(&self.machine, &self.dir, &grant, "")).ok();
    }

    /// A process of the user's own that has the same.
    fn own(&self) -> Running {
        let dir = self.machine.work().join("own");
        let file =
            format!("mkdir own; printf %s {} > own/outside-root", self.value("outside-root"));
        self.machine.sh(&self.machine.work(), &file).ok();
        let mut command = self.machine.command("sleep", &dir);
        command.arg("411").stdout(Stdio::null());
        for (_, id, _) in ATTACKS {
            command.env(id.replace('-', "_").to_uppercase(), self.value(id));
        }
        let running = Running(command.spawn().expect("it starts"));
        self.wait("sleep\x00411");
        running
    }

    /// The app, which root has approved.
    fn app(&self) -> Running {
        let mut command = self.broker.sudo(&self.machine, &self.dir, "run -- sh app.sh", "y\\n");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running(command.spawn().expect("it starts"));
        self.wait("sleep\x00412");
        running
    }

    fn wait(&self, word: &str) {
        let begun = Instant::now();
        while self.processes(word).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{word}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes whose command line begins so.
    fn processes(&self, word: &str) -> Vec<String> {
        let all = std::fs::read_dir("/proc").expect("there is one").flatten();
        let is = |entry: &std::fs::DirEntry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.starts_with(word.as_bytes())
        };
        all.filter(is).filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// All of it, by the user's own shell; each under its name.
    fn attack(&self, processes: &[String]) -> Said {
        let mut script = String::new();
        for (_, id, text) in ATTACKS {
            script.push_str(&format!("echo '--- {id}'; ({text}) 2>&1\n"));
        }
        let mut shell = self.machine.command("sh", &self.machine.work());
        shell.args(["-c", &script]).env("P", processes.join(" "));
        shell.env("BROKER", format!("{} {}", self.broker.id(), self.lent()));
        shell.envs([("SEARCH", SEARCH), ("TRACE", TRACE), ("READV", READV)]);
        Said::of(&mut shell)
    }

    /// The broker's processes at work.
    fn lent(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        // Of one that cannot be dumped the files are root's: it is known by its program.
        let owner = std::fs::metadata(self.broker.state()).expect("it is there").uid();
        let all = std::fs::read_dir("/proc").expect("there is one").flatten();
        let is = |entry: &std::fs::DirEntry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            entry.metadata().is_ok_and(|about| about.uid() == owner)
                || line.windows(6).any(|word| word == b"__lent")
        };
        let names = all.filter(is).filter_map(|entry| entry.file_name().into_string().ok());
        let numbers = names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
        numbers.collect::<Vec<_>>().join(" ")
    }

    /// The key to all secrets. The control: where user mode has it.
    fn identity(&self) -> Shown {
        let read = |file: &Path| {
            self.machine.sh(&self.dir, &format!("cat {} 2>&1 || true", file.display()))
        };
        let own = self.machine.home().join("secrets/identity");
        let value = self.value("outside-identity");
        let script = format!(
            "mkdir -p {0}; echo {value} > {0}/identity",
            own.parent().expect("it has").display()
        );
        self.machine.sh(&self.dir, &script).ok();
        let canary = self.canaries.of("outside-identity").expect("it has one");
        let control = found(canary, &read(&own), "");
        let user = nix::unistd::User::from_name(crate::machine::ORDINARY);
        let uid = user.ok().flatten().expect("it is there").uid;
        let brokers = self.broker.state().join(format!("users/{uid}/home/.zagi/secrets/identity"));
        assert!(brokers.is_file(), "{}", brokers.display());
        let said = read(&brokers);
        let inside = match said.out.contains("AGE-SECRET-KEY") {
            true => Ok(()),
            false => Err(ends(&said.out)),
        };
        Shown::new(33, "outside-identity", control, inside)
    }

    /// A terminal of one's own that says yes. The control: root's.
    fn approval(&self) -> Shown {
        let zagi = self.machine.program().display();
        let yes = format!("printf 'y\\n' | script -qec \"{zagi} run -- sh yes.sh\" /dev/null");
        let said = self.machine.sh(&self.dir, &yes);
        // It is printed backwards, which is taken out of what is shown: that it ran is seen by that; or by the value,
        // where the terminal has shown what was typed in the middle of it.
        let canary = self.canaries.of("outside-yes").expect("it has one");
        let had = |said: &Said| {
            let out = said.out.replace("^@", "");
            match out.contains("*****") || canary.found_in(out.as_bytes()).is_some() {
                true => Ok(()),
                false => Err(ends(&said.out)),
            }
        };
        let control = self.broker.sudo(&self.machine, &self.dir, "run -- sh yes.sh", "y\\n");
        let inside = had(&said);
        let mut control = control;
        Shown::new(54, "outside-yes", had(&Said::of(&mut control)), inside)
    }
}

/// Whether a value is in what was said, else the last word on that attack.
fn found(canary: &Canary, said: &Said, id: &str) -> Result<(), String> {
    let all = format!("{}{}", said.out, said.err);
    let part = all.split(&format!("--- {id}\n")).last().unwrap_or_default();
    let part = part.split("\n--- ").next().unwrap_or_default();
    canary.found_in(all.as_bytes()).map(drop).ok_or(ends(part))
}
