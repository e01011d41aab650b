//! Trees put over directories: what differs, and nothing else, whatever stands there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use zagi::store::{
    ChangeKind, FileId, Restoration, RestoreOptions, Store, StoreError, Strategy, TreeId,
};

use super::{Fixture, describe, noise, odd_tree, text};

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

impl Fixture {
    fn to(&self, tree: &TreeId, dir: &str) -> Restoration {
        self.store.restore_to(tree, &self.path(dir), &RestoreOptions::default()).unwrap()
    }
    fn captured(&self, dir: &str) -> TreeId {
        self.store.capture(&self.path(dir)).unwrap().tree
    }
    /// Nothing is left beside or in what was restored.
    fn assert_clean(&self) {
        for entry in walkdir::WalkDir::new(self.dir.path()).min_depth(1).max_depth(3) {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(!name.contains(".zagi-"), "{name} was left");
        }
    }
}

/// Puts something random at a random path below `root`, or removes it.
fn change(root: &Path, random: &mut Random) {
    const NAMES: [&[u8]; 8] =
        [b"a", b"b", b"a.b", b"a-b", b"c", b"not \xff utf-8", b"line\nbreak", b"z"];
    let mut path = root.to_owned();
    for _ in 0..random.below(4) {
        path.push(OsStr::from_bytes(NAMES[random.below(8) as usize]));
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(&path).unwrap();
        }
        let _ = fs::create_dir(&path);
    }
    path.push(OsStr::from_bytes(NAMES[random.below(8) as usize]));
    let what = random.below(12);
    if what == 0 && path.is_file() && !path.is_symlink() {
        let mode = fs::metadata(&path).unwrap().mode() ^ 0o111;
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        return;
    }
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&path).unwrap(),
        Ok(_) => fs::remove_file(&path).unwrap(),
        Err(_) => {}
    }
    match what {
        1 => {}
        2 => fs::create_dir(&path).unwrap(),
        3 => symlink(format!("to {}", random.below(3)), &path).unwrap(),
        4 => {
            let files = walkdir::WalkDir::new(root).into_iter().flatten();
            let file = files.filter(|entry| entry.file_type().is_file()).last();
            if let Some(file) = file {
                fs::hard_link(file.path(), &path).unwrap();
            }
        }
        5 => fs::write(&path, noise(random.below(5), 40_000)).unwrap(),
        6 => fs::write(&path, text(random.below(5), 200_000)).unwrap(),
        _ => fs::write(&path, format!("content {}", random.below(20))).unwrap(),
    }
}

/// Where each inode that has several names below `root` stands.
fn links(root: &Path) -> Vec<Vec<PathBuf>> {
    let mut names: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name().into_iter().flatten() {
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            names.entry(entry.metadata().unwrap().ino()).or_default().push(path);
        }
    }
    let mut groups: Vec<_> = names.into_values().filter(|names| names.len() > 1).collect();
    groups.sort();
    groups
}

/// Inode and ctime of files with one name, by path, content and execute bit.
fn untouched(root: &Path) -> BTreeMap<(PathBuf, FileId, bool), (u64, i64, i64)> {
    let files = walkdir::WalkDir::new(root).into_iter().flatten();
    files
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().to_owned(), entry.metadata().unwrap()))
        .filter(|(_, found)| found.nlink() == 1)
        .map(|(path, found)| {
            let id = FileId::of(&fs::read(&path).unwrap());
            let key = (path, id, found.mode() & 0o100 != 0);
            (key, (found.ino(), found.ctime(), found.ctime_nsec()))
        })
        .collect()
}

#[test]
fn any_tree_goes_over_any_other_and_touches_only_what_differs() {
    let seed = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in seed..seed + 12 {
        eprintln!("SEED={seed}");
        let mut random = Random(seed);
        let f = Fixture::new();
        let [one, other] = ["in", "other"].map(|name| f.path(name));
        for root in [&one, &other] {
            fs::create_dir_all(root).unwrap();
            (0..random.below(60)).for_each(|_| change(root, &mut random));
        }
        if random.below(2) == 0 {
            // The second one is like the first one, with changes.
            fs::remove_dir_all(&other).unwrap();
            f.to(&f.captured("in"), "other");
            (0..random.below(10)).for_each(|_| change(&other, &mut random));
        }
        let (a, b) = (f.captured("in"), f.captured("other"));
        assert_eq!(f.to(&a, "out").before, None);
        assert_eq!(describe(&f.path("out")), describe(&one));
        (0..random.below(10)).for_each(|_| change(&f.path("out"), &mut random));
        let found = describe(&f.path("out"));
        let files = untouched(&f.path("out"));

        let done = f.to(&b, "out");
        assert_eq!(describe(&f.path("out")), describe(&other));
        let now = links(&f.path("out"));
        for group in links(&other) {
            let is_one = now.iter().any(|names| group.iter().all(|name| names.contains(name)));
            assert!(is_one, "{group:?} is not one inode");
        }
        let after = untouched(&f.path("out"));
        for (file, inode) in files.iter().filter(|(file, _)| after.contains_key(file)) {
            assert_eq!(after[file], *inode, "{file:?} was touched");
        }
        f.to(&done.before.unwrap(), "was");
        assert_eq!(describe(&f.path("was")), found);

        let again = f.to(&b, "out");
        assert_eq!((again.before, again.files, again.touched), (Some(b), 0, Default::default()));
        f.assert_clean();
    }
}

#[test]
fn types_change_both_ways_and_directories_that_may_not_be_written_to_are_no_obstacle() {
    let f = Fixture::new();
    let other = f.path("other");
    fs::create_dir_all(other.join("was file/below")).unwrap();
    fs::create_dir_all(f.input("was dir/below")).unwrap();
    fs::write(f.input("was dir/below/file"), "1").unwrap();
    fs::write(f.input("was file"), "2").unwrap();
    symlink("was dir", f.input("was link")).unwrap();
    fs::write(other.join("was dir"), "3").unwrap();
    fs::write(other.join("was file/below/file"), "4").unwrap();
    fs::create_dir(other.join("was link")).unwrap();
    for root in [&f.path("in"), &other] {
        fs::create_dir_all(root.join("fixed/gone")).unwrap();
        fs::write(root.join("fixed/file"), root.to_str().unwrap()).unwrap();
    }
    fs::remove_dir(other.join("fixed/gone")).unwrap();
    let (a, b) = (f.captured("in"), f.captured("other"));
    f.to(&a, "out");
    for (dir, mode) in [("fixed/gone", 0o555), ("fixed", 0o555), ("was dir", 0o500)] {
        fs::set_permissions(f.path("out").join(dir), Permissions::from_mode(mode)).unwrap();
    }
    let done = f.to(&b, "out");
    assert_eq!(describe(&f.path("out")), describe(&other));
    assert_eq!(done.touched.retyped, 3);
    let mode = fs::metadata(f.path("out/fixed")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o555, "its mode was put back");
    f.to(&a, "out");
    assert_eq!(describe(&f.path("out")), describe(&f.path("in")));
    f.assert_clean();
}

#[test]
fn an_execute_bit_alone_is_changed_in_place_but_never_through_another_name() {
    let f = Fixture::new();
    for name in ["alone", "shared"] {
        fs::write(f.input(name), name).unwrap();
    }
    let plain = f.captured("in");
    for name in ["alone", "shared"] {
        fs::set_permissions(f.input(name), Permissions::from_mode(0o755)).unwrap();
    }
    let exec = f.captured("in");
    f.to(&plain, "out");
    fs::hard_link(f.path("out/shared"), f.path("elsewhere")).unwrap();
    fs::set_permissions(f.path("out/alone"), Permissions::from_mode(0o640)).unwrap();
    let inode = |name: &str| fs::metadata(f.path(name)).unwrap().ino();
    let (alone, shared) = (inode("out/alone"), inode("out/shared"));
    let done = f.to(&exec, "out");
    assert_eq!(describe(&f.path("out")), describe(&f.path("in")));
    assert_eq!((done.files, inode("out/alone")), (1, alone));
    assert_eq!(fs::metadata(f.path("out/alone")).unwrap().mode() & 0o777, 0o750);
    assert!(inode("out/shared") != shared);
    assert_eq!(fs::metadata(f.path("elsewhere")).unwrap().mode() & 0o111, 0);
}

#[test]
fn required_links_are_links_and_where_they_cannot_be_that_is_an_error() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let tree = f.captured("in");
    let options = RestoreOptions { require_link: true, ..Default::default() };
    let done = f.store.restore_to(&tree, &f.path("out"), &options).unwrap();
    assert_eq!(describe(&f.path("out")), describe(&f.path("in")));
    if done.strategy == Strategy::Link {
        assert!(fs::metadata(f.path("out/text")).unwrap().nlink() > 2);
        assert_eq!(f.store.places().unwrap().len(), 1);
    }
    // Over itself with something changed: by links again.
    fs::remove_file(f.path("out/text")).unwrap();
    fs::write(f.path("out/text"), "mine").unwrap();
    let done = f.store.restore_to(&tree, &f.path("out"), &options).unwrap();
    assert_eq!((done.files, done.touched.modified), (1, 1));
    assert_eq!(describe(&f.path("out")), describe(&f.path("in")));

    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let same =
        fs::metadata(elsewhere.path()).unwrap().dev() == fs::metadata(f.dir.path()).unwrap().dev();
    let out = elsewhere.path().join("out");
    match f.store.restore_to(&tree, &out, &options) {
        Err(StoreError::CannotLink { path }) => assert_eq!(path, out),
        other => assert!(same, "{other:?}"),
    }
    assert!(same || fs::read_dir(elsewhere.path()).unwrap().next().is_none());
    f.store.restore_to(&tree, &out, &RestoreOptions::default()).unwrap();
    assert_eq!(describe(&out), describe(&f.path("in")));
}

#[test]
fn what_cannot_be_restored_to_is_refused_before_anything_is_touched() {
    let f = Fixture::new();
    fs::write(f.input("file"), "theirs").unwrap();
    let tree = f.captured("in");
    let refused = |dir: &str| {
        f.store.restore_to(&tree, &f.path(dir), &RestoreOptions::default()).unwrap_err()
    };
    fs::write(f.path("file"), "mine").unwrap();
    assert!(matches!(refused("file"), StoreError::Exists { .. }));
    symlink("nowhere", f.path("dangling")).unwrap();
    let error = refused("dangling");
    assert!(matches!(error, StoreError::Restore { .. } | StoreError::Exists { .. }), "{error}");
    for dir in ["store", "store/tmp", "", "store/new"] {
        let error = refused(dir);
        assert!(matches!(error, StoreError::OverStore { .. }), "{dir}: {error}");
    }
    fs::create_dir(f.path("odd")).unwrap();
    fs::write(f.path("odd/file"), "mine").unwrap();
    nix::unistd::mkfifo(&f.path("odd/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(refused("odd"), StoreError::Special { .. }));
    assert_eq!(fs::read(f.path("odd/file")).unwrap(), b"mine");

    // Through a link to a directory, and over one's own current one, it is in place.
    fs::create_dir(f.path("real")).unwrap();
    symlink("real", f.path("link")).unwrap();
    let inode = fs::metadata(f.path("real")).unwrap().ino();
    f.to(&tree, "link");
    assert_eq!(fs::read(f.path("real/file")).unwrap(), b"theirs");
    assert_eq!(fs::metadata(f.path("real")).unwrap().ino(), inode);
    assert!(f.path("link").is_symlink());
    // What is missing above it is made.
    f.to(&tree, "a/b/c");
    assert_eq!(describe(&f.path("a/b/c")), describe(&f.path("in")));
    f.assert_clean();
}

#[test]
fn what_a_killed_restore_left_is_swept_and_what_the_user_named_so_is_not() {
    let f = Fixture::new();
    fs::write(f.input("file"), "theirs").unwrap();
    let tree = f.captured("in");
    for left in [".out.zagi-12345-0/new/d", "out/.out.zagi-12345-0/new"] {
        fs::create_dir_all(f.path(left)).unwrap();
        fs::write(f.path(left).join("half"), "made").unwrap();
    }
    fs::create_dir(f.path(".out.zagi-mine")).unwrap();
    f.to(&tree, "out");
    assert!(!f.path(".out.zagi-12345-0").exists());
    assert!(f.path(".out.zagi-mine").exists());
    assert_eq!(describe(&f.path("out")), describe(&f.path("in")));
}

#[test]
fn long_runs_of_zeros_are_holes_and_large_files_come_out_whole() {
    let f = Fixture::new();
    let mut content = noise(1, 1_000_000);
    content.extend(vec![0; 8 << 20]);
    content.extend(b"end");
    content.extend(vec![0; 1 << 20]);
    fs::write(f.input("sparse"), &content).unwrap();
    f.to(&f.captured("in"), "out");
    assert!(fs::read(f.path("out/sparse")).unwrap() == content);
    let file = fs::File::open(f.path("out/sparse")).unwrap();
    file.sync_all().unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 < 2 << 20);
}

#[test]
fn a_difference_is_told_in_order_and_equal_directories_are_not_looked_into() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let a = f.captured("in");
    fs::write(f.input("text"), "other").unwrap();
    fs::remove_file(f.input("link")).unwrap();
    fs::create_dir(f.input("link")).unwrap();
    fs::write(f.input("link/below"), "").unwrap();
    fs::remove_dir_all(f.input("empty dir")).unwrap();
    fs::set_permissions(f.input("a.b"), Permissions::from_mode(0o755)).unwrap();
    fs::write(f.input("a/b/new"), "new").unwrap();
    let b = f.captured("in");
    // Equal ids end it: what they stand for need not even be there.
    let nothing = TreeId::from_bytes([1; 32]);
    f.store.diff(&nothing, &nothing, |_| Ok::<_, StoreError>(true)).unwrap();
    let said = |a: &TreeId, b: &TreeId| {
        let mut said = Vec::new();
        f.store
            .diff(a, b, |change| {
                let path = change.path.escape_ascii();
                said.push(format!("{} {path}", change.kind().letter()));
                assert_eq!(change.is_mode_only(), change.path == b"a.b");
                assert!(change.kind() != ChangeKind::Type || change.path == b"link");
                Ok::<_, StoreError>(true)
            })
            .unwrap();
        said
    };
    assert_eq!(
        said(&a, &b),
        [
            "A a/b/new",
            "M a.b",
            "D empty dir",
            "D empty dir/empty too",
            "T link",
            "A link/below",
            "M text"
        ]
    );
    assert_eq!(
        said(&b, &a),
        [
            "D a/b/new",
            "M a.b",
            "A empty dir",
            "A empty dir/empty too",
            "T link",
            "D link/below",
            "M text"
        ]
    );
}

#[test]
fn trees_go_by_id_by_abbreviation_and_by_ref() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let tree = f.captured("in");
    let id = tree.to_string();
    f.store.set_ref("deps/web", &tree).unwrap();
    for text in [&id, &id[..6], &id[..63], &id[..10].to_uppercase(), "deps/web"] {
        assert_eq!(f.store.resolve(text).unwrap(), tree, "{text}");
    }
    let other = if id.ends_with('0') { "1" } else { "0" };
    let near = format!("{}{other}", &id[..63]);
    for text in [&id[..5], "", "deps/we", "0g0000", &near, &format!("{id}0"), "a\nb"] {
        let refused = f.store.resolve(text);
        assert!(matches!(refused, Err(StoreError::UnknownTree { .. })), "{text}: {refused:?}");
    }
    // A ref of the name goes first.
    let sub = f.captured("in/a");
    f.store.set_ref(&id[..8], &sub).unwrap();
    assert_eq!(f.store.resolve(&id[..8]).unwrap(), sub);
    let _ = Store::open(&f.path("store")).unwrap();
}
