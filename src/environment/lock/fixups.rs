//! What must be changed in published files before they can be used from where they are.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What must be changed in a tool's unpacked files before they can be used from where they
/// are. Applied in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixups {
    /// Left out: paths, or with `*` anywhere in them patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Top directories that are merged into others (`lib` into `usr/lib`); a link stays.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub merge: BTreeMap<String, String>,
    /// Symbolic links made: from path to target, relative to the tree's root.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Lists of further links, JSON as in `[{"source": "lib/x.so.1.2", "target": "lib/x.so.1"}]`:
    /// a link from `target` to `source` each, relative to the tree's root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<String>,
    /// Files that must be executable and were not published so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub executable: Vec<String>,
    /// The loader and libraries of the programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elf: Option<Elf>,
    /// Texts replaced in files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<Replace>,
    /// Files written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<Write>,
    /// Commands run at last, in the tree and with nothing else in their environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<Vec<String>>,
}

/// How programs find their C library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elf {
    /// The loader.
    pub interpreter: String,
    /// Directories of libraries, in order.
    pub libraries: Vec<String>,
    /// Programs keep the machine's own loader if that is at least as new as this C
    /// library; for programs that are made, not for those that are brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libc: Option<String>,
    /// Its libraries are loaded by programs of other trees as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
}

impl Elf {
    /// Every path that it names.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let shared = self.shared.iter();
        (self.libraries.iter().chain([&self.interpreter]).map(String::as_str))
            .chain(shared.flat_map(|s| s.more.iter().chain([&s.directory]).map(String::as_str)))
    }
}

/// A directory of links to a tree's libraries, for programs that have a C library already:
/// two of them in one process are a crash. It is the search path of every library of the
/// tree, so that each finds those that it needs, whoever loads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Where it is made.
    pub directory: String,
    /// Names that are left out, or with `*` patterns: the C library's own, and what a
    /// compiler brings.
    pub without: Vec<String>,
    /// Directories whose libraries are linked to besides, where there are such: those that
    /// `update-alternatives` chooses from. The first that has a name wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
}

impl Shared {
    /// Whether a library is the C library's own, by its name.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_bytes();
        self.without.iter().any(|pattern| fits(pattern.as_bytes(), name))
    }
}

/// A text replaced in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The file; with `*` every file that fits.
    pub file: String,
    /// What stands there.
    pub from: String,
    /// What shall stand there.
    pub to: String,
    /// Not every version has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A file written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Where.
    pub file: String,
    /// What.
    pub text: String,
    /// It is a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Fixups {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Fixups::default()
    }

    /// Adds those of `other` after one's own.
    pub fn extend(&mut self, other: Fixups) {
        self.exclude.extend(other.exclude);
        self.merge.extend(other.merge);
        self.links.extend(other.links);
        self.lists.extend(other.lists);
        self.executable.extend(other.executable);
        self.elf = match (self.elf.take(), other.elf) {
            (Some(own), Some(other)) => Some(Elf { shared: other.shared.or(own.shared), ..other }),
            (own, other) => other.or(own),
        };
        self.replace.extend(other.replace);
        self.write.extend(other.write);
        self.run.extend(other.run);
    }
}

/// Whether `text` fits a pattern in which `*` stands for anything, `/` included.
pub fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let mut pieces = pattern.split(|b| *b == b'*');
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        let at = rest.windows(piece.len().max(1)).position(|w| w == piece);
        match at.or(piece.is_empty().then_some(0)) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*.a", "usr/lib/libx.a", true),
            ("*.a", "usr/lib/libx.an", false),
            ("usr/lib/_sys*.py", "usr/lib/_sysconfig.py", true),
            ("usr/*/gcc/*/x", "usr/lib/gcc/12/x", true),
            ("usr/*/gcc/*/x", "usr/lib/gcx/12/x", false),
            ("usr", "usr", true),
            ("usr", "usr/lib", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
