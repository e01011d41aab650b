//! Everything that the store does to its disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use zagi::store::{Collect, Entry, Kind, Roots, Store, StoreError, TreeId};

use super::{Before, Run, Told, recovers_from_all, survives};
use crate::store::{describe, noise, text};
use crate::support::disk::{copy, memory};

/// A small tree of its own.
pub fn input(seed: u64) -> TempDir {
    let dir = memory();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("same everywhere"), noise(1, 50_000)).unwrap();
    fs::write(dir.path().join("a/text"), text(seed, 3_000)).unwrap();
    fs::write(dir.path().join("a/b/large"), noise(seed, 100_000)).unwrap();
    fs::hard_link(dir.path().join("a/text"), dir.path().join("a/link")).unwrap();
    std::os::unix::fs::symlink("a/text", dir.path().join("symlink")).unwrap();
    dir
}

/// A store with a tree that the ref `first` names.
pub fn with_first() -> Before {
    let first = input(1);
    Before::with(&|store, told| {
        let tree = told.capture(store, first.path())?;
        told.set_ref(store, "first", tree)
    })
}

#[test]
fn a_new_store() {
    let input = input(1);
    let run: Run<'_> = &|store, told| {
        let tree = told.capture(store, input.path())?;
        told.set_ref(store, "first", tree)
    };
    survives(&Before::nothing(), 20, run);
    recovers_from_all(&Before::nothing(), run);
}

#[test]
fn a_tree_of_which_half_is_there() {
    let input = input(2);
    let run: Run<'_> = &|store, told| {
        let tree = told.capture(store, input.path())?;
        told.set_ref(store, "second", tree)
    };
    survives(&with_first(), 15, run);
    recovers_from_all(&with_first(), run);
}

#[test]
fn refs_and_composed_trees() {
    let run: Run<'_> = &|store, told| {
        let first = store.get_ref("first")?.expect("it was set before");
        let composed = |name: &str| -> Result<TreeId, StoreError> {
            let entry = Entry { name: name.as_bytes().into(), kind: Kind::Directory(first) };
            store.put_tree(vec![entry])
        };
        let (one, two) = (composed("one")?, composed("two")?);
        told.set_ref(store, "other", one)?;
        told.set_ref(store, "other", two)?;
        told.remove_ref(store, "other")?;
        told.set_ref(store, "one", one)
    };
    survives(&with_first(), 30, run);
    recovers_from_all(&with_first(), run);
}

#[test]
fn leases_in_a_store_older_than_leases() {
    let before = with_first();
    fs::remove_dir(before.disk.path().join("store/leases")).unwrap();
    let run: Run<'_> = &|store, told| {
        let first = store.get_ref("first")?.expect("it was set before");
        told.set_lease(store, "a", first, 10)?;
        told.set_lease(store, "a", first, 20)?;
        told.set_lease(store, "b", first, 30)?;
        told.remove_lease(store, "b")
    };
    survives(&before, 15, run);
    recovers_from_all(&before, run);
}

/// Trees of which one has lost its ref, and one has kept a part: its pack must be rewritten.
fn with_garbage() -> Before {
    let inputs = [1, 2, 3].map(input);
    let both = memory();
    for (name, seed) in [("kept", 5), ("lost", 6)] {
        copy(input(seed).path(), &both.path().join(name));
    }
    Before::with(&|store, told| {
        let tree = store.capture(both.path())?;
        let Some(Kind::Directory(kept)) =
            store.tree(&tree.tree)?.get(b"kept").map(|e| e.kind.clone())
        else {
            panic!("it was captured")
        };
        told.trees.insert(kept, describe(&both.path().join("kept")));
        told.set_ref(store, "kept", kept)?;
        for (n, input) in inputs.iter().enumerate() {
            let tree = told.capture(store, input.path())?;
            told.set_ref(store, &format!("tree {n}"), tree)?;
        }
        told.set_lease(store, "lease", told.refs["tree 2"][0].expect("it was set"), NOW + 1)?;
        told.remove_ref(store, "tree 1")?;
        told.forget(store)
    })
}

/// Some time in the future: what is made now is old by then.
const NOW: i64 = 4_000_000_000;

/// What nothing names is not there any more after this.
fn collect(store: &Store, told: &mut Told) -> Result<(), StoreError> {
    told.forget(store)?;
    let roots = || Ok(Roots::default());
    let patience = Duration::from_secs(20);
    store.collect(&Collect { now: NOW, dry_run: false, patience, roots: &roots }).map(drop)
}

#[test]
fn a_collection() {
    let before = with_garbage();
    let run: Run<'_> = &|store, told| collect(store, told);
    survives(&before, 15, run);
    recovers_from_all(&before, run);
}

#[test]
fn a_capture_of_what_was_just_collected() {
    let mut before = with_garbage();
    // Each of these is cut off at each operation elsewhere.
    before.step = 3;
    let (collected, other) = (input(2), input(4));
    let run: Run<'_> = &|store, told| {
        collect(store, told)?;
        let tree = told.capture(store, collected.path())?;
        told.set_ref(store, "tree 1", tree)?;
        let tree = told.capture(store, other.path())?;
        told.set_ref(store, "tree 2", tree)?;
        collect(store, told)
    };
    survives(&before, 40, run);
}

/// A damaged pack, of whose damaged records another pack has a copy; and a pack that is no
/// pack.
fn with_damage(input: &Path) -> Before {
    let mut before = with_first();
    let packs = before.disk.path().join("store/packs");
    let old: Vec<_> = fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path()).collect();
    let store = Store::open(&before.disk.path().join("store")).unwrap();
    let tree = store.capture(input).unwrap().tree;
    store.set_ref("damaged", &tree).unwrap();
    drop(store);
    for entry in fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path()) {
        if !old.contains(&entry) && entry.extension().unwrap() == "pack" {
            let mut bytes = fs::read(&entry).unwrap();
            let (start, end) = (bytes.len() / 4, bytes.len() / 2);
            bytes[start..end].iter_mut().for_each(|byte| *byte ^= 0x55);
            fs::write(&entry, bytes).unwrap();
        }
    }
    let other = memory();
    copy(input, &other.path().join("in/copy"));
    fs::write(other.path().join("in/more"), "makes another pack").unwrap();
    Store::open(&other.path().join("store")).unwrap().capture(&other.path().join("in")).unwrap();
    copy(&other.path().join("store/packs"), &packs);
    let store = Store::open(&before.disk.path().join("store")).unwrap();
    assert!(!store.verify().unwrap().is_clean(), "it is damaged");
    before.is_damaged = true;
    before
}

#[test]
fn a_repair() {
    let input = input(7);
    let run: Run<'_> = &|store, told| {
        let repaired = store.repair(false)?;
        assert!(!repaired.has_lost(), "{repaired:?}");
        let tree = store.get_ref("damaged")?.expect("it was set before");
        told.trees.insert(tree, describe(input.path()));
        Ok(())
    };
    let before = with_damage(input.path());
    survives(&before, 15, run);
    recovers_from_all(&before, run);
}

#[test]
fn snapshots_of_a_directory_that_changes() {
    let dir = input(1);
    let before = Before::with(&|store, told| {
        let first = store.snapshot(dir.path())?;
        told.snapshot(store, dir.path(), &first, NOW)
    });
    fs::write(dir.path().join("a/text"), text(9, 3_000)).unwrap();
    let mut changed = fs::read(dir.path().join("a/b/large")).unwrap();
    changed.splice(50_000..50_010, *b"in between");
    fs::write(dir.path().join("a/b/large"), changed).unwrap();
    let run: Run<'_> = &|store, told| {
        let second = store.snapshot(dir.path())?;
        told.snapshot(store, dir.path(), &second, NOW)?;
        let third = store.snapshot(dir.path())?;
        told.snapshot(store, dir.path(), &third, NOW + 1)
    };
    survives(&before, 30, run);
    recovers_from_all(&before, run);
}
