//! The daemon: seen, killed, back again.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zagi_integration::machine::{Machine, Who};

fn status(machine: &Machine) -> serde_json::Value {
    machine.zagi(&["daemon", "status", "--json"]).ok().json()
}

fn kill_hard(pid: &serde_json::Value) {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn says_what_it_holds_and_stops() {
    let machine = Machine::new(Who::Me);
    assert_eq!(status(&machine)["running"], false);
    let origin = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let s = status(&machine);
    assert!(s["worker_pid"].as_u64().unwrap() > 1);
    assert_eq!(s["mounts"].as_array().unwrap().len(), 1);
    assert!((1 << 20..512 << 20).contains(&s["memory"].as_u64().unwrap()), "{s}");
    machine.zagi(&["daemon", "stop"]).ok();
    assert_eq!(status(&machine)["running"], false);
    assert_eq!(std::fs::read_dir(machine.work().join("w")).unwrap().count(), 0);
}

#[test]
fn a_killed_worker_is_replaced_and_nothing_is_lost() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let file = machine.work().join("w/new.txt");
    std::fs::write(&file, "written before").unwrap();
    let before = status(&machine);
    kill_hard(&before["worker_pid"]);
    // Nobody says a word: the supervisor alone brings it back.
    let begun = Instant::now();
    loop {
        match std::fs::read_to_string(&file) {
            Ok(text) => break assert_eq!(text, "written before"),
            Err(e) => assert!(begun.elapsed() < Duration::from_secs(10), "{e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let after = status(&machine);
    assert_ne!(after["worker_pid"], before["worker_pid"]);
    assert_eq!(after["starts"], 2);
}

fn both_killed(who: Who) {
    let machine = Machine::new(who);
    let origin = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let dir = machine.work().join("w");
    assert_eq!(machine.exec(&dir, "echo kept > kept.txt").code, 0);
    let s = status(&machine);
    kill_hard(&s["supervisor_pid"]);
    kill_hard(&s["worker_pid"]);
    // The next command of any kind recovers.
    let list = machine.zagi(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["mounted"], true);
    assert_eq!(machine.exec(&dir, "cat kept.txt alpha.txt").ok().out, "kept\nalpha\n");
}

#[test]
fn killed_altogether_the_next_command_recovers_as_root() {
    both_killed(Who::Me);
}

#[test]
fn killed_altogether_the_next_command_recovers_as_an_ordinary_user() {
    both_killed(Who::Ordinary);
}
