//! The store, through its public face: odd trees in and out, ids, what is refused.

mod collect;
mod crash;
mod damage;
mod delta;
mod farm;
mod hostile;
mod killed;
mod odd;
mod repair;
mod restore;
mod snapshot;
mod together;
mod verify;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zagi::store::{FileId, Kind, MTIME, Store, StoreError, TreeId};

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
    fn input(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path("in").join(Path::new(name.as_ref()))
    }
    fn packs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("store/packs")).unwrap();
        let mut packs: Vec<_> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension() == Some(OsStr::new("pack")))
            .collect();
        packs.sort();
        packs
    }
    fn farm_file(&self, id: &FileId) -> PathBuf {
        self.path(&format!("store/farm/files/{}/{id}", &id.to_string()[..2]))
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
    // XFS holds no longer one.
    symlink("y".repeat(1023), root.join("long target")).unwrap();
}

/// A store with one captured tree, whose handle is closed.
fn stored() -> (Fixture, TreeId) {
    let mut f = Fixture::new();
    odd_tree(&f.path("in"));
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    f.store = Store::open(&f.path("another")).unwrap();
    (f, tree)
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

#[test]
fn the_id_is_of_names_contents_and_exec_bits_alone() {
    let f = Fixture::new();
    fs::create_dir(f.input("d")).unwrap();
    fs::write(f.input("d/file"), "content").unwrap();
    symlink("file", f.input("d/link")).unwrap();
    let id = || f.store.capture(&f.path("in")).unwrap().tree;
    let first = id();

    let file = fs::File::options().write(true).open(f.input("d/file")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(f.input("d/file"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(f.input("d"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(id(), first, "times, read bits and directories' modes do not count");

    let mut seen = vec![first];
    let mut differs = |what: &str| {
        let now = id();
        assert!(!seen.contains(&now), "{what} counts");
        seen.push(now);
    };
    fs::set_permissions(f.input("d/file"), Permissions::from_mode(0o755)).unwrap();
    differs("the exec bit");
    fs::write(f.input("d/file"), "Content").unwrap();
    differs("a content");
    fs::rename(f.input("d/file"), f.input("d/filf")).unwrap();
    differs("a name");
    fs::remove_file(f.input("d/link")).unwrap();
    symlink("filf", f.input("d/link")).unwrap();
    differs("a target");
    fs::create_dir(f.input("d/empty")).unwrap();
    differs("an empty directory");
    fs::remove_dir(f.input("d/empty")).unwrap();
    fs::write(f.input("d/empty"), "").unwrap();
    differs("a kind");
}

#[test]
fn golden_tree_of_a_directory() {
    let f = Fixture::new();
    fs::create_dir(f.input("dir")).unwrap();
    fs::write(f.input("a"), "hello\n").unwrap();
    symlink("../a", f.input("link")).unwrap();
    let run = f.input(OsStr::from_bytes(b"run\xff"));
    fs::write(&run, "").unwrap();
    fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    // The one in the format's own golden vectors.
    let golden = "f04ce168bd926e3e96c853972a894144af8e0201488c07260ec0927d1b9013de";
    assert_eq!(tree.to_string(), golden);
}

#[test]
fn only_what_is_new_is_stored() {
    let f = Fixture::new();
    let large = [text(1, 400_000), noise(2, 2_000_000)].concat();
    fs::write(f.input("large"), &large).unwrap();
    fs::write(f.input("copy"), &large).unwrap();
    fs::write(f.input("small"), "small").unwrap();
    let first = f.store.capture(&f.path("in")).unwrap();
    assert_eq!(first.bytes, 2 * large.len() as u64 + 5);
    assert!(first.new_bytes <= large.len() as u64 + 5, "{first:?}");

    // Something in the middle of a large file moves everything after it.
    let changed = [&large[..1_000_000], b"inserted", &large[1_000_000..]].concat();
    fs::write(f.input("large"), &changed).unwrap();
    let second = f.reopen().capture(&f.path("in")).unwrap();
    assert!((8..600_000).contains(&second.new_bytes), "{second:?}");
    f.store.restore(&second.tree, &f.path("out")).unwrap();
    assert!(fs::read(f.path("out/large")).unwrap() == changed);
}

#[test]
fn hard_links_come_out_as_hard_links() {
    let f = Fixture::new();
    fs::create_dir(f.input("z")).unwrap();
    fs::write(f.input("one"), "content").unwrap();
    fs::write(f.input("other"), "content").unwrap();
    fs::hard_link(f.input("one"), f.input("z/two")).unwrap();
    fs::hard_link(f.input("one"), f.input("three")).unwrap();
    // Its second name is not in the tree.
    fs::write(f.input("alone"), "alone").unwrap();
    fs::hard_link(f.input("alone"), f.path("elsewhere")).unwrap();
    let captured = f.store.capture(&f.path("in")).unwrap();
    assert_eq!((captured.files, captured.bytes), (5, 4 * 7 + 5));

    let restored = f.reopen().restore(&captured.tree, &f.path("out")).unwrap();
    assert_eq!((restored.files, restored.bytes), (5, 4 * 7 + 5));
    assert_eq!(describe(&f.path("in")), describe(&f.path("out")));
    let found = |name: &str| fs::metadata(f.path("out").join(name)).unwrap();
    assert_eq!(found("one").ino(), found("z/two").ino());
    assert_eq!(found("one").nlink(), 3);
    assert_eq!((found("other").nlink(), found("alone").nlink()), (1, 1));
}

#[test]
fn an_edit_of_what_was_restored_never_reaches_the_store() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    f.store.link_tree(&tree, &f.path("linked")).unwrap();
    f.store.restore(&tree, &f.path("out")).unwrap();
    for name in ["text", "large text", "large binary", "run"] {
        let path = f.path("out").join(name);
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
        let file = fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"edited", 0).unwrap();
    }
    assert_eq!(describe(&f.path("in")), describe(&f.path("linked")));
    f.reopen().restore(&tree, &f.path("again")).unwrap();
    assert_eq!(describe(&f.path("in")), describe(&f.path("again")));
    assert_eq!(f.store.aside().unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn exec_and_plain_files_of_one_content_are_two_farm_files() {
    let f = Fixture::new();
    for (name, mode) in [("plain", 0o644), ("run", 0o755)] {
        fs::write(f.input(name), "same").unwrap();
        fs::set_permissions(f.input(name), Permissions::from_mode(mode)).unwrap();
    }
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    f.store.link_tree(&tree, &f.path("out")).unwrap();
    let modes = ["plain", "run"].map(|n| fs::metadata(f.path("out").join(n)).unwrap().mode());
    assert_eq!(modes, [0o100444, 0o100555]);
    let modes = [false, true].map(|exec| {
        f.store.open_file(&FileId::of(b"same"), exec).unwrap().metadata().unwrap().mode()
    });
    assert_eq!(modes, [0o100444, 0o100555]);
}

#[test]
fn trees_are_composed_of_what_is_there() {
    let f = Fixture::new();
    fs::create_dir(f.input("sub")).unwrap();
    fs::write(f.input("sub/file"), "hello\n").unwrap();
    fs::write(f.input("top"), noise(1, 200_000)).unwrap();
    let captured = f.store.capture(&f.path("in")).unwrap().tree;
    let tree = f.store.tree(&captured).unwrap();
    assert_eq!(tree.entries.len(), 2);
    let mut entries = tree.entries.clone();
    entries.reverse();
    assert_eq!(f.store.put_tree(entries.clone()).unwrap(), captured);
    assert!(f.store.tree(&captured).unwrap().get(b"top").is_some());

    entries[0].name = b"renamed".as_slice().into();
    let composed = f.store.put_tree(entries.clone()).unwrap();
    f.reopen().restore(&composed, &f.path("out")).unwrap();
    assert_eq!(fs::read(f.path("out/renamed")).unwrap(), noise(1, 200_000));

    if let Kind::File { size, .. } = &mut entries[0].kind {
        *size += 1;
    }
    let refused = f.store.put_tree(entries);
    assert!(matches!(refused, Err(StoreError::Unrepresentable { .. })), "{refused:?}");
}

#[test]
fn what_cannot_be_captured_is_named() {
    let f = Fixture::new();
    nix::unistd::mkfifo(&f.input("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    match f.store.capture(&f.path("in")) {
        Err(StoreError::Special { path, kind: "named pipe" }) => assert_eq!(path, f.input("pipe")),
        other => panic!("{other:?}"),
    }
    fs::remove_file(f.input("pipe")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(f.input("socket")).unwrap();
    let refused = f.store.capture(&f.path("in"));
    assert!(matches!(refused, Err(StoreError::Special { kind: "socket", .. })), "{refused:?}");
    let refused = f.store.capture(&f.path("nothing"));
    assert!(matches!(refused, Err(StoreError::Capture { .. })), "{refused:?}");
}

#[test]
fn a_restore_never_writes_over_or_through_what_is_there() {
    let f = Fixture::new();
    fs::create_dir(f.input("d")).unwrap();
    fs::write(f.input("d/file"), "theirs").unwrap();
    let tree = f.store.capture(&f.path("in")).unwrap().tree;

    fs::create_dir_all(f.path("merge/d")).unwrap();
    fs::write(f.path("merge/d/other"), "mine").unwrap();
    f.store.restore(&tree, &f.path("merge")).unwrap();
    assert_eq!(fs::read(f.path("merge/d/file")).unwrap(), b"theirs");
    assert_eq!(fs::read(f.path("merge/d/other")).unwrap(), b"mine");

    fs::write(f.path("merge/d/file"), "mine").unwrap();
    match f.store.restore(&tree, &f.path("merge")) {
        Err(StoreError::Exists { path }) => assert_eq!(path, f.path("merge/d/file")),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(f.path("merge/d/file")).unwrap(), b"mine");

    fs::create_dir_all(f.path("through")).unwrap();
    fs::create_dir_all(f.path("outside")).unwrap();
    symlink(f.path("outside"), f.path("through/d")).unwrap();
    for refused in [
        f.store.restore(&tree, &f.path("through")).map(drop),
        f.store.link_tree(&tree, &f.path("through")).map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Exists { .. })), "{refused:?}");
    }
    assert!(fs::read_dir(f.path("outside")).unwrap().next().is_none());
}
