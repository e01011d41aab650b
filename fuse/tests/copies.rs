//! Copy-up and copies from layers: what arrives, and what layers that lie can do.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use zagi_fuse::delta::{FileKind, ROOT};
use zagi_fuse::layer::{Entry, Key, Kind, Layer, Node};
use zagi_fuse::overlay::{Attached, Caller, Options, Overlay, SetAttr};

use crate::support::{content, find, me, names, open};

const MIB: u64 = 1 << 20;

/// A layer with a file of which only the middle and the end were written.
fn sparse(dir: &Path) -> Overlay {
    let lower = dir.join("lower");
    fs::create_dir(&lower).expect("made");
    let file = File::create(lower.join("sparse")).expect("made");
    file.write_all_at(b"middle", 8 * MIB).expect("written");
    file.write_all_at(b"end", 16 * MIB - 3).expect("written");
    open(&[("", &lower)], &dir.join("delta"))
}

fn data_blocks(dir: &Path, ino: u64) -> u64 {
    let path = dir.join(format!("delta/data/{:02x}/{ino:016x}", ino & 0xff));
    fs::metadata(path).expect("copied").blocks()
}

#[test]
fn holes_of_a_layer_are_seen_and_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let overlay = sparse(dir.path());
    let attr = find(&overlay, "sparse").expect("there");
    let seek = |offset, hole| overlay.seek(attr.ino, offset, hole);
    for copied in [false, true] {
        let data = seek(0, false).expect("data");
        assert!(data > 4 * MIB && data <= 8 * MIB, "{data}");
        assert_eq!(seek(0, true), Ok(0));
        let hole = seek(8 * MIB, true).expect("a hole");
        assert!(hole > 8 * MIB && hole < 9 * MIB, "{hole}");
        assert_eq!(seek(16 * MIB - 1, true), Ok(16 * MIB));
        assert_eq!(seek(16 * MIB, false), Err(Errno::ENXIO));
        assert_eq!(seek(u64::MAX, true), Err(Errno::ENXIO));
        if !copied {
            overlay.write(attr.ino, 8 * MIB, b"MIDDLE", None).expect("written");
        }
    }
    assert!(data_blocks(dir.path(), attr.ino) * 512 < MIB);
    let text = content(&overlay, &find(&overlay, "sparse").expect("there")).expect("reads");
    assert_eq!(text.len() as u64, 16 * MIB);
    let other: usize = text.iter().filter(|byte| **byte != 0).count();
    assert_eq!(
        (&text[8 << 20..][..6], &text[(16 << 20) - 3..], other),
        (&b"MIDDLE"[..], &b"end"[..], 9)
    );
}

#[test]
fn what_is_cut_and_what_is_copied_keeps_its_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let overlay = sparse(dir.path());
    let attr = find(&overlay, "sparse").expect("there");
    let new = overlay.create(me(), ROOT, b"new", 0o600).expect("made").ino;
    let copy = |from, to, length| overlay.copy_range((attr.ino, from), (new, to), length, None);
    assert_eq!(copy(8 * MIB + 1, 5, 4), Ok(4));
    assert_eq!(copy(16 * MIB - 2, 9, 100), Ok(2), "no more than there is");
    assert_eq!(copy(16 * MIB, 11, 100), Ok(0));
    assert_eq!(copy(u64::MAX, 11, 100), Ok(0));
    let made = find(&overlay, "new").expect("there");
    assert_eq!(content(&overlay, &made).expect("reads"), b"\0\0\0\0\0iddlnd");
    let set = SetAttr { size: Some(8 * MIB + 3), ..SetAttr::default() };
    overlay.setattr(me(), attr.ino, &set).expect("cut");
    let cut = find(&overlay, "sparse").expect("there");
    let text = content(&overlay, &cut).expect("reads");
    assert_eq!((text.len() as u64, &text[8 << 20..]), (8 * MIB + 3, &b"mid"[..]));
    assert!(cut.mtime > attr.mtime && cut.ctime >= cut.mtime);
}

/// A layer that says of its one file and its link what is not so.
struct Liar {
    /// What the listing says.
    size: u64,
    /// What there is.
    content: &'static [u8],
    /// Reads answer that this much more was read than could be.
    more: usize,
    file: Option<Arc<File>>,
}

impl Liar {
    fn node(&self, kind: Kind, name: &[u8]) -> Node {
        Node { kind, mode: 0o644, size: self.size, mtime: 0, key: name.into() }
    }
}

impl Layer for Liar {
    fn root(&self) -> Node {
        Node { kind: Kind::Directory, mode: 0o755, size: 0, mtime: 0, key: Key::from(&b""[..]) }
    }

    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        Ok(self.list(dir)?.into_iter().find(|entry| *entry.name == *name).map(|entry| entry.node))
    }

    fn list(&self, _: &Key) -> io::Result<Vec<Entry>> {
        // A directory that holds itself, names that are none, and one name twice.
        let entry = |name: &[u8], node| Entry { name: name.into(), node };
        let mut entries = vec![
            entry(b"file", self.node(Kind::File, b"file")),
            entry(b"link", self.node(Kind::Symlink, b"link")),
            entry(b"loop", self.root()),
            entry(b"file", self.node(Kind::Symlink, b"again")),
        ];
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"nul\0", &[b'n'; 256], &[b'n'; 4096]] {
            entries.push(entry(name, self.node(Kind::File, b"hidden")));
        }
        Ok(entries)
    }

    fn read(&self, _: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count + self.more)
    }

    fn file(&self, _: &Key) -> io::Result<Option<Arc<File>>> {
        Ok(self.file.clone())
    }
}

fn lies(dir: &Path, liar: Liar) -> Overlay {
    let Caller { uid, gid, .. } = me();
    let layers = vec![Attached { at: "".into(), layer: Arc::new(liar) }];
    Overlay::open(Options { layers, delta: dir.join("delta"), uid, gid }).expect("opens")
}

#[test]
fn a_layer_that_lies_about_a_length_is_found_out() {
    let real = tempfile::tempfile().expect("a file");
    real.write_all_at(b"content", 0).expect("written");
    let real = Arc::new(real);
    for (size, more, file) in [
        (9, 0, None),
        (9, 0, Some(&real)),
        (u64::MAX, 0, None),
        (i64::MAX as u64, 0, Some(&real)),
        (7, 1, None),
        (7, usize::MAX / 2, None),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let liar = Liar { size, content: b"content", more, file: file.cloned() };
        let overlay = lies(dir.path(), liar);
        let ino = find(&overlay, "file").expect("there").ino;
        let mut buf = [0; 100];
        assert_eq!(overlay.read(ino, 0, &mut buf), Err(Errno::EIO), "{size} {more}");
        let written = overlay.write(ino, 0, b"x", None);
        assert!(matches!(written, Err(Errno::EIO | Errno::EFBIG)), "{size} {more}: {written:?}");
        let new = overlay.create(me(), ROOT, b"new", 0o600).expect("made").ino;
        assert_eq!(overlay.copy_range((ino, 0), (new, 0), 99, None), Err(Errno::EIO));
        // What could not be copied can be replaced.
        let set = SetAttr { size: Some(0), ..SetAttr::default() };
        overlay.setattr(me(), ino, &set).expect("cut");
        overlay.write(ino, 0, b"new", None).expect("written");
        assert_eq!(overlay.read(ino, 0, &mut buf), Ok(3));
    }
    // One that has more than it says is cut there.
    for file in [None, Some(&real)] {
        let dir = tempfile::tempdir().expect("a directory");
        let liar = Liar { size: 4, content: b"content", more: 0, file: file.cloned() };
        let overlay = lies(dir.path(), liar);
        let attr = find(&overlay, "file").expect("there");
        assert_eq!(content(&overlay, &attr).expect("reads"), b"cont");
        overlay.write(attr.ino, 4, b"!", None).expect("written");
        let attr = find(&overlay, "file").expect("there");
        assert_eq!(content(&overlay, &attr).expect("reads"), b"cont!");
    }
}

#[test]
fn names_and_links_that_cannot_be_are_not_there() {
    for (size, content, expected) in [
        (0, &b""[..], Err(Errno::EIO)),
        (4, b"a\0b", Err(Errno::EIO)),
        (3, b"a\0b", Err(Errno::EIO)),
        (4096, &[b'x'; 4096], Err(Errno::ENAMETOOLONG)),
        (u64::MAX, b"x", Err(Errno::ENAMETOOLONG)),
        (4095, &[b'x'; 4095], Ok(vec![b'x'; 4095])),
        (9, b"/etc/away", Ok(b"/etc/away".to_vec())),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let overlay = lies(dir.path(), Liar { size, content, more: 0, file: None });
        let link = find(&overlay, "link").expect("there");
        assert_eq!(overlay.readlink(link.ino), expected, "{size}");
        assert_eq!(names(&overlay, ROOT, 3), ["file", "link", "loop"]);
        assert_eq!(find(&overlay, "file").expect("there").kind, FileKind::File);
        for (name, errno) in [
            (&b"a/b"[..], Errno::EINVAL),
            (b"..", Errno::EINVAL),
            (b"", Errno::EINVAL),
            (&[b'n'; 256], Errno::ENAMETOOLONG),
            (&[b'n'; 4096], Errno::ENAMETOOLONG),
        ] {
            assert_eq!(overlay.lookup(ROOT, name).expect_err("refused"), errno);
        }
    }
}

#[test]
fn a_directory_that_holds_itself_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let overlay = lies(dir.path(), Liar { size: 7, content: b"content", more: 0, file: None });
    let mut at = ROOT;
    let mut depth = 0;
    let end = loop {
        match overlay.lookup(at, b"loop") {
            Ok(attr) => (at, depth) = (attr.ino, depth + 1),
            Err(errno) => break errno,
        }
    };
    assert_eq!((end, depth), (Errno::ENAMETOOLONG, 2048));
    // A change down there would be one record about every directory above: too long for the log.
    let made = overlay.create(me(), at, b"new", 0o600);
    assert_eq!(made.expect_err("refused"), Errno::ENAMETOOLONG);
    assert_eq!(names(&overlay, ROOT, 3), ["file", "link", "loop"]);
}
