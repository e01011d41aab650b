//! A disk that is full, at any point.

use std::fs;
use std::path::Path;

use zagi_integration::machine::{Machine, Said, Who};

use super::{Lots, describe, is_sound, snapshot, str};

/// KB that are left for the second snapshot, which takes some 6 MB.
const LEFT: [u64; 9] = [0, 4, 64, 300, 1_500, 3_000, 5_000, 6_200, 9_000];

/// Takes up all of the disk but `left` bytes, what is reserved for root included.
fn fill(path: &Path, left: u64) {
    let found = nix::sys::statvfs::statvfs(path.parent().unwrap()).unwrap();
    let free = found.blocks_free() as u64 * found.fragment_size() as u64;
    // Where the last block cannot be had the disk is as full as it gets.
    let _ = fs::write(path, vec![1; free.saturating_sub(left) as usize]);
}

fn with_disk(mount: &str) {
    let machine = Machine::new(Who::Me);
    let home = machine.home();
    fs::create_dir_all(&home).unwrap();
    let _unmounted = Mounted::new(&machine, mount);
    let (small, large) = (machine.work().join("small"), machine.work().join("large"));
    for (dir, files, length) in [(&small, 5, 2_000), (&large, 30, 100_000)] {
        fs::create_dir(dir).unwrap();
        for file in 0..files {
            fs::write(dir.join(format!("f{file}")), Lots(file).bytes(length)).unwrap();
        }
    }
    let old = snapshot(&machine, &small);
    let filler = home.join("filler");
    let noise = Lots(7).bytes(2_900_000 + 1000);
    let mut refused = 0;
    for (n, left) in LEFT.into_iter().enumerate() {
        // Each time another one, of which nothing is there yet.
        fs::write(large.join("other"), &noise[100 * n + 1..]).unwrap();
        fill(&filler, left << 10);
        let said = machine.zagi(&["snapshot", str(&large)]);
        match said.code {
            0 => {}
            1 => {
                refused += 1;
                assert!(said.err.contains("no space is left"), "{left} KB left: {}", said.err);
            }
            code => panic!("{left} KB left: exit code {code}: {}", said.err),
        }
        // What is there can be had, and made room of, all the same.
        let to = machine.work().join("while full");
        machine.zagi(&["restore", &old, str(&to)]).ok();
        assert_eq!(describe(&to), describe(&small), "{left} KB left");
        fs::remove_dir_all(to).unwrap();
        machine.zagi(&["store", "gc"]).ok();
        fs::remove_file(&filler).unwrap();
        is_sound(&machine);
        for (tree, dir) in [(&old, &small), (&snapshot(&machine, &large), &large)] {
            let to = machine.work().join("to");
            machine.zagi(&["restore", tree, str(&to)]).ok();
            assert_eq!(describe(&to), describe(dir), "{left} KB left");
            fs::remove_dir_all(to).unwrap();
        }
        // What the disk is full of goes.
        machine
            .sh(&machine.work(), "rm -f ../user/.zagi/store/leases/* ../user/.zagi/store/refs/*")
            .ok();
        assert_eq!(snapshot(&machine, &small), old);
        machine.zagi(&["store", "gc"]).ok();
    }
    assert!((5..LEFT.len()).contains(&refused), "the disk was full {refused} times");
}

/// A small disk where the machine's home is.
struct Mounted<'m> {
    machine: &'m Machine,
}

impl Mounted<'_> {
    fn new<'m>(machine: &'m Machine, mount: &str) -> Mounted<'m> {
        machine.sh(&machine.work(), mount).ok();
        Mounted { machine }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let script = "umount ../user/.zagi";
        let said = Said::of(self.machine.command("sh", &self.machine.work()).args(["-c", script]));
        assert_eq!(said.code, 0, "{}", said.err);
    }
}

#[test]
fn in_memory() {
    with_disk("mount -t tmpfs -o size=12m none ../user/.zagi");
}

#[test]
fn on_a_disk() {
    with_disk("truncate -s 16M disk && mkfs.ext4 -q -F disk && mount -o loop disk ../user/.zagi");
}
