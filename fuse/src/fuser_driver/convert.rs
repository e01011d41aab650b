//! Between the words of `fuser` and those of the overlay.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileType, Generation, INodeNo, RenameFlags, ReplyAttr, ReplyEmpty, ReplyEntry,
    ReplyWrite, ReplyXattr, Request, TimeOrNow,
};

use crate::delta::{FileKind, Time};
use crate::overlay::{Attr, Caller, RenameMode, SetTime};

/// How long the kernel may believe what it was told.
pub(super) const TTL: Duration = Duration::from_secs(86_400);
/// Inode numbers are never used twice.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn caller(request: &Request, umask: u32) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), umask: umask as u16 & 0o777 }
}

/// Whether whoever asks is not of the file's group, as far as that is known here: of groups
/// only the first is.
pub(super) fn foreign(request: &Request, file: Result<Attr, nix::errno::Errno>) -> bool {
    request.uid() != 0 && file.is_ok_and(|attr| attr.gid != request.gid())
}

pub(super) fn error(errno: nix::errno::Errno) -> Errno {
    Errno::from_i32(errno as i32)
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else {
        None
    }
}

/// Whether a seek is for a hole and not for data.
pub(super) fn is_hole(whence: i32) -> Option<bool> {
    match whence {
        libc::SEEK_DATA => Some(false),
        libc::SEEK_HOLE => Some(true),
        _ => None,
    }
}

pub(super) fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    let whole =
        if time.secs < 0 { UNIX_EPOCH.checked_sub(secs) } else { UNIX_EPOCH.checked_add(secs) };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { secs: after.as_secs() as i64, nanos: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let secs = -(before.as_secs() as i64);
            match before.subsec_nanos() {
                0 => Time { secs, nanos: 0 },
                nanos => Time { secs: secs - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

pub(super) fn set_time(set: TimeOrNow) -> SetTime {
    match set {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(time(at)),
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

/// Inode number 0 tells the kernel that there is nothing, and that it may remember that.
pub(super) fn nothing() -> FileAttr {
    file_attr(&Attr {
        ino: 0,
        kind: FileKind::File,
        mode: 0,
        links: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: Time::default(),
        mtime: Time::default(),
        ctime: Time::default(),
    })
}

pub(super) fn entry(reply: ReplyEntry, result: Result<Attr, nix::errno::Errno>) {
    match result {
        Ok(attr) => reply.entry(&TTL, &file_attr(&attr), GENERATION),
        Err(errno) => reply.error(error(errno)),
    }
}

pub(super) fn empty(reply: ReplyEmpty, result: Result<(), nix::errno::Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(error(errno)),
    }
}

pub(super) fn xattr(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, nix::errno::Errno>) {
    match result {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(error(errno)),
    }
}

pub(super) fn attributes(reply: ReplyAttr, result: Result<Attr, nix::errno::Errno>) {
    match result {
        Ok(attr) => reply.attr(&TTL, &file_attr(&attr)),
        Err(errno) => reply.error(error(errno)),
    }
}

pub(super) fn written(reply: ReplyWrite, result: Result<u32, nix::errno::Errno>) {
    match result {
        Ok(count) => reply.written(count),
        Err(errno) => reply.error(error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_survive_the_round_trip() {
        for (secs, nanos) in [(0, 0), (0, 1), (-1, 0), (-1, 999_999_999), (-7, 5), (1 << 33, 2)] {
            let before = Time { secs, nanos };
            assert_eq!(time(system_time(before)), before);
        }
    }
}
