//! The store, through its public face: odd trees in and out, ids, several at once, and
//! what happens when somebody damages or edits its files.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zagi::store::{FileId, MTIME, Store};

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Text that compresses, the same for the same seed.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = noise(seed, length / 4 + 1);
    let mut text: Vec<u8> =
        words.iter().flat_map(|byte| format!("w{} ", byte % 61).into_bytes()).collect();
    text.truncate(length);
    text
}

struct Fixture {
    dir: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        Fixture { dir, store }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// A second handle, as another process would have.
    fn reopen(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }
}

/// Everything about a directory that a store must keep, a line a name.
fn describe(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii();
            let found = fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                lines.push(format!("{name} directory"));
                walk(root, &path, lines);
            } else if found.is_symlink() {
                lines.push(format!("{name} -> {:?}", fs::read_link(&path).unwrap()));
            } else {
                let hash = FileId::of(&fs::read(&path).unwrap());
                lines.push(format!("{name} {} {hash}", found.mode() & 0o100 != 0));
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.sort();
    lines
}

/// A tree of everything that is odd.
fn odd_tree(root: &Path) {
    let file = |name: &[u8], content: &[u8]| {
        let path = root.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    file(b"empty", b"");
    file(b"text", b"hello\n");
    file(b"same", b"hello\n");
    file(b"a/b/c/deep.js", &text(1, 3_000));
    file(b"just below", &noise(2, (32 << 10) - 1));
    file(b"just at", &noise(3, 32 << 10));
    file(b"one chunk", &vec![0; 40_000]);
    file(b"large text", &text(4, 700_001));
    file(b"large binary", &noise(5, 3_000_000));
    file(b"zeroes", &vec![0; 2_500_000]);
    file(b"not \xff\xfe utf-8", b"1");
    file(b"line\nbreak", b"2");
    file(b" ", b"3");
    file(b"-rf", b"4");
    file(b"a.b", b"order");
    file(b"a-b", b"order");
    file("x".repeat(255).as_bytes(), b"long name");
    file(b"run", b"#!/bin/sh\n");
    fs::set_permissions(root.join("run"), Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(root.join("text"), Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(root.join("empty dir/empty too")).unwrap();
    symlink("text", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    symlink("..", root.join("a/up")).unwrap();
    symlink("y".repeat(4000), root.join("long target")).unwrap();
}

#[test]
fn odd_trees_come_out_as_they_went_in() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let captured = f.store.capture(&f.path("in")).unwrap();
    assert_eq!(captured.files, 18);

    // By another handle, which has nothing in memory.
    let restored = f.reopen().restore(&captured.tree, &f.path("out")).unwrap();
    assert_eq!((restored.files, restored.bytes), (captured.files, captured.bytes));
    assert_eq!(describe(&f.path("in")), describe(&f.path("out")));
    let run = fs::metadata(f.path("out/run")).unwrap();
    assert_eq!((run.mode() & 0o777, run.mtime()), (0o755, MTIME));
    assert_eq!(fs::metadata(f.path("out/text")).unwrap().mode() & 0o777, 0o644);

    f.store.link_tree(&captured.tree, &f.path("linked")).unwrap();
    assert_eq!(describe(&f.path("in")), describe(&f.path("linked")));
    let [text, same] = ["text", "same"].map(|n| fs::metadata(f.path("linked").join(n)).unwrap());
    assert_eq!(text.ino(), same.ino());
    assert_eq!(text.mode() & 0o777, 0o444);

    let again = f.store.capture(&f.path("out")).unwrap();
    assert_eq!((again.tree, again.new_bytes, again.stored_bytes), (captured.tree, 0, 0));
}
