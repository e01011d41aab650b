//! What is left when a process or a machine stops at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use zagi_fuse::delta::Delta;
use zagi_fuse::overlay::{Overlay, RenameMode};

use crate::support::{Random, Seen, find, me, names, open, parent, see, seeds};

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("known").is_dir() {
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

/// One change of the namespace, which is one record of the log. Content is written once, right
/// after the creation.
fn step(overlay: &Overlay, random: &mut Random, number: usize) {
    let seen = see(overlay);
    let paths: Vec<&String> = seen.keys().collect();
    let path = (*random.pick(&paths)).clone();
    let (dir, name) = parent(overlay, &path).expect("it is there");
    let ino = find(overlay, &path).expect("it is there").ino;
    let new = format!("new{number}");
    // That some of these are refused is fine.
    let _ = match random.below(7) {
        0 => overlay.create(me(), dir, new.as_bytes(), 0o644).and_then(|attr| {
            overlay.write(attr.ino, 0, format!("content {number}").as_bytes(), None).map(drop)
        }),
        1 => overlay.mkdir(me(), dir, new.as_bytes(), 0o755).map(drop),
        2 => overlay.symlink(me(), dir, new.as_bytes(), b"target").map(drop),
        3 => overlay.link(ino, dir, new.as_bytes()).map(drop),
        4 => overlay.unlink(dir, name),
        5 => overlay.rename(dir, name, dir, new.as_bytes(), RenameMode::Replace),
        _ => {
            let other = (*random.pick(&paths)).clone();
            let (to, to_name) = parent(overlay, &other).expect("it is there");
            let exchange = random.below(2) == 0;
            let mode = if exchange { RenameMode::Exchange } else { RenameMode::Replace };
            overlay.rename(dir, name, to, to_name, mode)
        }
    };
}

fn lower(dir: &Path) -> PathBuf {
    let lower = dir.join("lower");
    for path in ["a/b/c", "a/d", "e", "f/g"] {
        let file = lower.join(path);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(file, path).expect("written");
    }
    lower
}

#[test]
fn a_log_cut_anywhere_shows_a_state_that_once_was() {
    for seed in seeds(2) {
        let dir = tempfile::tempdir().expect("a directory");
        let lower = lower(dir.path());
        let delta = dir.path().join("delta");
        let overlay = open(&[("", &lower)], &delta);
        let mut random = Random(seed);
        let length = || fs::metadata(delta.join("log")).expect("there").len();
        let mut states: Vec<(u64, BTreeMap<String, Seen>)> = vec![(length(), see(&overlay))];
        for number in 0..40 {
            step(&overlay, &mut random, number);
            states.push((length(), see(&overlay)));
        }
        // Nothing is closed in order: this is what the disk holds when the machine stops.
        let crashed = dir.path().join("crashed");
        copy_tree(&delta, &crashed);
        drop(overlay);
        let log = fs::read(crashed.join("log")).expect("readable");
        let mut cuts: Vec<u64> = states.iter().flat_map(|(end, _)| [*end, end + 1]).collect();
        cuts.extend((0..30).map(|_| 16 + random.below(log.len() - 16) as u64));
        for cut in cuts.into_iter().filter(|cut| *cut <= log.len() as u64) {
            let again = dir.path().join("again");
            copy_tree(&crashed, &again);
            fs::write(again.join("log"), &log[..cut as usize]).expect("written");
            let at = states.iter().rposition(|(end, _)| *end <= cut).expect("the first is empty");
            let seen = see(&open(&[("", &lower)], &again));
            // What a step makes known to the delta comes before it, and is not seen.
            assert_eq!(seen, states[at].1, "ZAGI_TEST_SEED={seed}, cut at {cut}");
            fs::remove_dir_all(&again).expect("removed");
        }
    }
}

#[test]
fn a_deleted_file_keeps_its_content_until_the_log_is_on_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let (lower, delta) = (lower(dir.path()), dir.path().join("delta"));
    let overlay = open(&[("", &lower)], &delta);
    let (root, _) = parent(&overlay, "x").expect("the root");
    let attr = overlay.create(me(), root, b"x", 0o644).expect("created");
    overlay.write(attr.ino, 0, b"precious", None).expect("written");
    overlay.sync().expect("synced");
    let synced = fs::read(delta.join("log")).expect("readable");
    overlay.unlink(root, b"x").expect("removed");
    overlay.forget(attr.ino, 1);

    // The power fails: the record of the deletion never reached the disk.
    let crashed = dir.path().join("crashed");
    copy_tree(&delta, &crashed);
    fs::write(crashed.join("log"), synced).expect("written");
    let again = open(&[("", &lower)], &crashed);
    let attr = find(&again, "x").expect("it is back");
    assert_eq!(crate::support::content(&again, &attr).expect("reads"), b"precious");

    // When it has, the content goes.
    let data = delta.join(format!("data/{:02x}/{:016x}", attr.ino & 0xff, attr.ino));
    assert!(data.exists());
    overlay.sync().expect("synced");
    assert!(!data.exists());
}

#[test]
fn a_copy_up_that_was_cut_short_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let (lower, delta) = (lower(dir.path()), dir.path().join("delta"));
    let overlay = open(&[("", &lower)], &delta);
    let attr = find(&overlay, "a/d").expect("there");
    let name = format!("{:02x}/{:016x}", attr.ino & 0xff, attr.ino);
    drop(overlay);
    // The staged half of a copy, and a whole one that the log does not know.
    for stray in [format!("{name}.new"), name] {
        let stray = delta.join("data").join(stray);
        fs::create_dir_all(stray.parent().expect("below")).expect("made");
        fs::write(&stray, "half").expect("written");
    }
    let overlay = open(&[("", &lower)], &delta);
    let attr = find(&overlay, "a/d").expect("there");
    assert_eq!(crate::support::content(&overlay, &attr).expect("reads"), b"a/d");
    overlay.write(attr.ino, 2, b"!!", None).expect("written");
    assert_eq!(crate::support::content(&overlay, &attr).expect("reads"), b"a/!!");
    drop(overlay);
    assert_eq!(Delta::changes(&delta).expect("readable").len(), 1);
}

#[test]
fn an_orphan_of_a_killed_process_is_gone_after_the_next_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let (lower, delta) = (lower(dir.path()), dir.path().join("delta"));
    let overlay = open(&[("", &lower)], &delta);
    let (root, _) = parent(&overlay, "x").expect("the root");
    let attr = overlay.create(me(), root, b"x", 0o644).expect("created");
    overlay.write(attr.ino, 0, b"temporary", None).expect("written");
    overlay.unlink(root, b"x").expect("removed");
    assert_eq!(overlay.getattr(attr.ino).expect("in use").links, 0);
    let crashed = dir.path().join("crashed");
    copy_tree(&delta, &crashed);
    let again = open(&[("", &lower)], &crashed);
    assert_eq!(names(&again, root, 100), ["a", "e", "f"]);
    let shard = crashed.join(format!("data/{:02x}", attr.ino & 0xff));
    assert_eq!(fs::read_dir(shard).expect("lists").count(), 0);
}
