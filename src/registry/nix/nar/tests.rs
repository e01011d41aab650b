//! Archives as Nix makes them, and as nobody should.

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Archives, written word by word.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn of(words: &[&str]) -> Text {
        let mut text = Text::default();
        text.words(words);
        text
    }

    fn words(&mut self, words: &[&str]) -> &mut Text {
        for word in words {
            self.0.extend((word.len() as u64).to_le_bytes());
            self.0.extend(word.as_bytes());
            self.0.resize(self.0.len().next_multiple_of(8), 0);
        }
        self
    }

    /// A directory of empty files with these names.
    fn files(names: &[&str]) -> Text {
        let mut text = Text::of(&["nix-archive-1", "(", "type", "directory"]);
        for name in names {
            text.words(&["entry", "(", "name", name, "node"]);
            text.words(&["(", "type", "regular", "contents", "", ")", ")"]);
        }
        text.words(&[")"]);
        text
    }

    fn unpack(&self, dest: &Path) -> Result<(), NarError> {
        let (hash, size) = (Digest::sha256(&self.0), self.0.len() as u64);
        parse(&mut Cursor::new(&self.0), &Expected { hash, size }, &mut Writer(dest))
    }

    #[track_caller]
    fn refused(&self, said: &str) {
        let dir = tempfile::tempdir().unwrap();
        let e = self.unpack(&dir.path().join("x")).unwrap_err().to_string();
        assert!(e.contains(said), "{e}");
    }
}

/// What `mkdir -p $out/bin; echo hi > $out/bin/greet; ln -s /nonexistent $out/link` made, as
/// Nix 2.8 packs it.
fn greet() -> Text {
    Text::of(&[
        "nix-archive-1",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        "bin",
        "node",
        "(",
        "type",
        "directory",
        "entry",
        "(",
        "name",
        "greet",
        "node",
        "(",
        "type",
        "regular",
        "contents",
        "hi\n",
        ")",
        ")",
        ")",
        ")",
        "entry",
        "(",
        "name",
        "link",
        "node",
        "(",
        "type",
        "symlink",
        "target",
        "/nonexistent",
        ")",
        ")",
        ")",
    ])
}

#[test]
fn what_nix_packs() {
    let text = greet();
    // `nix-hash --type sha256` of the path; see also the narinfo in `narinfo`'s tests.
    let hash = "f369d0be8b42034f86306297f6fa4d2aad22e4ba96a047bd0c8c1a09a41f73e4";
    assert_eq!(text.0.len(), 656);
    assert_eq!(Digest::sha256(&text.0).hex(), hash);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("x");
    text.unpack(&dest).unwrap();
    assert_eq!(fs::read_to_string(dest.join("bin/greet")).unwrap(), "hi\n");
    assert_eq!(fs::read_link(dest.join("link")).unwrap(), Path::new("/nonexistent"));
    assert_eq!(fs::metadata(dest.join("bin/greet")).unwrap().permissions().mode() & 0o111, 0);
}

#[test]
fn a_program_alone() {
    let elf = format!("\x7fELF\x02\x01{}\x3e\0rest", "\0".repeat(12));
    let text = Text::of(&[
        "nix-archive-1",
        "(",
        "type",
        "regular",
        "executable",
        "",
        "contents",
        &elf,
        ")",
    ]);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("x");
    text.unpack(&dest).unwrap();
    assert_eq!(fs::metadata(&dest).unwrap().permissions().mode() & 0o777, 0o755);
    let packed = dir.path().join("packed");
    fs::write(&packed, &text.0).unwrap();
    let expected = Expected { hash: Digest::sha256(&text.0), size: text.0.len() as u64 };
    assert_eq!(machine(&packed, Compression::None, &expected).unwrap(), Some(62));
    let e = machine(&packed, Compression::Xz, &expected).unwrap_err();
    assert!(matches!(e, NarError::Damaged { .. }), "{e}");
}

#[test]
fn hostile_names() {
    for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
        Text::files(&[name]).refused("it has a file called");
    }
    Text::files(&["b", "a"]).refused("`a` comes after `b`");
    Text::files(&["a", "a"]).refused("`a` comes after `a`");
    Text::files(&[&"n".repeat(256)]).refused("a text of 256 bytes");
    let mut deep = Text::of(&["nix-archive-1"]);
    for _ in 0..=DEEPEST {
        deep.words(&["(", "type", "directory", "entry", "(", "name", "d", "node"]);
    }
    let (hash, size) = (Digest::sha256(&deep.0), 1 << 20);
    let mut sink = Machine(None);
    let e = parse(&mut Cursor::new(&deep.0), &Expected { hash, size }, &mut sink).unwrap_err();
    assert!(matches!(e, NarError::Deep), "{e}");
}

#[test]
fn a_link_is_never_followed() {
    // The link is there already when a file of its name comes, and that is refused.
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let mut text = Text::of(&["nix-archive-1", "(", "type", "directory"]);
    text.words(&["entry", "(", "name", "a", "node", "(", "type", "symlink", "target"]);
    text.words(&[outside.to_str().unwrap(), ")", ")"]);
    text.words(&["entry", "(", "name", "a", "node", "(", "type", "directory", "entry", "("]);
    text.words(&["name", "b", "node", "(", "type", "regular", "contents", "x"]);
    text.words(&[")", ")", ")", ")", ")"]);
    let e = text.unpack(&dir.path().join("x")).unwrap_err();
    assert!(matches!(e, NarError::Order { .. }), "{e}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_is_no_archive() {
    Text::of(&["nix-archive-2"]).refused("`nix-archive-2` stands where `nix-archive-1` should");
    Text::of(&["nix-archive-1", "(", "type", "device", ")"]).refused("a type of file");
    let link = |target| Text::of(&["nix-archive-1", "(", "type", "symlink", "target", target, ")"]);
    link("").refused("leads nowhere");
    link("a\0b").refused("leads nowhere");
    link(&"t".repeat(4096)).refused("a text of 4096 bytes");
    let mut padded = Text::of(&["nix-archive-1"]);
    padded.0[21] = 1;
    padded.refused("padding");
    let mut huge = Text::of(&["nix-archive-1", "(", "type", "regular", "contents"]);
    huge.0.extend(u64::MAX.to_le_bytes());
    huge.refused("goes on after");
    greet().words(&["x"]).refused("something stands behind its end");
}

#[test]
fn every_other_archive_is_refused() {
    let text = greet();
    let expected = Expected { hash: Digest::sha256(&text.0), size: text.0.len() as u64 };
    let read = |bytes: &[u8]| parse(&mut Cursor::new(bytes), &expected, &mut Machine(None));
    read(&text.0).unwrap();
    for at in 0..text.0.len() {
        let e = read(&text.0[..at]).unwrap_err();
        assert!(matches!(e, NarError::Truncated { .. }), "{at}: {e}");
        let mut edited = text.0.clone();
        edited[at] ^= 1;
        read(&edited).unwrap_err();
    }
    let longer = [text.0.as_slice(), b"x"].concat();
    assert!(matches!(read(&longer), Err(NarError::Longer { .. })));
    let size = expected.size;
    for (size, longer) in [(size - 8, true), (size + 8, false)] {
        let expected = Expected { size, ..expected };
        let e = parse(&mut Cursor::new(&text.0), &expected, &mut Machine(None)).unwrap_err();
        assert_eq!(matches!(e, NarError::Longer { .. }), longer, "{e}");
    }
}
