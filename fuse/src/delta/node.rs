//! What the log holds about one file, directory or link.

use std::collections::BTreeMap;

/// A moment, as file systems count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since the epoch.
    pub secs: i64,
    /// And nanoseconds, less than a milliard.
    pub nanos: u32,
}

/// The kinds of file there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// Each at the place of its code in the log.
    pub(super) const ALL: [FileKind; 7] = [
        FileKind::File,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ];

    /// What mknod(2) is to make: the kind in `mode`; a regular file where there is none.
    pub(crate) fn of_mknod(mode: u32) -> Option<FileKind> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => FileKind::File,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => return None,
        })
    }

    /// What stands for it in the log.
    pub(super) fn code(self) -> u8 {
        Self::ALL.iter().position(|kind| *kind == self).expect("every kind is in ALL") as u8
    }
}

/// Everything the log holds about one file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky bits (`0o7777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device's number, for devices.
    pub rdev: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of content; for files with a data file, that file's.
    pub mtime: Time,
    /// Last change of anything; for files with a data file, the later of the two.
    pub ctime: Time,
    /// Whether the content is in a data file of the delta.
    pub own: bool,
    /// Whether mode, owner, times or attributes were set by somebody (and not only copied
    /// from a layer).
    pub changed: bool,
    /// The path in the layers that this node stems from; empty for the root.
    pub origin: Option<Box<[u8]>>,
    /// The target of a symbolic link that was created in the delta.
    pub target: Option<Box<[u8]>>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// A node as it is when it is created.
pub(crate) fn blank(kind: FileKind, mode: u16, uid: u32, gid: u32, now: Time) -> Node {
    Node {
        kind,
        mode: mode & 0o7777,
        uid,
        gid,
        rdev: 0,
        atime: now,
        mtime: now,
        ctime: now,
        own: false,
        changed: false,
        origin: None,
        target: None,
        xattrs: Default::default(),
    }
}
