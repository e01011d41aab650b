//! Damage of every kind, and what `repair` makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zagi::store::{Repaired, RestoreOptions, Store, TreeId, Verified};

use super::{Fixture, describe, noise, text};
use crate::support::disk::{Fault, OUTSIDES, Outside, SimulatedDisk, copy, cuts, memory};

/// A store with one pack, a root, and what was captured.
struct Damaged {
    f: Fixture,
    tree: TreeId,
    pack: PathBuf,
    /// The store's files, to begin anew with.
    sound: Vec<(PathBuf, Vec<u8>)>,
    expected: Vec<String>,
}

fn all_files(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all_files(&path, files),
            false => files.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
}

impl Damaged {
    /// `known` remembers the directory, as a snapshot does.
    fn new(known: bool) -> Damaged {
        let f = Fixture::new();
        fs::create_dir_all(f.input("dir/deeper")).unwrap();
        fs::write(f.input("a"), text(1, 500)).unwrap();
        fs::write(f.input("dir/b"), text(2, 700)).unwrap();
        fs::write(f.input("dir/deeper/c"), text(3, 300)).unwrap();
        fs::write(f.input("dir/large"), text(3, 500).repeat(200)).unwrap();
        std::os::unix::fs::symlink("b", f.input("dir/link")).unwrap();
        let captured = match known {
            true => f.store.snapshot(&f.path("in")),
            false => f.store.capture(&f.path("in")),
        };
        let tree = captured.unwrap().tree;
        f.store.set_ref("root", &tree).unwrap();
        let [pack] = &f.packs()[..] else { panic!("one pack was expected") };
        let (pack, mut sound) = (pack.clone(), Vec::new());
        all_files(&f.path("store/packs"), &mut sound);
        all_files(&f.path("store/refs"), &mut sound);
        let expected = describe(&f.path("in"));
        Damaged { f, tree, pack, sound, expected }
    }

    /// Everything as it was at first, but for the index, which is made anew.
    fn reset(&self) -> Store {
        for name in ["packs", "refs"] {
            fs::remove_dir_all(self.f.path(&format!("store/{name}"))).unwrap();
            fs::create_dir(self.f.path(&format!("store/{name}"))).unwrap();
        }
        for (path, bytes) in &self.sound {
            fs::write(path, bytes).unwrap();
        }
        let _ = fs::remove_dir_all(self.f.path("out"));
        self.f.store.rebuild_index().unwrap();
        self.f.reopen()
    }

    fn restores(&self, store: &Store) {
        store.restore(&self.tree, &self.f.path("out")).unwrap();
        assert_eq!(describe(&self.f.path("out")), self.expected);
    }

    /// Repairs, and looks whether a second repair and a verification agree.
    fn repair(&self, store: &Store, what: &str) -> (Repaired, Verified) {
        let found = store.verify().unwrap();
        assert!(!found.is_clean(), "{what}: not found");
        let planned = store.repair(true).unwrap();
        assert_eq!(store.verify().unwrap().findings, found.findings, "{what}: a dry run");
        let repaired = store.repair(false).unwrap();
        assert_eq!(planned.lost, repaired.lost, "{what}");
        assert_eq!(planned.lost_records, repaired.lost_records, "{what}");
        let store = self.f.reopen();
        let after = store.verify().unwrap();
        assert_eq!(after.is_clean(), !repaired.has_lost(), "{what}: {repaired:?} {after:?}");
        assert_eq!(after.paths, repaired.lost, "{what}");
        let missing = after.findings.first.iter().all(|finding| finding.damage.kind() == "missing");
        assert!(missing, "{what}: {after:?}");
        let again = store.repair(false).unwrap();
        assert!(!again.has_changed(), "{what}: {again:?}");
        (repaired, after)
    }
}

/// Bytes of a pack: all of the header, the first frame's header and the trailer, and some of
/// the rest.
fn places(length: usize) -> BTreeSet<usize> {
    let ends = (0..64).chain(length - 60..length);
    ends.step_by(3).chain((0..length).step_by(length / 40)).collect()
}

/// A process that goes on, as the daemon does, need not be started anew.
#[test]
fn who_met_damage_sees_that_it_was_mended() {
    let damaged = Damaged::new(false);
    let store = damaged.reset();
    let sound = fs::read(&damaged.pack).unwrap();
    let mut bad = sound.clone();
    let half = bad.len() / 2;
    bad[16..half].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
    fs::write(&damaged.pack, bad).unwrap();
    for _ in 0..2 {
        let out = damaged.f.path("bad");
        assert!(store.restore(&damaged.tree, &out).is_err());
    }
    fs::rename(&damaged.pack, damaged.f.path("aside")).unwrap();
    fs::write(&damaged.pack, sound).unwrap();
    damaged.restores(&store);
}

#[test]
fn a_changed_bit_in_a_pack_is_mended_from_the_directory() {
    let d = Damaged::new(true);
    let sound = fs::read(&d.pack).unwrap();
    for at in places(sound.len()) {
        let store = d.reset();
        let mut changed = sound.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&d.pack, &changed).unwrap();
        let (repaired, _) = d.repair(&store, &format!("byte {at}"));
        assert!(!repaired.has_lost() && repaired.lost_records == 0, "byte {at}: {repaired:?}");
        assert_eq!(repaired.packs_replaced, 1, "byte {at}");
        d.restores(&d.f.reopen());
        let kept = fs::read_dir(d.f.path("store/packs/damaged")).unwrap();
        let kept: Vec<_> = kept.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(kept.contains(&changed), "byte {at}: the damaged pack is not kept");
    }
}

#[test]
fn contents_are_mended_from_the_farm_and_what_is_lost_is_named() {
    let d = Damaged::new(false);
    d.f.store.link_tree(&d.tree, &d.f.path("linked")).unwrap();
    let sound = fs::read(&d.pack).unwrap();
    let (mut mended, mut lost) = (0, 0);
    for at in places(sound.len()) {
        let store = d.reset();
        let mut changed = sound.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&d.pack, &changed).unwrap();
        let (repaired, _) = d.repair(&store, &format!("byte {at}"));
        match repaired.has_lost() {
            false => {
                mended += 1;
                d.restores(&d.f.reopen());
            }
            // The farm has no directories.
            true => {
                lost += 1;
                assert!(repaired.lost.first.iter().all(|path| path.directory), "{repaired:?}");
            }
        }
    }
    assert!(mended > 30 && lost > 1, "{mended} {lost}");
}

#[test]
fn what_no_other_has_is_lost_and_the_next_snapshot_stores_it_again() {
    let d = Damaged::new(false);
    let sound = fs::read(&d.pack).unwrap();
    let mut lost = 0;
    for at in places(sound.len()) {
        let store = d.reset();
        let mut changed = sound.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&d.pack, &changed).unwrap();
        let (repaired, _) = d.repair(&store, &format!("byte {at}"));
        let store = d.f.reopen();
        if repaired.has_lost() {
            lost += 1;
            assert!(repaired.lost.count > 0 && repaired.lost_records > 0);
            assert!(store.restore(&d.tree, &d.f.path("out")).is_err());
            // The rest can be used.
            fs::write(d.f.input("new"), "new").unwrap();
            store.capture(&d.f.path("in")).unwrap();
            fs::remove_file(d.f.input("new")).unwrap();
            assert_eq!(store.capture(&d.f.path("in")).unwrap().tree, d.tree);
            assert!(store.verify().unwrap().is_clean(), "byte {at}");
        }
        d.restores(&store);
    }
    assert!(lost > 20, "{lost}");
}

type Spoil = fn(&Damaged);

const SPOILED: [(&str, Spoil); 7] = [
    ("deleted", |d| fs::remove_file(&d.pack).unwrap()),
    ("empty", |d| fs::write(&d.pack, "").unwrap()),
    ("cut short", |d| {
        let bytes = fs::read(&d.pack).unwrap();
        fs::write(&d.pack, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("longer", |d| {
        let mut bytes = fs::read(&d.pack).unwrap();
        bytes.extend([0; 100]);
        fs::write(&d.pack, bytes).unwrap();
    }),
    ("under another pack's name", |d| {
        let to = d.pack.with_file_name(format!("{}.pack", "0".repeat(64)));
        fs::rename(&d.pack, to).unwrap();
    }),
    ("under no pack's name", |d| {
        fs::rename(&d.pack, d.pack.with_file_name("old.pack")).unwrap();
    }),
    ("zeroes", |d| {
        let length = fs::metadata(&d.pack).unwrap().len();
        fs::write(&d.pack, vec![0; length as usize]).unwrap();
    }),
];

#[test]
fn a_pack_that_is_not_what_it_was_is_mended() {
    for tail in [true, false] {
        let d = Damaged::new(true);
        for (how, spoil) in SPOILED {
            let what = format!("{how}, its tail beside it: {tail}");
            let store = d.reset();
            if !tail {
                fs::remove_file(d.pack.with_extension("index")).unwrap();
            }
            spoil(&d);
            let (repaired, _) = d.repair(&store, &what);
            assert!(!repaired.has_lost(), "{what}: {repaired:?}");
            d.restores(&d.f.reopen());
        }
    }
}

#[test]
fn packs_whose_names_were_swapped_are_mended_from_each_other() {
    let d = Damaged::new(false);
    fs::create_dir(d.f.path("other")).unwrap();
    fs::write(d.f.path("other/file"), noise(9, 5_000)).unwrap();
    let other = d.f.store.capture(&d.f.path("other")).unwrap().tree;
    d.f.store.set_ref("other", &other).unwrap();
    let [a, b] = &d.f.packs()[..] else { panic!("two packs were expected") };
    let between = a.with_extension("tmp");
    fs::rename(a, &between).unwrap();
    fs::rename(b, a).unwrap();
    fs::rename(&between, b).unwrap();
    let (repaired, _) = d.repair(&d.f.reopen(), "swapped");
    assert!(!repaired.has_lost() && repaired.packs_replaced == 2, "{repaired:?}");
    d.restores(&d.f.reopen());
    d.f.reopen().restore(&other, &d.f.path("other out")).unwrap();
    assert_eq!(describe(&d.f.path("other out")), describe(&d.f.path("other")));
}

#[test]
fn another_pack_helps() {
    let d = Damaged::new(false);
    // The same contents and more, as another machine might have sent them.
    let theirs = Store::open(&d.f.path("theirs")).unwrap();
    fs::write(d.f.input("more"), "more").unwrap();
    theirs.capture(&d.f.path("in")).unwrap();
    fs::remove_file(d.f.input("more")).unwrap();
    let store = d.reset();
    for file in fs::read_dir(d.f.path("theirs/packs")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), d.f.path("store/packs").join(file.file_name())).unwrap();
    }
    let bytes = fs::read(&d.pack).unwrap();
    let mut changed = bytes.clone();
    changed[100] ^= 1;
    fs::write(&d.pack, changed).unwrap();
    let repaired = store.repair(false).unwrap();
    assert!(repaired.from_other_packs > 0, "{repaired:?}");
    // Only what both have is saved: the root's directory is another one there.
    assert_eq!(repaired.lost_records, 0, "{repaired:?}");
    d.restores(&d.f.reopen());
}

#[test]
fn the_copy_beside_a_pack_is_made_anew() {
    let d = Damaged::new(false);
    let tail = d.pack.with_extension("index");
    let sound = fs::read(&tail).unwrap();
    for at in (0..sound.len()).step_by(7) {
        let store = d.reset();
        let mut changed = sound.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&tail, changed).unwrap();
        let (repaired, _) = d.repair(&store, &format!("byte {at}"));
        assert_eq!((repaired.tails_mended, repaired.packs_replaced), (1, 0));
        assert_eq!(fs::read(&tail).unwrap(), sound);
    }
    let store = d.reset();
    fs::remove_file(&tail).unwrap();
    d.repair(&store, "missing");
    assert_eq!(fs::read(&tail).unwrap(), sound);
}

#[test]
fn a_changed_bit_in_a_ref_or_a_lease_is_put_back() {
    let d = Damaged::new(false);
    d.f.store.set_lease("kept", &d.tree, 1 << 40).unwrap();
    for path in [d.f.path("store/refs/root"), d.f.path("store/leases/kept")] {
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut changed = sound.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, changed).unwrap();
            let found = d.f.store.verify().unwrap();
            assert_eq!(found.findings.count, 1, "byte {at}: {found:?}");
            assert_eq!(found.findings.first[0].damage.kind(), "root");
            let repaired = d.f.store.repair(false).unwrap();
            assert_eq!(repaired.roots_mended, 1, "byte {at}: {repaired:?}");
            assert_eq!(fs::read(&path).unwrap(), sound);
        }
        // More than a bit: it is said, and kept, so that nothing is collected.
        fs::write(&path, "something else").unwrap();
        let repaired = d.f.store.repair(false).unwrap();
        assert_eq!(repaired.roots_lost, std::slice::from_ref(&path));
        assert_eq!(fs::read(&path).unwrap(), b"something else");
        fs::write(&path, sound).unwrap();
    }
    fs::rename(d.f.path("store/refs/root"), d.f.path("store/refs/toor")).unwrap();
    assert_eq!(d.f.store.repair(false).unwrap().roots_mended, 1);
    assert!(d.f.store.verify().unwrap().is_clean());
    assert_eq!(d.f.store.get_ref("root").unwrap(), Some(d.tree));
}

/// A repair whose power is cut at each operation, the disk found in each shape, and repaired
/// again.
fn repairs_after_a_cut_anywhere(spoil: impl Fn(&Path)) {
    let input = memory();
    let whole = memory();
    fs::create_dir(input.path().join("dir")).unwrap();
    fs::write(input.path().join("dir/a"), noise(1, 3_000)).unwrap();
    fs::write(input.path().join("b"), text(2, 900)).unwrap();
    fs::write(whole.path().join("c"), text(3, 900)).unwrap();
    let before = memory();
    let store = Store::open(&before.path().join("store")).unwrap();
    let [tree, other] = [&input, &whole].map(|dir| store.snapshot(dir.path()).unwrap().tree);
    store.set_ref("tree", &tree).unwrap();
    store.set_ref("other", &other).unwrap();
    let packs = fs::read_dir(before.path().join("store/packs")).unwrap();
    let packs = packs.map(|file| file.unwrap().path());
    let is_pack = |path: &PathBuf| path.extension().is_some_and(|of| of == "pack");
    let largest = packs.filter(is_pack).max_by_key(|path| fs::metadata(path).unwrap().len());
    spoil(&largest.unwrap());
    drop(store);

    let mut operations = 0;
    loop {
        let dir = memory();
        copy(before.path(), dir.path());
        let disk = SimulatedDisk::new(dir.path()).fail_at(operations, Fault::Power);
        let done = Store::open_on(&disk.store(), Arc::new(disk.clone()))
            .and_then(|store| store.repair(false));
        for (n, cut) in cuts(operations).into_iter().enumerate() {
            let outside = OUTSIDES[(n + operations as usize) % OUTSIDES.len()];
            let what = format!("operation {operations}, {cut:?}, caches {outside:?}");
            let found = memory();
            disk.found(found.path(), cut, outside);
            let root = found.path().join("store");
            let store = Store::open(&root).unwrap_or_else(|e| panic!("{what}: {e}"));
            let repaired = store.repair(false).unwrap_or_else(|e| panic!("{what}: {e}"));
            let out = found.path().join("out");
            store.restore(&other, &out).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(describe(&out), describe(whole.path()), "{what}");
            // The directory that helps is known by a cache.
            if repaired.has_lost() {
                assert!(!matches!(outside, Outside::Same | Outside::Older), "{what}");
                store.snapshot(input.path()).unwrap();
            }
            let verified = store.verify().unwrap();
            assert!(verified.is_clean(), "{what}: {verified:?}");
            let out = found.path().join("mended");
            store.restore(&tree, &out).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(describe(&out), describe(input.path()), "{what}");
        }
        if !disk.is_off() {
            assert!(!done.unwrap().has_lost());
            break;
        }
        operations += 1;
    }
    assert!(operations > 10, "{operations}");
}

#[test]
fn a_repair_of_frames_survives_a_power_cut_at_every_operation() {
    repairs_after_a_cut_anywhere(|pack| {
        let mut bytes = fs::read(pack).unwrap();
        bytes[200] ^= 1;
        fs::write(pack, bytes).unwrap();
    });
}

#[test]
fn a_repair_whose_new_pack_has_the_damaged_ones_name_survives_one_too() {
    repairs_after_a_cut_anywhere(|pack| {
        let mut bytes = fs::read(pack).unwrap();
        let at = bytes.len() - 70;
        bytes[at] ^= 1;
        fs::write(pack, bytes).unwrap();
    });
}

#[test]
fn a_directory_of_links_helps() {
    let d = Damaged::new(false);
    let options = RestoreOptions { require_link: true, now: 0 };
    d.f.store.restore_to(&d.tree, &d.f.path("linked"), &options).unwrap();
    fs::remove_dir_all(d.f.path("store/farm/files")).unwrap();
    let _ = fs::remove_dir_all(d.f.path("store/known"));
    let store = d.reset();
    let mut bytes = fs::read(&d.pack).unwrap();
    bytes[100] ^= 1;
    fs::write(&d.pack, bytes).unwrap();
    let (repaired, _) = d.repair(&store, "a place");
    assert!(!repaired.has_lost() && repaired.from_directories > 0, "{repaired:?}");
    d.restores(&d.f.reopen());
}

#[test]
fn a_pack_both_of_whose_footers_are_damaged_is_saved_by_the_index() {
    let d = Damaged::new(false);
    let store = d.reset();
    for path in [d.pack.clone(), d.pack.with_extension("index")] {
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(store.verify().unwrap().paths.count, 0);
    let (repaired, _) = d.repair(&store, "both footers");
    assert!(!repaired.has_lost() && repaired.lost_records == 0, "{repaired:?}");
    d.restores(&d.f.reopen());
}
