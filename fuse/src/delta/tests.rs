//! Tests of the delta on a real disk: reopening, torn tails, damage.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::format::{CREATED, HEADER_LEN};
use super::*;
use crate::overlay::{Caller, Options, Overlay};

/// A delta in which everything was created, and which was closed in order.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { layers: Vec::new(), delta: dir.path().into(), uid: 7, gid: 8 };
    let overlay = Overlay::open(options).expect("opens");
    let caller = Caller { uid: 7, gid: 8, umask: 0 };
    let mkdir = |parent, name: &str| {
        overlay.mkdir(caller, parent, name.as_bytes(), 0o755).expect("made").ino
    };
    let file = |parent, name: &str, content: &str| {
        let ino = overlay.create(caller, parent, name.as_bytes(), 0o644).expect("made").ino;
        overlay.write(ino, 0, content.as_bytes(), None).expect("written");
    };
    let git = mkdir(ROOT, ".git");
    file(git, "config", "[core]\n");
    let heads = mkdir(mkdir(git, "refs"), "heads");
    file(heads, "main", "0123\n");
    overlay.symlink(caller, git, b"link", b"config").expect("made");
    dir
}

fn paths(dir: &Path) -> Vec<String> {
    let changes = Delta::changes(dir).expect("readable");
    changes.iter().map(|change| change.path.display().to_string()).collect()
}

/// Where each frame of the log begins, and where the last one ends.
fn boundaries(log: &[u8]) -> Vec<usize> {
    let mut at = HEADER_LEN;
    let mut all = vec![at];
    while let Some(format::Framed::Payload(payload)) = log.get(at..).map(format::unframe) {
        at += format::FRAME_HEADER_LEN + payload.len();
        all.push(at);
    }
    all
}

#[test]
fn what_was_created_is_there_and_opening_again_changes_nothing() {
    let dir = filled();
    let all = [
        ".git",
        ".git/config",
        ".git/link",
        ".git/refs",
        ".git/refs/heads",
        ".git/refs/heads/main",
    ];
    assert_eq!(paths(dir.path()), all);
    drop(Delta::open(dir.path()).expect("opens"));
    assert_eq!(paths(dir.path()), all);
    let changes = Delta::changes(dir.path()).expect("readable");
    assert!(changes.iter().all(|change| change.kind == ChangeKind::Created));
    assert_eq!(changes[1].bytes, 7);
}

#[test]
fn a_delta_has_one_writer() {
    let dir = filled();
    let _first = Delta::open(dir.path()).expect("opens");
    assert!(matches!(Delta::open(dir.path()), Err(DeltaError::Locked { .. })));
}

#[test]
fn a_log_cut_anywhere_gives_a_prefix_of_what_happened() {
    let dir = filled();
    let log = dir.path().join("log");
    let whole = fs::read(&log).expect("readable");
    let bounds = boundaries(&whole);
    assert!(bounds.len() > 5 && *bounds.last().expect("one") == whole.len());
    let mut seen = Vec::new();
    for end in 0..=whole.len() {
        fs::write(&log, &whole[..end]).expect("written");
        let before = paths(dir.path());
        drop(Delta::open(dir.path()).unwrap_or_else(|error| panic!("cut at {end}: {error}")));
        assert_eq!(paths(dir.path()), before, "opening changes nothing that counts");
        let complete = bounds.iter().filter(|bound| **bound <= end).count();
        seen.push((complete, before));
    }
    // The same whole frames, the same state; and never less with more of them.
    for pair in seen.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1);
        assert!(pair[0].1.iter().all(|path| pair[1].1.contains(path)));
    }
}

#[test]
fn damage_before_the_tail_is_refused_and_nothing_is_touched() {
    let dir = filled();
    let log = dir.path().join("log");
    let whole = fs::read(&log).expect("readable");
    let bounds = boundaries(&whole);
    for at in HEADER_LEN..bounds[bounds.len() - 2] {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        fs::write(&log, &bad).expect("written");
        let Err(error) = Delta::open(dir.path()) else { panic!("byte {at} was accepted") };
        assert!(matches!(error, DeltaError::Corrupt { .. }), "byte {at}: {error}");
        assert_eq!(fs::read(&log).expect("readable"), bad, "byte {at}");
    }
}

#[test]
fn other_files_and_newer_versions_are_refused() {
    let dir = filled();
    let log = dir.path().join("log");
    let whole = fs::read(&log).expect("readable");
    let mut newer = whole.clone();
    newer[8] = 3;
    fs::write(&log, &newer).expect("written");
    assert!(matches!(Delta::open(dir.path()), Err(DeltaError::Version { version: 3, .. })));
    fs::write(&log, b"something else entirely").expect("written");
    assert!(matches!(Delta::open(dir.path()), Err(DeltaError::NotADelta { .. })));
    fs::write(&log, b"short").expect("written");
    assert!(matches!(Delta::open(dir.path()), Err(DeltaError::NotADelta { .. })));
}

#[test]
fn a_log_that_contradicts_itself_is_refused() {
    let dir = filled();
    let log = dir.path().join("log");
    let whole = fs::read(&log).expect("readable");
    let entry = |parent, ino| Op::Entry {
        parent,
        name: Box::from(&b"n"[..]),
        ino,
        over: false,
        time: None,
    };
    for op in [entry(99, ROOT), entry(ROOT, CREATED | 9999)] {
        let frame = format::frame(&[op]).expect("fits");
        fs::write(&log, [&whole[..], &frame].concat()).expect("written");
        assert!(matches!(Delta::open(dir.path()), Err(DeltaError::Contradiction { .. })));
    }
}

#[test]
fn compaction_keeps_the_state_and_the_numbers() {
    let dir = filled();
    let before = Delta::changes(dir.path()).expect("readable");
    let delta = Delta::open(dir.path()).expect("opens");
    let next = delta.read().next;
    let mut writer = delta.begin();
    let now = writer.now().expect("a time");
    for round in 0..2000_u64 {
        let ino = CREATED | (next + round);
        let node = Box::new(blank(FileKind::Fifo, 0o600, 1, 1, now));
        let name = Box::from(&b"pipe"[..]);
        let entry = Op::Entry { parent: ROOT, name, ino, over: false, time: None };
        let loose = writer.commit(vec![Op::Node { ino, node }, entry]).expect("committed");
        loose.into_iter().for_each(|ino| writer.release_orphan(ino));
    }
    let gone = Op::Remove { parent: ROOT, name: Box::from(&b"pipe"[..]), time: None };
    let loose = writer.commit(vec![gone]).expect("committed");
    loose.into_iter().for_each(|ino| writer.release_orphan(ino));
    let long = fs::metadata(dir.path().join("log")).expect("there").len();
    writer.state.log.compact(&delta.read()).expect("compacted");
    drop(writer);
    drop(delta);
    let short = fs::metadata(dir.path().join("log")).expect("there").len();
    assert!(short * 10 < long, "{long} to {short}");
    assert_eq!(Delta::changes(dir.path()).expect("readable"), before);
    let delta = Delta::open(dir.path()).expect("opens");
    assert_eq!(delta.read().next, next + 2000, "numbers are never given out twice");
}

/// A directory of a layer that is emptied, and files that are open and have no name.
#[test]
fn a_log_that_is_all_alive_is_not_written_anew_at_each_change() {
    let dir = filled();
    let delta = Delta::open(dir.path()).expect("opens");
    let next = delta.read().next;
    let mut writer = delta.begin();
    let now = writer.now().expect("a time");
    let log = dir.path().join("log");
    let number = || fs::metadata(&log).expect("there").ino();
    let (mut seen, mut anew) = (number(), 0);
    for round in 0..20_000_u64 {
        let name = format!("{round:060}").into_bytes().into();
        let node = Box::new(blank(FileKind::File, 0o600, 1, 1, now));
        let gone = Op::Whiteout { parent: ROOT, name, time: None };
        writer.commit(vec![gone]).expect("committed");
        writer.commit(vec![Op::Node { ino: CREATED | (next + round), node }]).expect("committed");
        anew += u32::from(std::mem::replace(&mut seen, number()) != seen);
        assert!(anew < 4, "written anew {anew} times until {round}");
    }
    assert!(fs::metadata(&log).expect("there").len() > 3 << 20);
}

#[test]
fn what_a_crash_left_among_the_data_files_is_cleared_away() {
    let dir = filled();
    let stray = dir.path().join("data/aa");
    fs::create_dir_all(&stray).expect("made");
    fs::write(stray.join("00000000000000aa"), "x").expect("written");
    fs::write(stray.join("00000000000000aa.new"), "x").expect("written");
    let log = dir.path().join("log");
    let whole = fs::read(&log).expect("readable");
    fs::write(&log, &whole[..whole.len() - 3]).expect("cut");
    drop(Delta::open(dir.path()).expect("opens"));
    assert_eq!(fs::read_dir(&stray).expect("there").count(), 0);
    assert_eq!(paths(dir.path()).len(), 6);
}

/// A log with everything in it that a log can hold.
fn varied() -> Vec<u8> {
    let dir = filled();
    let time = Time { secs: 1, nanos: 2 };
    let node = |kind| Box::new(blank(kind, 0o755, 1, 2, time));
    let entry = |parent, name: &str, ino| Op::Entry {
        parent,
        name: name.as_bytes().into(),
        ino,
        over: true,
        time: Some(time),
    };
    let name = |name: &str| Box::from(name.as_bytes());
    let mut other = node(FileKind::File);
    other.xattrs.insert(name("user.x"), name("value"));
    other.origin = Some(name("sub/file"));
    let frames = [
        vec![Op::Node { ino: 77, node: node(FileKind::Directory) }, entry(ROOT, "sub", 77)],
        vec![Op::Node { ino: 78, node: other }, entry(77, "file", 78), entry(ROOT, "hard", 78)],
        vec![Op::Node { ino: 79, node: node(FileKind::Directory) }, entry(77, "deep", 79)],
        vec![entry(79, "moved", 78), Op::Whiteout { parent: 77, name: name("file"), time: None }],
        vec![entry(ROOT, "up", 79), Op::Remove { parent: 77, name: name("deep"), time: None }],
        vec![Op::Next(500)],
        vec![Op::Closed],
    ];
    let log = fs::read(dir.path().join("log")).expect("readable");
    let frames = frames.map(|ops| format::frame(&ops).expect("fits"));
    [log, frames.concat()].concat()
}

/// Damage that no checksum shows: whatever a log says, it is refused, or it is a tree whose
/// compaction says the same.
#[test]
fn a_log_that_was_tampered_with_is_refused_or_whole() {
    let sound = varied();
    let bounds = boundaries(&sound);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let mut frames: Vec<Vec<u8>> =
            bounds.windows(2).map(|pair| sound[pair[0] + 16..pair[1]].to_vec()).collect();
        for _ in 0..1 + random(3) {
            let at = random(frames.len());
            let other = frames[random(frames.len())].clone();
            let frame = &mut frames[at];
            let place = random(frame.len());
            match random(6) {
                // Small numbers are kinds, lengths and inode numbers.
                0 => frame[place] = random(9) as u8,
                1 => frame[place] = [77, 78, 79, 1, 0x80, 0xff][random(6)],
                2 => *frame = other,
                3 => frame.extend(other),
                4 => frame.truncate(place.max(1)),
                _ => {
                    frames.remove(at);
                }
            }
        }
        let mut log = format::header().to_vec();
        for payload in &frames {
            log.extend(format::FRAME_MAGIC);
            log.extend((payload.len() as u32).to_le_bytes());
            log.extend(format::checksum(payload));
            log.extend(payload);
        }
        let Ok(replayed) = replay(Path::new("log"), &log) else {
            refused += 1;
            continue;
        };
        whole += 1;
        let compacted = |index: &Index| {
            let frames = index.snapshot();
            let frames = frames.iter().map(|ops| format::frame(ops).expect("fits"));
            [format::header().to_vec()].into_iter().chain(frames).flatten().collect::<Vec<u8>>()
        };
        let once = compacted(&replayed.index);
        let again = replay(Path::new("log"), &once).expect("what was written is read");
        assert!(compacted(&again.index) == once);
    }
    assert!(whole > 300 && refused > 300, "{whole} whole, {refused} refused");
}

#[test]
fn a_directory_has_one_place() {
    let time = Time::default();
    let node = |ino| Op::Node { ino, node: Box::new(blank(FileKind::Directory, 0, 0, 0, time)) };
    let entry = |parent, name: &str, ino| Op::Entry {
        parent,
        name: name.as_bytes().into(),
        ino,
        over: false,
        time: None,
    };
    let remove = |name: &str| Op::Remove { parent: ROOT, name: name.as_bytes().into(), time: None };
    let start = || {
        let mut index = Index::new();
        index.apply(vec![node(ROOT), node(5), entry(ROOT, "a", 5)]).expect("sound");
        index.apply(vec![node(6), entry(5, "b", 6)]).expect("sound");
        index
    };
    for ops in [
        vec![entry(ROOT, "again", 5)],
        vec![entry(5, "itself", 5)],
        vec![entry(6, "above", 5), remove("a")],
        vec![entry(5, "root", ROOT)],
        vec![node(7), entry(7, "x", 7)],
        vec![node(7), node(8), entry(7, "x", 8), entry(8, "y", 7)],
    ] {
        let refused = start().apply(ops.clone());
        assert_eq!(refused, Err(ApplyError::Place), "{ops:?}");
    }
    assert_eq!(start().apply(vec![entry(ROOT, "moved", 5), remove("a")]), Ok(Vec::new()));
    let twice = vec![entry(ROOT, "c", 5), entry(ROOT, "d", 5), remove("d"), remove("a")];
    assert_eq!(start().apply(twice), Ok(Vec::new()), "one is left in the end");
    assert_eq!(start().apply(vec![Op::Next(CREATED)]), Err(ApplyError::Next));
}
