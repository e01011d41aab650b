//! A tree put over a directory that exists: only what differs is touched.
//!
//! First everything that is new is made in a staging directory, which may fail for want of
//! space without anything having been touched. Then it is renamed into place, a path at a
//! time: over what stood there, or in exchange for it where one of the two is a directory.
//! Last what is to go is removed, a directory by renaming it away as a whole. So whenever
//! this ends early, every path has either what it had or what it is to have, and to run it
//! again finishes it. The three walk the difference of the trees again each, rather than
//! keep a list of it.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Stat};
use rustix::io::Errno;

use super::maker::{Groups, Maker, Parts, Strategy};
use super::staging::Staging;
use crate::store::Store;
use crate::store::beneath::{self, Root, split};
use crate::store::diff::{Change, ChangeKind};
use crate::store::error::StoreError;
use crate::store::format::TreeId;
use crate::store::format::tree::Kind;

/// Paths by what was done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched {
    /// New paths; a new directory counts as one.
    pub added: u64,
    /// Another content, execute bit or target.
    pub modified: u64,
    /// Paths that are gone; a directory counts as one.
    pub deleted: u64,
    /// A file became a directory, or the like.
    pub retyped: u64,
}

impl Touched {
    fn add(&mut self, kind: ChangeKind) {
        *match kind {
            ChangeKind::Added => &mut self.added,
            ChangeKind::Modified => &mut self.modified,
            ChangeKind::Deleted => &mut self.deleted,
            ChangeKind::Type => &mut self.retyped,
        } += 1;
    }
}

/// What was made to be put in place.
pub struct Staged {
    /// Regular files.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
    /// Those of which only the hard links differ.
    pub same: Vec<Box<[u8]>>,
}

/// A directory, what it holds, and what it is to hold.
pub struct Over<'o> {
    pub store: &'o Store,
    pub root: Root,
    pub before: TreeId,
    pub after: TreeId,
}

impl Over<'_> {
    /// Makes what is new in `staging`.
    pub fn stage(
        &self,
        parts: &Parts<'_>,
        staging: &Staging,
        strategy: Strategy,
    ) -> Result<Staged, StoreError> {
        let groups = match strategy {
            Strategy::Link => Groups::default(),
            _ => self.broken_groups(Groups::read(parts, &self.after)?)?,
        };
        let regrouped: HashSet<Box<[u8]>> = groups.paths().cloned().collect();
        let maker = Maker::new(parts, staging.make("new")?, strategy, groups)?;
        let device = self.device(b"")?;
        let mut last: Option<Box<[u8]>> = None;
        let mut parent = |path: &[u8]| {
            let directory = split(path).0;
            if last.as_deref() != Some(directory) {
                if self.device(directory)? != device {
                    let error = io::ErrorKind::CrossesDevices.into();
                    return Err(StoreError::restore(&self.root.path(directory))(error));
                }
                maker.make_parents(directory)?;
                last = Some(directory.into());
            }
            Ok(())
        };
        self.store.diff(&self.before, &self.after, |change| {
            let is_regrouped = regrouped.contains(change.path);
            if change.is_mode_only() && !is_regrouped && self.owns_alone(change.path)?.is_some() {
                return Ok(false);
            }
            parent(change.path)?;
            if let Some(after) = change.after {
                maker.add(change.path, after)?;
            }
            Ok::<bool, StoreError>(false)
        })?;
        let mut same = Vec::new();
        for path in regrouped {
            let Some(kind) = self.lookup(&self.after, &path)? else { continue };
            if self.lookup(&self.before, &path)?.as_ref() == Some(&kind) {
                parent(&path)?;
                maker.add(&path, &kind)?;
                same.push(path);
            }
        }
        let (files, bytes) = maker.finish()?;
        Ok(Staged { files, bytes, same })
    }

    /// The groups that are not one inode each, with no names but theirs, in the directory.
    fn broken_groups(&self, groups: Groups) -> Result<Groups, StoreError> {
        groups.filter(|group| {
            let mut inode = None;
            for path in group {
                if self.lookup(&self.before, path)? != self.lookup(&self.after, path)? {
                    return Ok(true);
                }
                let found = self.stat(path)?;
                let here = found.map(|s| (s.st_dev, s.st_ino, u64::from(s.st_nlink as u32)));
                if *inode.get_or_insert(here) != here
                    || here.is_none_or(|(.., names)| names != group.len() as u64)
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// What a tree has at a path.
    fn lookup(&self, tree: &TreeId, path: &[u8]) -> Result<Option<Kind>, StoreError> {
        let mut at = Kind::Directory(*tree);
        for name in path.split(|byte| *byte == b'/') {
            let Kind::Directory(id) = at else { return Ok(None) };
            let Some(entry) = self.store.tree(&id)?.get(name).cloned() else { return Ok(None) };
            at = entry.kind;
        }
        Ok(Some(at))
    }

    fn failed(&self, path: &[u8]) -> impl Fn(Errno) -> StoreError {
        let path = self.root.path(path);
        move |e| StoreError::restore(&path)(e.into())
    }

    fn device(&self, directory: &[u8]) -> Result<u64, StoreError> {
        let fd = self.root.directory(directory);
        let fd = fd.map_err(StoreError::restore(&self.root.path(directory)))?;
        Ok(rustix::fs::fstat(fd).map_err(self.failed(directory))?.st_dev)
    }

    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, StoreError> {
        let (directory, name) = split(path);
        let found = match self.root.directory(directory) {
            Ok(fd) => beneath::stat(fd, name),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
        found.map_err(StoreError::restore(&self.root.path(path)))
    }

    /// The mode of a file that has no other name, so that it may be changed.
    fn owns_alone(&self, path: &[u8]) -> Result<Option<u32>, StoreError> {
        let found = self.stat(path)?;
        let alone = found.filter(|s| beneath::is(s, FileType::RegularFile) && s.st_nlink == 1);
        Ok(alone.map(|s| s.st_mode))
    }

    /// Puts what was made in place, `same` too.
    pub fn publish(&self, staging: &Staging, same: &[Box<[u8]>]) -> Result<Touched, StoreError> {
        let path = staging.path("new");
        let made = Root::open(&path).map_err(StoreError::restore(&path))?;
        let mut touched = Touched::default();
        let mut open = Pair::new(&self.root, &made);
        self.store.diff(&self.before, &self.after, |change| {
            touched.add(change.kind());
            if change.after.is_some() {
                self.put(&mut open, change)?;
            }
            Ok::<bool, StoreError>(false)
        })?;
        for path in same {
            let (directory, name) = split(path);
            let Some((to, Some(from))) = open.at(directory)? else { continue };
            rustix::fs::renameat(from, name, to, name).map_err(self.failed(path))?;
            touched.modified += 1;
        }
        Ok(touched)
    }

    fn put(&self, open: &mut Pair<'_>, change: &Change<'_>) -> Result<(), StoreError> {
        let failed = self.failed(change.path);
        let (directory, name) = split(change.path);
        let Some((to, from)) = open.at(directory)? else { return Err(failed(Errno::NOENT)) };
        let staged = match from {
            Some(from) => beneath::stat(from, name)
                .map_err(|e| StoreError::restore(&self.root.path(change.path))(e))?,
            None => None,
        };
        let (Some(from), Some(_)) = (from, staged) else {
            return self.change_mode(to, name, change);
        };
        let is_directory = |kind: Option<&Kind>| matches!(kind, Some(Kind::Directory(_)));
        let put = if change.before.is_none() {
            // What somebody has put there meanwhile is not in the snapshot.
            match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL) => rustix::fs::renameat(from, name, to, name),
                done => done,
            }
        } else if is_directory(change.before) || is_directory(change.after) {
            exchange(from, to, name, is_directory(change.before))
        } else {
            rustix::fs::renameat(from, name, to, name)
        };
        put.map_err(failed)
    }

    fn change_mode(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        change: &Change<'_>,
    ) -> Result<(), StoreError> {
        let Some(mode) = self.owns_alone(change.path)? else {
            return Err(self.failed(change.path)(Errno::NOENT));
        };
        let mode = match change.after {
            // For whom may read it.
            Some(Kind::File { exec: true, .. }) => mode | (mode & 0o444) >> 2 | 0o100,
            _ => mode & !0o111,
        };
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(directory, name, mode, AtFlags::empty())
            .map_err(self.failed(change.path))
    }

    /// Removes what is to go.
    pub fn remove(&self, staging: &Staging) -> Result<(), StoreError> {
        let gone = staging.make("gone")?;
        let mut open = Pair::new(&self.root, &gone);
        let mut number = 0_u64;
        self.store.diff(&self.before, &self.after, |change| {
            let (Some(before), None) = (change.before, change.after) else { return Ok(false) };
            let (directory, name) = split(change.path);
            let Some((at, _)) = open.at(directory)? else { return Ok(false) };
            let removed = if matches!(before, Kind::Directory(_)) {
                number += 1;
                let to = number.to_string();
                moving(at, name, true, || rustix::fs::renameat(at, name, &gone, to.as_bytes()))
            } else {
                rustix::fs::unlinkat(at, name, AtFlags::empty())
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => Ok::<bool, StoreError>(false),
                Err(e) => Err(self.failed(change.path)(e)),
            }
        })
    }
}

/// Puts what is called `name` in `from` in the place of what is called so in `to`.
fn exchange(from: &OwnedFd, to: &OwnedFd, name: &[u8], was_directory: bool) -> Result<(), Errno> {
    moving(to, name, was_directory, || {
        match rustix::fs::renameat_with(from, name, to, name, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL) => {
                // A file system that cannot. For a moment there is nothing there; the
                // snapshot has what was.
                let aside = [b"zagi-old-", name].concat();
                let aside = &aside[..aside.len().min(255)];
                rustix::fs::renameat(to, name, from, aside)?;
                rustix::fs::renameat(from, name, to, name)
            }
            done => done,
        }
    })
}

/// Runs `work`, which moves `name` out of `directory`. To move a directory it must be
/// writable itself.
fn moving(
    directory: &OwnedFd,
    name: &[u8],
    is_directory: bool,
    work: impl Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    match work() {
        Err(Errno::ACCESS) if is_directory => {
            rustix::fs::chmodat(directory, name, Mode::RWXU, AtFlags::empty())?;
            work()
        }
        done => done,
    }
}

/// One directory in two trees, both open; the first one can be written to while it is.
struct Pair<'r> {
    to: &'r Root,
    from: &'r Root,
    open: Option<Opened>,
}

struct Opened {
    path: Box<[u8]>,
    to: OwnedFd,
    from: Option<OwnedFd>,
    // What its mode was.
    mode: Option<Mode>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(mode) = self.mode {
            // A mode is no part of a tree.
            let _ = rustix::fs::fchmod(&self.to, mode);
        }
    }
}

impl<'r> Pair<'r> {
    fn new(to: &'r Root, from: &'r Root) -> Pair<'r> {
        Pair { to, from, open: None }
    }

    /// The directory in both; none if the first has none.
    fn at(&mut self, path: &[u8]) -> Result<Option<(&OwnedFd, Option<&OwnedFd>)>, StoreError> {
        if self.open.as_ref().is_none_or(|open| *open.path != *path) {
            // First of all the last one's mode is put back.
            self.open = None;
            let to = match self.to.readable(path) {
                Ok(to) => to,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(StoreError::restore(&self.to.path(path))(e)),
            };
            let from = self.from.directory(path).ok();
            let found = rustix::fs::fstat(&to);
            let found = found.map_err(|e| StoreError::restore(&self.to.path(path))(e.into()))?;
            let mut mode = None;
            if found.st_mode & 0o300 != 0o300 {
                let writable = Mode::from_raw_mode(found.st_mode & 0o7777 | 0o700);
                // If it cannot be, what is done next says so.
                if rustix::fs::fchmod(&to, writable).is_ok() {
                    mode = Some(Mode::from_raw_mode(found.st_mode & 0o7777));
                }
            }
            self.open = Some(Opened { path: path.into(), to, from, mode });
        }
        Ok(self.open.as_ref().map(|open| (&open.to, open.from.as_ref())))
    }
}
