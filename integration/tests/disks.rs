//! Copy-up on real disks: blocks are shared where the disk can, and copied where it cannot.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use zagi_fuse::directory::Directory;
use zagi_fuse::driver::{Driver, Serving, Start};
use zagi_fuse::linux::LinuxDriver;
use zagi_fuse::mount::{How, MountOptions, mount, unmount};
use zagi_fuse::overlay::{Attached, Options, Overlay};

const MIB: u64 = 1 << 20;
const LONG: u64 = 48 * MIB;

/// A disk in a file with a layer, a delta and an overlay of the two on it.
struct Disk {
    dir: tempfile::TempDir,
    serving: Option<Box<dyn Serving>>,
}

fn run(program: &str, args: &[&str], path: &Path) {
    let output = Command::new(program).args(args).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn noise(length: u64) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8 | 1
    };
    (0..length).map(|_| next()).collect()
}

impl Disk {
    fn new(make: &[&str]) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(512 * MIB).unwrap();
        run(make[0], &make[1..], &image);
        for made in ["disk", "mnt"] {
            fs::create_dir(dir.path().join(made)).unwrap();
        }
        run("mount", &["-o", "loop", image.to_str().unwrap()], &dir.path().join("disk"));
        let mut disk = Disk { dir, serving: None };
        let lower = disk.at("disk/lower");
        fs::create_dir(&lower).unwrap();
        for name in ["one", "two"] {
            let mut file = File::create(lower.join(name)).unwrap();
            file.write_all(&noise(LONG)).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o751)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
            file.sync_all().unwrap();
        }
        let sparse = File::create(lower.join("sparse")).unwrap();
        sparse.write_all_at(b"middle", 32 * MIB).unwrap();
        sparse.set_len(64 * MIB).unwrap();
        sparse.sync_all().unwrap();
        let layer = Arc::new(Directory::open(&lower).unwrap());
        let layers = vec![Attached { at: PathBuf::new(), layer }];
        let options = Options { layers, delta: disk.at("disk/delta"), uid: 0, gid: 0 };
        let overlay = Arc::new(Overlay::open(options).unwrap());
        let device = mount(&disk.at("mnt"), &MountOptions::default()).unwrap();
        disk.serving =
            Some(LinuxDriver::new().unwrap().serve(device, overlay, Start::Mounted).unwrap());
        disk
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// How many MiB of the disk `act` takes.
    fn taken(&self, act: impl FnOnce()) -> u64 {
        let free = || {
            run("sync", &["-f"], &self.at("disk"));
            let stat = nix::sys::statvfs::statvfs(&self.at("disk")).unwrap();
            stat.blocks_free() * stat.fragment_size()
        };
        let before = free();
        act();
        before.saturating_sub(free()) / MIB
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A test that failed may have left them busy, and must not hang.
        let _ = unmount(&self.at("mnt"), How::Lazy, None);
        if let Some(serving) = self.serving.take() {
            let _ = serving.wait();
        }
        let _ = Command::new("umount").arg(self.at("disk")).status();
    }
}

fn same(path: &Path, expected: &[u8]) {
    assert!(fs::read(path).unwrap() == expected, "{} has other content", path.display());
}

/// Returns what the first write to a long file took of the disk, and a copy of another, in MiB.
fn copies(make: &[&str]) -> (u64, u64) {
    let disk = Disk::new(make);
    let mut expected = noise(LONG);
    let before = fs::metadata(disk.at("mnt/one")).unwrap();
    // A change that leaves the content alone shows what the copy kept.
    let taken = disk.taken(|| {
        let file = File::options().write(true).open(disk.at("mnt/one")).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        file.write_all_at(b"!", 7).unwrap();
        file.sync_all().unwrap();
    });
    expected[7] = b'!';
    same(&disk.at("mnt/one"), &expected);
    let after = fs::metadata(disk.at("mnt/one")).unwrap();
    assert_eq!((after.ino(), after.mode() & 0o7777), (before.ino(), 0o751));
    assert!(after.mtime() > 1_000_000_000);

    let copied = disk.taken(|| {
        let copy = disk.at("mnt/copy");
        run("cp", &["--reflink=auto", "-p", disk.at("mnt/two").to_str().unwrap()], &copy);
        File::open(copy).unwrap().sync_all().unwrap();
    });
    expected[7] = noise(8)[7];
    same(&disk.at("mnt/copy"), &expected);
    same(&disk.at("mnt/two"), &expected);
    let copy = fs::metadata(disk.at("mnt/copy")).unwrap();
    assert_eq!((copy.mode() & 0o7777, copy.mtime()), (0o751, 1_000_000_000));

    let sparse = File::options().write(true).open(disk.at("mnt/sparse")).unwrap();
    sparse.write_all_at(b"M", 32 * MIB).unwrap();
    sparse.sync_all().unwrap();
    let meta = sparse.metadata().unwrap();
    assert_eq!(meta.len(), 64 * MIB);
    assert!(meta.blocks() * 512 < MIB, "{} blocks", meta.blocks());
    let mut read = [0; 8];
    File::open(disk.at("mnt/sparse")).unwrap().read_exact_at(&mut read, 32 * MIB - 1).unwrap();
    assert_eq!(&read, b"\0Middle\0");

    expected[7] = noise(8)[7];
    same(&disk.at("disk/lower/one"), &expected);
    (taken, copied)
}

#[test]
fn blocks_are_shared_where_the_disk_can() {
    let (taken, copied) = copies(&["mkfs.xfs", "-q", "-m", "reflink=1"]);
    assert!(taken < 4 && copied < 4, "{taken} and {copied} MiB");
}

#[test]
fn blocks_are_copied_where_it_cannot() {
    let (taken, copied) = copies(&["mkfs.ext4", "-q", "-F"]);
    assert!(taken >= 48 && copied >= 48, "{taken} and {copied} MiB");
}
