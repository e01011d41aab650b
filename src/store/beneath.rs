//! Directories below one that is being made or changed, by descriptor. None is ever reached
//! through a symbolic link, whoever may put one there meanwhile.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::StoreError;

/// A directory that others are named relative to. A relative path has no `.`, `..` or double
/// `/`; the empty one is the directory itself.
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl Root {
    /// The directory `path`, which may itself be a symbolic link to one.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Root { fd, path: path.to_owned() })
    }

    /// A directory below.
    pub fn directory(&self, relative: &[u8]) -> io::Result<OwnedFd> {
        self.open_at(relative, DIRECTORY)
    }

    /// A directory below that can be read and whose mode can be changed.
    pub fn readable(&self, relative: &[u8]) -> io::Result<OwnedFd> {
        self.open_at(relative, DIRECTORY.difference(OFlags::PATH))
    }

    fn open_at(&self, relative: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if relative.is_empty() { b"." } else { relative };
        let no_links = ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), no_links) {
            // An old kernel, or a filter of system calls.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(opened?),
        }
        let mut at = rustix::fs::openat(&self.fd, c".", flags, Mode::empty())?;
        for name in relative.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }

    /// The whole path of something below.
    pub fn path(&self, relative: &[u8]) -> PathBuf {
        match relative {
            b"" => self.path.clone(),
            _ => self.path.join(OsStr::from_bytes(relative)),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `below`, as a path relative to what `directory` is relative to.
pub fn join(directory: &[u8], below: &[u8]) -> Box<[u8]> {
    match directory {
        b"" => below.into(),
        _ => [directory, b"/", below].concat().into(),
    }
}

/// The directory of a relative path, and the name in it.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A path and the directories that it is in, from the top.
pub fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain((!path.is_empty()).then_some(path.len())).map(|end| &path[..end])
}

/// What stands at a name, links not followed. None if nothing does.
pub fn stat(directory: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether it is of this type.
pub fn is(found: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}

/// Makes a directory, unless there is one. Anything else in the way is an error.
pub fn make_directory(
    directory: impl AsFd,
    name: &[u8],
    path: impl Fn() -> PathBuf,
) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::restore(&path())(e);
    match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => match stat(&directory, name).map_err(failed)? {
            Some(found) if is(&found, FileType::Directory) => Ok(()),
            _ => Err(failed(Errno::EXIST.into())),
        },
        made => made.map_err(|e| failed(e.into())),
    }
}

/// A path for system calls that is made without asking for memory.
pub struct ShortPath<const N: usize>([u8; N]);

impl<const N: usize> ShortPath<N> {
    /// The bytes of `parts` in order, which must be fewer than `N` in all.
    pub fn new(parts: &[&[u8]]) -> ShortPath<N> {
        let mut bytes = [0; N];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        ShortPath(bytes)
    }

    /// The path.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).expect("its last byte is never written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_come_from_the_top() {
        let all = |path: &'static [u8]| ancestors(path).collect::<Vec<_>>();
        assert_eq!(all(b""), [] as [&[u8]; 0]);
        assert_eq!(all(b"a"), [b"a"]);
        assert_eq!(all(b"a/bc/d"), [&b"a"[..], b"a/bc", b"a/bc/d"]);
    }

    #[test]
    fn no_directory_is_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.directory(b"").is_ok() && root.directory(b"a/b").is_ok());
        assert!(root.directory(b"link").is_err() && root.directory(b"link/b").is_err());
    }
}
