//! A disk that is full, at any point.

use std::fs;
use std::path::Path;

use zagi_integration::machine::{Machine, Said, Who};

use super::{Lots, describe, is_sound, snapshot, str};

/// Bytes that are left for the second snapshot, which would take some 3 MB.
const LEFT: [u64; 9] =
    [0, 4 << 10, 16 << 10, 64 << 10, 200 << 10, 600 << 10, 1500 << 10, 2500 << 10, 3200 << 10];

/// Takes up all of the disk but `left` bytes.
fn fill(path: &Path, left: u64) {
    let found = nix::sys::statvfs::statvfs(path.parent().unwrap()).unwrap();
    let free = found.blocks_available() as u64 * found.fragment_size() as u64;
    let _ = fs::write(path, Lots(free).bytes(free.saturating_sub(left) as usize));
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
    let mut refused = 0;
    for (n, left) in LEFT.into_iter().enumerate() {
        // Each time another one, of which nothing is there yet.
        fs::write(large.join("other"), Lots(1000 + n as u64).bytes(2_900_000)).unwrap();
        fill(&filler, left);
        let said = machine.zagi(&["snapshot", str(&large)]);
        match said.code {
            0 => {}
            1 => {
                refused += 1;
                assert!(said.err.contains("no space is left"), "{left} bytes left: {}", said.err);
            }
            code => panic!("{left} bytes left: exit code {code}: {}", said.err),
        }
        fs::remove_file(&filler).unwrap();
        is_sound(&machine);
        for (tree, dir) in [(&old, &small), (&snapshot(&machine, &large), &large)] {
            let to = machine.work().join("to");
            machine.zagi(&["restore", tree, str(&to)]).ok();
            assert_eq!(describe(&to), describe(dir), "{left} bytes left");
            fs::remove_dir_all(to).unwrap();
        }
        // What the disk is full of goes.
        machine
            .sh(&machine.work(), "rm -f ../user/.zagi/store/leases/* ../user/.zagi/store/refs/*")
            .ok();
        assert_eq!(snapshot(&machine, &small), old);
        machine.zagi(&["store", "gc"]).ok();
    }
    assert!(refused >= 3, "the disk was full {refused} times only");
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
