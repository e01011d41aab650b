//! A repository's files, seen without caring where they are: a git tree, a directory.
//!
//! Paths are relative, separated by `/`; the root is `""`. What cannot be read is absent:
//! whoever needs the reason reads the file itself.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::ordinary;

/// A file of more bytes than this is absent: no manifest and no lock file is as large.
pub const LARGEST: u64 = 64 << 20;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// The name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub directory: bool,
}

/// A read-only view of a repository's files.
pub trait Files {
    /// The bytes of the file at `path`; `None` where there is no regular file, or one of
    /// more than [`LARGEST`] bytes.
    fn read(&self, path: &str) -> Option<Vec<u8>>;

    /// What is in the directory `dir`, sorted by name; empty where there is none. Names
    /// that are not UTF-8 are left out.
    fn list(&self, dir: &str) -> Vec<FileEntry>;

    /// At most the first `limit` bytes of the file at `path`, however large it is.
    fn read_start(&self, path: &str, limit: usize) -> Option<Vec<u8>> {
        let mut bytes = self.read(path)?;
        bytes.truncate(limit);
        Some(bytes)
    }

    /// Whether there is a regular file at `path`.
    fn exists(&self, path: &str) -> bool {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.list(dir).iter().any(|entry| !entry.directory && entry.name == name)
    }
}

/// A directory on disk. Symbolic links are followed as long as they stay inside.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl Directory {
    /// The files below `root`.
    pub fn new(root: &Path) -> Directory {
        // A root that cannot be resolved does not exist, and then it has no files.
        Directory(root.canonicalize().unwrap_or_else(|_| root.to_owned()))
    }

    fn resolve(&self, path: &str) -> Option<PathBuf> {
        let plain = path.split('/').all(|part| part != ".." && part != ".");
        if path.starts_with('/') || !plain {
            return None;
        }
        self.0.join(path).canonicalize().ok().filter(|found| found.starts_with(&self.0))
    }

    fn open(&self, path: &str) -> Option<File> {
        let found = self.resolve(path)?;
        // Where it was found there was no link: what is one now leads elsewhere.
        ordinary::open_below(&self.0, found.strip_prefix(&self.0).ok()?).ok()
    }
}

impl Files for Directory {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= LARGEST).then_some(bytes)
    }

    fn read_start(&self, path: &str, limit: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(limit as u64).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn list(&self, dir: &str) -> Vec<FileEntry> {
        let Some(Ok(entries)) = self.resolve(dir).map(fs::read_dir) else { return Vec::new() };
        let mut found: Vec<FileEntry> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let kind = entry.file_type().ok()?;
                let directory = match kind.is_symlink() {
                    true => {
                        let path =
                            if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
                        self.resolve(&path)?.is_dir()
                    }
                    false => kind.is_dir(),
                };
                Some(FileEntry { name, directory })
            })
            .collect();
        found.sort();
        found
    }

    fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_some_and(|found| found.is_file())
    }
}

/// Files held in memory, for what is composed rather than checked out.
impl Files for std::collections::BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.get(path).cloned()
    }

    fn list(&self, dir: &str) -> Vec<FileEntry> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut found: Vec<FileEntry> = self
            .range(prefix.clone()..)
            .map_while(|(path, _)| path.strip_prefix(&prefix))
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) => FileEntry { name: name.to_owned(), directory: true },
                None => FileEntry { name: rest.to_owned(), directory: false },
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Files of which one is as it would be if it were written.
pub struct Amended<'a> {
    /// The files as they are.
    pub files: &'a dyn Files,
    /// The one file's path, in a directory that lies in the root.
    pub path: (&'a str, &'a str),
    /// What it holds.
    pub bytes: &'a [u8],
}

impl Files for Amended<'_> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        match path.split_once('/') {
            Some(parts) if parts == self.path => Some(self.bytes.to_owned()),
            _ => self.files.read(path),
        }
    }

    fn read_start(&self, path: &str, limit: usize) -> Option<Vec<u8>> {
        match path.split_once('/') {
            Some(parts) if parts == self.path => {
                Some(self.bytes[..limit.min(self.bytes.len())].to_owned())
            }
            _ => self.files.read_start(path, limit),
        }
    }

    fn exists(&self, path: &str) -> bool {
        path.split_once('/') == Some(self.path) || self.files.exists(path)
    }

    fn list(&self, dir: &str) -> Vec<FileEntry> {
        let mut found = self.files.list(dir);
        let (directory, name) = self.path;
        if dir.is_empty() {
            found.push(FileEntry { name: directory.to_owned(), directory: true });
        } else if dir == directory {
            found.push(FileEntry { name: name.to_owned(), directory: false });
        }
        found.sort();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_does_not_show_what_is_outside() {
        let outer = tempfile::tempdir().expect("a temporary directory");
        let root = outer.path().join("repo");
        fs::create_dir_all(root.join("sub")).expect("made");
        fs::write(outer.path().join("secret"), "s").expect("written");
        fs::write(root.join("sub/file"), "inside").expect("written");
        std::os::unix::fs::symlink("../secret", root.join("out")).expect("linked");
        std::os::unix::fs::symlink("/etc", root.join("etc")).expect("linked");
        std::os::unix::fs::symlink("sub", root.join("in")).expect("linked");
        let files = Directory::new(&root);
        assert_eq!(files.read("sub/file").as_deref(), Some(&b"inside"[..]));
        assert_eq!(files.read("in/file").as_deref(), Some(&b"inside"[..]));
        assert_eq!(files.read_start("sub/file", 2).as_deref(), Some(&b"in"[..]));
        for path in ["out", "../secret", "etc/passwd", "/etc/passwd", "sub", "sub/../../secret", ""]
        {
            assert_eq!(files.read(path), None, "{path}");
            assert!(!files.exists(path), "{path}");
        }
        let names: Vec<(String, bool)> =
            files.list("").into_iter().map(|e| (e.name, e.directory)).collect();
        assert_eq!(names, [("in".to_owned(), true), ("sub".to_owned(), true)]);
    }

    #[test]
    fn a_pipe_is_no_file() {
        let root = tempfile::tempdir().expect("a temporary directory");
        nix::unistd::mkfifo(&root.path().join("package.json"), nix::sys::stat::Mode::S_IRWXU)
            .expect("made");
        assert_eq!(Directory::new(root.path()).read("package.json"), None);
    }

    #[test]
    fn files_in_memory() {
        let files: std::collections::BTreeMap<String, Vec<u8>> =
            [("a/b/c", "1"), ("a/d", "2"), ("ab", "3")]
                .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
                .into();
        let names = |dir| files.list(dir).into_iter().map(|e| e.name).collect::<Vec<_>>();
        assert_eq!(names(""), ["a", "ab"]);
        assert_eq!(names("a"), ["b", "d"]);
        assert!(files.exists("a/d") && !files.exists("a/b"));
    }
}
