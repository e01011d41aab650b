//! The collector: what is needed stays, the rest goes, whoever is at the store meanwhile.

mod races;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zagi::store::{
    Collect, Collected, Disk, FileId, FindRoots, Input, Kind, Output, Roots, Storage, Store,
    StoreError, TreeId, UNUSED, Unused,
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

/// Names and contents of all that must survive.
fn state(f: &Fixture) -> Vec<String> {
    let parts = ["packs", "refs", "leases"].map(|part| describe(&f.path(&format!("store/{part}"))));
    parts.concat()
}

/// A store with a ref `kept`, and two trees of which no root speaks.
fn with_garbage() -> (Fixture, TreeId) {
    let f = Fixture::new();
    let kept = capture(&f, &f.store, "kept", 1, 30);
    f.store.set_ref("kept", &kept).unwrap();
    capture(&f, &f.store, "gone1", 2, 30);
    capture(&f, &f.store, "gone2", 3, 30);
    (f, kept)
}

#[test]
fn what_cannot_be_read_is_named_and_nothing_is_removed() {
    let (f, kept) = with_garbage();
    f.store.set_lease("lease", &kept, NOW + 1).unwrap();
    let refused = |roots: &FindRoots<'_>| {
        let before = state(&f);
        let error = f.reopen().collect(&asked(roots)).unwrap_err();
        assert_eq!(state(&f), before, "{error}");
        error.to_string()
    };
    for (file, says) in [("refs/kept", "the ref `"), ("leases/lease", "the lease `")] {
        let path = f.path("store").join(file);
        let sound = fs::read(&path).unwrap();
        fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        assert!(refused(&|| Ok(no_roots())).starts_with(says), "{file}");
        fs::write(&path, &sound).unwrap();
    }
    assert_eq!(refused(&|| Err("no list".into())), "nothing is removed: no list");
    let missing = TreeId::from_bytes([7; 32]);
    let workspace = || {
        let trees = vec![("the workspace `/w`".to_owned(), missing)];
        Ok(Roots { trees, ..Roots::default() })
    };
    let says = format!(
        "nothing is removed: the workspace `/w` needs what cannot be read: tree {missing} is not \
         in the store"
    );
    assert_eq!(refused(&workspace), says);
    // Trees that are damaged, then packs of which nobody can say what they hold.
    let packs = f.packs();
    let sound: Vec<_> = packs.iter().map(|pack| fs::read(pack).unwrap()).collect();
    for damage in ["a tree", "a footer"] {
        for (pack, sound) in packs.iter().zip(&sound) {
            let mut bytes = sound.clone();
            let trailer = bytes.len() - 56;
            let footer = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap());
            // The last frame holds trees.
            let at = if damage == "a tree" { footer as usize - 1 } else { trailer - 1 };
            bytes[at] ^= 1;
            fs::write(pack, bytes).unwrap();
            let _ = fs::remove_file(pack.with_extension("index"));
        }
        let _ = fs::remove_file(f.path("store/index.db"));
        let says = refused(&|| Ok(no_roots()));
        assert!(says.contains("damaged"), "{damage}: {says}");
        packs.iter().zip(&sound).for_each(|(pack, sound)| fs::write(pack, sound).unwrap());
    }
    assert!(removed(&collect(&f.reopen()), "packs") > 0);
    assert_restores(&f, &f.reopen(), &kept, &describe(&f.input("kept")), "out");
}

fn set_modified(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn caches_go_when_nobody_needs_them_and_they_are_old() {
    let f = Fixture::new();
    let (used, old) = (capture(&f, &f.store, "used", 1, 9), capture(&f, &f.store, "old", 2, 9));
    for (name, tree) in [("c/used", &used), ("c/old", &old), ("c/needed", &old), ("own", &used)] {
        f.store.set_ref(name, tree).unwrap();
    }
    let make = |dir: &Path| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        f.store.link_tree(&used, &dir.join("linked"))?;
        Ok(fs::write(dir.join("own"), noise(1, 50_000))?)
    };
    for key in ["needed", "unneeded"] {
        f.store.farm_tree(key, &mut |dir| make(dir)).unwrap();
    }
    f.store.link_tree(&old, &f.path("place")).unwrap();
    for dead in [".dead.building", ".another.removed"] {
        fs::create_dir_all(f.path(&format!("store/farm/trees/{dead}/x"))).unwrap();
    }
    fs::create_dir(f.path("tools")).unwrap();
    for name in ["file", "dir/below"] {
        let path = f.path("tools").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, noise(2, 20_000)).unwrap();
    }
    let unused = ["file", "dir", "not there"]
        .map(|name| Unused { kind: "tools", path: f.path("tools").join(name) });
    let roots = || {
        Ok(Roots {
            caches: vec!["c/".into()],
            refs: ["c/needed".to_owned()].into(),
            farm_trees: ["needed".to_owned()].into(),
            unused: unused[..2].to_vec(),
            ..Roots::default()
        })
    };
    // In thirty days and a bit from now all that was not touched since is old.
    let now = fs::metadata(f.path("store/refs/c%2fold")).unwrap().mtime();
    let later = Cell::new(now + UNUSED - 1000);
    let ask = |dry_run| Collect { now: later.get(), dry_run, ..asked(&roots) };
    let first = f.store.collect(&ask(true)).unwrap();
    assert_eq!(removed(&first, "refs"), 0);
    let said = f.store.collect(&ask(true)).unwrap();
    assert_eq!(f.store.collect(&ask(false)).unwrap(), said);
    assert_eq!(said, first);
    assert_eq!(removed(&said, "farm trees"), 3, "{said:?}");
    assert_eq!(removed(&said, "tools"), 2);
    assert_eq!(fs::read_dir(f.path("tools")).unwrap().count(), 0);
    let trees = fs::read_dir(f.path("store/farm/trees")).unwrap();
    assert_eq!(trees.map(|tree| tree.unwrap().file_name()).collect::<Vec<_>>(), ["needed"]);

    later.set(now + UNUSED + 1000);
    // Looked up, it is in use; the clock of the test cannot be turned, the file's time can.
    set_modified(&f.path("store/refs/c%2fused"), later.get() as u64);
    let said = f.store.collect(&ask(true)).unwrap();
    assert_eq!(f.store.collect(&ask(false)).unwrap(), said);
    let left: Vec<_> = f.store.refs("").unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["c/needed", "c/used", "own"]);
    // The farm's files that are nowhere else went, those of the tree and the place stay.
    for (dir, root) in [("place", "old"), ("store/farm/trees/needed/linked", "used")] {
        assert_eq!(describe(&f.path(dir)), describe(&f.input(root)));
    }
    f.store.remove_ref("c/needed").unwrap();
    let said = collect_with(&f.store, &|| Ok(no_roots()));
    assert_eq!(removed(&said, "farm trees"), 1);
    assert!(removed(&said, "farm files") >= 9, "{said:?}");
    assert_restores(&f, &f.reopen(), &used, &describe(&f.input("used")), "out");
    f.store.link_tree(&used, &f.path("linked")).unwrap();
    assert_eq!(describe(&f.path("linked")), describe(&f.input("used")));
    let id = FileId::of(&fs::read(f.input("used/1")).unwrap());
    assert!(f.store.open_file(&id, false).is_ok());
}

#[test]
fn a_look_up_dates_a_ref() {
    let (f, kept) = with_garbage();
    let path = f.path("store/refs/kept");
    set_modified(&path, 1_000_000_000);
    assert_eq!(f.store.refs("kept").unwrap(), [("kept".into(), kept)]);
    assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_000_000_000);
    assert_eq!(f.store.get_ref("kept").unwrap(), Some(kept));
    assert!(fs::metadata(&path).unwrap().mtime() > 1_000_000_000);
}

#[test]
fn many_small_packs_become_few_and_nothing_is_compressed_again() {
    let f = Fixture::new();
    let mut trees = Vec::new();
    for n in 0..40 {
        let dir = f.input(format!("d{n}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), noise(n, 30_000)).unwrap();
        let tree = f.store.capture(&dir).unwrap().tree;
        f.store.set_ref(&format!("r{n}"), &tree).unwrap();
        trees.push((tree, describe(&dir)));
    }
    let before = f.packs().len();
    let collected = collect(&f.store);
    assert_eq!((before, f.packs().len()), (40, 1), "{collected:?}");
    for (n, (tree, expected)) in trees.iter().enumerate() {
        assert_restores(&f, &f.store, tree, expected, &format!("out{n}"));
    }
    assert_eq!(collect(&f.store).removed, []);
    let entry = f.store.tree(&trees[0].0).unwrap().entries[0].kind.clone();
    assert!(matches!(entry, Kind::File { size: 30_000, .. }));
}

#[test]
fn a_farm_file_that_somebody_has_edited_is_not_removed() {
    let f = Fixture::new();
    let tree = capture(&f, &f.store, "in", 1, 12);
    f.store.link_tree(&tree, &f.path("linked")).unwrap();
    fs::remove_dir_all(f.path("linked")).unwrap();
    let id = FileId::of(&fs::read(f.input("in/3")).unwrap());
    let path = f.farm_file(&id);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "work of days").unwrap();
    let collected = collect(&f.store);
    assert_eq!(removed(&collected, "farm files"), 12, "{collected:?}");
    assert_eq!(fs::read(&path).unwrap(), b"work of days");
}

/// A disk with room for small files only.
struct Crowded;

struct Little(Box<dyn Output>);

impl Write for Little {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len() {
            0..1_000 => self.0.write(bytes),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Output for Little {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Storage for Crowded {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(Little(Disk.create(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>> {
        Disk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Disk.list(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        Disk.create_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory(path)
    }
}

#[test]
fn on_a_full_disk_what_needs_no_room_to_go_goes() {
    let f = Fixture::new();
    let part = capture(&f, &f.store, "part", 1, 40);
    fs::remove_dir_all(f.input("part/sub")).unwrap();
    let part_of_it = f.store.put_tree(f.store.tree(&part).unwrap().entries[..9].to_vec()).unwrap();
    f.store.set_ref("part", &part_of_it).unwrap();
    fs::write(f.input("part/other"), noise(77, 3_000_000)).unwrap();
    f.store.capture(&f.input("part")).unwrap();
    let before = f.packs().len();
    let crowded = Store::open_on(&f.path("store"), Arc::new(Crowded)).unwrap();
    let roots = || Ok(no_roots());
    let collected = crowded.collect(&asked(&roots)).unwrap();
    assert_eq!((removed(&collected, "packs"), collected.written.len()), (1, 0), "{collected:?}");
    assert!(collected.freed() > 3_000_000);
    assert_eq!(f.packs().len(), before - 1);
    assert!(f.reopen().verify().unwrap().is_clean());
    // With room the rest goes too.
    assert_eq!(collect(&f.store).written.len(), 1);
    assert!(f.reopen().verify().unwrap().is_clean());
    f.reopen().restore(&part_of_it, &f.path("out")).unwrap();
    assert_eq!(describe(&f.path("out")).len(), 9);
}

#[test]
fn what_a_delta_is_made_from_stays_as_long_as_the_delta() {
    let f = Fixture::new();
    let version = |n: usize| {
        let mut bytes = noise(5, 2_000_000);
        for at in (n * 100..bytes.len()).step_by(5_000) {
            bytes[at] ^= n as u8;
        }
        bytes
    };
    let mut trees = Vec::new();
    for n in 0..3 {
        fs::write(f.input("big"), version(n)).unwrap();
        let taken = f.store.snapshot(&f.path("in")).unwrap();
        assert_eq!(taken.figures.delta_bytes > 0, n > 0, "{taken:?}");
        f.store.set_ref("last", &taken.tree).unwrap();
        trees.push(taken.tree);
    }
    let before = du(&f.path("store/packs"));
    // Of the first only the content is needed, as the base of the last.
    collect(&f.store);
    for tree in &trees[..2] {
        let refused = f.store.set_ref("first", tree);
        assert!(matches!(refused, Err(StoreError::Missing { .. })), "{refused:?}");
    }
    let verified = f.reopen().verify().unwrap();
    assert!(verified.is_clean(), "{verified:?}");
    for _ in 0..2 {
        assert_restores(&f, &f.reopen(), &trees[2], &describe(&f.path("in")), "out");
        fs::remove_file(f.path("store/index.db")).unwrap();
        collect(&f.reopen());
    }
    assert!(du(&f.path("store/packs")) <= before + 20_000);
    f.store.remove_ref("last").unwrap();
    collect(&f.reopen());
    assert_eq!(f.packs(), [] as [std::path::PathBuf; 0]);
    assert!(du(&f.path("store/packs")) < 20_000);
}
