//! The data files of a delta: one sparse file for the content of each regular file.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files::{make, name, new_name, open_at, shard, unlink};
use super::stock::Stock;
use crate::descriptors::Descriptors;

/// How many data files are held open at a time.
const OPEN_FILES: usize = 64;

/// The directory `data` of a delta, held by descriptor.
pub struct Data {
    dir: Arc<OwnedFd>,
    stock: Stock,
    open: Descriptors,
    /// Files whose names a loss of power could still take.
    unnamed: Mutex<HashSet<u64>>,
}

impl Data {
    /// Opens `path`, making it if it is missing.
    pub fn open(path: &Path) -> io::Result<Data> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let dir = OpenOptions::new().read(true).custom_flags_directory().open(path)?;
        let dir = Arc::new(OwnedFd::from(dir));
        let (stock, open) = (Stock::new(Arc::clone(&dir)), Descriptors::new(OPEN_FILES));
        Ok(Data { dir, stock, open, unnamed: Mutex::default() })
    }

    /// Makes the empty data file of `ino`; what a crash left there is gone.
    pub fn create(&self, ino: u64) -> Result<Arc<File>, Errno> {
        Ok(self.made(ino, make(&self.dir, &name(ino), OFlag::O_TRUNC)?))
    }

    /// The same, where every number is higher than all before it: it may have been made ahead.
    pub fn create_next(&self, ino: u64) -> Result<Arc<File>, Errno> {
        let Some(file) = self.stock.take(ino) else { return self.create(ino) };
        // Its content is as old as the file in the mount.
        futimens(&file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?;
        Ok(self.made(ino, file))
    }

    /// Makes nothing ahead any more.
    pub fn end(&self) {
        self.stock.end();
    }

    fn made(&self, ino: u64, file: File) -> Arc<File> {
        let file = Arc::new(file);
        self.unnamed().insert(ino);
        self.open.put(ino, Arc::clone(&file));
        file
    }

    fn unnamed(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a copy-up: an empty file that [`Data::commit`] gives its name.
    pub fn stage(&self, ino: u64) -> Result<File, Errno> {
        make(&self.dir, &new_name(ino), OFlag::O_TRUNC)
    }

    /// Ends a copy-up.
    pub fn commit(&self, ino: u64, file: File) -> Result<Arc<File>, Errno> {
        renameat(&self.dir, new_name(ino).as_str(), &self.dir, name(ino).as_str())?;
        Ok(self.made(ino, file))
    }

    /// Gives a copy-up up.
    pub fn abandon(&self, ino: u64) {
        // What cannot be removed now is removed after the unclean end this is part of.
        let _ = unlinkat(&self.dir, new_name(ino).as_str(), UnlinkatFlags::NoRemoveDir);
    }

    /// The data file of `ino`.
    pub fn file(&self, ino: u64) -> Result<Arc<File>, Errno> {
        self.open.get_or_open(ino, || open_at(&self.dir, &name(ino), OFlag::O_RDWR))
    }

    /// The same, to be read only: a disk that has failed is read-only.
    pub fn file_to_read(&self, ino: u64) -> Result<Arc<File>, Errno> {
        match self.file(ino) {
            Err(Errno::EROFS) => open_at(&self.dir, &name(ino), OFlag::O_RDONLY).map(Arc::new),
            other => other,
        }
    }

    /// Length, blocks and times of the data file of `ino`.
    pub fn stat(&self, ino: u64) -> Result<FileStat, Errno> {
        match self.open.get(ino) {
            Some(file) => nix::sys::stat::fstat(file.as_fd()),
            None => fstatat(&self.dir, name(ino).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW),
        }
    }

    /// Makes content and name of the data file of `ino` survive a loss of power.
    pub fn sync(&self, ino: u64, content_only: bool) -> io::Result<()> {
        let file = self.file(ino)?;
        if content_only {
            file.sync_data()?
        } else {
            file.sync_all()?
        };
        if self.unnamed().contains(&ino) {
            let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            File::from(openat(&self.dir, shard(ino).as_str(), flags, Mode::empty())?).sync_all()?;
            self.unnamed().remove(&ino);
        }
        Ok(())
    }

    /// Stops keeping the data file of `ino` open.
    pub fn close(&self, ino: u64) {
        self.open.remove(ino);
    }

    /// Deletes the data file of `ino`, if there is one.
    pub fn remove(&self, ino: u64) {
        self.open.remove(ino);
        self.unnamed().remove(&ino);
        unlink(&self.dir, ino);
    }

    /// Deletes everything that `keep` does not know.
    pub fn sweep(&self, path: &Path, keep: impl Fn(u64) -> bool) -> io::Result<()> {
        for shard in std::fs::read_dir(path)? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(shard.path())? {
                let file = file?;
                let name = file.file_name();
                let ino = name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
                if !ino.is_some_and(&keep) {
                    std::fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    /// The directory, for `statvfs`.
    pub fn directory(&self) -> &OwnedFd {
        &self.dir
    }
}

/// `O_DIRECTORY` on [`OpenOptions`].
trait DirectoryFlag {
    fn custom_flags_directory(&mut self) -> &mut Self;
}

impl DirectoryFlag for OpenOptions {
    fn custom_flags_directory(&mut self) -> &mut OpenOptions {
        std::os::unix::fs::OpenOptionsExt::custom_flags(self, libc::O_DIRECTORY)
    }
}
