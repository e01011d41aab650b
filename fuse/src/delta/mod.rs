//! The read-write part of a workspace, on a real disk.
//!
//! [`format`](mod@format) says what is in the directory; [`Index`] is the state in memory, [`Log`]
//! the file it comes from. A delta knows nothing of the layers it lies over. Everything in it
//! belongs to the user who runs the process: owners and modes that files are *shown* with are
//! fields of the log.

mod changes;
mod check;
mod codec;
mod data;
mod error;
mod files;
pub mod format;
mod index;
mod log;
mod node;
mod places;
mod stock;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use crate::call;
pub use changes::{Change, ChangeKind};
pub use codec::DecodeError;
pub use data::Data;
pub use error::DeltaError;
use error::io_error;
pub use format::{FileKind, Node, Op, ROOT, Time};
pub use index::{ApplyError, Child, Index, Slot, join};
use log::Log;
pub use log::{Replayed, replay};
pub(crate) use node::blank;

/// Deleted data files wait for the log that says so to be on the disk: this many at most …
const TRASH_FILES: usize = 1024;
/// … and this many bytes.
const TRASH_BYTES: u64 = 64 << 20;

/// An open delta. There is one writer at a time; readers wait only while a finished change
/// is put into the index.
pub struct Delta {
    index: RwLock<Index>,
    writer: Mutex<State>,
    /// The content of its files.
    pub data: Data,
    _lock: Flock<std::fs::File>,
}

struct State {
    log: Log,
    trash: Vec<u64>,
    trash_bytes: u64,
    /// Files that took the place of others: their content goes to the disk before the log,
    /// so that after a loss of power there is the old or the new.
    replacing: Vec<u64>,
}

/// The right to change the delta. While somebody holds it, the index does not change.
pub struct Writer<'a> {
    delta: &'a Delta,
    state: MutexGuard<'a, State>,
}

impl Delta {
    /// Opens the delta in the directory `path`, which is made if it is missing.
    pub fn open(path: &Path) -> Result<Delta, DeltaError> {
        let delta = Delta::open_as_it_is(path)?;
        if !delta.read().closed {
            let orphans = delta.read().orphans().map(|(ino, _)| ino).collect::<Vec<_>>();
            orphans.into_iter().for_each(|ino| drop(delta.index_mut().remove_orphan(ino)));
            delta.sweep(path)?;
            delta.fill_gaps();
            // On a full disk the log cannot say so; the next open finds the same, and clears up.
            let _ = delta.begin().close();
        }
        Ok(delta)
    }

    /// Opens the delta of a process that was killed, for those who go on using what it had
    /// open: nameless files are still there, and so is the memory of what was just done.
    pub fn take_over(path: &Path) -> Result<Delta, DeltaError> {
        let delta = Delta::open_as_it_is(path)?;
        let lost = |(ino, slot): (u64, &Slot)| {
            (slot.node.own && delta.data.stat(ino).is_err()).then_some(ino)
        };
        // Nobody used those any more: their content was deleted.
        let lost: Vec<u64> = delta.read().orphans().filter_map(lost).collect();
        lost.into_iter().for_each(|ino| drop(delta.index_mut().remove_orphan(ino)));
        delta.sweep(path)?;
        Ok(delta)
    }

    fn open_as_it_is(path: &Path) -> Result<Delta, DeltaError> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", path)(error));
            }
            _ => {}
        }
        let lock = lock(path)?;
        let (log, index) = Log::open(&path.join("log"))?;
        let data_path = path.join("data");
        let data = Data::open(&data_path).map_err(io_error("open", &data_path))?;
        Ok(Delta {
            index: RwLock::new(index),
            writer: Mutex::new(State {
                log,
                trash: Vec::new(),
                trash_bytes: 0,
                replacing: Vec::new(),
            }),
            data,
            _lock: lock,
        })
    }

    /// A file that was made and never synced may have lost its content with the power: it is
    /// empty then, as on other disks.
    fn fill_gaps(&self) {
        for (ino, _) in self.read().nodes().filter(|(_, slot)| slot.node.own) {
            if self.data.stat(ino) == Err(Errno::ENOENT) {
                // If it cannot be made, reading it fails.
                let _ = self.data.create(ino);
            }
        }
    }

    /// Deletes the data files that belong to no node.
    fn sweep(&self, path: &Path) -> Result<(), DeltaError> {
        let index = self.read();
        let keep = |ino| index.slot(ino).is_some_and(|slot| slot.node.own);
        let data = path.join("data");
        self.data.sweep(&data, keep).map_err(io_error("clear", &data))
    }

    /// The state of the metadata.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        // Changes are put in whole or refused before: a panic does not leave half of one.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to change.
    pub fn begin(&self) -> Writer<'_> {
        let state = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Writer { delta: self, state }
    }

    /// Keeps a nameless node of the layers while somebody uses it.
    pub fn add_orphan(&self, ino: u64, node: Node) {
        self.index_mut().add_orphan(ino, node);
    }

    /// Nobody uses the nameless node `ino` any more, if that is what it is.
    pub fn release_orphan(&self, ino: u64) {
        if self.read().named(ino).is_some() {
            return;
        }
        let Some(slot) = self.index_mut().remove_orphan(ino) else { return };
        if slot.node.own {
            self.begin().discard(ino);
        }
    }

    /// Makes all changes so far survive a loss of power.
    pub fn sync(&self) -> io::Result<()> {
        self.begin().empty_trash()
    }
}

impl Writer<'_> {
    /// The state of the metadata.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.delta.read()
    }

    /// The time of the delta's file system: what a file written now would carry.
    pub fn now(&self) -> Result<Time, Errno> {
        let file = self.state.log.file();
        futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?;
        let stat = nix::sys::stat::fstat(file)?;
        Ok(Time { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 })
    }

    /// Makes one transaction of `ops`: either all of it happened, or nothing. Returns the
    /// nodes that have lost their last name.
    ///
    /// If the thread works on a request of the kernel's, the transaction says that it is done.
    pub fn commit(&mut self, mut ops: Vec<Op>) -> Result<Vec<u64>, Errno> {
        if let Some(operation) = call::operation() {
            ops.push(Op::Done { operation, ino: entered(&ops) });
        }
        self.delta.read().check(&ops).map_err(|_| Errno::ESTALE)?;
        match self.state.log.append(&ops).map_err(errno) {
            // Deleted files may still hold the space.
            Err(Errno::ENOSPC | Errno::EDQUOT) if !self.state.trash.is_empty() => {
                self.empty_trash().map_err(errno)?;
                self.state.log.append(&ops).map_err(errno)?;
            }
            other => other?,
        }
        let loose = self.delta.index_mut().apply(ops);
        if self.state.log.wants_compaction() {
            // The log as it is stays good if this fails.
            let _ = self.state.log.compact(&self.delta.read());
        }
        // What was built from the index cannot contradict it.
        loose.map_err(|_| Errno::EIO)
    }

    /// As [`Delta::release_orphan`].
    pub fn release_orphan(&mut self, ino: u64) {
        let slot = self.delta.index_mut().remove_orphan(ino);
        if slot.is_some_and(|slot| slot.node.own) {
            self.discard(ino);
        }
    }

    /// Deletes the data file of `ino`, once the log that no longer names it is on the disk.
    pub fn discard(&mut self, ino: u64) {
        let blocks = self.delta.data.stat(ino).map_or(0, |stat| stat.st_blocks as u64);
        self.delta.data.close(ino);
        self.state.trash.push(ino);
        self.state.trash_bytes += blocks * 512;
        if self.state.trash.len() >= TRASH_FILES || self.state.trash_bytes >= TRASH_BYTES {
            // They wait for the next attempt.
            let _ = self.empty_trash();
        }
    }

    /// Says that nobody uses a nameless node any more.
    fn close(&mut self) -> io::Result<()> {
        self.state.log.append(&[Op::Closed])?;
        // It contradicts nothing.
        let _ = self.delta.index_mut().apply(vec![Op::Closed]);
        Ok(())
    }

    /// The file `ino` takes the place of another with the next commit.
    pub fn replaces(&mut self, ino: u64) {
        self.state.replacing.push(ino);
    }

    /// Syncs the log and deletes the data files that waited for it.
    pub fn empty_trash(&mut self) -> io::Result<()> {
        for ino in std::mem::take(&mut self.state.replacing) {
            match self.delta.data.sync(ino, true) {
                // It was deleted itself since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        self.state.log.sync(&self.delta.read())?;
        self.state.trash_bytes = 0;
        for ino in std::mem::take(&mut self.state.trash) {
            self.delta.data.remove(ino);
        }
        Ok(())
    }
}

impl Drop for Delta {
    fn drop(&mut self) {
        self.data.end();
        let mut writer = self.begin();
        let own = |(ino, slot): (u64, &Slot)| slot.node.own.then_some(ino);
        let orphans: Vec<u64> = writer.read().orphans().filter_map(own).collect();
        if writer.read().closed && writer.state.trash.is_empty() && orphans.is_empty() {
            return;
        }
        orphans.into_iter().for_each(|ino| writer.release_orphan(ino));
        // After any failure the next open finds an unclean end, and clears up.
        let _ = writer
            .empty_trash()
            .and_then(|()| writer.close())
            .and_then(|()| writer.state.log.sync(&self.read()));
    }
}

/// What to tell the caller of a file system.
pub fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The inode that `ops` name or make, which the last of them tells; 0 if there is none.
fn entered(ops: &[Op]) -> u64 {
    let ino = |op: &Op| match op {
        Op::Entry { ino, .. } | Op::Node { ino, .. } => Some(*ino),
        _ => None,
    };
    ops.iter().rev().find_map(ino).unwrap_or(0)
}

fn lock(path: &Path) -> Result<Flock<std::fs::File>, DeltaError> {
    let lock = path.join("lock");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock)
        .map_err(io_error("open", &lock))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => DeltaError::Locked { path: path.into() },
        errno => io_error("lock", &lock)(errno.into()),
    })
}

#[cfg(test)]
mod tests;
