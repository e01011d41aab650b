//! One data file in the directory `data` of a delta: its name, making and removing it.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The directory for the data file of `ino`.
pub fn shard(ino: u64) -> String {
    format!("{:02x}", ino & 0xff)
}

/// The data file's name in `data`.
pub fn name(ino: u64) -> String {
    format!("{}/{ino:016x}", shard(ino))
}

/// Its name until it is whole.
pub fn new_name(ino: u64) -> String {
    format!("{}.new", name(ino))
}

/// Opens the data file `name`.
pub fn open_at(dir: &OwnedFd, name: &str, flags: OFlag) -> Result<File, Errno> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(dir, name, flags, Mode::from_bits_truncate(0o600)).map(File::from)
}

/// Makes a data file and, if need be, the directory it is in.
pub fn make(dir: &OwnedFd, name: &str, flags: OFlag) -> Result<File, Errno> {
    let flags = flags | OFlag::O_RDWR | OFlag::O_CREAT;
    match open_at(dir, name, flags) {
        Err(Errno::ENOENT) => match mkdirat(dir, &name[..2], Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => open_at(dir, name, flags),
            Err(errno) => Err(errno),
        },
        other => other,
    }
}

/// Makes the data file of `ino`, which must not be there.
pub fn make_new(dir: &OwnedFd, ino: u64) -> Result<File, Errno> {
    make(dir, &name(ino), OFlag::O_EXCL)
}

/// Removes the data file of `ino`, if it can be.
pub fn unlink(dir: &OwnedFd, ino: u64) {
    // A file that stays is found and deleted at the next unclean open or compaction.
    let _ = unlinkat(dir, name(ino).as_str(), UnlinkatFlags::NoRemoveDir);
}
