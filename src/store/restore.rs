//! Trees of the store as directories: independent copies, or links into the farm.
//!
//! Directories are made, and links into the farm put into them, by a few threads that each
//! take a directory, all by descriptors: a file costs two system calls where the farm has it.
//! Copies come straight from the packs, each frame being decoded once for all that is in it;
//! they cost four system calls. What is in memory is a batch of names, however large the tree.

use std::fs;
use std::path::Path;

use super::beneath::Root;
use super::error::StoreError;
use super::format::TreeId;

mod maker;
mod over;
mod staging;
mod to;

use maker::{Groups, Maker, can_reflink};
pub use maker::{Parts, Strategy};
pub use over::Touched;
pub use to::{Restoration, RestoreOptions};

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Regular files.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
    /// How they were made.
    pub strategy: Strategy,
}

/// What was linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// Regular files, each a hard link into the farm.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
}

impl Parts<'_> {
    /// Writes the tree `id` to `dest`, which need not exist: files of one's own, writable.
    pub fn restore(&self, id: &TreeId, dest: &Path) -> Result<Restored, StoreError> {
        or_nothing(dest, || {
            let root = open(dest)?;
            let strategy =
                if can_reflink(self.farm, &root) { Strategy::Reflink } else { Strategy::Copy };
            let maker = Maker::new(self, root, strategy, Groups::read(self, id)?)?;
            maker.tree(id)?;
            let (files, bytes) = maker.finish()?;
            // Nothing was shared.
            let strategy = if files == 0 { Strategy::Copy } else { strategy };
            Ok(Restored { files, bytes, strategy })
        })
    }

    /// Makes the tree `id` at `dest` of hard links into the farm. `register` is told its
    /// canonical path before there is one.
    pub fn link(
        &self,
        id: &TreeId,
        dest: &Path,
        register: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<Linked, StoreError> {
        or_nothing(dest, || {
            let root = open(dest)?;
            register(&dest.canonicalize().map_err(StoreError::restore(dest))?)?;
            let maker = Maker::new(self, root, Strategy::Link, Groups::default())?;
            maker.tree(id)?;
            let (files, bytes) = maker.finish()?;
            Ok(Linked { files, bytes })
        })
    }
}

fn open(dest: &Path) -> Result<Root, StoreError> {
    fs::create_dir_all(dest).and_then(|()| Root::open(dest)).map_err(StoreError::restore(dest))
}

/// Runs `work`; if it fails and `dest` was not there before, it is not there after.
fn or_nothing<R>(
    dest: &Path,
    work: impl FnOnce() -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let was_there = fs::symlink_metadata(dest).is_ok();
    work().inspect_err(|_| {
        if !was_there {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(dest);
        }
    })
}
