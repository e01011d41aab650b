//! What happens when somebody damages, deletes or edits the store's files.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use zagi::store::{Entry, FileId, Kind, MTIME, Store, StoreError, TreeId};

use super::{Fixture, describe, stored};

/// A way of spoiling a file, by its path.
type Spoil = fn(&Path);

const SPOILED: [(&str, Spoil); 6] = [
    ("written to", |path| {
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        fs::write(path, "HELLO\n").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    }),
    ("another in its place", |path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "HELLO\n").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    }),
    ("another, of a time like the farm's", |path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "HELLO\n").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(MTIME as u64);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    }),
    ("cut short, its time put back", |path| {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(3).unwrap();
        file.set_modified(time).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    }),
    ("made executable", |path| {
        fs::set_permissions(path, Permissions::from_mode(0o555)).unwrap();
    }),
    ("a link elsewhere", |path| {
        fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    }),
];

#[test]
fn a_farm_file_that_was_edited_is_found_and_set_aside() {
    for (how, spoil) in SPOILED {
        for link in [false, true] {
            let f = Fixture::new();
            fs::write(f.input("file"), "hello\n").unwrap();
            let tree = f.store.capture(&f.path("in")).unwrap().tree;
            let id = FileId::of(b"hello\n");
            f.store.open_file(&id, false).unwrap();
            let keeps_nanoseconds = fs::metadata(f.farm_file(&id)).unwrap().mtime_nsec() != 0;
            if how.contains("a time like") && !keeps_nanoseconds {
                eprintln!(
                    "not tried: a file put here with a forged time, on a file system that keeps times in seconds"
                );
                continue;
            }
            spoil(&f.farm_file(&id));

            if link {
                f.reopen().link_tree(&tree, &f.path("out")).unwrap();
                assert_eq!(fs::read(f.path("out/file")).unwrap(), b"hello\n", "{how}");
            } else {
                let mut content = Vec::new();
                let mut file = f.store.open_file(&id, false).unwrap();
                file.read_to_end(&mut content).unwrap();
                assert_eq!(content, b"hello\n", "{how}");
            }
            let mode = fs::symlink_metadata(f.farm_file(&id)).unwrap().mode();
            assert_eq!(mode, 0o100444, "{how}");
            assert_eq!(f.store.aside().unwrap().len(), 1, "{how}");
        }
    }
}

#[test]
fn the_index_is_made_anew_when_it_is_missing_or_corrupt() {
    let corrupt: [(&str, Spoil); 4] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("not a database", |path| fs::write(path, "x".repeat(10_000)).unwrap()),
        ("torn", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            std::os::unix::fs::FileExt::write_all_at(
                &file,
                &vec![0xa5; length as usize - 100],
                100,
            )
            .unwrap();
        }),
    ];
    for (how, spoil) in corrupt {
        let (f, tree) = stored();
        for suffix in ["-wal", "-shm"] {
            // What is in the log would mend the file.
            let _ = fs::remove_file(f.path(&format!("store/index.db{suffix}")));
        }
        spoil(&f.path("store/index.db"));
        let store = f.reopen();
        store.restore(&tree, &f.path("out")).unwrap_or_else(|e| panic!("{how}: {e}"));
        assert_eq!(describe(&f.path("in")), describe(&f.path("out")), "{how}");
        assert_eq!(store.capture(&f.path("in")).unwrap().new_bytes, 0, "{how}");
    }
}

#[test]
fn a_handle_whose_index_was_deleted_loses_nothing() {
    let f = Fixture::new();
    fs::write(f.input("a"), "a").unwrap();
    let before = f.store.capture(&f.path("in")).unwrap().tree;
    fs::remove_file(f.path("store/index.db")).unwrap();
    let other = f.reopen();
    fs::write(f.input("b"), "b").unwrap();
    // Its connection is to the deleted file.
    let after = f.store.capture(&f.path("in")).unwrap().tree;
    for tree in [before, after] {
        other.restore(&tree, &f.path(&tree.to_string())).unwrap();
        f.reopen().tree(&tree).unwrap();
    }
}

#[test]
fn a_rebuild_reads_packs_without_the_footer_beside_them() {
    let (f, tree) = stored();
    for pack in f.packs() {
        fs::remove_file(pack.with_extension("index")).unwrap();
    }
    let store = f.reopen();
    let rebuilt = store.rebuild_index().unwrap();
    assert_eq!(rebuilt.packs as usize, f.packs().len());
    assert!(rebuilt.records > 20 && rebuilt.damaged.is_empty(), "{rebuilt:?}");
    store.restore(&tree, &f.path("out")).unwrap();
    assert_eq!(describe(&f.path("in")), describe(&f.path("out")));
}

#[test]
fn a_changed_byte_anywhere_in_a_pack_is_an_error_and_never_wrong_data() {
    let (f, tree) = stored();
    let [pack] = &f.packs()[..] else { panic!("one pack was expected") };
    let sound = fs::read(pack).unwrap();
    fs::remove_file(pack.with_extension("index")).unwrap();
    let expected = describe(&f.path("in"));
    let mut refused = 0;
    for at in (0..sound.len()).step_by(sound.len() / 60) {
        let mut changed = sound.clone();
        changed[at] ^= 0x10;
        fs::write(pack, &changed).unwrap();
        // Where blocks can be shared, files come from the farm if they are in it.
        for part in fs::read_dir(f.path("store/farm/files")).unwrap() {
            fs::remove_dir_all(part.unwrap().path()).unwrap();
        }
        let out = f.path(&format!("out{at}"));
        match f.reopen().restore(&tree, &out) {
            // The byte was in the footer, which nobody needed.
            Ok(_) => assert_eq!(describe(&out), expected, "byte {at}"),
            Err(_) => {
                refused += 1;
                assert!(!out.exists(), "byte {at}: half a tree was left");
            }
        }
    }
    assert!(refused > 50, "{refused}");
    fs::write(pack, &sound).unwrap();
    f.reopen().restore(&tree, &f.path("mended")).unwrap();
    assert_eq!(describe(&f.path("mended")), expected);
}

#[test]
fn what_is_not_there_is_said_by_name() {
    let f = Fixture::new();
    let (tree, file) = (TreeId::from_bytes([7; 32]), FileId::of(b"never seen"));
    let missing = |error: StoreError| match error {
        StoreError::Missing { record } => record.to_string(),
        other => panic!("{other}"),
    };
    let content = format!("content {file}");
    assert_eq!(missing(f.store.tree(&tree).unwrap_err()), format!("tree {tree}"));
    assert_eq!(missing(f.store.read_file(&file).unwrap_err()), content);
    assert_eq!(missing(f.store.open_file(&file, false).unwrap_err()), content);
    let entry = Entry {
        name: b"x".as_slice().into(),
        kind: Kind::File { exec: false, id: file, size: 10 },
    };
    assert_eq!(missing(f.store.put_tree(vec![entry]).unwrap_err()), content);
    assert!(f.store.restore(&tree, &f.path("out")).is_err());
    assert!(!f.path("out").exists());
}

#[test]
fn refs_are_kept_and_damage_to_them_is_found() {
    let f = Fixture::new();
    let [a, b] = ["a", "b"].map(|content| {
        fs::write(f.input("file"), content).unwrap();
        f.store.capture(&f.path("in")).unwrap().tree
    });
    let nothing = TreeId::from_bytes([1; 32]);
    let refused = f.store.set_ref("nothing", &nothing);
    assert!(matches!(refused, Err(StoreError::Missing { .. })), "{refused:?}");
    let odd = "deps/a b/\u{e9}%2f../.x";
    for (name, tree) in [("env/node", a), ("env/py", b), (odd, a), ("env/node", b)] {
        f.store.set_ref(name, &tree).unwrap();
    }
    let store = f.reopen();
    assert_eq!(store.get_ref("env/node").unwrap(), Some(b));
    assert_eq!(store.get_ref("env").unwrap(), None);
    assert_eq!(store.refs("env/").unwrap(), [("env/node".into(), b), ("env/py".into(), b)]);
    assert_eq!(store.refs("").unwrap().len(), 3);
    assert_eq!(store.get_ref(odd).unwrap(), Some(a));
    for name in ["", "a\nb", &"x".repeat(300)] {
        assert!(matches!(store.set_ref(name, &a), Err(StoreError::RefName { .. })), "{name}");
    }

    let path = f.path("store/refs/env%2fpy");
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        assert!(store.get_ref("env/py").is_err(), "byte {at}");
        fs::write(&path, &sound[..at]).unwrap();
        assert!(store.get_ref("env/py").is_err(), "cut at {at}");
    }
    // One ref's file under another's name.
    fs::copy(f.path("store/refs/env%2fnode"), &path).unwrap();
    assert!(matches!(store.get_ref("env/py"), Err(StoreError::DamagedRef { .. })));

    assert!(store.remove_ref("env/py").unwrap());
    assert!(!store.remove_ref("env/py").unwrap());
    assert_eq!(f.store.get_ref("env/py").unwrap(), None);
}

#[test]
fn a_newer_store_is_refused() {
    let f = Fixture::new();
    fs::write(f.path("store/format"), "zagi store 3\n").unwrap();
    let refused = Store::open(&f.path("store")).map(drop);
    assert!(matches!(refused, Err(StoreError::Newer { .. })), "{refused:?}");
}
