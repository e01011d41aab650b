//! A tree restored to a directory, whether or not that exists.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::maker::{Groups, Maker, Strategy, can_reflink};
use super::over::{Over, Staged, Touched};
use super::staging::Staging;
use crate::store::Store;
use crate::store::beneath::Root;
use crate::store::error::StoreError;
use crate::store::format::TreeId;

/// What stood in a directory before is kept this many seconds: 30 days.
const KEPT: i64 = 30 * 24 * 60 * 60;

/// How a tree is to be restored.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Never write a file's content: share blocks or, where the disk cannot, make read-only
    /// hard links to the store's own files.
    pub require_link: bool,
    /// Seconds since 1970: from when on what stood there before is kept for 30 days.
    pub now: i64,
}

/// What was restored.
#[derive(Debug, Clone, Copy)]
pub struct Restoration {
    /// What the directory held before, if it existed; it is leased.
    pub before: Option<TreeId>,
    /// Regular files that were made.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
    /// How they were made.
    pub strategy: Strategy,
    /// What was touched of a directory that existed.
    pub touched: Touched,
}

impl Store {
    /// Makes `dir` hold exactly the tree `id`.
    ///
    /// A `dir` that is missing appears whole or not at all. Of one that exists a snapshot is
    /// taken first, and then only what differs is touched: if this fails or is killed, every
    /// path has what it had or what it is to have, and to run it again finishes it. Files
    /// are one's own, 0644 or 0755 less the umask, unless links are required.
    pub fn restore_to(
        &self,
        id: &TreeId,
        dir: &Path,
        options: &RestoreOptions,
    ) -> Result<Restoration, StoreError> {
        let _hold = self.hold()?;
        self.tree(id)?;
        let failed = |e| StoreError::restore(dir)(e);
        let restored = match fs::metadata(dir) {
            Ok(found) if found.is_dir() => {
                self.restore_over(id, &dir.canonicalize().map_err(failed)?, options)
            }
            Ok(_) => Err(StoreError::Exists { path: dir.to_owned() }),
            // A link that leads nowhere is something, too.
            Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(dir).is_err() => {
                self.restore_new(id, dir, options)
            }
            Err(e) => Err(failed(e)),
        };
        self.warn_of_edits();
        restored
    }

    fn restore_new(
        &self,
        id: &TreeId,
        dir: &Path,
        options: &RestoreOptions,
    ) -> Result<Restoration, StoreError> {
        let name = dir.file_name().ok_or(StoreError::Exists { path: dir.to_owned() })?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let dir = fs::create_dir_all(parent)
            .and_then(|()| parent.canonicalize())
            .map_err(StoreError::restore(dir))?
            .join(name);
        self.is_apart(&dir)?;
        Staging::sweep(&dir);
        let staging = Staging::beside(&dir)?;
        let root = staging.make("new")?;
        let strategy = self.strategy(&root, &staging, &dir, options)?;
        let parts = self.parts();
        let groups = match strategy {
            // Links into the farm are shared by content already.
            Strategy::Link => Groups::default(),
            _ => Groups::read(&parts, id)?,
        };
        let maker = Maker::new(&parts, root, strategy, groups)?;
        maker.tree(id)?;
        let (files, bytes) = maker.finish()?;
        self.register(&dir, id, strategy)?;
        let new = staging.path("new");
        // While nobody else can have written to it.
        self.remember(&new, &dir, id);
        match rustix::fs::renameat_with(CWD, &new, CWD, &dir, RenameFlags::NOREPLACE) {
            // A file system that cannot say so; over an empty directory at most.
            Err(Errno::INVAL) => fs::rename(&new, &dir),
            done => done.map_err(io::Error::from),
        }
        .map_err(StoreError::restore(&dir))?;
        let touched = Touched::default();
        Ok(Restoration { before: None, files, bytes, strategy, touched })
    }

    fn restore_over(
        &self,
        id: &TreeId,
        dir: &Path,
        options: &RestoreOptions,
    ) -> Result<Restoration, StoreError> {
        self.is_apart(dir)?;
        Staging::sweep(dir);
        let root = Root::open(dir).map_err(StoreError::restore(dir))?;
        let captured = self.snapshot(dir)?;
        let before = captured.tree;
        self.set_lease(&format!("snapshot/{before}"), &before, options.now + KEPT)?;
        let staging = Staging::for_existing(dir)?;
        let strategy = self.strategy(&root, &staging, dir, options)?;
        let over = Over { store: self, root, before, after: *id };
        let Staged { files, bytes, same } = over.stage(&self.parts(), &staging, strategy)?;
        if files > 0 {
            staging.settle()?;
        }
        self.register(dir, id, strategy)?;
        let touched = over.publish(&staging, &same)?;
        over.remove(&staging)?;
        Ok(Restoration { before: Some(before), files, bytes, strategy, touched })
    }

    fn strategy(
        &self,
        root: &Root,
        staging: &Staging,
        dir: &Path,
        options: &RestoreOptions,
    ) -> Result<Strategy, StoreError> {
        let farm = &self.inner.farm;
        match options.require_link {
            _ if can_reflink(farm, root) => Ok(Strategy::Reflink),
            false => Ok(Strategy::Copy),
            true if staging.can_link(&farm.probe()) => Ok(Strategy::Link),
            true => Err(StoreError::CannotLink { path: dir.to_owned() }),
        }
    }

    /// Remembers a directory whose files are the store's own.
    fn register(&self, dir: &Path, id: &TreeId, strategy: Strategy) -> Result<(), StoreError> {
        match strategy {
            Strategy::Link => self.add_place(dir, id),
            Strategy::Reflink | Strategy::Copy => Ok(()),
        }
    }
}
