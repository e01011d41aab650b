//! Files on disk, made into a git tree and commit. Bytes are taken as they are: no filter,
//! no conversion of line ends. So the same files are the same tree anywhere, and with the
//! same date and message the same commit.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use gix::ObjectId;
use gix::objs::tree::{Entry, EntryKind};
use gix::objs::{Kind, WriteTo as _};
use gix::refs::transaction::PreviousValue;

use super::error::SourceError;
use super::name::{is_name, shown};
use super::pack::Pack;
use crate::ordinary;

/// What a commit is made of; all else of it is fixed.
pub(super) struct Commit {
    pub tree: ObjectId,
    /// Seconds since the epoch.
    pub date: i64,
    pub message: String,
}

/// A directory on its way to becoming a tree.
#[derive(Default)]
struct Node<'a> {
    files: BTreeMap<&'a [u8], &'a [u8]>,
    directories: BTreeMap<&'a [u8], Node<'a>>,
}

/// Every file and link below `root`, seen from there; empty directories are not kept.
pub(super) fn walk(root: &Path) -> Result<Vec<Vec<u8>>, SourceError> {
    let mut found = Vec::new();
    let mut directories = vec![Vec::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(OsStr::from_bytes(&directory));
        for entry in fs::read_dir(&path).map_err(SourceError::io(&path))? {
            let entry = entry.map_err(SourceError::io(&path))?;
            let mut name = directory.clone();
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(entry.file_name().as_bytes());
            match entry.file_type().map_err(SourceError::io(&path))? {
                kind if kind.is_dir() => directories.push(name),
                _ => found.push(name),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes the tree of `files`, each seen from `root`.
pub(super) fn tree(
    pack: &mut Pack<'_>,
    root: &Path,
    files: &[Vec<u8>],
) -> Result<ObjectId, SourceError> {
    let mut top = Node::default();
    for file in files {
        let mut node = &mut top;
        let mut parts = file.split(|&c| c == b'/').peekable();
        while let Some(part) = parts.next() {
            // git refuses to check such a name out, and so do we.
            if !is_name(part) {
                return Err(SourceError::GitInside { path: shown(file) });
            }
            match parts.peek() {
                Some(_) => node = node.directories.entry(part).or_default(),
                None => {
                    node.files.insert(part, file);
                }
            }
        }
    }
    top.write(pack, root)
}

impl Node<'_> {
    fn write(&self, pack: &mut Pack<'_>, root: &Path) -> Result<ObjectId, SourceError> {
        let mut tree = gix::objs::Tree::empty();
        for (name, file) in &self.files {
            let (kind, oid) = blob(pack, root, Path::new(OsStr::from_bytes(file)))?;
            tree.entries.push(Entry { mode: kind.into(), filename: (*name).into(), oid });
        }
        for (name, directory) in &self.directories {
            let oid = directory.write(pack, root)?;
            let mode = EntryKind::Tree.into();
            tree.entries.push(Entry { mode, filename: (*name).into(), oid });
        }
        // git's own order, in which a directory's name ends in a slash.
        tree.entries.sort();
        let mut bytes = Vec::new();
        tree.write_to(&mut bytes).map_err(SourceError::io(root))?;
        pack.add(Kind::Tree, &bytes)
    }
}

fn blob(
    pack: &mut Pack<'_>,
    root: &Path,
    below: &Path,
) -> Result<(EntryKind, ObjectId), SourceError> {
    let path = &root.join(below);
    let there = fs::symlink_metadata(path).map_err(SourceError::io(path))?;
    let (kind, bytes) = match there.is_symlink() {
        true => {
            let target = fs::read_link(path).map_err(SourceError::io(path))?;
            (EntryKind::Link, target.as_os_str().as_bytes().to_vec())
        }
        false => {
            let executable = there.permissions().mode() & 0o111 != 0;
            let kind = if executable { EntryKind::BlobExecutable } else { EntryKind::Blob };
            let mut bytes = Vec::new();
            // It may be another by now.
            let read =
                ordinary::open_below(root, below).and_then(|mut f| f.read_to_end(&mut bytes));
            read.map_err(SourceError::io(path))?;
            (kind, bytes)
        }
    };
    Ok((kind, pack.add(Kind::Blob, &bytes)?))
}

/// The newest modification time among `files`, in seconds since the epoch.
pub(super) fn newest(root: &Path, files: &[Vec<u8>]) -> Option<i64> {
    let time = |file: &Vec<u8>| {
        fs::symlink_metadata(root.join(OsStr::from_bytes(file))).ok().map(|m| m.mtime())
    };
    files.iter().filter_map(time).max()
}

/// Writes a commit without parents, by nobody in particular. Nothing leads to it yet.
pub(super) fn commit(mut pack: Pack<'_>, commit: &Commit) -> Result<ObjectId, SourceError> {
    let nobody = gix::actor::Signature {
        name: "zagi".into(),
        email: "zagi@localhost".into(),
        time: gix::date::Time { seconds: commit.date, offset: 0 },
    };
    let object = gix::objs::Commit {
        tree: commit.tree,
        parents: Default::default(),
        author: nobody.clone(),
        committer: nobody,
        encoding: None,
        message: commit.message.as_str().into(),
        extra_headers: Vec::new(),
    };
    let mut bytes = Vec::new();
    object.write_to(&mut bytes).expect("memory can be written, and the names are plain");
    let id = pack.add(Kind::Commit, &bytes)?;
    pack.finish()?;
    Ok(id)
}

/// Points `refs` at `commit`.
pub(super) fn point(
    repo: &gix::Repository,
    commit: ObjectId,
    refs: &[&str],
) -> Result<(), SourceError> {
    for name in refs {
        repo.reference(*name, commit, PreviousValue::Any, "")
            .map_err(|e| SourceError::repository(repo.git_dir())(Box::new(e)))?;
    }
    Ok(())
}
