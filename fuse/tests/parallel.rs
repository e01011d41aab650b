//! Several threads on the same few names: nothing hangs, nothing panics, and what is left can
//! be read and opened again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use zagi_fuse::delta::{FileKind, ROOT};
use zagi_fuse::overlay::{Attr, Overlay, RenameMode, SetAttr};

use crate::support::{Random, content, find, me, open, see, seeds};

const THREADS: u64 = 6;

fn lower(dir: &Path) {
    for name in 0..8 {
        let dir = dir.join(format!("d{name}"));
        fs::create_dir_all(&dir).expect("made");
        for file in 0..8 {
            fs::write(dir.join(format!("f{file}")), [b'l'; 3000]).expect("written");
        }
    }
}

/// One operation somewhere; it may be refused, for whatever reason a race can bring about.
fn act(overlay: &Overlay, random: &mut Random) -> Result<(), Errno> {
    let mut name = |letter: &str| format!("{letter}{}", random.below(8)).into_bytes();
    let (dir, other, file, new) = (name("d"), name("d"), name("f"), name("f"));
    let dir = overlay.lookup(ROOT, &dir)?;
    let result = overlay.lookup(ROOT, &other).and_then(|other| {
        let result = act_in(overlay, random, dir.ino, other.ino, &file, &new);
        overlay.forget(other.ino, 1);
        result
    });
    overlay.forget(dir.ino, 1);
    result
}

fn act_in(
    overlay: &Overlay,
    random: &mut Random,
    dir: u64,
    other: u64,
    file: &[u8],
    new: &[u8],
) -> Result<(), Errno> {
    let taken = |attr: Attr| overlay.forget(attr.ino, 1);
    match random.below(12) {
        0 => overlay.create(me(), dir, new, 0o644).map(taken),
        1 => overlay.unlink(dir, file),
        2 => overlay.rename(dir, file, other, new, RenameMode::Replace),
        3 => overlay.rename(dir, file, other, new, RenameMode::Exchange),
        4 => {
            let names = [b"d0", b"d1", b"d2", b"d3"];
            let (from, to) = (random.pick(&names), random.pick(&names));
            overlay.rename(ROOT, *from, ROOT, *to, RenameMode::Exchange)
        }
        5 => overlay.mkdir(me(), dir, new, 0o755).map(taken),
        6 => overlay.rmdir(dir, file),
        7 => {
            let mut count = 0;
            overlay.readdir(dir, 0, true, &mut |entry| {
                if entry.next > 2 {
                    overlay.forget(entry.ino, 1);
                }
                count += 1;
                count > 20
            })
        }
        choice => {
            let attr = overlay.lookup(dir, file)?;
            let result = use_file(overlay, random, choice, &attr, other, new);
            overlay.forget(attr.ino, 1);
            result
        }
    }
}

fn use_file(
    overlay: &Overlay,
    random: &mut Random,
    choice: usize,
    attr: &Attr,
    other: u64,
    new: &[u8],
) -> Result<(), Errno> {
    match choice {
        8 => overlay.write(attr.ino, random.below(2000) as u64, b"written", None).map(drop),
        9 => content(overlay, attr).map(drop),
        10 => overlay.link(attr.ino, other, new).map(|attr| overlay.forget(attr.ino, 1)),
        _ => {
            let size = if random.below(2) == 0 { Some(random.below(4000) as u64) } else { None };
            let size = size.filter(|_| attr.kind == FileKind::File);
            let set = SetAttr { mode: Some(0o600), size, ..SetAttr::default() };
            overlay.setattr(me(), attr.ino, &set).map(drop)
        }
    }
}

#[test]
fn threads_on_the_same_names_leave_a_whole_tree() {
    for seed in seeds(2) {
        let dir = tempfile::tempdir().expect("a directory");
        lower(&dir.path().join("lower"));
        let delta = dir.path().join("delta");
        let overlay = Arc::new(open(&[("", &dir.path().join("lower"))], &delta));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let overlay = &overlay;
                scope.spawn(move || {
                    let mut random = Random(seed * 1000 + thread);
                    for _ in 0..1500 {
                        if let Err(Errno::EIO | Errno::ESTALE) = act(overlay, &mut random) {
                            panic!("ZAGI_TEST_SEED={seed}: no race can bring this about");
                        }
                    }
                });
            }
        });
        let before = see(&overlay);
        assert!(find(&overlay, "d0").is_ok());
        drop(overlay);
        let again = open(&[("", &dir.path().join("lower"))], &delta);
        assert_eq!(see(&again), before, "ZAGI_TEST_SEED={seed}");
        // Every data file belongs to a file that can be seen.
        drop(again);
        let shards = fs::read_dir(delta.join("data")).expect("lists");
        let files: usize = shards
            .map(|shard| fs::read_dir(shard.expect("one").path()).expect("lists").count())
            .sum();
        assert!(files <= before.len(), "{files} data files for {} names", before.len());
    }
}
