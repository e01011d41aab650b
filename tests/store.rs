//! The store, through its public face: odd trees in and out, ids, several at once, and
//! what happens when somebody damages or edits its files.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use zagi::store::{
    Disk, Entry, FileId, Input, Kind, MTIME, Output, Storage, Store, StoreError, TreeId,
    remove_tree,
};

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

/// A store with one captured tree, whose handle is closed.
fn stored() -> (Fixture, TreeId) {
    let mut f = Fixture::new();
    odd_tree(&f.path("in"));
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    f.store = Store::open(&f.path("another")).unwrap();
    (f, tree)
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
fn several_handles_capture_and_restore_at_once() {
    let f = Fixture::new();
    let inputs: Vec<_> = (0..4).map(|n| f.path(&format!("in{n}"))).collect();
    for (n, input) in inputs.iter().enumerate() {
        for file in 0..60 {
            fs::create_dir_all(input.join(format!("d{}", file % 7))).unwrap();
            // Some are in every tree, some in one.
            let seed = if file % 2 == 0 { file } else { 1000 * n as u64 + file };
            let length = 100 + 1_500 * file as usize;
            fs::write(input.join(format!("d{}/{file}", file % 7)), text(seed, length)).unwrap();
        }
    }
    std::thread::scope(|scope| {
        for round in 0..3 {
            for (n, input) in inputs.iter().enumerate() {
                let f = &f;
                scope.spawn(move || {
                    let store = f.reopen();
                    let tree = store.capture(input).unwrap().tree;
                    store.set_ref(&format!("t/{n}"), &tree).unwrap();
                    let out = f.path(&format!("out {round} {n}"));
                    store.restore(&tree, &out).unwrap();
                    assert_eq!(describe(input), describe(&out));
                    let linked = f.path(&format!("linked {round} {n}"));
                    store.link_tree(&tree, &linked).unwrap();
                    assert_eq!(describe(input), describe(&linked));
                });
            }
        }
    });
    let refs = f.reopen().refs("t/").unwrap();
    assert_eq!(refs.len(), 4);
    fs::remove_file(f.path("store/index.db")).unwrap();
    for (name, tree) in refs {
        let n: usize = name[2..].parse().unwrap();
        f.reopen().restore(&tree, &f.path(&format!("last {n}"))).unwrap();
        assert_eq!(describe(&inputs[n]), describe(&f.path(&format!("last {n}"))));
    }
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
fn a_file_that_keeps_changing_is_an_error_that_names_it() {
    let f = Fixture::new();
    let path = f.input("log");
    let beginning = noise(1, 8 << 20);
    fs::write(&path, &beginning).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let captured = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"x").unwrap();
            }
        });
        let captured = f.store.capture(&f.path("in"));
        stop.store(true, Ordering::Relaxed);
        captured
    });
    match captured {
        Err(StoreError::Changing { path: named }) => assert_eq!(named, path),
        // The writer slept all through one of the attempts: then it is what stood there.
        Ok(captured) => {
            f.store.restore(&captured.tree, &f.path("out")).unwrap();
            let content = fs::read(f.path("out/log")).unwrap();
            assert!(content.starts_with(&beginning));
            assert!(content[beginning.len()..].iter().all(|byte| *byte == b'x'));
        }
        Err(other) => panic!("{other}"),
    }
    // Once it is left alone it can be captured.
    f.store.capture(&f.path("in")).unwrap();
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

#[test]
fn refs_are_kept_and_damage_to_them_is_found() {
    let f = Fixture::new();
    let [a, b] = [1, 2].map(|n| TreeId::from_bytes([n; 32]));
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
    fs::write(f.path("store/format"), "zagi store 2\n").unwrap();
    let refused = Store::open(&f.path("store")).map(drop);
    assert!(matches!(refused, Err(StoreError::Newer { .. })), "{refused:?}");
}

#[test]
fn a_farm_tree_is_made_once_and_whole_or_not_at_all() {
    let f = Fixture::new();
    fs::write(f.input("lib"), "hello\n").unwrap();
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    let failed = f.store.farm_tree("node-22", &mut |dir| {
        fs::write(dir.join("half"), "half")?;
        Err("no".into())
    });
    assert!(matches!(failed, Err(StoreError::Make { .. })), "{failed:?}");
    assert!(fs::read_dir(f.path("store/farm/trees")).unwrap().next().is_none());

    let made = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let store = f.reopen();
                let path = store.farm_tree("node-22", &mut |dir| {
                    made.fetch_add(1, Ordering::Relaxed);
                    store.link_tree(&tree, &dir.join("package"))?;
                    fs::write(dir.join("fixed up"), "here")?;
                    Ok(())
                });
                assert_eq!(fs::read(path.unwrap().join("package/lib")).unwrap(), b"hello\n");
            });
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let path = f.path("store/farm/trees/node-22");
    for name in ["", "package", "package/lib", "fixed up"] {
        let mode = fs::metadata(path.join(name)).unwrap().mode();
        assert_eq!(mode & 0o222, 0, "{name} is read-only");
    }
    for key in ["", ".x", "a/b", "..", "a b"] {
        let refused = f.store.farm_tree(key, &mut |_| panic!("{key} is no key"));
        assert!(matches!(refused, Err(StoreError::FarmKey { .. })), "{key}");
    }
    remove_tree(&path).unwrap();
    assert!(!path.exists());
    remove_tree(&path).unwrap();
    // Links into it were removed, the farm's files not.
    assert!(f.farm_file(&FileId::of(b"hello\n")).exists());
}

#[test]
fn half_made_things_of_dead_processes_are_swept_and_those_of_living_ones_not() {
    let f = Fixture::new();
    let alive = fs::read_dir(f.path("store/tmp")).unwrap().count();
    assert_eq!(alive, 1);
    let dead = f.path("store/tmp/1-2");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), "half a pack").unwrap();
    let other = f.reopen();
    assert!(!dead.exists());
    assert_eq!(fs::read_dir(f.path("store/tmp")).unwrap().count(), 2);
    drop(other);
    assert_eq!(fs::read_dir(f.path("store/tmp")).unwrap().count(), 1);
}

/// A disk that says it is full at one operation, and at every one after it.
struct Full {
    left: Arc<AtomicU64>,
}

fn spend(left: &AtomicU64) -> io::Result<()> {
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::StorageFull.into()),
    }
}

struct FullOutput {
    left: Arc<AtomicU64>,
    output: Box<dyn Output>,
}

impl Write for FullOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(full) = spend(&self.left) {
            // As the kernel does: what fits is written.
            let _ = self.output.write(&bytes[..bytes.len() / 2]);
            return Err(full);
        }
        self.output.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Output for FullOutput {
    fn sync(&mut self) -> io::Result<()> {
        spend(&self.left)?;
        self.output.sync()
    }
}

impl Storage for Full {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        spend(&self.left)?;
        let (left, output) = (Arc::clone(&self.left), Disk.create(path)?);
        Ok(Box::new(FullOutput { left, output }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>> {
        Disk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.left)?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        Disk.sync_directory(path)
    }
}

#[test]
fn a_full_disk_at_any_operation_leaves_the_old_state_whole() {
    let (f, old) = stored();
    let expected = describe(&f.path("in"));
    fs::write(f.input("new"), noise(9, 900_000)).unwrap();
    let mut refused = 0;
    for operations in 0.. {
        let left = Arc::new(AtomicU64::new(operations));
        let full = Arc::new(Full { left: Arc::clone(&left) });
        let store = Store::open_on(&f.path("store"), full).unwrap();
        let done = store.capture(&f.path("in")).and_then(|captured| {
            store.set_ref("new", &captured.tree)?;
            Ok(captured.tree)
        });
        let halves: Vec<_> = fs::read_dir(f.path("store/tmp"))
            .unwrap()
            .flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap())
            .collect();
        assert!(halves.is_empty(), "after {operations}: {halves:?}");
        let sound = f.reopen();
        match done {
            Err(StoreError::NoSpace { .. }) => refused += 1,
            Err(other) => panic!("after {operations}: {other}"),
            Ok(tree) => {
                assert_eq!(sound.get_ref("new").unwrap(), Some(tree));
                sound.restore(&tree, &f.path("new")).unwrap();
                assert_eq!(describe(&f.path("in")), describe(&f.path("new")));
                break;
            }
        }
        assert_eq!(sound.get_ref("new").unwrap(), None, "after {operations}");
        let out = f.path(&format!("out{operations}"));
        sound.restore(&old, &out).unwrap();
        assert_eq!(describe(&out), expected, "after {operations}");
        fs::remove_dir_all(out).unwrap();
    }
    assert!(refused >= 8, "{refused}");
}
