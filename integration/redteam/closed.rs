//! Machines that offer less: an agent, and in system mode an app of the broker's, is not started there, or is
//! confined all the same.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use zagi::redteam::{Canaries, Canary};

use super::{Mode, Shown, ends};
use crate::broker::{BECOMING, Broker};
use crate::machine::{Machine, Said, Who, processes};

/// Starts a command for which the kernel has not a call: number, what it answers.
const WITHOUT: &str = r#"
import ctypes, os, platform, struct, sys
call = {'landlock': 444, 'unshare': {'x86_64': 272, 'aarch64': 97}[platform.machine()]}[sys.argv[1]]
answer = {'landlock': 38, 'unshare': 1}[sys.argv[1]]
program = b''.join(struct.pack('HBBI', *i) for i in [
    (0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x50000 | answer), (0x06, 0, 0, 0x7fff0000)])
at = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
if libc.prctl(22, 2, struct.pack('@HP', 4, ctypes.addressof(at)), 0, 0): sys.exit('no filter')
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// A container as its makers leave it: processes of its own, and a `/proc` of which a part is hidden.
const CONTAINER: &str = "mount -t proc proc /proc; mount --bind /dev/null /proc/timer_list 2>/dev/null \
                         || mount --bind /dev/null /proc/kcore; exec \"$@\"";

/// Who can give away next to none of root's rights: only those to become the broker's user.
const BARE: [&str; 3] = ["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"];

/// What is tried with an agent; in system mode with an app of the broker's, too, as `app-…`.
const IDS: [(u8, &str); 4] =
    [(57, "no-landlock"), (57, "no-namespaces"), (58, "masked-proc"), (58, "no-capabilities")];

struct Stage {
    machine: Machine,
    dir: PathBuf,
    canaries: Canaries,
}

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let machine = Machine::new(mode.who());
    let broker = mode.broker(&machine);
    let work = machine.work();
    machine
        .sh(
            &work,
            "mkdir origin; cd origin; git init -q; echo x > f; git add f; \
        git -c user.name=T -c user.email=t@localhost commit -qm first",
        )
        .ok();
    let shared: &[&str] = if broker.is_some() { &["--allow-other"] } else { &[] };
    machine.zagi(&[&["mount", "--no-deps", "./origin", "w"], shared].concat()).ok();
    let names = IDS.map(|(_, id)| [id.to_owned(), app(id)]).concat();
    let canaries = Canaries::new(names.iter().map(String::as_str));
    let canaries = canaries.expect("the kernel has random bytes");
    let stage = Stage { dir: work.join("w"), machine, canaries };
    let mut shown: Vec<Shown> =
        IDS.iter().map(|(vector, id)| stage.agent(*vector, id, mode.who())).collect();
    if broker.is_some() {
        drop(broker);
        shown.extend(IDS.iter().map(|(vector, id)| stage.app(*vector, id)));
    }
    shown
}

fn app(id: &str) -> String {
    format!("app-{id}")
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What is around whatever starts there; a container's by `unshare` with these words.
fn around(id: &str, unshare: &str, bare: &[&str]) -> Vec<String> {
    let without =
        |what: &str| vec!["/usr/bin/python3".into(), "-c".into(), WITHOUT.into(), what.to_owned()];
    match id {
        "no-landlock" => without("landlock"),
        "no-namespaces" => without("unshare"),
        "masked-proc" => [words(unshare), vec![CONTAINER.into(), "sh".into()]].concat(),
        _ => bare.iter().map(|word| (*word).to_owned()).collect(),
    }
}

impl Stage {
    /// For what must not start: something to be said. For what must not see: a look at a file.
    fn act(&self, vector: u8, id: &str) -> (&Canary, String) {
        let canary = self.canaries.of(id).expect("each has one");
        let file = self.machine.work().join(id);
        std::fs::write(&file, canary.text()).expect("it can be written");
        self.machine.give(&file);
        let act = match vector {
            57 => format!("echo {}", canary.text()),
            _ => format!("cat {}", file.display()),
        };
        (canary, act)
    }

    fn agent(&self, vector: u8, id: &str, who: Who) -> Shown {
        let (canary, act) = self.act(vector, id);
        let program = self.machine.program().display().to_string();
        let agent = [program.as_str(), "agent", "--name", "t", "--", "sh", "-c"];
        let user = if who == Who::Me { "--mount" } else { "--user --map-root-user --mount" };
        let container = format!("unshare {user} --pid --fork sh -c");
        let bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
        let around = around(id, &container, &bare);
        let run = |before: &[String], command: &[&str]| {
            let all: Vec<&str> =
                before.iter().map(String::as_str).chain(command.iter().copied()).collect();
            Said::of(self.machine.command(all[0], &self.dir).args(&all[1..]))
        };
        // For what must not start: it starts elsewhere. For what it must not see: others see it there.
        let control = match vector {
            57 => run(&[], &[&agent[..], &[&act]].concat()),
            _ => run(&around, &["sh", "-c", &act]),
        };
        let inside = run(&around, &[&agent[..], &[&act]].concat());
        Shown::new(vector, id, got(canary, &control), got(canary, &inside))
    }

    /// The same with the broker there, and what it runs for the user.
    fn app(&self, vector: u8, id: &str) -> Shown {
        let name = app(id);
        let (canary, act) = self.act(vector, &name);
        let around = around(id, "unshare --mount --pid --fork --kill-child sh -c", &BARE);
        let around: Vec<&str> = around.iter().map(String::as_str).collect();
        let ask = || self.machine.zagi_in(&self.dir, &["run", "--", "sh", "-c", &act]);
        let control = match vector {
            57 => {
                let _whole = Broker::start(&self.machine, None);
                Said::of(&mut ask())
            }
            _ => {
                let all = [&around[..], &BECOMING, &["sh", "-c", &act]].concat();
                Said::of(Command::new(all[0]).args(&all[1..]).stdin(Stdio::null()))
            }
        };
        let broker = Broker::start_within(&self.machine, None, &around);
        let inside = match id {
            // Who asks from outside of it is not seen there, and refused.
            "masked-proc" => Said::of(&mut entering(broker.id(), &ask())),
            _ => Said::of(&mut ask()),
        };
        Shown::new(vector, &name, got(canary, &control), got(canary, &inside))
    }
}

fn got(canary: &Canary, said: &Said) -> Result<(), String> {
    let all = format!("{}{}", said.out, said.err);
    canary.found_in(all.as_bytes()).map(drop).ok_or(ends(&all))
}

/// The same command in the container that a process made.
fn entering(maker: u32, command: &Command) -> Command {
    let is_first = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{maker}"))
    };
    let first = processes("broker").into_iter().find(is_first).expect("it is there");
    let mut entering = Command::new("nsenter");
    entering.args(["--target", &first.to_string(), "--mount", "--pid"]).arg(command.get_program());
    entering.args(command.get_args()).env_clear().stdin(Stdio::null());
    entering.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    entering
}
