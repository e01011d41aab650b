//! The kernel's FUSE protocol, as far as it is spoken here: `include/uapi/linux/fuse.h`, 7.40.
//!
//! A request is a header of 40 bytes (`len`, `opcode`, `unique`, `nodeid`, `uid`, `gid`,
//! `pid`) and its arguments; an answer a header of [`OUT_HEADER`] (`len`, `error`, `unique`) and its
//! own. All integers are in the machine's byte order. [`Input`] reads and [`Output`] writes the
//! structures field by field, in the order in which the header has them.

use nix::errno::Errno;

use crate::delta::{FileKind, Time};
use crate::overlay::Attr;

/// Length of an answer's header.
pub(super) const OUT_HEADER: usize = 16;
/// Set in the number of a request that was sent to a process before (FUSE_UNIQUE_RESEND).
pub(super) const RESENT: u64 = 1 << 63;

/// The longest write the kernel sends, in bytes; the threads' buffers hold it.
pub(super) const MAX_WRITE: u32 = 1 << 20;
/// Requests the kernel keeps going without anybody waiting for them: read-ahead.
pub(super) const MAX_BACKGROUND: u16 = 64;

/// What is asked (`enum fuse_opcode`).
pub(super) mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const INIT: u32 = 26;
    pub const READDIR: u32 = 28;
    pub const FSYNCDIR: u32 = 30;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
    pub const STATX: u32 = 52;
}

/// What is agreed on at the beginning (`FUSE_*` of INIT). Those from the 32nd bit on go in a
/// second word.
pub(super) mod init {
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const DONT_MASK: u64 = 1 << 6;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const POSIX_ACL: u64 = 1 << 20;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub const SETXATTR_EXT: u64 = 1 << 29;
    pub const INIT_EXT: u64 = 1 << 30;
    pub const NO_EXPORT_SUPPORT: u64 = 1 << 38;
    pub const HAS_RESEND: u64 = 1 << 39;
}

/// What an answer that nobody asked for means (`enum fuse_notify_code`).
pub(super) mod notify {
    pub const INVAL_INODE: i32 = 2;
    pub const RESEND: i32 = 7;
}

/// What SETATTR is to change (`FATTR_*`).
pub(super) mod fattr {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
}

/// A write takes set-id bits away (FUSE_WRITE_KILL_SUIDGID).
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Whoever sets an access control list is not of the file's group (FUSE_SETXATTR_ACL_KILL_SGID).
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
/// Content only (FUSE_FSYNC_FDATASYNC).
pub(super) const FSYNC_FDATASYNC: u32 = 1 << 0;
/// What a file made by TMPFILE is opened with: what is cached stays (FOPEN_KEEP_CACHE).
pub(super) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// What STATX tells: all that stat(2) does (STATX_BASIC_STATS).
const STATX_BASIC_STATS: u32 = 0x7ff;

/// How long the kernel may believe what it was told, in seconds: nobody but it changes anything.
const TTL: u64 = 86_400;

/// The header of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub opcode: u32,
    pub unique: u64,
    pub ino: u64,
    pub uid: u32,
    pub gid: u32,
    /// The thread that waits for the answer.
    pub pid: u32,
}

/// Reads the fields of a request. One that is too short for its kind is answered EINVAL.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// The header and what follows it.
    pub fn new(bytes: &'a [u8]) -> Result<(Header, Input<'a>), Errno> {
        let mut input = Input(bytes);
        if input.u32()? as usize != bytes.len() {
            return Err(Errno::EINVAL);
        }
        let (opcode, unique, ino) = (input.u32()?, input.u64()?, input.u64()?);
        let (uid, gid, pid) = (input.u32()?, input.u32()?, input.u32()?);
        input.skip(4)?;
        Ok((Header { opcode, unique, ino, uid, gid, pid }, input))
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Errno::EINVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), Errno> {
        self.bytes(count).map(drop)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::EINVAL)?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*bytes))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64, Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::EINVAL)?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*bytes))
    }

    /// The byte after the next one.
    pub fn second_byte(&self) -> Option<u8> {
        self.0.get(1).copied()
    }

    /// The bytes up to the next NUL, which is passed over.
    pub fn name(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
        let name = self.bytes(end)?;
        self.skip(1)?;
        Ok(name)
    }
}

/// An answer under construction; its header is filled in at the end. It is kept by the thread.
#[derive(Default)]
pub(super) struct Output(Vec<u8>);

impl Output {
    /// Begins an answer.
    pub fn begin(&mut self) {
        self.0.clear();
        self.0.resize(OUT_HEADER, 0);
    }

    /// Ends it: the bytes to be written to the kernel.
    pub fn finish(&mut self, unique: u64, error: i32) -> &[u8] {
        if error != 0 && unique != 0 {
            self.0.truncate(OUT_HEADER);
        }
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[4..8].copy_from_slice(&error.to_ne_bytes());
        self.0[8..16].copy_from_slice(&unique.to_ne_bytes());
        &self.0
    }

    /// How many bytes follow the header.
    pub fn len(&self) -> usize {
        self.0.len() - OUT_HEADER
    }

    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Room for `count` bytes, to be filled by `fill`, which says how many it took.
    pub fn fill(
        &mut self,
        count: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let start = self.0.len();
        self.0.resize(start + count, 0);
        let taken = fill(&mut self.0[start..]);
        self.0.truncate(start + *taken.as_ref().unwrap_or(&0));
        taken.map(drop)
    }

    /// `struct fuse_attr`.
    fn attr(&mut self, attr: &Attr) {
        for value in [attr.ino, attr.size, attr.blocks] {
            self.u64(value);
        }
        for time in [attr.atime, attr.mtime, attr.ctime] {
            self.u64(time.secs as u64);
        }
        for time in [attr.atime, attr.mtime, attr.ctime] {
            self.u32(time.nanos);
        }
        let mode = kind_bits(attr.kind) | u32::from(attr.mode);
        for value in [mode, attr.links, attr.uid, attr.gid, attr.rdev, BLOCK_SIZE, 0] {
            self.u32(value);
        }
    }

    /// `struct fuse_attr_out`.
    pub fn attributes(&mut self, attr: &Attr) {
        self.u64(TTL);
        self.u64(0);
        self.attr(attr);
    }

    /// `struct fuse_entry_out`: a name leads to `attr`.
    pub fn entry(&mut self, attr: &Attr) {
        // Numbers are never used twice: their generation is always 0.
        for value in [attr.ino, 0, TTL, TTL, 0] {
            self.u64(value);
        }
        self.attr(attr);
    }

    /// `struct fuse_entry_out`: a name leads nowhere, and the kernel may remember that.
    pub fn no_entry(&mut self) {
        for value in [0, 0, TTL, 0, 0] {
            self.u64(value);
        }
        self.bytes(&[0; 88]);
    }

    /// `struct fuse_open_out` of a file that was just made; there are no handles.
    pub fn opened(&mut self) {
        self.u64(0);
        self.u32(FOPEN_KEEP_CACHE);
        self.u32(0);
    }

    /// `struct fuse_dirent` and the name, padded to eight bytes.
    pub fn dirent(&mut self, ino: u64, next: u64, kind: FileKind, name: &[u8]) {
        self.u64(ino);
        self.u64(next);
        self.u32(name.len() as u32);
        self.u32(kind_bits(kind) >> 12);
        self.bytes(name);
        self.bytes(&[0; 8][..name.len().next_multiple_of(8) - name.len()]);
    }

    /// `struct fuse_statx_out`.
    pub fn statx(&mut self, attr: &Attr) {
        self.u64(TTL);
        self.u64(0);
        self.u64(0);
        self.u64(0);
        self.u32(STATX_BASIC_STATS);
        self.u32(BLOCK_SIZE);
        self.u64(0);
        for value in [attr.links, attr.uid, attr.gid] {
            self.u32(value);
        }
        self.u16((kind_bits(attr.kind) | u32::from(attr.mode)) as u16);
        self.u16(0);
        for value in [attr.ino, attr.size, attr.blocks, 0] {
            self.u64(value);
        }
        for time in [attr.atime, Time::default(), attr.ctime, attr.mtime] {
            self.u64(time.secs as u64);
            self.u32(time.nanos);
            self.u32(0);
        }
        let device = u64::from(attr.rdev);
        self.u32(nix::sys::stat::major(device) as u32);
        self.u32(nix::sys::stat::minor(device) as u32);
        self.bytes(&[0; 8 + 14 * 8]);
    }
}

const BLOCK_SIZE: u32 = 4096;

/// Length of an entry with `name` in a listing with attributes.
pub(super) fn direntplus_len(name: &[u8]) -> usize {
    128 + dirent_len(name)
}

/// Length of an entry with `name` in a listing.
pub(super) fn dirent_len(name: &[u8]) -> usize {
    24 + name.len().next_multiple_of(8)
}

/// The kind of file in a mode, as stat(2) has it.
fn kind_bits(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr() -> Attr {
        let time = Time { secs: -1, nanos: 5 };
        Attr {
            ino: 7,
            kind: FileKind::CharDevice,
            mode: 0o644,
            links: 1,
            uid: 2,
            gid: 3,
            rdev: 0x0103,
            size: 9,
            blocks: 1,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    #[test]
    fn structures_have_the_lengths_of_the_header_file() {
        let mut out = Output::default();
        let mut length = |write: &dyn Fn(&mut Output)| {
            out.begin();
            write(&mut out);
            out.len()
        };
        assert_eq!(length(&|out| out.entry(&attr())), 128);
        assert_eq!(length(&Output::no_entry), 128);
        assert_eq!(length(&|out| out.attributes(&attr())), 104);
        assert_eq!(length(&|out| out.statx(&attr())), 32 + 256);
        assert_eq!(length(&Output::opened), 16);
        assert_eq!(length(&|out| out.dirent(1, 2, FileKind::File, b"12345678")), 32);
        assert_eq!(length(&|out| out.dirent(1, 2, FileKind::File, b"123456789")), 40);
        assert_eq!(direntplus_len(b"123456789"), 168);
    }

    #[test]
    fn a_request_that_is_too_short_is_refused_and_never_a_panic() {
        let mut whole = vec![0; 48];
        whole[..4].copy_from_slice(&48_u32.to_ne_bytes());
        whole[40..48].copy_from_slice(b"a name\0x");
        let (_, mut input) = Input::new(&whole).expect("whole");
        assert_eq!(input.name(), Ok(&b"a name"[..]));
        assert_eq!((input.u32(), input.u64()), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        assert_eq!(input.name(), Err(Errno::EINVAL));
        assert_eq!(input.bytes(1), Ok(&b"x"[..]));
        for end in 0..48 {
            assert!(Input::new(&whole[..end]).is_err(), "{end}");
        }
    }
}
