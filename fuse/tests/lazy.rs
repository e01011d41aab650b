//! What is not done before it is needed, and what happens when a layer fails.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use zagi_fuse::delta::ROOT;
use zagi_fuse::directory::Directory;
use zagi_fuse::layer::{Entry, Key, Layer, Node};
use zagi_fuse::overlay::{Attached, Caller, ChangeKind, Options, Overlay, SetAttr};

use crate::support::{content, find, me, names};

/// A layer that writes down what it is asked, and fails to read when told to.
struct Watched {
    inner: Directory,
    asked: Mutex<Vec<String>>,
    broken: AtomicBool,
}

impl Watched {
    fn new(dir: &Path) -> Arc<Watched> {
        let inner = Directory::open(dir).expect("opens");
        Arc::new(Watched { inner, asked: Mutex::default(), broken: AtomicBool::new(false) })
    }

    fn note(&self, what: &str, key: &[u8], name: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = format!("{what} {} {}", text(key), text(name));
        self.asked.lock().expect("not poisoned").push(line.trim().to_owned());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("not poisoned"))
    }
}

impl Layer for Watched {
    fn root(&self) -> Node {
        self.inner.root()
    }

    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        self.note("lookup", dir, name);
        self.inner.lookup(dir, name)
    }

    fn list(&self, dir: &Key) -> io::Result<Vec<Entry>> {
        self.note("list", dir, b"");
        self.inner.list(dir)
    }

    fn read(&self, file: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.note("read", file, b"");
        // The beginning can be read: what fails is the middle of a copy.
        if self.broken.load(Ordering::Relaxed) && offset > 0 {
            return Err(io::Error::other("the store is damaged"));
        }
        self.inner.read(file, offset, buf)
    }
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("lower/d")).expect("made");
    fs::write(dir.path().join("lower/f"), "text").expect("written");
    fs::write(dir.path().join("lower/big"), vec![3; 1 << 20]).expect("written");
    fs::write(dir.path().join("lower/d/g"), "g").expect("written");
    dir
}

fn overlay(dir: &Path, layer: &Arc<Watched>) -> Overlay {
    let Caller { uid, gid, .. } = me();
    let layer: Arc<dyn Layer> = Arc::clone(layer) as _;
    let layers = vec![Attached { at: "".into(), layer }];
    Overlay::open(Options { layers, delta: dir.join("delta"), uid, gid }).expect("opens")
}

fn data_files(dir: &Path) -> usize {
    let shards = fs::read_dir(dir.join("delta/data")).expect("lists");
    shards.map(|shard| fs::read_dir(shard.expect("one").path()).expect("lists").count()).sum()
}

#[test]
fn nothing_is_asked_of_a_layer_before_somebody_looks() {
    let dir = tree();
    let layer = Watched::new(&dir.path().join("lower"));
    let overlay = overlay(dir.path(), &layer);
    overlay.getattr(ROOT).expect("the root is there");
    assert_eq!(layer.take(), [""; 0]);
    find(&overlay, "f").expect("there");
    assert_eq!(find(&overlay, "h").expect_err("not there"), Errno::ENOENT);
    assert_eq!(layer.take(), ["lookup  f", "lookup  h"]);
    names(&overlay, ROOT, 2);
    assert_eq!(layer.take(), ["list"]);
    // What was listed is known.
    find(&overlay, "f").expect("there");
    overlay.unlink(ROOT, b"f").expect("removed");
    assert_eq!(layer.take(), [""; 0]);
}

#[test]
fn a_file_is_copied_when_it_is_written_and_not_before() {
    let dir = tree();
    let layer = Watched::new(&dir.path().join("lower"));
    let overlay = overlay(dir.path(), &layer);
    let before = find(&overlay, "f").expect("there");
    content(&overlay, &before).expect("reads");
    overlay
        .setattr(me(), before.ino, &SetAttr { mode: Some(0o600), ..SetAttr::default() })
        .expect("changed");
    overlay.setxattr(before.ino, b"user.a", b"b", 0, false).expect("set");
    overlay.link(before.ino, ROOT, b"hard").expect("linked");
    assert_eq!(data_files(dir.path()), 0, "metadata does not copy");
    assert_eq!(find(&overlay, "hard").expect("there").links, 2);

    layer.take();
    let set = SetAttr { size: Some(0), ..SetAttr::default() };
    let big = find(&overlay, "big").expect("there");
    overlay.setattr(me(), big.ino, &set).expect("truncated");
    assert!(!layer.take().iter().any(|line| line.starts_with("read")), "nothing to keep");

    overlay.write(before.ino, 4, b"!", None).expect("written");
    assert_eq!(data_files(dir.path()), 2);
    let after = find(&overlay, "f").expect("there");
    assert_eq!((after.ino, after.mode, after.size, after.links), (before.ino, 0o600, 5, 2));
    assert!(after.mtime > before.mtime);
    let changes: Vec<_> = overlay.changes().into_iter().map(|c| (c.path, c.kind)).collect();
    assert_eq!(
        changes,
        [
            ("big".into(), ChangeKind::Modified),
            ("f".into(), ChangeKind::Modified),
            ("hard".into(), ChangeKind::Renamed { from: "f".into() }),
        ]
    );
}

#[test]
fn a_copy_up_that_fails_leaves_the_file_as_it_was() {
    let dir = tree();
    let layer = Watched::new(&dir.path().join("lower"));
    let overlay = overlay(dir.path(), &layer);
    let before = find(&overlay, "big").expect("there");
    layer.broken.store(true, Ordering::Relaxed);
    assert_eq!(overlay.write(before.ino, 9, b"x", None), Err(Errno::EIO));
    assert_eq!(find(&overlay, "big").expect("there"), before);
    assert_eq!(data_files(dir.path()), 0);
    layer.broken.store(false, Ordering::Relaxed);
    assert!(content(&overlay, &before).expect("reads").iter().all(|byte| *byte == 3));
    overlay.write(before.ino, 9, b"x", None).expect("written");
    assert_eq!(find(&overlay, "big").expect("there").size, 1 << 20);
}

#[test]
fn moving_a_directory_of_a_layer_reads_and_lists_nothing() {
    use zagi_fuse::overlay::RenameMode;
    let dir = tree();
    let layer = Watched::new(&dir.path().join("lower"));
    let overlay = overlay(dir.path(), &layer);
    let before = find(&overlay, "d/g").expect("there").ino;
    layer.take();
    overlay.rename(ROOT, b"d", ROOT, b"moved", RenameMode::Replace).expect("moved");
    assert!(layer.take().iter().all(|line| line.starts_with("lookup")));
    assert_eq!(find(&overlay, "moved/g").expect("there").ino, before);
    assert_eq!(find(&overlay, "d").expect_err("gone"), Errno::ENOENT);
    // A new one at the old place shows nothing of the old.
    overlay.mkdir(me(), ROOT, b"d", 0o755).expect("made");
    assert_eq!(find(&overlay, "d/g").expect_err("not there"), Errno::ENOENT);
    let changes = overlay.changes();
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[1].kind, ChangeKind::Renamed { from: "d".into() });
}

#[test]
fn an_unlinked_file_is_used_until_it_is_forgotten() {
    let dir = tree();
    let layer = Watched::new(&dir.path().join("lower"));
    let overlay = overlay(dir.path(), &layer);
    let attr = find(&overlay, "f").expect("there");
    overlay.unlink(ROOT, b"f").expect("removed");
    assert_eq!(overlay.getattr(attr.ino).expect("in use").links, 0);
    assert_eq!(content(&overlay, &attr).expect("reads"), b"text");
    overlay.write(attr.ino, 0, b"T", None).expect("written");
    let now = overlay.getattr(attr.ino).expect("in use");
    assert_eq!(content(&overlay, &now).expect("reads"), b"Text");
    assert_eq!(data_files(dir.path()), 1);
    overlay.forget(attr.ino, 1);
    assert_eq!(overlay.getattr(attr.ino).expect_err("forgotten"), Errno::ESTALE);
    overlay.sync().expect("synced");
    assert_eq!(data_files(dir.path()), 0);
    assert_eq!(find(&overlay, "f").expect_err("gone"), Errno::ENOENT);
}
