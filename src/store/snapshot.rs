//! Snapshots: directories that are captured again and again.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Store;
use super::capture::{self, Captured};
use super::error::StoreError;
use super::figures::Figures;
use super::format::TreeId;

impl Store {
    /// Puts the directory `dir` into the store as [`Store::capture`] does, and remembers what
    /// was seen of it: files that are as they were the last time it was given here, by size,
    /// times and inode, are not read again.
    pub fn snapshot(&self, dir: &Path) -> Result<Captured, StoreError> {
        self.snapshot_if(dir, None)
    }

    /// The same, of a directory that must be `owner`'s: of the one that is read, whatever the path
    /// leads to at another time.
    pub fn snapshot_of(&self, dir: &Path, owner: u32) -> Result<Captured, StoreError> {
        self.snapshot_if(dir, Some(owner))
    }

    fn snapshot_if(&self, dir: &Path, owner: Option<u32>) -> Result<Captured, StoreError> {
        let dir = dir.canonicalize().map_err(StoreError::capture(dir))?;
        self.is_apart(&dir)?;
        capture::snapshot(&self.inner.objects, (&dir, owner), self.hold()?, &self.events)
    }

    /// That neither the store is in `dir`, a canonical path, nor `dir` in the store: it would
    /// grow while it is looked at, and change while it is restored to.
    pub(super) fn is_apart(&self, dir: &Path) -> Result<(), StoreError> {
        let store = &self.inner.root;
        let store = store.canonicalize().map_err(StoreError::read(store))?;
        match dir.starts_with(&store) || store.starts_with(dir) {
            true => Err(StoreError::OverStore { path: dir.to_owned(), store }),
            false => Ok(()),
        }
    }

    /// Remembers that `made`, which will be renamed to `dir`, a canonical path, holds `tree`;
    /// see [`capture::remember`].
    pub(super) fn remember(&self, made: &Path, dir: &Path, tree: &TreeId) -> bool {
        capture::remember(&self.inner.objects, &self.inner.trees, made, dir, tree)
    }

    /// Reads the directories `dirs` and stores nothing. Says of each how much of it the store
    /// does not have, nor the directories before it.
    pub fn analyse(&self, dirs: &[PathBuf]) -> Result<Vec<Figures>, StoreError> {
        capture::analyse(&self.inner.objects, dirs, &self.hold()?, &self.events)
    }

    /// Keeps a snapshot of `dir`: as the directory's last one under a ref, whose name is
    /// given, and in any case until `until` (seconds since the epoch) by a lease.
    pub fn keep_snapshot(
        &self,
        dir: &Path,
        captured: &Captured,
        until: i64,
    ) -> Result<String, StoreError> {
        let dir = dir.canonicalize().map_err(StoreError::capture(dir))?;
        let tree = &captured.tree;
        self.set_lease(&format!("snapshot/{tree}"), tree, until)?;
        let name = ref_name(&dir);
        // Also where it says so already: whoever set it may have died before it was durable.
        self.set_ref(&name, tree)?;
        Ok(name)
    }
}

/// The ref that somebody means who says `text`: `snapshot` and a path of any length will do.
pub(super) fn ref_meant(text: &str) -> String {
    match text.strip_prefix("snapshot") {
        Some(dir) if dir.starts_with('/') => ref_name(Path::new(dir)),
        _ => text.to_owned(),
    }
}

/// The ref of the last snapshot of `dir`, a canonical path: `snapshot` and the path, or its
/// hash where that is too long for a ref or no text.
fn ref_name(dir: &Path) -> String {
    // A byte may take three in the name of the ref's file, which has at most 255.
    const MOST: usize = 80;
    match dir.to_str() {
        Some(path) if path.len() <= MOST && !path.contains('\n') => format!("snapshot{path}"),
        _ => format!("snapshot/{}", blake3::hash(dir.as_os_str().as_bytes()).to_hex()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_snapshot_is_found_by_its_path_and_none_is_taken_around_the_store() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        for name in ["short", &"long".repeat(40)] {
            let dir = home.path().canonicalize().unwrap().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("file"), name).unwrap();
            let captured = store.snapshot(&dir).unwrap();
            store.keep_snapshot(&dir, &captured, i64::MAX).unwrap();
            let meant = format!("snapshot{}", dir.to_str().unwrap());
            assert_eq!(store.resolve(&meant).unwrap(), captured.tree, "{meant}");
            let owner = std::os::unix::fs::MetadataExt::uid(&dir.metadata().unwrap());
            assert_eq!(store.snapshot_of(&dir, owner).unwrap().tree, captured.tree);
            assert!(store.snapshot_of(&dir, owner + 1).is_err(), "somebody else's");
        }
        let around = store.snapshot(home.path());
        assert!(matches!(around, Err(StoreError::OverStore { .. })));
    }
}
