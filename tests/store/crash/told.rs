//! What the store has told, and whether it keeps its word.

use std::collections::BTreeMap;
use std::path::Path;

use zagi::store::{Captured, Store, StoreError, TreeId};

use crate::store::describe;
use crate::support::disk::memory;

/// What the store has said to whoever used it.
#[derive(Clone, Default)]
pub struct Told {
    /// Trees that it has, and what is in them.
    pub trees: BTreeMap<TreeId, Vec<String>>,
    /// What each ref may mean: two things while it is being changed.
    pub refs: BTreeMap<String, Vec<Option<TreeId>>>,
    /// Until when each lease may last.
    pub leases: BTreeMap<String, Vec<Option<i64>>>,
}

impl Told {
    pub fn capture(&mut self, store: &Store, dir: &Path) -> Result<TreeId, StoreError> {
        let tree = store.capture(dir)?.tree;
        self.trees.insert(tree, describe(dir));
        Ok(tree)
    }

    pub fn set_ref(&mut self, store: &Store, name: &str, tree: TreeId) -> Result<(), StoreError> {
        self.refs.entry(name.to_owned()).or_insert_with(|| vec![None]).push(Some(tree));
        store.set_ref(name, &tree)?;
        self.refs.insert(name.to_owned(), vec![Some(tree)]);
        Ok(())
    }

    pub fn remove_ref(&mut self, store: &Store, name: &str) -> Result<(), StoreError> {
        self.refs.entry(name.to_owned()).or_default().push(None);
        store.remove_ref(name)?;
        self.refs.insert(name.to_owned(), vec![None]);
        Ok(())
    }

    pub fn set_lease(
        &mut self,
        store: &Store,
        name: &str,
        tree: TreeId,
        until: i64,
    ) -> Result<(), StoreError> {
        self.leases.entry(name.to_owned()).or_insert_with(|| vec![None]).push(Some(until));
        store.set_lease(name, &tree, until)?;
        self.leases.insert(name.to_owned(), vec![Some(until)]);
        Ok(())
    }

    pub fn remove_lease(&mut self, store: &Store, name: &str) -> Result<(), StoreError> {
        self.leases.entry(name.to_owned()).or_default().push(None);
        store.remove_lease(name)?;
        self.leases.insert(name.to_owned(), vec![None]);
        Ok(())
    }

    /// What [`Store::snapshot`] gave is kept.
    pub fn snapshot(
        &mut self,
        store: &Store,
        dir: &Path,
        captured: &Captured,
        until: i64,
    ) -> Result<(), StoreError> {
        self.trees.insert(captured.tree, describe(dir));
        let lease = format!("snapshot/{}", captured.tree);
        let name = format!("snapshot{}", dir.canonicalize().unwrap().display());
        self.leases.entry(lease.clone()).or_insert_with(|| vec![None]).push(Some(until));
        let may = self.refs.entry(name.clone()).or_insert_with(|| vec![None]);
        may.push(Some(captured.tree));
        assert_eq!(store.keep_snapshot(dir, captured, until)?, name);
        self.leases.insert(lease, vec![Some(until)]);
        self.refs.insert(name, vec![Some(captured.tree)]);
        Ok(())
    }

    /// Trees that nothing names any more need not be there.
    pub fn forget(&mut self, store: &Store) -> Result<(), StoreError> {
        let refs = store.refs("")?.into_iter().map(|(_, tree)| tree);
        let leases = store.leases()?.into_iter().map(|lease| lease.tree);
        let named: Vec<_> = refs.chain(leases).collect();
        self.trees.retain(|tree, _| named.contains(tree));
        Ok(())
    }

    /// Whether the store keeps its word.
    pub fn check(&self, store: &Store) -> Result<(), String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: StoreError| format!("{what}: {e}")
        };
        let out = memory();
        let mut found = Vec::new();
        for (name, may) in &self.refs {
            let tree = store.get_ref(name).map_err(failed(name))?;
            if !may.contains(&tree) {
                return Err(format!("{name} means {tree:?}, not one of {may:?}"));
            }
            found.extend(tree);
        }
        store.refs("").map_err(failed("refs"))?;
        let leases = store.leases().map_err(failed("leases"))?;
        for (name, may) in &self.leases {
            let lease = leases.iter().find(|lease| lease.name == *name);
            let until = lease.map(|lease| lease.until);
            if !may.contains(&until) {
                return Err(format!("{name} lasts until {until:?}, not one of {may:?}"));
            }
            found.extend(lease.map(|lease| lease.tree));
        }
        for (n, tree) in self.trees.keys().chain(&found).enumerate() {
            let [files, linked] = ["files", "linked"].map(|of| out.path().join(format!("{of}{n}")));
            store.restore(tree, &files).map_err(failed("restore"))?;
            store.link_tree(tree, &linked).map_err(failed("link_tree"))?;
            let expected = self.trees.get(tree).cloned().unwrap_or_else(|| describe(&files));
            for way in [files, linked] {
                if describe(&way) != expected {
                    return Err(format!("{tree} comes out otherwise: {:#?}", describe(&way)));
                }
            }
        }
        Ok(())
    }
}
