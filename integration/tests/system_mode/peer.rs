//! Who is answered: a process that lives, in the broker's own user namespace. Whatever its user's number is,
//! one in a namespace of its own is not, and neither is who was handed a connection by one that is gone.

use std::process::{Command, Stdio};

use zagi_integration::broker::ASK;
use zagi_integration::machine::{ORDINARY, Said};

use super::{RAW, System};

/// Makes what follows a process in another user namespace: with its user's number, as root, as nobody.
const OTHERS: [&[&str]; 3] = [
    &["unshare", "--user", "--map-current-user"],
    &["unshare", "--user", "--map-root-user"],
    &["unshare", "--user"],
];
const REFUSED: &str = "the broker answers nobody in a user namespace of their own";

/// Who made the connection goes, and its child asks when it is gone.
const GONE: &str = "
import select
held, before = os.pidfd_open(os.getpid()), os.getpid()
if os.fork(): os._exit(0)
ends = select.poll(); ends.register(held, select.POLLIN); ends.poll()
";
/// The same, when nothing is left of it.
const REAPED: &str = "
import time
while os.path.exists(f'/proc/{before}'): time.sleep(0.01)
";
/// Who made the connection stays while its child asks.
const STAYS: &str = "
if os.fork(): os.wait(); os._exit(0)
";

#[test]
fn who_is_not_beside_the_broker_is_not_answered() {
    let system = System::new();
    system.set("RAW", RAW, "--raw");
    the_user_in_a_namespace(&system);
    root_in_a_namespace(&system);
    who_is_gone(&system);
}

/// Words that start a program, and it.
fn by(words: &[&str], program: &str) -> Vec<String> {
    words.iter().chain(&[program]).map(|word| (*word).to_owned()).collect()
}

/// Asks past `zagi` by what `words` start.
fn ask(system: &System, mut command: Command, argv: &[&str]) -> Said {
    command.args(["-c", ASK]).arg(system.broker.socket());
    command.arg(system.machine.home()).arg(&system.dir).args(argv);
    Said::of(command.stdin(Stdio::null()))
}

fn the_user_in_a_namespace(system: &System) {
    let list = ["secrets", "list"];
    let asked = |words: &[&str]| {
        let words = by(words, "/usr/bin/python3");
        let mut command = system.machine.command(&words[0], &system.machine.work());
        command.args(&words[1..]);
        ask(system, command, &list)
    };
    let said = asked(&[]);
    assert!(said.out.contains("RAW") && said.out.contains("ended"), "the control: {said:?}");
    for words in OTHERS {
        let said = asked(words);
        assert!(said.out.contains(REFUSED) && !said.out.contains("RAW"), "{words:?}: {said:?}");
    }
    // And what its user is told.
    let zagi = system.machine.program().display().to_string();
    let words = by(OTHERS[0], &zagi);
    let mut command = system.machine.command(&words[0], &system.dir);
    let said = Said::of(command.args(&words[1..]).args(list));
    assert!(said.code == 1 && said.err.contains(REFUSED), "{said:?}");
}

/// Whose number is 0 outside, too, and who has none of root's rights.
fn root_in_a_namespace(system: &System) {
    let user = nix::unistd::User::from_name(ORDINARY).ok().flatten().expect("it is there");
    let asked = |words: &[&str]| {
        let words = by(words, "/usr/bin/python3");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("ASK_FOR", user.uid.to_string());
        ask(system, command, &["secrets", "get", "RAW", "--reveal"])
    };
    let said = asked(&[]);
    assert!(said.out.contains(RAW), "the control: {said:?}");
    for words in OTHERS {
        let said = asked(words);
        assert!(said.out.contains(REFUSED) && !said.out.contains(RAW), "{words:?}: {said:?}");
    }
}

fn who_is_gone(system: &System) {
    let asked = |words: &[&str], first: &str| {
        let words = by(words, "/usr/bin/python3");
        let mut command = system.machine.command(&words[0], &system.machine.work());
        command.args(&words[1..]).env("ASK_FIRST", first);
        ask(system, command, &["secrets", "list"])
    };
    let said = asked(&[], STAYS);
    assert!(said.out.contains("RAW") && said.out.contains("ended"), "the control: {said:?}");
    // A zombie, since who started it waits for what it says first.
    let said = asked(&[], GONE);
    assert!(said.out.contains("who asked is gone") && !said.out.contains("RAW"), "{said:?}");
    let reaps = ["sh", "-c", "\"$@\" & wait", "sh"];
    let said = asked(&reaps, &format!("{GONE}{REAPED}"));
    assert!(said.out.contains("who asked is gone") && !said.out.contains("RAW"), "{said:?}");
}
