//! Large files that change a little: kept as the difference, given back as they were.

use super::*;

/// The id of the file `big` in a tree.
fn big(f: &Fixture, tree: &TreeId) -> FileId {
    match &f.store.tree(tree).unwrap().get(b"big").unwrap().kind {
        Kind::File { id, .. } => *id,
        other => panic!("{other:?}"),
    }
}

/// Bytes that hardly compress, changed in every chunk, as a relinked program is.
fn relinked(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = noise(1, length);
    bytes.splice(5..5, noise(seed, 100));
    for (n, at) in (0..bytes.len()).step_by(5_000).enumerate() {
        bytes[at] ^= seed as u8 ^ n as u8;
    }
    bytes
}

fn write_big(f: &Fixture, content: &[u8]) {
    fs::write(f.input("big"), content).unwrap();
}

#[test]
fn a_changed_file_is_kept_as_the_difference_and_comes_back_as_it_was() {
    let f = Fixture::new();
    let versions: Vec<Vec<u8>> = (2..5).map(|seed| relinked(seed, 6_000_000)).collect();
    let mut trees = Vec::new();
    for (no, content) in versions.iter().enumerate() {
        write_big(&f, content);
        let taken = f.store.snapshot(&f.path("in")).unwrap();
        let figures = taken.figures;
        assert_eq!(figures.total().new_files, 1);
        if no > 0 {
            assert!(taken.stored_bytes < 400_000, "{taken:?}");
            assert_eq!(figures.delta_bytes, figures.binary.new_bytes);
            assert!(figures.delta_bytes > 5_000_000, "{figures:?}");
            assert!((1..400_000).contains(&figures.delta_stored), "{figures:?}");
        }
        trees.push(taken.tree);
    }
    for (tree, content) in trees.iter().zip(&versions) {
        let id = big(&f, tree);
        assert_eq!(id, FileId::of(content));
        // Each on its own handle, one way of reading after another; the second time without
        // an index.
        assert!(f.reopen().read_file(&id).unwrap() == *content);
        fs::remove_file(f.path("store/index.db")).unwrap();
        let mut opened = f.reopen().open_file(&id, false).unwrap();
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut opened, &mut read).unwrap();
        assert!(read == *content);
        let out = f.path(&format!("out {tree}"));
        f.reopen().restore(tree, &out).unwrap();
        assert!(fs::read(out.join("big")).unwrap() == *content);
        // A tree that is composed of it needs its length.
        let kind = Kind::File { exec: true, id, size: content.len() as u64 };
        let entry = zagi::store::Entry { name: b"again".as_slice().into(), kind };
        f.store.put_tree(vec![entry]).unwrap();
    }
    // What was there before costs nothing, whichever way it is stored.
    for content in &versions {
        write_big(&f, content);
        let taken = f.store.snapshot(&f.path("in")).unwrap();
        assert_eq!((taken.figures.total().new_files, taken.figures.delta_bytes), (0, 0));
        assert!(taken.stored_bytes < 1000, "{taken:?}");
    }
}

#[test]
fn what_would_save_little_is_kept_in_chunks() {
    let f = Fixture::new();
    let content = noise(1, 3_000_000);
    write_big(&f, &content);
    f.store.snapshot(&f.path("in")).unwrap();
    // Another content altogether; one that shares most of its chunks; one that is short.
    let mut edited = content.clone();
    edited[1_500_000] ^= 1;
    for other in [noise(2, 3_000_000), edited, relinked(1, 100_000)] {
        write_big(&f, &content);
        f.store.snapshot(&f.path("in")).unwrap();
        write_big(&f, &other);
        let taken = f.store.snapshot(&f.path("in")).unwrap();
        assert_eq!(taken.figures.delta_bytes, 0);
        assert!(f.store.read_file(&big(&f, &taken.tree)).unwrap() == other);
    }
}

#[test]
fn a_damaged_base_is_told_of_and_no_new_file_relies_on_it() {
    let f = Fixture::new();
    let (old, new) = (relinked(2, 2_000_000), relinked(3, 2_000_000));
    write_big(&f, &old);
    f.store.snapshot(&f.path("in")).unwrap();
    let [base] = &f.packs()[..] else { panic!("one pack") };
    let mut bytes = fs::read(base).unwrap();
    bytes[1_000_000] ^= 1;
    fs::set_permissions(base, Permissions::from_mode(0o644)).unwrap();
    fs::write(base, &bytes).unwrap();
    write_big(&f, &new);
    let taken = f.reopen().snapshot(&f.path("in")).unwrap();
    assert_eq!(taken.figures.delta_bytes, 0);
    assert!(f.reopen().read_file(&FileId::of(&new)).unwrap() == new);
    bytes[1_000_000] ^= 1;
    fs::write(base, &bytes).unwrap();

    // One that is damaged afterwards takes what was made of it along, and says so.
    let third = relinked(4, 2_000_000);
    write_big(&f, &third);
    let taken = f.reopen().snapshot(&f.path("in")).unwrap();
    assert!(taken.figures.delta_bytes > 0);
    for pack in f.packs() {
        let mut bytes = fs::read(&pack).unwrap();
        if bytes.len() > 1_000_000 {
            bytes[1_000_000] ^= 1;
            fs::write(&pack, bytes).unwrap();
        }
    }
    let read = f.reopen().read_file(&FileId::of(&third));
    assert!(matches!(read, Err(StoreError::DamagedPack { .. })), "{read:?}");
}

#[test]
fn a_store_of_the_first_version_becomes_one_that_older_programs_refuse() {
    let f = Fixture::new();
    let format = f.path("store/format");
    assert_eq!(fs::read_to_string(&format).unwrap(), "zagi store 2\n");
    fs::write(&format, "zagi store 1\n").unwrap();
    f.reopen();
    assert_eq!(fs::read_to_string(&format).unwrap(), "zagi store 2\n");
    for refused in ["zagi store 3\n", "zagi store 0\n", "zagi store\n", "", "something else"] {
        fs::write(&format, refused).unwrap();
        let opened = Store::open(&f.path("store"));
        let Err(StoreError::Newer { path, found }) = opened.map(drop) else { panic!("{refused}") };
        assert_eq!((&path, found.as_str()), (&format, refused.trim()));
    }
}
