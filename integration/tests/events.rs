//! `zagi events`: one line a change, while it happens.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use zagi_integration::machine::{Machine, Who};

struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(machine: &Machine, arguments: &[&str]) -> Follower {
        let mut command = machine.zagi_in(&machine.work(), arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("there is one more").unwrap()
    }

    /// Waits until it is told of `path`, which is changed again and again: nobody says when it
    /// has begun.
    fn begun(&mut self, machine: &Machine) {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let pause = std::time::Duration::from_millis(20);
                while stopped.recv_timeout(pause).is_err() {
                    machine.sh(&machine.work().join("w"), "touch begun").ok();
                }
            });
            while !self.next().contains("begun") {}
            stop.send(()).unwrap();
        });
        // What the thread did last may still come.
        machine.sh(&machine.work().join("w"), "mkdir settled").ok();
        while !self.next().contains("settled") {}
    }
}

fn follow(who: Who) {
    let machine = Machine::new(who);
    let origin = super::git::repository(&machine, "followed");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    let mut follower = Follower::start(&machine, &["events", "w"]);
    follower.begun(&machine);
    let mut one = |script: &str| {
        machine.sh(&w, script).ok();
        follower.next()
    };
    assert_eq!(one("echo more >> alpha.txt"), "changed    alpha.txt");
    assert_eq!(one("chmod +x alpha.txt"), "attributes alpha.txt");
    assert_eq!(one("mkdir new"), "created    new/");
    assert_eq!(one("rm link"), "removed    link");
    machine.sh(&w, "mv sub moved").ok();
    assert_eq!([follower.next(), follower.next()], ["removed    sub/", "created    moved/"]);
    machine.zagi(&["unmount", "w"]).ok();
    assert!(follower.lines.next().is_none(), "it ends with the mount");
    assert!(follower.child.wait().unwrap().success());
    machine.zagi(&["events", "w"]).fails(1, "is not mounted");
}

#[test]
fn as_root() {
    follow(Who::Me);
}

#[test]
fn as_an_ordinary_user() {
    follow(Who::Ordinary);
}

#[test]
fn as_json_and_until_nobody_reads() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "followed");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let mut follower = Follower::start(&machine, &["events", "w", "--json"]);
    follower.begun(&machine);
    machine.sh(&machine.work().join("w"), "touch \"$(printf 'odd\\377')\"").ok();
    let event: serde_json::Value = serde_json::from_str(&follower.next()).unwrap();
    let expected = serde_json::json!({
        "kind": "created", "path": "\"odd\\xff\"", "directory": false, "quoted": true,
    });
    assert_eq!(event, expected);
    // The reader goes, and nothing changes: it ends nevertheless.
    let Follower { mut child, lines } = follower;
    drop(lines);
    assert!(child.wait().unwrap().success());
}
