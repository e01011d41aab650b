//! Where captured files remember the path they were installed under, and how they are made
//! to speak of another.
//!
//! Installed files hold absolute paths: `.pth` files and `direct_url.json` of editable
//! installs, scripts, generated makefiles, debug information. All of them say
//! [`super::WORKSPACE`], since everything is installed there. What is recorded of a file
//! suffices to know its new length without reading it ([`Relocations::len_after`]); its
//! bytes are rewritten when somebody asks for them ([`rewrite`]).
//!
//! - In a **text** (no NUL byte) every occurrence is replaced; after `file://` it is
//!   percent-encoded.
//! - A **binary** keeps its length, since nothing says what else counts bytes in it: a
//!   shorter path is filled up with slashes (`/a///lib` is `/a/lib`), a longer one does not
//!   fit and the file stays as it is. Where only debug information speaks of the path that
//!   is of no consequence.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memchr::memmem;
use object::{Object, ObjectSection};

use crate::store::{FileId, Kind, Store, StoreError, TreeId};

/// What one file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A text.
    Text {
        /// Occurrences that are replaced as they are.
        plain: u64,
        /// Occurrences after `file://`.
        urls: u64,
    },
    /// A binary.
    Binary {
        /// Some occurrence is outside debug information, so that a program might follow it.
        live: bool,
    },
}

/// Which files of a captured tree speak of the place it was installed at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relocations {
    /// The place.
    pub prefix: String,
    /// The files, by content.
    pub files: BTreeMap<FileId, Holds>,
    /// Where binaries with live occurrences are, relative to the tree's root.
    pub live_binaries: Vec<String>,
}

/// Why a directory could not be relocated.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// The tree cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be rewritten.
    #[error("cannot rewrite `{path}`: {source}")]
    Rewrite {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Whether `bytes` are taken for a binary.
fn is_binary(bytes: &[u8]) -> bool {
    memchr::memchr(0, bytes).is_some()
}

/// Where `prefix` stands in `bytes` as a whole path or the beginning of one.
fn occurrences<'a>(bytes: &'a [u8], prefix: &'a str) -> impl Iterator<Item = usize> + 'a {
    memmem::find_iter(bytes, prefix.as_bytes()).filter(move |at| {
        let continues = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        match bytes.get(at + prefix.len()..).unwrap_or_default() {
            // A full stop may also end a sentence.
            [b'.', after, ..] => !continues(after),
            [next, ..] => !continues(next),
            [] => true,
        }
    })
}

fn is_url(bytes: &[u8], at: usize) -> bool {
    bytes[..at].ends_with(b"file://")
}

/// What `bytes` hold of `prefix`; `None` where they do not.
pub fn scan(bytes: &[u8], prefix: &str) -> Option<Holds> {
    let mut found = occurrences(bytes, prefix).peekable();
    found.peek()?;
    if is_binary(bytes) {
        let debug = debug_only(bytes);
        let live = found.any(|at| !debug.iter().any(|range| range.contains(&(at as u64))));
        return Some(Holds::Binary { live });
    }
    let (mut plain, mut urls) = (0, 0);
    for at in found {
        *(if is_url(bytes, at) { &mut urls } else { &mut plain }) += 1;
    }
    Some(Holds::Text { plain, urls })
}

/// The ranges of an object file that only a debugger reads: all of an intermediate
/// (relocatable) one.
fn debug_only(bytes: &[u8]) -> Vec<std::ops::Range<u64>> {
    if bytes.starts_with(b"!<arch>\n") {
        return std::iter::once(0..bytes.len() as u64).collect();
    }
    let Ok(file) = object::File::parse(bytes) else { return Vec::new() };
    if file.kind() == object::ObjectKind::Relocatable {
        return std::iter::once(0..bytes.len() as u64).collect();
    }
    let debug = file.sections().filter(|section| {
        section.name().is_ok_and(|n| n.starts_with(".debug") || matches!(n, ".comment" | ".strtab"))
    });
    debug.filter_map(|s| s.file_range()).map(|(at, len)| at..at + len).collect()
}

/// `bytes` with every path `from` made `to`. Nothing is copied where nothing changes.
pub fn rewrite<'a>(bytes: &'a [u8], from: &str, to: &str) -> Cow<'a, [u8]> {
    let mut found = occurrences(bytes, from).peekable();
    if found.peek().is_none() || from == to {
        return Cow::Borrowed(bytes);
    }
    let (plain, url) = match is_binary(bytes) {
        true if to.len() > from.len() => return Cow::Borrowed(bytes),
        true => {
            let filled = format!("{to}{}", "/".repeat(from.len() - to.len()));
            (filled.clone(), filled)
        }
        false => (to.to_owned(), percent_encoded(to)),
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for at in found {
        out.extend_from_slice(&bytes[done..at]);
        out.extend_from_slice(if is_url(bytes, at) { url.as_bytes() } else { plain.as_bytes() });
        done = at + from.len();
    }
    out.extend_from_slice(&bytes[done..]);
    Cow::Owned(out)
}

/// A path as it stands in a `file:` URL (RFC 3986, section 3.3).
fn percent_encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@".contains(&b);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match plain(byte) {
            true => out.push(byte.into()),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Relocations {
    /// The length that the file `id`, of `size` bytes as captured, has at `to`.
    pub fn len_after(&self, id: &FileId, size: u64, to: &str) -> u64 {
        let Some(Holds::Text { plain, urls }) = self.files.get(id) else { return size };
        let from = self.prefix.len() as u64;
        // What is taken away was counted in `size`.
        (size + plain * to.len() as u64 + urls * percent_encoded(to).len() as u64)
            .saturating_sub((plain + urls) * from)
    }

    /// Whether the file `id` is another at `to`, and must be rewritten.
    pub fn concerns(&self, id: &FileId, to: &str) -> bool {
        match self.files.get(id) {
            Some(Holds::Text { .. }) => to != self.prefix,
            Some(Holds::Binary { .. }) => to != self.prefix && to.len() <= self.prefix.len(),
            None => false,
        }
    }

    /// The binaries that will go on speaking of the old place at `to`.
    pub fn left_behind(&self, to: &str) -> &[String] {
        if to.len() > self.prefix.len() { &self.live_binaries } else { &[] }
    }

    /// Rewrites the files of `tree` in `dir`, where it was restored to, for the place `to`.
    /// Each is written aside and renamed, so that nothing else that shares its bytes (a hard
    /// link) is touched.
    pub fn apply(
        &self,
        store: &Store,
        tree: &TreeId,
        dir: &Path,
        to: &str,
    ) -> Result<u64, RelocateError> {
        let mut rewritten = 0;
        if self.files.is_empty() {
            return Ok(0);
        }
        for entry in &store.tree(tree)?.entries {
            let path = dir.join(OsStr::from_bytes(&entry.name));
            match &entry.kind {
                Kind::Directory(below) => rewritten += self.apply(store, below, &path, to)?,
                Kind::File { id, .. } if self.concerns(id, to) => {
                    self.replace(&path, to)
                        .map_err(|source| RelocateError::Rewrite { path: path.clone(), source })?;
                    rewritten += 1;
                }
                Kind::File { .. } | Kind::Symlink(_) => {}
            }
        }
        Ok(rewritten)
    }

    fn replace(&self, path: &Path, to: &str) -> io::Result<()> {
        let bytes = std::fs::read(path)?;
        let mode = std::fs::metadata(path)?.permissions();
        let parent = path.parent().unwrap_or(Path::new("."));
        let aside = tempfile::NamedTempFile::new_in(parent)?;
        std::fs::write(aside.path(), rewrite(&bytes, &self.prefix, to))?;
        std::fs::set_permissions(aside.path(), mode)?;
        aside.persist(path).map(drop).map_err(|e| e.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "/zagi/workspace";

    fn relocations(bytes: &[u8]) -> (Relocations, FileId) {
        let id = FileId::of(bytes);
        let files = scan(bytes, FROM).map(|holds| (id, holds)).into_iter().collect();
        (Relocations { prefix: FROM.into(), files, live_binaries: Vec::new() }, id)
    }

    /// The promise: the length is known without the bytes.
    #[track_caller]
    fn check(bytes: &[u8], to: &str, expected: &[u8]) {
        let (relocations, id) = relocations(bytes);
        let after = rewrite(bytes, FROM, to);
        assert_eq!(String::from_utf8_lossy(&after), String::from_utf8_lossy(expected));
        assert_eq!(relocations.len_after(&id, bytes.len() as u64, to), after.len() as u64);
        assert_eq!(relocations.concerns(&id, to), *after != *bytes);
    }

    #[test]
    fn texts_speak_of_the_new_place() {
        check(
            b"#!/zagi/workspace/.venv/bin/python\n",
            "/home/a/b",
            b"#!/home/a/b/.venv/bin/python\n",
        );
        check(b"/zagi/workspace/src\n/zagi/workspace\n", "/w", b"/w/src\n/w\n");
        check(b"nothing here", "/w", b"nothing here");
        check(b"", "/w", b"");
        check(b"/zagi/workspace", "/zagi/workspace", b"/zagi/workspace");
        check(b"-I/zagi/workspace/include", "/w", b"-I/w/include");
        check("é /zagi/workspace é".as_bytes(), "/ü", "é /ü é".as_bytes());
    }

    #[test]
    fn another_path_that_begins_alike_is_left_alone() {
        for other in [
            "/zagi/workspace2/x",
            "/zagi/workspace-old",
            "/zagi/workspace_x",
            "/zagi/workspace.bak",
        ] {
            check(other.as_bytes(), "/w", other.as_bytes());
        }
        check(b"in /zagi/workspace.", "/w", b"in /w.");
        check(b"in /zagi/workspace. And", "/w", b"in /w. And");
    }

    #[test]
    fn urls_are_encoded() {
        let bytes = br#"{"url": "file:///zagi/workspace", "dir": "/zagi/workspace"}"#;
        check(
            bytes,
            "/my dir/ü",
            "{\"url\": \"file:///my%20dir/%C3%BC\", \"dir\": \"/my dir/ü\"}".as_bytes(),
        );
    }

    #[test]
    fn binaries_keep_their_length() {
        check(b"\x7f\0/zagi/workspace/lib\0x", "/root/a", b"\x7f\0/root/a/////////lib\0x");
        check(b"\0/zagi/workspace\0x", "/zagi/workspac2", b"\0/zagi/workspac2\0x");
        check(b"\0/zagi/workspace\0x", "/a/longer/place", b"\0/a/longer/place\0x");
        check(b"\0/zagi/workspace\0x", "/a/longer/place/", b"\0/zagi/workspace\0x");
    }

    #[test]
    fn lengths_hold_for_any_bytes() {
        let seed = std::env::var("ZAGI_TEST_SEED").ok().and_then(|s| s.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| std::process::id().into());
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % n as u64) as usize
        };
        let parts: [&[u8]; 9] =
            [FROM.as_bytes(), b"file://", b"/", b".", b"x", b"\n", b"\0", b"/zagi", "ü".as_bytes()];
        for _ in 0..5_000 {
            let bytes: Vec<u8> =
                (0..next(12)).flat_map(|_| parts[next(parts.len())].to_vec()).collect();
            for to in ["/w", FROM, "/a/much longer/place/ü"] {
                let (relocations, id) = relocations(&bytes);
                let after = rewrite(&bytes, FROM, to);
                let length = relocations.len_after(&id, bytes.len() as u64, to);
                assert_eq!(length, after.len() as u64, "ZAGI_TEST_SEED={seed} {bytes:?} {to}");
            }
        }
    }

    #[test]
    fn what_only_a_debugger_reads_is_not_live() {
        // This program: compiled somewhere, with debug information that says where.
        let program = std::env::current_exe().expect("has a file");
        let bytes = std::fs::read(program).expect("readable");
        let place = std::env!("CARGO_MANIFEST_DIR");
        let Some(Holds::Binary { .. }) = scan(&bytes, place) else {
            panic!("the program holds the place of its source");
        };
        assert_eq!(
            scan(b"!<arch>\n\0/zagi/workspace/x.c", FROM),
            Some(Holds::Binary { live: false })
        );
        assert_eq!(scan(b"\0/zagi/workspace/x.c", FROM), Some(Holds::Binary { live: true }));
        assert_eq!(scan(b"\0/zagi/elsewhere", FROM), None);
    }
}
