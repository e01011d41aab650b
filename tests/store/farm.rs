//! The farm: what somebody changes in it is found before it spreads; what is given to it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use zagi::event::{Event, Events};
use zagi::store::{FileId, RestoreOptions, Store};

use super::{Fixture, describe, noise, odd_tree};

/// Keeps the warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Events for Warnings {
    fn emit(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// A way of changing a file in place, as root can.
type Change = fn(&Path);

const CHANGES: [(&str, Change); 4] = [
    ("edited", |path| fs::write(path, "longer than it was\n").unwrap()),
    ("edited, of the same size", |path| {
        fs::OpenOptions::new().write(true).open(path).unwrap().write_all(b"HELLO\n").unwrap();
    }),
    ("made executable", |path| {
        fs::set_permissions(path, Permissions::from_mode(0o555)).unwrap();
    }),
    ("truncated", |path| {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(2).unwrap();
    }),
];

#[test]
fn an_edit_through_one_name_is_found_before_it_spreads_and_all_names_are_told() {
    for (how, change) in CHANGES {
        let f = Fixture::new();
        fs::create_dir(f.input("d")).unwrap();
        for name in ["file", "d/same"] {
            fs::write(f.input(name), "hello\n").unwrap();
        }
        fs::write(f.input("other"), "other").unwrap();
        let tree = f.store.capture(&f.path("in")).unwrap().tree;
        f.store.link_tree(&tree, &f.path("one")).unwrap();
        f.store.link_tree(&tree, &f.path("two")).unwrap();
        let farm_tree = f
            .store
            .farm_tree("env", &mut |dir| {
                f.store.link_tree(&tree, &dir.join("in")).map(drop).map_err(Into::into)
            })
            .unwrap();
        assert_eq!(f.store.places().unwrap().len(), 2, "the farm's own trees are no places");

        change(&f.path("one/file"));
        let warnings = Arc::new(Warnings::default());
        let store = f.reopen().with_events(warnings.clone());
        store.link_tree(&tree, &f.path("three")).unwrap();
        assert_eq!(describe(&f.path("three")), describe(&f.path("in")), "{how}");
        let warnings = warnings.0.lock().unwrap();
        let [warning] = &warnings[..] else { panic!("{how}: {warnings:?}") };
        for name in ["one/file", "one/d/same", "two/file", "two/d/same"] {
            assert!(warning.contains(f.path(name).to_str().unwrap()), "{how}: {warning}");
        }
        assert!(!warning.contains("three") && !warning.contains("other"), "{how}: {warning}");
        assert!(warning.contains("farm/aside/"), "{how}: {warning}");
        assert_eq!(store.aside().unwrap().len(), 1);
        assert_eq!(describe(&farm_tree.join("in")), describe(&f.path("in")), "{how}: mended");
        let mode = fs::metadata(farm_tree.join("in")).unwrap().mode();
        assert_eq!(mode & 0o222, 0, "{how}: still read-only");

        // And to restore over it mends the directory itself.
        let options = RestoreOptions { require_link: true, ..Default::default() };
        store.restore_to(&tree, &f.path("one"), &options).unwrap();
        assert_eq!(describe(&f.path("one")), describe(&f.path("in")), "{how}");
    }
}

#[test]
fn an_edit_is_found_by_whoever_opens_the_file() {
    let f = Fixture::new();
    fs::write(f.input("file"), "hello\n").unwrap();
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    f.store.link_tree(&tree, &f.path("out")).unwrap();
    fs::write(f.path("out/file"), "HELLO\n").unwrap();
    let warnings = Arc::new(Warnings::default());
    let store = f.store.with_events(warnings.clone());
    let file = store.open_file(&FileId::of(b"hello\n"), false).unwrap();
    assert_eq!(std::io::read_to_string(file).unwrap(), "hello\n");
    let warnings = warnings.0.lock().unwrap();
    assert!(warnings[0].contains(f.path("out/file").to_str().unwrap()), "{warnings:?}");
    // A place that is gone is forgotten.
    fs::remove_dir_all(f.path("out")).unwrap();
    assert_eq!(store.places().unwrap(), []);
}

/// Files of the farm, of which there is one a content.
fn farm_files(f: &Fixture) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(f.path("store/farm/files")).into_iter().flatten();
    files.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
}

#[test]
fn a_directory_that_is_given_away_is_the_farm_s_without_being_extracted() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    fs::write(f.input("large"), noise(9, 3_000_000)).unwrap();
    let expected = describe(&f.path("in"));
    let inode = fs::metadata(f.input("large")).unwrap().ino();
    // So that all of it is older than the capture by the clock's coarsest tick.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let captured = f.store.capture_owned(&f.path("in")).unwrap();
    let large = f.farm_file(&FileId::of(&noise(9, 3_000_000)));
    assert_eq!(fs::metadata(&large).unwrap().ino(), inode, "it was moved");
    assert!(!f.input("large").exists());

    // All of them are sound to whoever uses them, by stamp and by content.
    assert!(farm_files(&f).len() > 10);
    for path in farm_files(&f) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(FileId::of(&fs::read(&path).unwrap()).to_string(), name[..64]);
        let exec = name.ends_with('x');
        assert_eq!(found.mode() & 0o7777, if exec { 0o555 } else { 0o444 });
    }
    let before = farm_files(&f);
    let store = f.reopen();
    store.link_tree(&captured.tree, &f.path("out")).unwrap();
    assert_eq!(describe(&f.path("out")), expected);
    assert_eq!(fs::metadata(f.path("out/large")).unwrap().ino(), inode);
    assert_eq!(store.aside().unwrap(), Vec::<PathBuf>::new());
    // The second of two files of one content, and the like, was not moved.
    assert!(farm_files(&f).len() <= before.len() + 2);
    // And the packs have it all.
    fs::remove_dir_all(f.path("store/farm/files")).unwrap();
    fs::create_dir(f.path("store/farm/files")).unwrap();
    Store::open(&f.path("store")).unwrap().restore(&captured.tree, &f.path("again")).unwrap();
    assert_eq!(describe(&f.path("again")), expected);
}

#[test]
fn a_file_that_was_touched_since_the_capture_began_is_not_given_to_the_farm() {
    let f = Fixture::new();
    fs::write(f.input("file"), "content").unwrap();
    // Its ctime is of now, or of what the clock calls so.
    let file = fs::File::options().write(true).open(f.input("file")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    file.set_modified(later).unwrap();
    let captured = f.store.capture_owned(&f.path("in")).unwrap();
    f.store.link_tree(&captured.tree, &f.path("out")).unwrap();
    assert_eq!(fs::read(f.path("out/file")).unwrap(), b"content");
    assert_eq!(f.store.aside().unwrap(), Vec::<PathBuf>::new());
}
