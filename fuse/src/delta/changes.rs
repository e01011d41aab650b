//! What a delta changes, found without looking at any layer.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{DeltaError, io_error};
use super::format::{FileKind, ROOT};
use super::index::{Child, Index, Slot, join};
use super::{Data, Delta, log};

/// How something differs from the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// Its content is another, or it took the place of something of the layers.
    Modified,
    /// Its mode, owner, times or attributes are others.
    Metadata,
    /// It is gone.
    Deleted,
    /// It stems from another place of the layers; below a directory everything does.
    Renamed {
        /// That place.
        from: PathBuf,
    },
}

/// One path that differs from the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, relative to the root.
    pub path: PathBuf,
    /// What is there now; for a deletion unknown.
    pub file: Option<FileKind>,
    /// How it differs.
    pub kind: ChangeKind,
    /// Length of the content held in the delta.
    pub bytes: u64,
}

impl Delta {
    /// What the delta in the directory `path` changes, sorted by path. It may be in use: what
    /// was written up to now is seen. A directory that is not there changes nothing.
    pub fn changes(path: &Path) -> Result<Vec<Change>, DeltaError> {
        let log = path.join("log");
        let bytes = match std::fs::read(&log) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read", &log)(error)),
        };
        let index = log::replay(&log, &bytes)?.index;
        let data = path.join("data");
        let data = Data::open(&data).map_err(io_error("open", &data))?;
        Ok(collect(&index, &data))
    }

    /// As [`Delta::changes`], of this open delta.
    pub fn current_changes(&self) -> Vec<Change> {
        collect(&self.read(), &self.data)
    }
}

fn collect(index: &Index, data: &Data) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut moved = HashSet::new();
    let mut todo = vec![(ROOT, Vec::new())];
    while let Some((parent, path)) = todo.pop() {
        let Some(slot) = index.named(parent) else { continue };
        for (cookie, name, child) in slot.children.from(0) {
            let path = join(&path, name);
            let Child::Node { ino, over } = child else {
                changes.push(Change {
                    path: to_path(&path),
                    file: None,
                    kind: ChangeKind::Deleted,
                    bytes: 0,
                });
                continue;
            };
            let Some(slot) = index.named(ino) else { continue };
            if let Some(kind) = kind_of(slot, over, &path) {
                if let ChangeKind::Renamed { from } = &kind {
                    moved.insert(from.clone());
                }
                let bytes =
                    if slot.node.own { data.stat(ino).map_or(0, |stat| stat.st_size) } else { 0 };
                let path = to_path(&path);
                changes.push(Change {
                    path,
                    file: Some(slot.node.kind),
                    kind,
                    bytes: bytes as u64,
                });
            }
            // A directory has one place; following only that one, the walk ends.
            if slot.places.last() == Some((parent, cookie)) {
                todo.push((ino, path));
            }
        }
    }
    changes.retain(|change| change.kind != ChangeKind::Deleted || !moved.contains(&change.path));
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn kind_of(slot: &Slot, over: bool, path: &[u8]) -> Option<ChangeKind> {
    let node = &slot.node;
    match &node.origin {
        None if over => Some(ChangeKind::Modified),
        None => Some(ChangeKind::Created),
        Some(origin) if **origin != *path => Some(ChangeKind::Renamed { from: to_path(origin) }),
        Some(_) if node.own => Some(ChangeKind::Modified),
        Some(_) if node.changed => Some(ChangeKind::Metadata),
        Some(_) => None,
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
