//! Snapshots: what has not changed is not read, and what has is never missed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Fixture, describe, noise, odd_tree, text};
use zagi::store::{FileId, Store, StoreError, TreeId};

impl Fixture {
    /// A snapshot of `in`: its tree, and how many files were read for it. Whatever was
    /// remembered, it must be what a store that remembers nothing makes of the directory.
    fn snapshot(&self) -> (TreeId, u64) {
        let taken = self.store.snapshot(&self.path("in")).unwrap();
        let fresh = self.path("fresh");
        let whole = Store::open(&fresh).unwrap().capture(&self.path("in")).unwrap();
        fs::remove_dir_all(fresh).unwrap();
        assert_eq!(taken.tree, whole.tree);
        assert_eq!((taken.files, taken.bytes), (whole.files, whole.bytes));
        (taken.tree, taken.figures.total().files)
    }

    fn known(&self) -> PathBuf {
        let mut files = fs::read_dir(self.path("store/known")).unwrap();
        files.next().unwrap().unwrap().path()
    }
}

/// Changes a file and sets its mtime to what it was.
fn edit_and_hide(path: &Path, edit: impl FnOnce(&Path)) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    edit(path);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
}

#[test]
fn what_has_not_changed_is_not_read() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let first = f.snapshot();
    assert_eq!(first.1, 18);
    assert_eq!(f.snapshot(), (first.0, 0));
    let again = f.reopen().snapshot(&f.path("in")).unwrap();
    assert_eq!((again.tree, again.stored_bytes), (first.0, 0));
    f.reopen().restore(&first.0, &f.path("out")).unwrap();
    assert_eq!(describe(&f.path("in")), describe(&f.path("out")));

    fs::write(f.input("a/b/c/new"), "new").unwrap();
    fs::remove_file(f.input("zeroes")).unwrap();
    fs::set_permissions(f.input("empty"), Permissions::from_mode(0o755)).unwrap();
    let (tree, read) = f.snapshot();
    assert_eq!(read, 2, "the new one, and the one whose mode was changed");
    assert_eq!(f.snapshot(), (tree, 0));
    // The path is the directory's, whatever it is called by.
    symlink("in", f.path("alias")).unwrap();
    assert_eq!(f.store.snapshot(&f.path("alias")).unwrap().figures.total().files, 0);
}

#[test]
fn no_change_hides() {
    let f = Fixture::new();
    for name in ["file", "other"] {
        fs::write(f.input(name), "content").unwrap();
    }
    fs::create_dir(f.input("d")).unwrap();
    symlink("one", f.input("d/link")).unwrap();
    let mut last = f.snapshot().0;
    let mut differs = |what: &str| {
        let (tree, _) = f.snapshot();
        assert_ne!(tree, last, "{what}");
        last = tree;
    };
    let file = f.input("file");
    edit_and_hide(&file, |path| fs::write(path, "Content").unwrap());
    differs("another content of the same length and time");
    edit_and_hide(&file, |path| {
        fs::write(f.path("moved"), "cONTENT").unwrap();
        fs::rename(f.path("moved"), path).unwrap();
    });
    differs("another file in its place");
    edit_and_hide(&file, |path| {
        fs::File::options().write(true).open(path).unwrap().write_all_at(b"CON", 0).unwrap();
    });
    differs("a part of it written over");
    fs::remove_file(f.input("d/link")).unwrap();
    symlink("two", f.input("d/link")).unwrap();
    differs("another target");
    fs::rename(f.input("file"), f.path("aside")).unwrap();
    fs::rename(f.input("other"), f.input("file")).unwrap();
    fs::rename(f.path("aside"), f.input("other")).unwrap();
    differs("two files changed places");
    fs::rename(f.input("d"), f.path("d2")).unwrap();
    fs::create_dir(f.input("d")).unwrap();
    symlink("twO", f.input("d/link")).unwrap();
    differs("another directory in its place");
}

#[test]
fn an_edit_at_once_is_seen() {
    let f = Fixture::new();
    for i in 0..200u32 {
        edit_and_hide_or_make(&f.input("file"), &i.to_le_bytes());
        let taken = f.store.snapshot(&f.path("in")).unwrap();
        let tree = f.store.tree(&taken.tree).unwrap();
        let expected = FileId::of(&i.to_le_bytes());
        let zagi::store::Kind::File { id, .. } = tree.entries[0].kind else { panic!("a file") };
        assert_eq!(id, expected, "edit {i}");
    }
}

fn edit_and_hide_or_make(path: &Path, content: &[u8]) {
    match path.exists() {
        true => edit_and_hide(path, |path| fs::write(path, content).unwrap()),
        false => fs::write(path, content).unwrap(),
    }
}

#[test]
fn a_list_that_cannot_be_believed_is_as_good_as_none() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let (tree, files) = f.snapshot();
    let sound = fs::read(f.known()).unwrap();
    let mut version = sound.clone();
    version[8] = 2;
    let end = version.len() - 32;
    let hash = blake3::hash(&version[..end]);
    version[end..].copy_from_slice(hash.as_bytes());
    let spoilt: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("truncated", sound[..sound.len() / 2].to_vec()),
        ("longer", [&sound[..], b"x"].concat()),
        ("of a newer version", version),
        ("all zeroes", vec![0; sound.len()]),
        ("another's", {
            fs::create_dir(f.path("elsewhere")).unwrap();
            fs::write(f.path("elsewhere/text"), "x").unwrap();
            let known = f.known();
            fs::remove_file(&known).unwrap();
            f.store.snapshot(&f.path("elsewhere")).unwrap();
            let theirs = fs::read(f.known()).unwrap();
            fs::remove_file(f.known()).unwrap();
            fs::write(&known, &sound).unwrap();
            theirs
        }),
    ];
    for (how, bytes) in spoilt {
        fs::write(f.known(), bytes).unwrap();
        assert_eq!(f.snapshot(), (tree, files), "{how}");
        assert_eq!(f.snapshot(), (tree, 0), "{how}");
    }
    for at in (0..sound.len()).step_by(37) {
        let mut changed = sound.clone();
        changed[at] ^= 0x10;
        fs::write(f.known(), changed).unwrap();
        let taken = f.store.snapshot(&f.path("in")).unwrap();
        assert_eq!((taken.tree, taken.figures.total().files), (tree, files), "byte {at}");
    }
}

#[test]
fn what_was_removed_from_the_store_is_stored_again() {
    let f = Fixture::new();
    odd_tree(&f.path("in"));
    let (tree, files) = f.snapshot();
    // Nothing was removed: looked up, not read.
    fs::write(f.path("store/generation"), "1\n").unwrap();
    assert_eq!(f.snapshot(), (tree, 0));
    assert_eq!(f.snapshot(), (tree, 0));

    fs::write(f.input("later"), noise(77, 100_000)).unwrap();
    let (tree, read) = f.snapshot();
    assert_eq!(read, 1);
    // One pack is removed after the other, as a collector would.
    for (n, pack) in f.packs().iter().enumerate() {
        fs::write(f.path("store/generation"), format!("{}\n", n + 2)).unwrap();
        fs::remove_file(pack).unwrap();
        fs::remove_file(pack.with_extension("index")).unwrap();
        f.store.rebuild_index().unwrap();
        let (again, read) = f.snapshot();
        assert_eq!(again, tree);
        assert!((1..=files).contains(&read), "pack {n}: {read} files read");
        let out = f.path(&format!("out {n}"));
        f.reopen().restore(&tree, &out).unwrap();
        assert_eq!(describe(&f.path("in")), describe(&out));
    }
}

/// A source of choices; the same for the same seed.
struct Dice(blake3::OutputReader);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % n as u64) as usize
    }
}

/// Does something to the directory.
fn disturb(root: &Path, dice: &mut Dice) {
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        all.push((entry.path().to_owned(), entry.file_type()));
    }
    let mut directories = vec![root.to_owned()];
    directories.extend(all.iter().filter(|(_, t)| t.is_dir()).map(|(p, _)| p.clone()));
    let fresh = directories[dice.roll(directories.len())].join(format!("n{}", dice.roll(40)));
    let content = || [noise(7, 10), text(8, 300), noise(9, 50_000), text(10, 90_000), Vec::new()];
    if all.is_empty() || dice.roll(4) == 0 {
        if fs::symlink_metadata(&fresh).is_err() {
            match dice.roll(4) {
                0 => fs::create_dir(&fresh).unwrap(),
                1 => symlink(format!("to{}", dice.roll(9)), &fresh).unwrap(),
                _ => fs::write(&fresh, &content()[dice.roll(5)]).unwrap(),
            }
        }
        return;
    }
    let (path, kind) = all[dice.roll(all.len())].clone();
    match dice.roll(7) {
        0 if kind.is_dir() => fs::remove_dir_all(&path).unwrap(),
        0 => fs::remove_file(&path).unwrap(),
        1 if !fresh.starts_with(&path) && fs::symlink_metadata(&fresh).is_err() => {
            fs::rename(&path, &fresh).unwrap();
        }
        2 if kind.is_file() => fs::write(&path, &content()[dice.roll(5)]).unwrap(),
        3 if kind.is_file() => {
            let mode = [0o644, 0o755, 0o600][dice.roll(3)];
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        4 if kind.is_file() && fs::symlink_metadata(&fresh).is_err() => {
            fs::hard_link(&path, &fresh).unwrap();
        }
        5 if kind.is_file() && fs::metadata(&path).unwrap().len() > 0 => {
            let byte = [dice.roll(256) as u8];
            edit_and_hide(&path, |path| {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.write_all_at(&byte, dice.roll(10) as u64).unwrap();
            });
        }
        _ => {}
    }
}

#[test]
fn whatever_happens_to_a_directory_its_snapshot_is_what_is_there() {
    for seed in 0..4u64 {
        let f = Fixture::new();
        let mut dice = Dice(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof());
        for step in 0..25 {
            for _ in 0..=dice.roll(8) {
                disturb(&f.path("in"), &mut dice);
            }
            if dice.roll(6) == 0 {
                fs::write(f.path("store/generation"), format!("{step}\n")).unwrap();
            }
            let (tree, _) = f.snapshot();
            if step % 8 == 7 {
                let out = f.path(&format!("out {step}"));
                f.reopen().restore(&tree, &out).unwrap();
                assert_eq!(describe(&f.path("in")), describe(&out), "seed {seed}, step {step}");
            }
        }
    }
}

#[test]
fn no_file_is_captured_as_it_never_was() {
    let f = Fixture::new();
    let stop = AtomicBool::new(false);
    // Each file holds one byte again and again: one that holds two was torn.
    let sizes = [10, 5_000, 40_000, 3_000_000];
    for (i, size) in sizes.iter().enumerate() {
        fs::create_dir(f.input(format!("d{i}"))).unwrap();
        fs::write(f.input(format!("d{i}/file")), vec![0; *size]).unwrap();
    }
    let write = &|i: usize| {
        let path = f.input(format!("d{i}/file"));
        let mut byte = 0u8;
        while !stop.load(Ordering::Relaxed) {
            byte = byte.wrapping_add(1);
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&vec![byte; sizes[i]], 0).unwrap();
            let moved = f.input(format!("d{i}/moved"));
            fs::write(&moved, vec![byte; sizes[i]]).unwrap();
            fs::rename(&moved, &path).unwrap();
            thread::sleep(Duration::from_millis(3 + u64::from(byte) % 120));
        }
    };
    let (mut taken, mut refused) = (BTreeSet::new(), 0);
    thread::scope(|scope| {
        for i in 0..sizes.len() {
            scope.spawn(move || write(i));
        }
        for _ in 0..40 {
            match f.store.snapshot(&f.path("in")) {
                Ok(captured) => {
                    taken.insert(captured.tree);
                }
                Err(StoreError::Changing { path }) => {
                    assert!(path.starts_with(f.path("in")), "{}", path.display());
                    refused += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!taken.is_empty() || refused > 0);
    for tree in taken {
        let out = f.path("out");
        f.store.restore(&tree, &out).unwrap();
        for entry in walkdir::WalkDir::new(&out) {
            let entry = entry.unwrap();
            if entry.file_type().is_file() && entry.file_name() == OsStr::new("file") {
                let bytes = fs::read(entry.path()).unwrap();
                assert!(bytes.iter().all(|b| *b == bytes[0]), "{} is torn", entry.path().display());
            }
        }
        fs::remove_dir_all(out).unwrap();
    }
    f.snapshot();
}
