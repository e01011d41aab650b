//! Machines that offer less: an agent is not started there, or is confined all the same.

use zagi::redteam::Canaries;

use super::{Shown, ends};
use crate::machine::{Machine, Said, Who};

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

pub(super) fn measure(who: Who) -> Vec<Shown> {
    let machine = Machine::new(who);
    let work = machine.work();
    machine
        .sh(
            &work,
            "mkdir origin; cd origin; git init -q; echo x > f; git add f; \
        git -c user.name=T -c user.email=t@localhost commit -qm first",
        )
        .ok();
    machine.zagi(&["mount", "--no-deps", "./origin", "w"]).ok();
    let dir = work.join("w");
    let ids = ["no-landlock", "no-namespaces", "masked-proc", "no-capabilities"];
    let canaries = Canaries::new(ids).expect("the kernel has random bytes");
    let program = machine.program().display().to_string();
    let agent = [program.as_str(), "agent", "--name", "t", "--", "sh", "-c"];
    let user = if who == Who::Me { "--mount" } else { "--user --map-root-user --mount" };
    let container = format!("unshare {user} --pid --fork sh -c");
    let mut shown = Vec::new();
    for id in ids {
        let canary = canaries.of(id).expect("each has one");
        let file = work.join(id);
        std::fs::write(&file, canary.text()).expect("it can be written");
        machine.give(&file);
        let look = format!("cat {}", file.display());
        let begin = format!("echo {}", canary.text());
        let without = |what: &str| {
            vec!["/usr/bin/python3".into(), "-c".into(), WITHOUT.into(), what.to_owned()]
        };
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        // What is around it; what an agent would do; what shows that it is confined there.
        let (vector, around, act) = match id {
            "no-landlock" => (57, without("landlock"), &begin),
            "no-namespaces" => (57, without("unshare"), &begin),
            "masked-proc" => {
                (58, [words(&container), vec![CONTAINER.into(), "sh".into()]].concat(), &look)
            }
            _ => (58, words("setpriv --bounding-set=-all --inh-caps=-all"), &look),
        };
        let run = |before: &[String], command: &[&str]| {
            let all: Vec<&str> =
                before.iter().map(String::as_str).chain(command.iter().copied()).collect();
            Said::of(machine.command(all[0], &dir).args(&all[1..]))
        };
        let got = |said: &Said| {
            let all = format!("{}{}", said.out, said.err);
            canary.found_in(all.as_bytes()).map(drop).ok_or(ends(&all))
        };
        // For what must not start: it starts elsewhere. For what it must not see: others see it there.
        let control = match vector {
            57 => run(&[], &[&agent[..], &[act]].concat()),
            _ => run(&around, &["sh", "-c", act]),
        };
        let inside = run(&around, &[&agent[..], &[act]].concat());
        shown.push(Shown::new(vector, id, got(&control), got(&inside)));
    }
    shown
}
