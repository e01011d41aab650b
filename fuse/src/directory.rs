//! A layer over a real directory.
//!
//! The directory is opened once and everything is found from that descriptor, so that it does
//! not matter what becomes of its path. No link is ever followed, and nothing outside is
//! reached. Whoever attaches it promises that nobody changes it. Files that are neither
//! regular, directories nor links are not there.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, fstat, fstatat};

use crate::descriptors::Descriptors;
use crate::layer::{Entry, Key, Kind, Layer, Node};

/// How many files are held open at a time.
const OPEN_FILES: usize = 64;

/// A real directory as a layer. Keys are paths in it.
pub struct Directory {
    dir: OwnedFd,
    root: Node,
    open: Descriptors<Key>,
}

fn node(stat: &FileStat, key: Key) -> Option<Node> {
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        _ => return None,
    };
    let size = if kind == Kind::Directory { 0 } else { stat.st_size as u64 };
    let mode = (stat.st_mode & 0o777) as u16;
    Some(Node { kind, mode, size, mtime: stat.st_mtime, key })
}

fn join(dir: &[u8], name: &[u8]) -> Key {
    if dir.is_empty() { name.into() } else { [dir, name].join(&b'/').into() }
}

impl Directory {
    /// Opens the directory `path`.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let dir: OwnedFd = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)?
            .into();
        let root = node(&fstat(&dir)?, Key::from(&b""[..])).ok_or(Errno::ENOTDIR)?;
        Ok(Directory { dir, root, open: Descriptors::new(OPEN_FILES) })
    }

    fn open_at(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let path = if path.is_empty() { &b"."[..] } else { path };
        openat2(&self.dir, path, how)
    }

    fn open_file(&self, path: &Key) -> Result<Arc<File>, Errno> {
        let open = || self.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).map(File::from);
        self.open.get_or_open(Arc::clone(path), open)
    }

    /// The directory that `path` stands in, and its name there.
    fn parent<'a>(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        Ok((self.open_at(dir, OFlag::O_PATH | OFlag::O_DIRECTORY)?, name))
    }
}

impl Layer for Directory {
    fn root(&self) -> Node {
        self.root.clone()
    }

    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        let handle = self.open_at(dir, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        match fstatat(&handle, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(node(&stat, join(dir, name))),
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn list(&self, dir: &Key) -> io::Result<Vec<Entry>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut handle = Dir::from_fd(self.open_at(dir, flags)?)?;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for entry in handle.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.into());
            }
        }
        names.sort();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let path = OsStr::from_bytes(&name);
            let stat = fstatat(&handle, path, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if let Some(node) = node(&stat, join(dir, &name)) {
                entries.push(Entry { name, node });
            }
        }
        Ok(entries)
    }

    fn read(&self, file: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self.open_file(file) {
            Ok(file) => file.read_at(buf, offset),
            Err(Errno::ELOOP) => {
                let (dir, name) = self.parent(file)?;
                let target = readlinkat(&dir, OsStr::from_bytes(name))?;
                let rest = target.as_bytes().get(offset as usize..).unwrap_or_default();
                let count = rest.len().min(buf.len());
                buf[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn file(&self, file: &Key) -> io::Result<Option<Arc<File>>> {
        Ok(Some(self.open_file(file)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        path.as_bytes().into()
    }

    #[test]
    fn links_are_seen_and_never_followed() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), "s").expect("written");
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).expect("linked");
        std::fs::create_dir(dir.path().join("d")).expect("made");
        std::fs::write(dir.path().join("d/f"), "content").expect("written");
        let layer = Directory::open(dir.path()).expect("opens");

        let names: Vec<_> =
            layer.list(&key("")).expect("lists").into_iter().map(|e| e.name).collect();
        assert_eq!(names, [Box::from(&b"d"[..]), Box::from(&b"out"[..])]);
        let link = layer.lookup(&key(""), b"out").expect("looks").expect("is there");
        assert_eq!(link.kind, Kind::Symlink);
        let mut buf = [0; 256];
        let count = layer.read(&link.key, 0, &mut buf).expect("reads the target");
        assert_eq!(&buf[..count], outside.path().as_os_str().as_bytes());
        assert!(layer.lookup(&key("out"), b"secret").is_err());
        assert!(layer.read(&key("out/secret"), 0, &mut buf).is_err());
        assert!(layer.read(&key("../secret"), 0, &mut buf).is_err());

        let file = layer.lookup(&key("d"), b"f").expect("looks").expect("is there");
        let count = layer.read(&file.key, 3, &mut buf).expect("reads");
        assert_eq!(&buf[..count], b"tent");
        assert_eq!(layer.lookup(&key("d"), b"g").expect("looks"), None);
    }
}
