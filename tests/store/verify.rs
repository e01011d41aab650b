//! Damage of every kind, and what `verify` says of it.

use std::fs;

use zagi::store::Verified;

use super::{Fixture, odd_tree, text};

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
