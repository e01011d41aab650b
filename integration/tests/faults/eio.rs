//! The disk under the delta fails.

use std::fs;
use std::io::Write;
use std::path::Path;

use zagi_integration::machine::{Machine, Who};

use super::{Disk, content, mounted};

/// As much as the disk says it has, and as much as there really is of it.
const DISK: &str = "mkdir -p under && mount -t tmpfs -o size=24m none under &&
    truncate -s 400M under/disk && mkfs.ext4 -q -F -O ^has_journal under/disk &&
    mount -o loop,errors=remount-ro under/disk $HOME_DIR";

fn write(dir: &Path, number: u64) -> std::io::Result<()> {
    let mut file = fs::File::create(dir.join(format!("f{number}")))?;
    file.write_all(&content(number))?;
    file.sync_all()
}

fn there(dir: &Path, number: u64) -> bool {
    fs::read(dir.join(format!("f{number}"))).is_ok_and(|found| found == content(number))
}

/// A disk whose blocks cannot be written, and which is read-only in the end: programs are told when
/// they sync, and what was synced before can be read.
#[test]
fn a_disk_that_cannot_write_is_no_secret_and_loses_nothing_synced() {
    let machine = Machine::new(Who::Me);
    let _disk = Disk::new(&machine, DISK);
    let dir = mounted(&machine);
    let mut acknowledged = Vec::new();
    let mut failed = 0;
    for number in 0..4000 {
        match write(&dir, number) {
            Ok(()) => acknowledged.push(number),
            // EIO, or EROFS once the file system has had enough.
            Err(_) => failed += 1,
        }
        if failed == 40 {
            break;
        }
    }
    assert_eq!(failed, 40, "the disk did not fail; {} files", acknowledged.len());
    assert!(acknowledged.len() > 100, "{} files only", acknowledged.len());
    let lost: Vec<_> = acknowledged.iter().filter(|number| !there(&dir, **number)).collect();
    assert!(lost.is_empty(), "synced, and lost while mounted: {lost:?}");
}
