//! The file in the tree, read and written without leaving the tree.
//!
//! The tree may be anybody's: `.zagi` could be a link to `/etc`, `secrets.enc` one to a key, or a
//! pipe that never answers. So the directory is opened beneath the root (openat2(2),
//! `RESOLVE_BENEATH`), the file in it is an ordinary one and no link, and everything else is done
//! relative to that directory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::document::MOST_BYTES;
use super::error::{SecretsError, at, at_os};
use super::sign::{hex, random};

/// The file, relative to the project's root.
pub const PATH: &str = ".zagi/secrets.enc";
/// The directory that it is in.
pub const DIRECTORY: &str = ".zagi";
const NAME: &str = "secrets.enc";
/// Of a new file: there is nothing in it that others may not read.
const MODE: u32 = 0o644;

/// Where a project's secrets are.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    /// The root that it is known by: of which it is a copy.
    known: PathBuf,
    /// The file's whole path, for messages.
    pub path: PathBuf,
}

impl Place {
    /// Of the project at `root`.
    pub fn new(root: &Path) -> Place {
        Place { root: root.to_owned(), known: root.to_owned(), path: root.join(PATH) }
    }

    /// The same, known as what it is a copy of: the one of the project at `root`.
    pub fn called(self, root: &Path) -> Place {
        Place { known: root.to_owned(), path: root.join(PATH), ..self }
    }

    /// Of the project whose root is `open`, for as long as that is: whatever `root` leads to meanwhile.
    pub fn opened(root: &Path, open: &impl AsRawFd) -> Place {
        let through = format!("/proc/self/fd/{}", open.as_raw_fd());
        Place { root: through.into(), known: root.to_owned(), path: root.join(PATH) }
    }

    /// The root of the project that it is known by.
    pub fn known(&self) -> &Path {
        &self.known
    }

    /// The file's text; `None` where there is none.
    pub fn read(&self) -> Result<Option<String>, SecretsError> {
        match self.directory(false)? {
            Some(directory) => Ok(self.read_in(&directory)?.map(|(text, _)| text)),
            None => Ok(None),
        }
    }

    /// Puts `text` in its place, whole or not at all, if what is there is `expected`. Its mode
    /// stays.
    pub fn replace(&self, text: &str, expected: Option<&str>) -> Result<(), SecretsError> {
        let missing = || SecretsError::Raced(self.path.clone());
        let directory = self.directory(expected.is_none())?.ok_or_else(missing)?;
        let before = self.read_in(&directory)?;
        if before.as_ref().map(|(text, _)| text.as_str()) != expected {
            return Err(missing());
        }
        let kept = before.map(|(_, mode)| Mode::from_raw_mode(mode));
        let mode = kept.unwrap_or(Mode::from_raw_mode(MODE));
        let name = format!(".{NAME}.{}", hex(&random::<8>()?));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&directory, &name, flags | OFlags::CLOEXEC, mode)
            .map_err(at_os(&self.path))?;
        let mut file = File::from(file);
        let done = file
            .write_all(text.as_bytes())
            // What the umask took of a mode that was there.
            .and_then(|()| Ok(kept.map_or(Ok(()), |mode| rustix::fs::fchmod(&file, mode))?))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::renameat(&directory, &name, &directory, NAME)?));
        if done.is_err() {
            let _ = rustix::fs::unlinkat(&directory, &name, AtFlags::empty());
        }
        done.map_err(at(&self.path))?;
        match rustix::fs::fsync(&directory) {
            // File systems that sync no directory have nothing to sync there.
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
            Err(e) => Err(at_os(&self.path)(e)),
        }
    }

    fn odd(&self, reason: &'static str) -> SecretsError {
        SecretsError::Odd { path: self.path.clone(), reason }
    }

    /// `.zagi`, wherever in the tree it is.
    fn directory(&self, make: bool) -> Result<Option<OwnedFd>, SecretsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, flags, Mode::empty()).map_err(at_os(&self.root))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || rustix::fs::openat2(&root, DIRECTORY, flags, Mode::empty(), resolve);
        match open() {
            Ok(directory) => return Ok(Some(directory)),
            Err(Errno::NOENT) if make => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::XDEV) => {
                return Err(self.odd("`.zagi` is a link that leads out of the tree"));
            }
            Err(Errno::NOTDIR) => return Err(self.odd("`.zagi` is no directory")),
            Err(e) => return Err(at_os(&self.path)(e)),
        }
        match rustix::fs::mkdirat(&root, DIRECTORY, Mode::from_raw_mode(0o755)) {
            // A link to nowhere is there, too.
            Ok(()) | Err(Errno::EXIST) => open().map(Some).map_err(at_os(&self.path)),
            Err(e) => Err(at_os(&self.path)(e)),
        }
    }

    /// Its text and mode.
    fn read_in(&self, directory: &OwnedFd) -> Result<Option<(String, u32)>, SecretsError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.odd("it is a symbolic link")),
            Err(e) => return Err(at_os(&self.path)(e)),
        };
        let about = file.metadata().map_err(at(&self.path))?;
        if !about.is_file() {
            return Err(self.odd("it is no ordinary file"));
        }
        let mut text = String::new();
        let too_long = || self.odd("it is too long");
        match file.take(MOST_BYTES as u64 + 1).read_to_string(&mut text) {
            Ok(n) if n > MOST_BYTES => return Err(too_long()),
            // So it stands while something runs that may not make it.
            Ok(0) => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(self.odd("it is no text"));
            }
            read => read.map_err(at(&self.path))?,
        };
        Ok(Some((text, std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777)))
    }
}
