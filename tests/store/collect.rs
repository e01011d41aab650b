//! The collector: what is needed stays, the rest goes, whoever is at the store meanwhile.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zagi::store::{
    Collect, Collected, FileId, FindRoots, Kind, Roots, Store, StoreError, TreeId, UNUSED, Unused,
};

use super::{Fixture, describe, noise, text};

/// Some time in the future, so that what is made now is never old.
const NOW: i64 = 4_000_000_000;

fn no_roots() -> Roots {
    Roots::default()
}

fn asked<'c>(roots: &'c FindRoots<'c>) -> Collect<'c> {
    Collect { now: NOW, dry_run: false, patience: Duration::from_secs(20), roots }
}

/// Collects, after it was asked what it would do, which must be what it then did.
fn collect(store: &Store) -> Collected {
    collect_with(store, &|| Ok(no_roots()))
}

fn collect_with(store: &Store, roots: &FindRoots<'_>) -> Collected {
    let ask = asked(roots);
    let said = store.collect(&Collect { dry_run: true, ..ask }).unwrap();
    let done = store.collect(&asked(roots)).unwrap();
    assert_eq!(said, done, "what was said and what was done");
    done
}

fn removed(collected: &Collected, kind: &str) -> u64 {
    collected.removed.iter().find(|tally| tally.kind == kind).map_or(0, |tally| tally.count)
}

/// What a directory takes on the disk, each inode counted once.
fn du(path: &Path) -> u64 {
    fn walk(path: &Path, inodes: &mut BTreeMap<u64, u64>) {
        let found = fs::symlink_metadata(path).unwrap();
        inodes.insert(found.ino(), found.blocks() * 512);
        if found.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), inodes));
        }
    }
    let mut inodes = BTreeMap::new();
    walk(path, &mut inodes);
    inodes.values().sum()
}

/// Makes the directory `in/<name>` of `files` files and captures it. Large files share
/// chunks; every tree has files that others have too.
fn capture(f: &Fixture, store: &Store, name: &str, seed: u64, files: u64) -> TreeId {
    let dir = f.input(name);
    fs::create_dir_all(dir.join("sub")).unwrap();
    for file in 0..files {
        let seed = if file % 3 == 0 { file } else { seed * 1000 + file };
        fs::write(dir.join(format!("{file}")), text(seed, 700 + 90 * file as usize)).unwrap();
    }
    let mut large = noise(7, 300_000);
    large[(seed as usize * 37_000) % 290_000] ^= seed as u8;
    fs::write(dir.join("sub/large"), large).unwrap();
    store.capture(&dir).unwrap().tree
}

fn assert_restores(f: &Fixture, store: &Store, tree: &TreeId, expected: &[String], name: &str) {
    let out = f.path(name);
    store.restore(tree, &out).unwrap();
    assert_eq!(describe(&out), expected, "{name}");
    fs::remove_dir_all(out).unwrap();
}

#[test]
fn what_no_root_needs_goes_and_the_disk_is_emptier() {
    let f = Fixture::new();
    let kept = capture(&f, &f.store, "kept", 1, 40);
    f.store.set_ref("kept", &kept).unwrap();
    for n in 2..9 {
        capture(&f, &f.store, &format!("gone{n}"), n, 40);
    }
    fs::write(f.input("gone2/big"), noise(99, 6_000_000)).unwrap();
    let gone = f.store.capture(&f.input("gone2")).unwrap().tree;
    let (before, packs) = (du(&f.path("store")), f.packs().len());
    let other = f.reopen();
    let collected = collect(&f.store);
    let after = du(&f.path("store"));
    assert!(before - after > 6_000_000, "{before} {after}");
    // The index, whose log grows, is not counted.
    let told = collected.freed();
    assert!((told - (before as i64 - after as i64)).abs() < 700_000, "{told} {before} {after}");
    assert!(f.packs().len() < packs);
    for store in [&f.store, &other, &f.reopen()] {
        assert_restores(&f, store, &kept, &describe(&f.input("kept")), "out");
        assert!(matches!(store.restore(&gone, &f.path("no")), Err(StoreError::Missing { .. })));
    }
    // There is nothing more to do, and what is captured again is there again.
    assert_eq!(collect(&f.store).removed, []);
    let again = f.store.capture(&f.input("gone2")).unwrap();
    assert_eq!(again.tree, gone);
    assert_restores(&f, &f.reopen(), &gone, &describe(&f.input("gone2")), "out");
}

/// A small generator, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % n
    }
}

#[test]
fn whatever_comes_and_goes_everything_with_a_root_stays() {
    for seed in 1..4 {
        let f = Fixture::new();
        let mut random = Random(seed);
        // What each root should give, and until when.
        let mut refs: BTreeMap<String, (TreeId, Vec<String>)> = BTreeMap::new();
        let mut leases: BTreeMap<String, (TreeId, Vec<String>, i64)> = BTreeMap::new();
        let mut store = f.reopen();
        for step in 0..30 {
            let name = format!("r{}", random.below(5));
            match random.below(10) {
                0..5 => {
                    let dir = format!("d{}", random.below(6));
                    let files = 3 + random.below(30);
                    let tree = capture(&f, &store, &dir, random.below(12), files);
                    let expected = describe(&f.input(&dir));
                    match random.below(3) {
                        0 => {}
                        1 => {
                            let until = NOW + random.below(3) as i64 - 1;
                            store.set_lease(&name, &tree, until).unwrap();
                            leases.insert(name, (tree, expected, until));
                        }
                        _ => {
                            store.set_ref(&name, &tree).unwrap();
                            refs.insert(name, (tree, expected));
                        }
                    }
                }
                5 => drop(refs.remove(&name).map(|_| store.remove_ref(&name).unwrap())),
                6 => drop(leases.remove(&name).map(|_| store.remove_lease(&name).unwrap())),
                7 => {
                    // Not there if nobody has needed one since the last time.
                    let _ = fs::remove_file(f.path("store/index.db"));
                }
                8 => store = f.reopen(),
                _ => {
                    collect(&store);
                    leases.retain(|_, (.., until)| *until >= NOW);
                    let left: BTreeSet<_> =
                        store.leases().unwrap().into_iter().map(|lease| lease.name).collect();
                    assert!(left.iter().eq(leases.keys()), "seed {seed}, step {step}");
                }
            }
            let all = refs.values().map(|(tree, expected)| (tree, expected));
            let all = all.chain(leases.values().map(|(tree, expected, _)| (tree, expected)));
            for (at, (tree, expected)) in all.enumerate() {
                let name = format!("seed {seed}, step {step}, root {at}");
                assert_restores(&f, &store, tree, expected, &name);
            }
        }
    }
}
