//! A commit's files, read from the object database: what detection looks at.

use std::path::Path;

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::tree::EntryKind;

use super::bare;
use super::error::SourceError;
use crate::environment::files::{FileEntry, Files, LARGEST};

/// How many links are followed one after another, as Linux has it.
const LINKS: usize = 40;

/// The files of one tree. Symbolic links are followed as long as they stay inside.
pub struct GitFiles {
    repo: gix::Repository,
    tree: ObjectId,
}

impl GitFiles {
    /// The files of `tree` (in hexadecimal) in the repository at `repo`.
    pub fn open(repo: &Path, tree: &str) -> Result<GitFiles, SourceError> {
        let error = |e| SourceError::repository(repo)(e);
        let tree = ObjectId::from_hex(tree.as_bytes()).map_err(|e| error(Box::new(e)))?;
        let repo = bare::open(repo)?;
        repo.find_tree(tree).map_err(|e| error(Box::new(e)))?;
        Ok(GitFiles { repo, tree })
    }

    /// What stands at `path`, after following links; `None` where nothing does.
    fn find(&self, path: &str) -> Option<(EntryKind, ObjectId)> {
        // Components that are still to be walked, the next one last.
        let mut ahead: Vec<String> = path.rsplit('/').map(ToOwned::to_owned).collect();
        let mut walked: Vec<(String, ObjectId)> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    walked.pop()?;
                    continue;
                }
                _ => {}
            }
            let here = walked.last().map_or(self.tree, |(_, id)| *id);
            let tree = self.repo.find_tree(here).ok()?;
            let entry = tree.find_entry(part.as_str())?;
            let (kind, id) = (entry.mode().kind(), entry.object_id());
            match kind {
                EntryKind::Tree => walked.push((part, id)),
                EntryKind::Link => {
                    links += 1;
                    let target = self.repo.find_blob(id).ok()?;
                    let target = target.data.to_str().ok()?;
                    if links > LINKS || target.starts_with('/') {
                        return None;
                    }
                    ahead.extend(target.rsplit('/').map(ToOwned::to_owned));
                }
                _ => return ahead.is_empty().then_some((kind, id)),
            }
        }
        Some((EntryKind::Tree, walked.last().map_or(self.tree, |(_, id)| *id)))
    }

    fn blob(&self, path: &str) -> Option<ObjectId> {
        // The trait's paths are plain; only links may climb.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return None;
        }
        let (kind, id) = self.find(path)?;
        matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable).then_some(id)
    }
}

impl Files for GitFiles {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let id = self.blob(path)?;
        if self.repo.find_header(id).ok()?.size() > LARGEST {
            return None;
        }
        Some(self.repo.find_blob(id).ok()?.detach().data)
    }

    fn list(&self, dir: &str) -> Vec<FileEntry> {
        let plain = dir.is_empty() || !dir.split('/').any(|part| matches!(part, "" | "." | ".."));
        let Some((EntryKind::Tree, id)) = plain.then(|| self.find(dir)).flatten() else {
            return Vec::new();
        };
        let Ok(tree) = self.repo.find_tree(id) else { return Vec::new() };
        let entry = |name: &str, kind: EntryKind| {
            let directory = match kind {
                EntryKind::Tree | EntryKind::Commit => true,
                EntryKind::Blob | EntryKind::BlobExecutable => false,
                EntryKind::Link => {
                    let path =
                        if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
                    self.find(&path)?.0 == EntryKind::Tree
                }
            };
            Some(FileEntry { name: name.to_owned(), directory })
        };
        let entries = tree.iter().flatten();
        let mut found: Vec<FileEntry> = entries
            .filter_map(|item| entry(item.filename().to_str().ok()?, item.mode().kind()))
            .collect();
        found.sort();
        found
    }

    fn exists(&self, path: &str) -> bool {
        self.blob(path).is_some()
    }
}
