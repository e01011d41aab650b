//! The collector, while others take snapshots, restore and mount.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use zagi_integration::machine::{Machine, Who};

use super::{Lots, describe, is_sound, snapshot, str};

const TIME: Duration = Duration::from_secs(12);

fn rounds(mut round: impl FnMut(u64)) -> u64 {
    let (begun, mut n) = (Instant::now(), 0);
    while begun.elapsed() < TIME {
        round(n);
        n += 1;
    }
    n
}

/// Snapshots of a directory that changes, each restored at once.
fn snapshots(machine: &Machine, dir: &Path, seed: u64) -> u64 {
    fs::create_dir(dir).unwrap();
    rounds(|n| {
        for file in 0..3 {
            let length = 500 + 40_000 * file as usize;
            let bytes = Lots(seed + (n + file) % 7).bytes(length);
            fs::write(dir.join(format!("f{file}")), bytes).unwrap();
        }
        let tree = snapshot(machine, dir);
        let to = dir.with_extension("out");
        machine.zagi(&["restore", &tree, str(&to)]).ok();
        assert_eq!(describe(&to), describe(dir));
        fs::remove_dir_all(to).unwrap();
    })
}

#[test]
fn a_collection_among_snapshots_and_mounts() {
    let machine = Machine::new(Who::Me);
    let origin = super::super::git::repository(&machine, "letters");
    let done = thread::scope(|scope| {
        let machine = &machine;
        let writers = [1, 2].map(|n| {
            let dir = machine.work().join(format!("w{n}"));
            scope.spawn(move || snapshots(machine, &dir, n))
        });
        let mounts = scope.spawn(|| {
            let dir = machine.work().join("mounted");
            rounds(|_| {
                machine.zagi(&["mount", "--offline", str(&origin), str(&dir)]).ok();
                assert_eq!(fs::read(dir.join("sub/beta.txt")).unwrap(), b"beta\n");
                machine.zagi(&["discard", "--yes", str(&dir)]).ok();
            })
        });
        let collections = scope.spawn(|| {
            rounds(|n| {
                if n % 2 == 1 {
                    // Leases that have run out make garbage of what was just needed.
                    let leases = machine.home().join("store/leases");
                    let old = fs::read_dir(leases).unwrap().flatten().take(2);
                    old.for_each(|lease| drop(fs::remove_file(lease.path())));
                }
                machine.zagi(&["store", "gc"]).ok();
            })
        });
        let [one, two] = writers.map(|writer| writer.join().unwrap());
        [one, two, mounts.join().unwrap(), collections.join().unwrap()]
    });
    assert!(done.iter().all(|rounds| *rounds >= 3), "{done:?}");
    is_sound(&machine);
    for n in [1, 2] {
        let dir = machine.work().join(format!("w{n}"));
        let to = machine.work().join(format!("last{n}"));
        machine.zagi(&["restore", &format!("snapshot{}", str(&dir)), str(&to)]).ok();
        assert_eq!(describe(&to), describe(&dir));
    }
}
