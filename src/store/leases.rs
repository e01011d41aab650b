//! Leases: trees that stay until a time. The collector removes what has run out.

use super::Store;
use super::error::StoreError;
use super::format::TreeId;
use super::refs::{Root, RootFiles, Sort};

/// A tree that stays until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is called.
    pub name: String,
    /// What stays.
    pub tree: TreeId,
    /// Until when, in seconds since the epoch.
    pub until: i64,
}

impl Store {
    /// Keeps `tree` until `until` (seconds since the epoch), durably, in the place of what
    /// `name` kept before. Names are those of refs. The tree must be in the store.
    pub fn set_lease(&self, name: &str, tree: &TreeId, until: i64) -> Result<(), StoreError> {
        let _hold = self.holding(tree)?;
        let root = Root { name: name.to_owned(), tree: *tree, until: Some(until) };
        self.roots_of(Sort::Lease).set(&root)
    }

    /// All leases, by name; those that have run out as long as nobody has collected.
    pub fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let leases = self.roots_of(Sort::Lease).list("")?;
        Ok(leases
            .into_iter()
            .filter_map(|Root { name, tree, until }| Some(Lease { name, tree, until: until? }))
            .collect())
    }

    /// Ends a lease. Says whether it was there.
    pub fn remove_lease(&self, name: &str) -> Result<bool, StoreError> {
        self.roots_of(Sort::Lease).remove(name)
    }

    pub(super) fn roots_of(&self, sort: Sort) -> RootFiles<'_> {
        let objects = &self.inner.objects;
        RootFiles::new(sort, &self.inner.root, objects.storage(), objects.scratch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn leases_are_kept_and_damage_to_them_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let store = Store::open(&root).unwrap();
        let tree = store.put_tree(Vec::new()).unwrap();
        // As in a store that is older than leases are.
        fs::remove_dir(root.join("leases")).unwrap();
        assert_eq!(store.leases().unwrap(), []);
        for (name, until) in [("snapshot/b", 20), ("snapshot/a", -1), ("snapshot/b", 30)] {
            store.set_lease(name, &tree, until).unwrap();
        }
        let lease = |name: &str, until| Lease { name: name.into(), tree, until };
        let expected = [lease("snapshot/a", -1), lease("snapshot/b", 30)];
        assert_eq!(Store::open(&root).unwrap().leases().unwrap(), expected);
        assert!(store.remove_lease("snapshot/a").unwrap());
        assert!(!store.remove_lease("snapshot/a").unwrap());
        let nothing = TreeId::from_bytes([1; 32]);
        let refused = store.set_lease("nothing", &nothing, 30);
        assert!(matches!(refused, Err(StoreError::Missing { .. })), "{refused:?}");

        let path = root.join("leases/snapshot%2fb");
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(store.leases().is_err(), "byte {at}");
            fs::write(&path, &sound[..at]).unwrap();
            assert!(store.leases().is_err(), "cut at {at}");
        }
        fs::write(&path, String::from_utf8(sound).unwrap().replace("lease 1", "lease 2")).unwrap();
        assert!(matches!(store.leases(), Err(StoreError::Newer { .. })));
    }
}
