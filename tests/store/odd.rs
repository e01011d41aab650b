//! Snapshots of what is deep, sparse, linked or not to be read; and what the commands say.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Fixture, noise, odd_tree, text};
use zagi::store::{FileId, Kind, Store, TreeId};

#[test]
fn paths_longer_than_the_kernel_takes() {
    let f = Fixture::new();
    // 400 directories of 20 bytes each: twice what a path may have.
    let mut at = fs::File::open(f.path("in")).unwrap();
    let make = |at: &fs::File, n: usize| {
        use nix::fcntl::{OFlag, openat};
        use nix::sys::stat::{Mode, mkdirat};
        let name = format!("a directory, the {n:03}");
        mkdirat(at, name.as_str(), Mode::S_IRWXU).unwrap();
        let file = openat(at, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        nix::unistd::write(&file, name.as_bytes()).unwrap();
        fs::File::from(openat(at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap())
    };
    for n in 0..400 {
        at = make(&at, n);
    }
    let taken = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!(taken.files, 400);
    let again = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!((again.tree, again.figures.total().files), (taken.tree, 0));
    let mut tree = f.store.tree(&taken.tree).unwrap();
    for n in 0..400 {
        let Some(Kind::File { id, .. }) = tree.get(b"file").map(|e| &e.kind) else {
            panic!("no file at {n}");
        };
        let name = format!("a directory, the {n:03}");
        assert_eq!(*id, FileId::of(name.as_bytes()));
        let Some(Kind::Directory(id)) = tree.get(name.as_bytes()).map(|e| &e.kind) else {
            panic!("no directory at {n}");
        };
        tree = f.store.tree(id).unwrap();
    }
    // The temporary directory cannot be removed by paths that long.
    let _ = std::process::Command::new("rm").arg("-rf").arg(f.path("in")).status();
}

#[test]
fn holes_are_not_read_and_count_as_zeroes() {
    let f = Fixture::new();
    let (size, data) = (300 << 20, noise(3, 700_000));
    let file = fs::File::create(f.input("sparse")).unwrap();
    file.set_len(size).unwrap();
    for at in [0, 100 << 20, (200 << 20) + 12_345] {
        file.write_all_at(&data, at).unwrap();
    }
    let taken = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!(taken.bytes, size);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(f.input("sparse")).unwrap()).unwrap();
    let tree = f.store.tree(&taken.tree).unwrap();
    let Kind::File { id, .. } = tree.entries[0].kind else { panic!("a file") };
    assert_eq!(id.as_bytes(), hasher.finalize().as_bytes());
    // All data, by a copy that has no holes, makes the same.
    let whole = fs::read(f.input("sparse")).unwrap();
    fs::remove_file(f.input("sparse")).unwrap();
    fs::write(f.input("sparse"), whole).unwrap();
    let again = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!((again.tree, again.new_bytes), (taken.tree, 0));
}

#[test]
fn hard_links_survive_a_snapshot_that_reads_nothing() {
    let f = Fixture::new();
    fs::create_dir(f.input("d")).unwrap();
    fs::write(f.input("one"), noise(1, 50_000)).unwrap();
    fs::hard_link(f.input("one"), f.input("d/two")).unwrap();
    let first = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!(first.figures.total().files, 1, "one inode is read once");
    assert_eq!((first.files, first.bytes), (2, 100_000));
    let links = |tree: &TreeId, out: &str| {
        f.reopen().restore(tree, &f.path(out)).unwrap();
        fs::metadata(f.path(out).join("one")).unwrap().nlink()
    };
    let second = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!((second.tree, second.figures.total().files), (first.tree, 0));
    assert_eq!(links(&second.tree, "out"), 2);
    // A third name changes the ctime, and the tree.
    fs::hard_link(f.input("one"), f.input("three")).unwrap();
    let third = f.store.snapshot(&f.path("in")).unwrap();
    assert_eq!(third.figures.total().files, 1);
    assert_eq!(links(&third.tree, "out3"), 3);
}

#[test]
fn what_cannot_be_read_is_named_by_whoever_it_is_kept_from() {
    let f = Fixture::new();
    fs::create_dir(f.input("d")).unwrap();
    fs::write(f.input("d/secret"), "x").unwrap();
    // Root reads everything.
    fs::set_permissions(f.input("d/secret"), Permissions::from_mode(0o0)).unwrap();
    f.store.snapshot(&f.path("in")).unwrap();
    fs::set_permissions(f.path(""), Permissions::from_mode(0o777)).unwrap();
    let said = |dir: &Path| {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(env!("CARGO_BIN_EXE_zagi"))
            .arg("snapshot")
            .arg(dir)
            .env("ZAGI_HOME", f.path("home"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = said(&f.path("in"));
    assert_eq!(code, Some(1));
    assert!(text.contains("in/d/secret`: Permission denied"), "{text}");
    fs::set_permissions(f.input("d/secret"), Permissions::from_mode(0o644)).unwrap();
    let (code, text) = said(&f.path("in"));
    assert_eq!(code, Some(0), "{text}");
    fs::set_permissions(f.input("d"), Permissions::from_mode(0o700)).unwrap();
    let (code, text) = said(&f.path("in"));
    assert_eq!(code, Some(1));
    assert!(text.contains("in/d`: Permission denied"), "{text}");
}

#[test]
fn figures_tell_what_is_new() {
    let f = Fixture::new();
    let dirs = [f.path("in"), f.path("other")];
    fs::create_dir(&dirs[1]).unwrap();
    fs::write(f.input("small"), "hello\n").unwrap();
    fs::write(f.input("again"), "hello\n").unwrap();
    fs::write(f.input("empty"), "").unwrap();
    fs::write(f.input("text"), text(1, 500_000)).unwrap();
    fs::write(f.input("binary"), noise(2, 2_000_000)).unwrap();
    fs::write(dirs[1].join("text"), [&b"more "[..], &text(1, 500_000)].concat()).unwrap();
    let stored = || fs::read_dir(f.path("store/packs")).unwrap().count();
    let [first, second] = f.store.analyse(&dirs).unwrap()[..] else { panic!("two directories") };
    assert_eq!(stored(), 0, "nothing is written");
    let small = first.small;
    assert_eq!((small.files, small.bytes, small.chunks, small.unique), (3, 12, 2, 1));
    assert_eq!((small.new_files, small.new_bytes), (1, 6));
    assert_eq!((first.text.files, first.text.new_bytes), (1, text(1, 500_000).len() as u64));
    assert_eq!((first.binary.files, first.binary.new_bytes), (1, 2_000_000));
    assert_eq!(first.total().files, 5);
    let reused = second.total().reused_by_byte();
    assert!((80.0..100.0).contains(&reused), "{reused} % shared with the directory before");
    assert_eq!(second.total().reused_by_file(), 0.0);

    let taken = f.store.snapshot(&dirs[0]).unwrap();
    assert_eq!(taken.figures, first);
    let after = f.store.analyse(&dirs[..1]).unwrap()[0].total();
    assert_eq!((after.new_files, after.new_bytes), (0, 0));
    assert_eq!((after.reused_by_file(), after.reused_by_byte()), (100.0, 100.0));
}

/// Runs the program on the home of this fixture; gives what it prints.
fn zagi(f: &Fixture, arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_zagi"))
        .args(arguments)
        .current_dir(f.path("in"))
        .env("ZAGI_HOME", f.path("home"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_say_what_there_is() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&zagi(&f, arguments)).unwrap()
    };
    let before = json(&["chunk", ".", "--json"]);
    assert_eq!(before[0]["total"]["files"], 18);
    let text = zagi(&f, &["chunk", "."]);
    assert!(text.contains("reused by file"), "{text}");

    let text = zagi(&f, &["snapshot", "."]);
    let tree: TreeId = text.split_whitespace().last().unwrap().parse().unwrap();
    assert_eq!(tree, f.store.capture(&f.path("in")).unwrap().tree);
    let said = json(&["snapshot", "--json", "."]);
    assert_eq!(said["tree"], tree.to_string());
    assert_eq!((&said["files"], &said["read"]), (&18.into(), &0.into()));
    let name = said["ref"].as_str().unwrap();
    assert!(name.starts_with("snapshot/"), "{name}");
    let store = Store::open(&f.path("home/store")).unwrap();
    assert_eq!(store.get_ref(name).unwrap(), Some(tree));
    assert_eq!(store.leases().unwrap()[0].tree, tree);
    let after = json(&["chunk", ".", "--json"]);
    assert_eq!(
        (&after[0]["total"]["new_bytes"], &after[0]["reused_by_byte"]),
        (&0.into(), &100.0.into())
    );

    // What was restored is known at once.
    zagi(&f, &["restore", name, f.path("out").to_str().unwrap()]);
    let again = json(&["snapshot", "--json", f.path("out").to_str().unwrap()]);
    assert_eq!(again["tree"], tree.to_string());
    let read = again["read"].as_u64().unwrap();
    assert!(read < 18, "{read} files were read");
}
