//! The store under stress: killed, crowded, full, collected under its users' hands, edited.

mod crowd;
mod edited;
mod full;
mod killed;
mod race;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zagi_integration::machine::{Machine, Said};

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Lots(u64);

impl Lots {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8))
            .flat_map(|_| self.draw(u64::MAX).to_le_bytes())
            .take(length)
            .collect()
    }
}

/// Names, execute bits, link targets and contents below a directory, a line a name.
fn describe(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, lines: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let found = std::fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                lines.push(format!("{name}/"));
                walk(root, &path, lines);
            } else if found.is_symlink() {
                lines.push(format!("{name} -> {:?}", std::fs::read_link(&path).unwrap()));
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let sum = bytes.iter().fold(0u64, |sum, byte| {
                    (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
                let exec = found.mode() & 0o100 != 0;
                lines.push(format!("{name} {exec} {} {sum:x}", bytes.len()));
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.sort();
    lines
}

/// The tree that a snapshot printed, if it came that far.
fn printed(out: &str) -> Option<String> {
    let last = out.split_whitespace().last()?;
    (last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| last.to_owned())
}

fn str(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are text")
}

/// Snapshots `dir`, which goes well.
fn snapshot(machine: &Machine, dir: &Path) -> String {
    let said = machine.zagi(&["snapshot", str(dir)]).ok();
    printed(&said.out).unwrap_or_else(|| panic!("no tree in {}", said.out))
}

/// Every byte of the store is what it should be.
#[track_caller]
fn is_sound(machine: &Machine) {
    let said: Said = machine.zagi(&["store", "verify"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
}
