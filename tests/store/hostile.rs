//! Trees that somebody made to hurt: so deep or so often in each other that what is not
//! careful overflows its stack, or never ends.

use std::fs::{self, File};
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::Fixture;
use zagi::store::{Collect, Entry, Kind, Roots, TreeId};

/// Runs `test` with so little stack that a call for every level of a deep tree would not fit.
fn with_little_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(384 << 10);
    thread.spawn(test).unwrap().join().unwrap();
}

/// Everything that goes through whole trees.
fn goes_through(f: &Fixture, tree: &TreeId) {
    f.store.set_ref("hostile", tree).unwrap();
    assert!(f.store.verify().unwrap().is_clean());
    f.store.stats().unwrap();
    assert!(!f.store.repair(true).unwrap().has_lost());
    let roots = || Ok(Roots { trees: vec![("a test".into(), *tree)], ..Roots::default() });
    let patience = Duration::from_secs(20);
    f.store.collect(&Collect { now: 0, dry_run: false, patience, roots: &roots }).unwrap();
}

#[test]
fn a_tree_however_deep_needs_no_stack() {
    with_little_stack(|| {
        const DEPTH: usize = 4000;
        let f = Fixture::new();
        let mut at = File::open(f.path("in")).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            at = openat(&at, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap().into();
        }
        let file = openat(&at, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        nix::unistd::write(&file, b"deep").unwrap();
        let tree = f.store.snapshot(&f.path("in")).unwrap().tree;
        goes_through(&f, &tree);
        let empty = f.store.put_tree(Vec::new()).unwrap();
        let mut deepest = 0;
        let differ = f.store.diff::<zagi::store::StoreError>(&empty, &tree, |change| {
            deepest = deepest.max(change.path.iter().filter(|byte| **byte == b'/').count());
            Ok(true)
        });
        differ.unwrap();
        assert_eq!(deepest, DEPTH);
        // By no path can it be reached, and so it may be refused: but in words.
        fs::create_dir(f.path("out")).unwrap();
        if let Err(e) = f.store.restore(&tree, &f.path("out")) {
            assert!(!e.to_string().is_empty());
        }
        // The temporary directory cannot be removed by paths that long.
        for dir in ["in", "out"] {
            let _ = std::process::Command::new("rm").arg("-rf").arg(f.path(dir)).status();
        }
    });
}

#[test]
fn what_stands_often_is_gone_through_once() {
    let f = Fixture::new();
    let tree = (0..12).fold(f.store.put_tree(Vec::new()).unwrap(), |below, _| {
        let entry = |n: u8| Entry { name: [b'0' + n].into(), kind: Kind::Directory(below) };
        f.store.put_tree((0..10).map(entry).collect()).unwrap()
    });
    goes_through(&f, &tree);
}
