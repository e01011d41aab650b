//! The daemon: seen, killed, back again.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

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
    // Nobody says a word: the supervisor alone starts another, and whoever asks waits for it.
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "written before");
    let after = status(&machine);
    assert_ne!(after["worker_pid"], before["worker_pid"]);
    assert_eq!(after["starts"], 2);
}

/// What is open, locked, deleted, or somebody's working directory stays so.
fn goes_on_inside(who: Who) {
    let machine = Machine::new(who);
    let origin = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let dir = machine.work().join("w");
    // Each line after a `read` finds another worker than the one before.
    let script = "
        mkdir inside; cd inside
        exec 3<>deleted; echo content >&3; rm deleted
        exec 4<../alpha.txt
        echo ready; read go
        cat /proc/self/fd/3; cat <&4
        echo more >&3; echo again > ../alpha.txt; mkdir made; rmdir made
        echo ready; read go
        cat /proc/self/fd/3; cat ../alpha.txt; pwd; ls -A";
    let mut shell = machine.command("sh", &dir);
    shell.args(["-ec", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut said = BufReader::new(shell.stdout.take().unwrap());
    let mut starts = 1;
    let mut before_ready = String::new();
    for _ in 0..2 {
        loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended after {before_ready}");
            if line == "ready\n" {
                break;
            }
            before_ready.push_str(&line);
        }
        kill_hard(&status(&machine)["worker_pid"]);
        starts += 1;
        writeln!(shell.stdin.as_mut().unwrap(), "go").unwrap();
    }
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(shell.wait().unwrap().success());
    assert_eq!(before_ready, "content\nalpha\n");
    let here = dir.join("inside");
    assert_eq!(rest, format!("content\nmore\nagain\n{}\n", here.display()));
    assert_eq!(status(&machine)["starts"], starts);
    machine.zagi(&["unmount", "w"]).ok();
    machine.zagi(&["mount", "w"]).ok();
    assert_eq!(machine.sh(&machine.work(), "true").code, 0);
    // What was deleted is gone when nobody can use it any more.
    let data = machine.sh(&machine.home(), "find workspaces -path '*/data/*' -type f | wc -l").ok();
    let own = machine.zagi(&["status", "w", "--json"]).ok().json();
    assert_eq!(own["source"]["changes"].as_array().unwrap().len(), 2, "{own}");
    assert!(data.out.trim().parse::<u32>().unwrap() <= 3, "{}", data.out);
}

#[test]
fn who_is_inside_goes_on_when_the_worker_is_killed_as_root() {
    goes_on_inside(Who::Me);
}

#[test]
fn who_is_inside_goes_on_when_the_worker_is_killed_as_an_ordinary_user() {
    goes_on_inside(Who::Ordinary);
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
