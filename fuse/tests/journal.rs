//! The journal against a look at everything: whatever a random operation changed, an event
//! since the last look names it, or something above it with all that is below.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::errno::Errno;
use zagi_fuse::delta::ROOT;
use zagi_fuse::overlay::{Event, EventKind, Overlay, RenameMode, SetAttr};

use crate::support::{Random, find, me, open, parent, seeds};

/// What a path shows: all that `stat` tells but times of directories, and the content.
type Shown = BTreeMap<String, (u64, u16, u64, Option<Vec<u8>>)>;

fn show(overlay: &Overlay) -> Shown {
    let mut shown = Shown::new();
    let mut todo = vec![(ROOT, String::new())];
    while let Some((ino, path)) = todo.pop() {
        let mut entries = Vec::new();
        overlay
            .readdir(ino, 0, true, &mut |entry| {
                if !entry.name.starts_with(b".") {
                    let name = String::from_utf8(entry.name.to_vec()).expect("it is text");
                    entries.push((name, entry.attr.expect("it was asked for")));
                }
                false
            })
            .expect("it can be listed");
        for (name, attr) in entries {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let content = crate::support::content(overlay, &attr).ok();
            shown.insert(path.clone(), (attr.ino, attr.mode, attr.size, content));
            if attr.kind == zagi_fuse::delta::FileKind::Directory {
                todo.push((attr.ino, path));
            }
        }
    }
    shown
}

fn act(overlay: &Overlay, random: &mut Random, seen: &Shown) -> Result<(), Errno> {
    let names = ["a", "b", "c"];
    let any = |random: &mut Random| -> String {
        let mut path = random.pick(&names).to_string();
        (0..random.below(3)).for_each(|_| path = format!("{path}/{}", random.pick(&names)));
        path
    };
    let old = |random: &mut Random| {
        let at = random.below(seen.len().max(1));
        seen.keys().nth(at).cloned().unwrap_or_else(|| "a".to_owned())
    };
    let (from, to) = (old(random), any(random));
    let ((dir, name), (to_dir, to_name)) = (parent(overlay, &from)?, parent(overlay, &to)?);
    match random.below(12) {
        0 | 1 => overlay.create(me(), to_dir, to_name, 0o644).map(drop),
        2 => overlay.mkdir(me(), to_dir, to_name, 0o755).map(drop),
        3 => overlay.unlink(dir, name),
        4 => overlay.rmdir(dir, name),
        5 | 6 => overlay.rename(dir, name, to_dir, to_name, RenameMode::Replace),
        7 => overlay.rename(dir, name, to_dir, to_name, RenameMode::Exchange),
        8 => overlay.link(find(overlay, &from)?.ino, to_dir, to_name).map(drop),
        9 => {
            let mode = Some(random.below(0o1000) as u16 | 0o700);
            let set = SetAttr { mode, ..SetAttr::default() };
            overlay.setattr(me(), find(overlay, &from)?.ino, &set).map(drop)
        }
        10 => {
            let set = SetAttr { size: Some(random.below(20) as u64), ..SetAttr::default() };
            overlay.setattr(me(), find(overlay, &from)?.ino, &set).map(drop)
        }
        _ => {
            let data = [random.next() as u8; 3];
            overlay.write(find(overlay, &from)?.ino, random.below(9) as u64, &data, None).map(drop)
        }
    }
}

fn names(events: &[Event], path: &str) -> bool {
    let below = |event: &Event| {
        let rest = path.as_bytes().strip_prefix(&event.path[..]);
        event.below && rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    events.iter().any(|event| event.path == path.as_bytes() || below(event))
}

fn assert_told(before: &Shown, after: &Shown, events: &[Event], when: &str) {
    for path in before.keys().chain(after.keys()) {
        if before.get(path) != after.get(path) {
            assert!(names(events, path), "{when}: nobody told of {path}: {events:?}");
        }
    }
    for event in events {
        let path = String::from_utf8(event.path.clone()).expect("it is text");
        assert_eq!(
            event.kind == EventKind::Removed,
            !after.contains_key(&path),
            "{when}: {event:?}"
        );
    }
}

fn run(seed: u64, steps: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let layer = dir.path().join("layer");
    for path in ["a/a/a", "a/b", "b/c", "c/a/b"] {
        let file = layer.join(path);
        fs::create_dir_all(file.parent().expect("below")).expect("made");
        fs::write(file, path).expect("written");
    }
    let layers: [(&str, &Path); 1] = [("", &layer)];
    let overlay = open(&layers, &dir.path().join("delta"));
    let mut random = Random(seed);
    let layers_alone = show(&overlay);
    let (mut position, mut before) = (overlay.journal().position(), layers_alone.clone());
    for number in 0..steps {
        let seen = show(&overlay);
        let _ = act(&overlay, &mut random, &seen);
        if random.below(4) == 0 {
            let when = format!("ZAGI_TEST_SEED={seed}, step {number}");
            let (now, events) = overlay.events(position).expect("it is kept");
            let after = show(&overlay);
            assert_told(&before, &after, &events, &when);
            // And all that was ever done, from the delta alone.
            let (_, all) = overlay.differences();
            assert_told(&layers_alone, &after, &all, &format!("{when}, since the layers"));
            (position, before) = (now, after);
        }
    }
}

#[test]
fn whatever_changed_is_told() {
    for seed in seeds(20) {
        run(seed, 400);
    }
}

#[test]
fn what_is_at_the_way_of_a_moved_directory_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let layer = dir.path().join("layer");
    fs::create_dir_all(layer.join("a/b/c")).expect("made");
    fs::create_dir_all(layer.join(".git/objects")).expect("made");
    let layers: [(&str, &Path); 1] = [("", &layer)];
    let overlay = open(&layers, &dir.path().join("delta"));
    overlay.rename(ROOT, b"a", ROOT, b"z", RenameMode::Replace).expect("renamed");
    let (_, events) = overlay.events(0).expect("it is kept");
    let arrived: Vec<_> = events.iter().filter(|event| event.arrived).collect();
    assert_eq!(arrived.len(), 1);
    let found = overlay.directories(&arrived[0].path, b".git", 100).expect("it can be listed");
    let found = found.expect("they are few");
    assert_eq!(found, [&b"z"[..], b"z/b", b"z/b/c"].map(<[u8]>::to_vec));
    assert_eq!(overlay.directories(b"", b".git", 4).expect("listed").expect("few").len(), 4);
    assert_eq!(overlay.directories(b"", b".git", 3).expect("listed"), None);
    assert_eq!(overlay.directories(b"a", b"", 3).expect("listed"), Some(Vec::new()));
}
