//! What keeps the collector away.
//!
//! Whoever has decided that something is in the store already, or has stored something that
//! no root speaks of yet, holds `collect.lock` shared; the collector takes it exclusively
//! before it removes anything. The kernel lets go of it with the process, so there are no
//! stale locks, whatever process namespace anybody is in.
//!
//! Beside it `generation` holds a decimal number, raised durably before anything is removed
//! from the store. Between two holds with the same generation nothing was removed, so what
//! was there is there. A missing file is generation 0.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use super::scratch::Scratch;
use super::storage::{self, Storage};

/// Nothing is removed from the store while this lives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hold {
    // The lock goes with the last descriptor.
    _lock: Arc<File>,
}

/// Nobody else has a [`Hold`] while this lives.
#[derive(Debug)]
pub struct Exclusive {
    _lock: File,
}

fn open(root: &Path) -> Result<(PathBuf, File), StoreError> {
    let path = root.join("collect.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(StoreError::write(&path))?;
    Ok((path, file))
}

impl Hold {
    /// Waits until nobody removes anything, which is short.
    pub fn take(root: &Path) -> Result<Hold, StoreError> {
        let (path, lock) = open(root)?;
        lock.lock_shared().map_err(StoreError::write(&path))?;
        Ok(Hold { _lock: Arc::new(lock) })
    }
}

impl Exclusive {
    /// Takes it, unless somebody holds it now.
    pub fn try_take(root: &Path) -> Result<Option<Exclusive>, StoreError> {
        let (path, lock) = open(root)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Exclusive { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(StoreError::write(&path)(e)),
        }
    }

    /// Makes the generation `number`, durably, where nobody can tell what it was. It must be
    /// one that it never was.
    pub fn set_generation(
        &self,
        root: &Path,
        storage: &dyn Storage,
        scratch: &Scratch,
        number: u64,
    ) -> Result<(), StoreError> {
        set_generation(root, storage, scratch, number)
    }

    /// Makes the generation another one, durably. To be called before anything is removed.
    pub fn raise_generation(
        &self,
        root: &Path,
        storage: &dyn Storage,
        scratch: &Scratch,
    ) -> Result<u64, StoreError> {
        raise_generation(root, storage, scratch)
    }
}

/// The same for whoever finds that something is gone, whoever holds what.
pub fn raise_generation(
    root: &Path,
    storage: &dyn Storage,
    scratch: &Scratch,
) -> Result<u64, StoreError> {
    let next = generation(root, storage)? + 1;
    set_generation(root, storage, scratch, next)?;
    Ok(next)
}

fn set_generation(
    root: &Path,
    storage: &dyn Storage,
    scratch: &Scratch,
    number: u64,
) -> Result<(), StoreError> {
    let path = root.join("generation");
    storage::write(storage, &scratch.fresh(), &path, format!("{number}\n").as_bytes())
        .and_then(|()| storage.sync_directory(root))
        .map_err(StoreError::write(&path))
}

/// The generation. It stays what it is as long as the caller holds a [`Hold`].
pub fn generation(root: &Path, storage: &dyn Storage) -> Result<u64, StoreError> {
    let path = root.join("generation");
    match storage::read(storage, &path) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .ok_or(StoreError::DamagedGeneration { path }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(StoreError::read(&path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::storage::Disk;

    #[test]
    fn the_collector_waits_for_every_hold_and_the_generation_only_rises() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let held = Hold::take(root).unwrap();
        let again = held.clone();
        drop(held);
        assert!(Exclusive::try_take(root).unwrap().is_none());
        drop(again);

        std::fs::create_dir(root.join("tmp")).unwrap();
        let scratch = Scratch::new(&root.join("tmp")).unwrap();
        let exclusive = Exclusive::try_take(root).unwrap().unwrap();
        assert_eq!(generation(root, &Disk).unwrap(), 0);
        assert_eq!(exclusive.raise_generation(root, &Disk, &scratch).unwrap(), 1);
        assert_eq!(generation(root, &Disk).unwrap(), 1);

        std::fs::write(root.join("generation"), "1x").unwrap();
        assert!(matches!(generation(root, &Disk), Err(StoreError::DamagedGeneration { .. })));
    }
}
