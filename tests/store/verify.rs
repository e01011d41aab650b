//! Damage of every kind, and what `verify` says of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use zagi::store::{Damage, FileId, Store, TreeId, Verified};

use super::{Fixture, describe, noise, odd_tree, text};

/// A small store with a root: one pack with a tree of few files.
fn small() -> Fixture {
    let f = Fixture::new();
    fs::create_dir(f.input("dir")).unwrap();
    fs::write(f.input("a"), text(1, 500)).unwrap();
    fs::write(f.input("dir/b"), text(2, 700)).unwrap();
    fs::write(f.input("dir/large"), text(3, 500).repeat(200)).unwrap();
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    f.store.set_ref("root", &tree).unwrap();
    f
}

fn kinds(verified: &Verified) -> Vec<&'static str> {
    let mut kinds: Vec<_> =
        verified.findings.first.iter().map(|finding| finding.damage.kind()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_sound_store_is_clean() {
    let f = Fixture::new();
    let empty = f.store.verify().unwrap();
    assert!(empty.is_clean() && empty.packs == 0, "{empty:?}");
    odd_tree(&f.path("in"));
    let captured = f.store.capture(&f.path("in")).unwrap();
    f.store.set_ref("odd", &captured.tree).unwrap();
    f.store.link_tree(&captured.tree, &f.path("linked")).unwrap();
    let verified = f.store.verify().unwrap();
    assert!(verified.is_clean(), "{verified:?}");
    assert!(verified.packs == 1 && verified.roots == 1 && verified.farm_files > 10);
    assert!(verified.records > 50 && verified.unknown_packs == 0, "{verified:?}");
}

#[test]
fn a_changed_bit_in_any_byte_of_a_pack_is_found() {
    let f = small();
    let [pack] = &f.packs()[..] else { panic!("one pack was expected") };
    let sound = fs::read(pack).unwrap();
    let mut found = std::collections::BTreeMap::new();
    for at in 0..sound.len() {
        let mut changed = sound.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(pack, &changed).unwrap();
        let verified = f.store.verify().unwrap();
        let kinds = kinds(&verified);
        assert_eq!(kinds.len(), 1, "byte {at}: {verified:?}");
        *found.entry(kinds[0]).or_insert(0) += 1;
        let named = !verified.paths.first.is_empty();
        assert_eq!(named, kinds[0] == "pack-frames", "byte {at}: {verified:?}");
        assert!(verified.paths.first.iter().all(|path| path.root == "root"));
    }
    assert!(found["pack-header"] == 16 && found["pack-footer"] > 300, "{found:?}");
    assert!(found["pack-frames"] > 1000, "{found:?}");
    fs::write(pack, &sound).unwrap();
    assert!(f.store.verify().unwrap().is_clean());
}

/// A copy of the store, at another path: SQLite remembers files by theirs.
fn copied(f: &Fixture, name: &str) -> PathBuf {
    let to = f.path(name);
    for part in ["packs", "refs", "leases"] {
        fs::create_dir_all(to.join(part)).unwrap();
        for file in fs::read_dir(f.path("store").join(part)).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), to.join(part).join(file.file_name())).unwrap();
        }
    }
    for file in ["format", "index.db", "index.db-wal"] {
        let _ = fs::copy(f.path("store").join(file), to.join(file));
    }
    to
}

/// Whatever the index says, nothing wrong comes out, and a repair makes it right.
fn assert_index_is_harmless(f: &Fixture, dir: &Path, tree: &TreeId, what: &str) -> bool {
    let store = Store::open(dir).unwrap_or_else(|e| panic!("{what}: {e}"));
    let verified = store.verify().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(verified.paths.first.is_empty(), "{what}: {verified:?}");
    let kinds = kinds(&verified);
    assert!(kinds.iter().all(|kind| kind.starts_with("index")), "{what}: {verified:?}");
    let out = dir.join("out");
    store.restore(tree, &out).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(describe(&out), describe(&f.path("in")), "{what}");
    let repaired = store.repair(false).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(!repaired.has_lost(), "{what}: {repaired:?}");
    let after = Store::open(dir).unwrap().verify().unwrap();
    assert!(after.is_clean(), "{what}: {after:?}");
    !verified.is_clean()
}

#[test]
fn a_changed_bit_in_the_index_is_harmless_and_mostly_found() {
    for file in ["index.db", "index.db-wal"] {
        let f = small();
        if file == "index.db" {
            // Made anew, it is in one file once its log is folded.
            let database = Connection::open(f.path("store/index.db")).unwrap();
            let fold = "PRAGMA wal_checkpoint(TRUNCATE)";
            database.query_row(fold, [], |_| Ok(())).unwrap();
        }
        let sound = fs::read(f.path("store").join(file)).unwrap();
        let tree = f.store.get_ref("root").unwrap().unwrap();
        let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
        assert!(used.len() > 300, "{file}: {}", used.len());
        let mut found = 0;
        for at in used.into_iter().step_by(13) {
            let dir = copied(&f, "copy");
            let mut changed = sound.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(dir.join(file), changed).unwrap();
            let what = format!("{file}, byte {at}");
            found += usize::from(assert_index_is_harmless(&f, &dir, &tree, &what));
            fs::remove_dir_all(&dir).unwrap();
        }
        // What is wrong with the log, SQLite and the opening of the store see to.
        assert!(found > 10 || file.ends_with("wal"), "{file}: {found}");
    }
}

#[test]
fn an_index_that_lies_is_found_and_made_anew() {
    let lies = [
        ("rows that point elsewhere", "UPDATE records SET start = start + 1"),
        ("other frames", "UPDATE records SET frame = frame + 16"),
        ("other lengths", "UPDATE records SET length = length - 1"),
        ("other kinds", "UPDATE records SET kind = 3 WHERE kind = 1"),
        (
            "records that are nowhere",
            "INSERT INTO records SELECT zeroblob(32), 1, pack, frame, start, length FROM records LIMIT 1",
        ),
        ("no records", "DELETE FROM records"),
        ("no trees", "DELETE FROM records WHERE kind = 3"),
        ("rows of no pack", "UPDATE records SET pack = 77 WHERE kind = 3"),
        ("another size", "UPDATE packs SET size = 1"),
    ];
    for (how, lie) in lies {
        let f = small();
        let tree = f.store.get_ref("root").unwrap().unwrap();
        let dir = copied(&f, "copy");
        Connection::open(dir.join("index.db")).unwrap().execute_batch(lie).unwrap();
        assert!(assert_index_is_harmless(&f, &dir, &tree, how), "{how}: not found");
    }
    // Another store's.
    let f = small();
    let tree = f.store.get_ref("root").unwrap().unwrap();
    let other = Fixture::new();
    fs::write(other.input("x"), text(77, 900)).unwrap();
    other.store.capture(&other.path("in")).unwrap();
    let dir = copied(&f, "copy");
    let _ = fs::remove_file(dir.join("index.db-wal"));
    for file in ["index.db", "index.db-wal"] {
        fs::copy(other.path("store").join(file), dir.join(file)).unwrap();
    }
    assert_index_is_harmless(&f, &dir, &tree, "another store's");
}

/// Writes to a file of the farm and puts its time back, as a failing disk does.
fn rot(path: &Path) {
    let found = fs::metadata(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    fs::set_permissions(path, found.permissions()).unwrap();
    file.set_modified(found.modified().unwrap()).unwrap();
}

#[test]
fn a_farm_file_that_rots_is_found_and_replaced_wherever_it_is() {
    let f = small();
    let tree = f.store.get_ref("root").unwrap().unwrap();
    let key = f
        .store
        .farm_tree("env", &mut |dest| {
            f.store.link_tree(&tree, &dest.join("packages"))?;
            Ok(fs::write(dest.join("own"), "made here")?)
        })
        .unwrap();
    assert!(f.store.verify().unwrap().is_clean());
    let id = FileId::of(&text(2, 700));
    let in_tree = key.join("packages/dir/b");
    rot(&in_tree);
    let verified = f.store.verify().unwrap();
    assert_eq!(kinds(&verified), ["farm-file", "farm-tree"], "{verified:?}");
    assert_eq!(verified.findings.first[1].damage, Damage::FarmTree { path: in_tree.clone() });
    assert_eq!(verified.paths.count, 0);
    let repaired = f.store.repair(false).unwrap();
    assert!(!repaired.has_lost() && repaired.farm_files == 2, "{repaired:?}");
    assert_eq!(fs::read(&in_tree).unwrap(), text(2, 700));
    assert_eq!(fs::read(f.farm_file(&id)).unwrap(), text(2, 700));
    assert_eq!(f.store.aside().unwrap().len(), 1);
    let mode = fs::metadata(in_tree.parent().unwrap()).unwrap().mode();
    assert_eq!(mode & 0o222, 0, "the tree stays read-only");
    let after = f.store.verify().unwrap();
    assert!(after.is_clean(), "{after:?}");
    assert!(!f.store.repair(false).unwrap().has_changed());
}

#[test]
fn a_delta_that_is_damaged_is_named_and_stored_again_as_a_whole() {
    let f = Fixture::new();
    let mut content = noise(1, 600_000);
    fs::write(f.input("big"), &content).unwrap();
    let before = f.store.snapshot(&f.path("in")).unwrap().tree;
    f.store.set_ref("before", &before).unwrap();
    for at in (0..content.len()).step_by(60_000) {
        content[at] ^= 1;
    }
    fs::write(f.input("big"), &content).unwrap();
    let packs = f.packs();
    let captured = f.store.snapshot(&f.path("in")).unwrap();
    let after = captured.tree;
    f.store.set_ref("after", &after).unwrap();
    assert!(captured.stored_bytes < 100_000, "no delta was made: {}", captured.stored_bytes);
    // It holds off whoever wants the store for itself.
    drop(captured);
    let new = f.packs().into_iter().find(|pack| !packs.contains(pack)).unwrap();
    let mut bytes = fs::read(&new).unwrap();
    bytes[100] ^= 1;
    fs::write(&new, bytes).unwrap();
    let verified = f.store.verify().unwrap();
    let paths: Vec<_> = verified.paths.first.iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["after: big"], "{verified:?}");
    let repaired = f.store.repair(false).unwrap();
    assert!(!repaired.has_lost() && repaired.from_directories > 0, "{repaired:?}");
    let store = f.reopen();
    assert!(store.verify().unwrap().is_clean());
    store.restore(&after, &f.path("out")).unwrap();
    assert_eq!(describe(&f.path("out")), describe(&f.path("in")));

    // A base that is damaged takes what is told by it along.
    for pack in f.packs() {
        let length = fs::metadata(&pack).unwrap().len();
        if length > 500_000 {
            let file = fs::File::options().write(true).open(&pack).unwrap();
            file.write_all_at(b"damage", length / 2).unwrap();
        }
    }
    let verified = f.reopen().verify().unwrap();
    assert!(verified.paths.first.iter().any(|path| path.root == "before"), "{verified:?}");
}
