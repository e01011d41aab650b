//! The disk under the delta is full.

use std::fs;
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;
use zagi_integration::machine::{Machine, Who};

use super::{Disk, content, mounted, sh, text};

/// Writes file `number` and syncs it: only what was synced is acknowledged.
fn write(dir: &Path, number: u64) -> std::io::Result<()> {
    let mut file = fs::File::create(dir.join(format!("f{number}")))?;
    file.write_all(&content(number))?;
    file.sync_all()
}

/// Every file that was acknowledged is whole, and nothing is there that nobody wrote.
fn all_there(dir: &Path, acknowledged: &[u64], refused: u64) {
    for number in acknowledged {
        let found = fs::read(dir.join(format!("f{number}"))).unwrap();
        assert!(found == content(*number), "f{number} has changed");
    }
    if let Ok(found) = fs::read(dir.join(format!("f{refused}"))) {
        assert!(content(refused).starts_with(&found), "f{refused} was never written so");
    }
}

fn with_disk(mount: &str) {
    let machine = Machine::new(Who::Me);
    let _disk = Disk::new(&machine, mount);
    let dir = mounted(&machine);
    let mut acknowledged = Vec::new();
    let (refused, error) = (0..100_000)
        .find_map(|number| match write(&dir, number) {
            Ok(()) => {
                acknowledged.push(number);
                None
            }
            Err(error) => Some((number, error)),
        })
        .expect("the disk is small");
    assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32), "{error}");
    assert!(acknowledged.len() > 100, "{} files only", acknowledged.len());
    all_there(&dir, &acknowledged, refused);

    // Nothing more can be written, neither here nor over a file of the layers; that one stays.
    let all = fs::OpenOptions::new().append(true).open(dir.join("alpha.txt"));
    let failed = all.and_then(|mut file| file.write_all(&vec![b'x'; 4 << 20]));
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(Errno::ENOSPC as i32));
    assert!(fs::read(dir.join("alpha.txt")).unwrap().starts_with(b"alpha\n"));
    // What was changed can be looked at.
    let status = machine.zagi(&["status", "--json", "w"]).ok().out;
    assert!(status.contains(r#""f0""#), "{status}");

    // What is deleted makes room, at once.
    let kept = acknowledged.split_off(acknowledged.len() / 2);
    for number in &acknowledged {
        fs::remove_file(dir.join(format!("f{number}"))).unwrap();
    }
    for number in &acknowledged[..acknowledged.len() / 2] {
        write(&dir, *number).unwrap();
    }
    acknowledged.truncate(acknowledged.len() / 2);
    acknowledged.extend(kept);
    all_there(&dir, &acknowledged, refused);

    machine.zagi(&["unmount", "w"]).ok();
    machine.zagi(&["mount", "w"]).ok();
    all_there(&dir, &acknowledged, refused);
    machine.zagi(&["discard", "--yes", text(&dir)]).ok();
    sh(&machine, "test ! -e w");
}

#[test]
fn in_memory() {
    with_disk("mount -t tmpfs -o size=12m none $HOME_DIR");
}

#[test]
fn on_a_disk() {
    with_disk("truncate -s 16M disk && mkfs.ext4 -q -F disk && mount -o loop disk $HOME_DIR");
}
