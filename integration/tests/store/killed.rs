//! SIGKILL in a loop, under four writers, readers and a collector.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use zagi_integration::machine::{Machine, Who};

use super::{Lots, describe, is_sound, printed, str};

/// How long they are at it.
const TIME: Duration = Duration::from_secs(15);

/// Trees that were printed, and what was in the directory.
type Printed = Mutex<BTreeMap<String, Vec<String>>>;

/// Waits for a command, or kills it after some milliseconds. Gives what it printed.
fn run_or_kill(mut child: Child, lots: &mut Lots) -> (bool, String) {
    if lots.draw(3) > 0 {
        thread::sleep(Duration::from_millis(lots.draw(80)));
        // It may have ended.
        let _ = child.kill();
    }
    let done = child.wait_with_output().unwrap();
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

fn start(machine: &Machine, arguments: &[&str]) -> Child {
    let mut command = machine.zagi_in(&machine.work(), arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Files that change, some of them large, some as in the other directories.
fn change(dir: &Path, lots: &mut Lots) {
    for _ in 0..4 {
        let path = dir.join(format!("d{}/f{}", lots.draw(3), lots.draw(8)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        let length = if lots.draw(4) == 0 { 200_000 } else { 2_000 };
        fs::write(&path, Lots(lots.draw(30)).bytes(length)).unwrap();
    }
}

fn write(machine: &Machine, dir: &Path, lots: &mut Lots, seen: &Printed) -> u64 {
    let (begun, mut ended) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        change(dir, lots);
        let (went_well, out) = run_or_kill(start(machine, &["snapshot", str(dir)]), lots);
        let tree = printed(&out);
        assert!(!went_well || tree.is_some(), "nothing was printed: {out}");
        ended += u64::from(went_well);
        if let Some(tree) = tree {
            let described = describe(dir);
            let before = seen.lock().unwrap().insert(tree, described.clone());
            assert!(before.is_none_or(|before| before == described), "one id, two trees");
        }
        if lots.draw(3) == 0 {
            let some = {
                let seen = seen.lock().unwrap();
                let n = lots.draw(seen.len().max(1) as u64) as usize;
                seen.keys().nth(n).cloned()
            };
            if let Some(tree) = some {
                let to = dir.with_extension("out");
                run_or_kill(start(machine, &["restore", &tree, str(&to)]), lots);
            }
        }
    }
    ended
}

#[test]
fn whatever_was_printed_is_there_after_any_number_of_kills() {
    let machine = Machine::new(Who::Me);
    let seen = Printed::default();
    let dirs: Vec<PathBuf> = (0..4).map(|n| machine.work().join(format!("w{n}"))).collect();
    thread::scope(|scope| {
        let writers: Vec<_> = dirs
            .iter()
            .enumerate()
            .map(|(n, dir)| {
                let (machine, seen) = (&machine, &seen);
                scope.spawn(move || write(machine, dir, &mut Lots(n as u64), seen))
            })
            .collect();
        scope.spawn(|| {
            let (begun, mut lots) = (Instant::now(), Lots(99));
            while begun.elapsed() < TIME {
                run_or_kill(start(&machine, &["store", "gc"]), &mut lots);
            }
        });
        let ended: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        assert!(ended > 0, "no snapshot came to its end");
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() >= 8, "{} trees only", seen.len());
    is_sound(&machine);
    for (n, (tree, expected)) in seen.iter().enumerate() {
        let to = machine.work().join(format!("last {n}"));
        machine.zagi(&["restore", tree, str(&to)]).ok();
        assert_eq!(describe(&to), *expected, "{tree}");
    }
    machine.zagi(&["store", "gc"]).ok();
    is_sound(&machine);
    // Nothing half-made stays.
    let tmp = fs::read_dir(machine.home().join("store/tmp")).unwrap().count();
    assert_eq!(tmp, 0, "half-made things stay");
}
