//! Opening what stands below a directory, however deep, and never through a symbolic link:
//! whoever may write there must not lead a capture elsewhere.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Paths are given to the kernel in parts of at most this many bytes; it takes 4,095.
const PART: usize = 3000;

/// Opens `path`, relative to `root` and without `.` and `..`; empty for `root` itself.
pub fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let (mut base, mut rest) = (None::<OwnedFd>, path);
    loop {
        let at = base.as_ref().map_or(root, |base| base.as_fd());
        if rest.is_empty() {
            return Ok(rustix::fs::openat(at, ".", flags, Mode::empty())?);
        }
        if rest.len() <= PART {
            return Ok(open_part(at, rest, flags)?);
        }
        let end = rest[..PART].iter().rposition(|byte| *byte == b'/').unwrap_or(PART);
        let (part, below) = rest.split_at(end);
        base = Some(open_part(at, part, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?);
        rest = below.strip_prefix(b"/").unwrap_or(below);
    }
}

fn open_part(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if !path.contains(&b'/') {
        return rustix::fs::openat(at, path, flags | OFlags::NOFOLLOW, Mode::empty());
    }
    let resolve = ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(at, path, flags, Mode::empty(), resolve) {
        // A kernel before 5.6, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_by_names(at, path, flags),
        opened => opened,
    }
}

fn open_by_names(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut base = None::<OwnedFd>;
    let mut rest = path;
    while let Some(end) = rest.iter().position(|byte| *byte == b'/') {
        let at = base.as_ref().map_or(at, |base| base.as_fd());
        let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        base = Some(rustix::fs::openat(at, &rest[..end], through, Mode::empty())?);
        rest = &rest[end + 1..];
    }
    let at = base.as_ref().map_or(at, |base| base.as_fd());
    rustix::fs::openat(at, rest, flags | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Read;

    #[test]
    fn links_are_not_followed_whichever_way_a_path_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "content").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("a/b/alias")).unwrap();
        let root = File::open(dir.path()).unwrap();
        type Open = fn(BorrowedFd<'_>, &[u8], OFlags) -> Result<OwnedFd, Errno>;
        let ways: [Open; 2] = [open_part, open_by_names];
        for way in ways {
            let mut text = String::new();
            let found = way(root.as_fd(), b"a/b/file", OFlags::RDONLY).unwrap();
            File::from(found).read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
            for refused in [&b"link/b/file"[..], b"a/b/alias", b"link", b"a/b/nothing"] {
                let opened = way(root.as_fd(), refused, OFlags::RDONLY);
                assert!(opened.is_err(), "{}", refused.escape_ascii());
            }
        }
    }
}
