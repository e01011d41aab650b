//! Directories of the store, kept in memory once read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::contents;
use super::error::StoreError;
use super::format::pack::TREE_FRAME;
use super::format::tree::{self, Entry, Kind};
use super::format::{FormatError, RecordId, TreeId};
use super::objects::Objects;
use super::pack::FrameBuilder;

/// Half of the entries kept in memory (a quarter of a kilobyte each).
const CACHED_ENTRIES: usize = 100_000;

/// One directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// What is in it, in the order of the names' bytes.
    pub entries: Vec<Entry>,
}

impl Tree {
    /// What stands at `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| (*entry.name).cmp(name)).ok()?;
        self.entries.get(at)
    }
}

/// The trees that were read last: when `young` is full it becomes `old`, and what is found
/// in `old` becomes young again.
#[derive(Default)]
pub struct TreeCache {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<TreeId, Arc<Tree>>,
    old: HashMap<TreeId, Arc<Tree>>,
    young_entries: usize,
}

impl Generations {
    fn get(&mut self, id: &TreeId) -> Option<Arc<Tree>> {
        if let Some(tree) = self.young.get(id) {
            return Some(Arc::clone(tree));
        }
        let tree = self.old.remove(id)?;
        self.put(*id, &tree);
        Some(tree)
    }

    fn put(&mut self, id: TreeId, tree: &Arc<Tree>) {
        // A directory without entries takes memory too.
        self.young_entries += tree.entries.len() + 1;
        self.young.insert(id, Arc::clone(tree));
        if self.young_entries > CACHED_ENTRIES {
            self.old = std::mem::take(&mut self.young);
            self.young_entries = 0;
        }
    }
}

impl TreeCache {
    /// The tree `id`, read if need be.
    pub fn get(&self, objects: &Objects, id: &TreeId) -> Result<Arc<Tree>, StoreError> {
        let generations = || self.generations.lock().expect("nothing panics with it held");
        if let Some(tree) = generations().get(id) {
            return Ok(tree);
        }
        let entries = objects.read(&RecordId::tree(id), |bytes| tree::decode(id, bytes))?;
        let tree = Arc::new(Tree { entries });
        generations().put(*id, &tree);
        Ok(tree)
    }

    /// Reads those of `ids` that are not in memory, with one look-up for all. What cannot be
    /// read now is told when it is asked for.
    pub fn fetch(
        &self,
        objects: &Objects,
        ids: impl Iterator<Item = TreeId>,
    ) -> Result<(), StoreError> {
        let generations = || self.generations.lock().expect("nothing panics with it held");
        let missing: Vec<TreeId> = {
            let mut generations = generations();
            ids.filter(|id| generations.get(id).is_none()).collect()
        };
        if missing.len() < 2 {
            return Ok(());
        }
        let records: Vec<_> = missing.iter().map(RecordId::tree).collect();
        for (id, location) in missing.iter().zip(objects.locate_all(&records)?) {
            let Some(location) = location else { continue };
            let read = objects.read_at(&RecordId::tree(id), &location, |b| tree::decode(id, b));
            if let Ok(entries) = read {
                generations().put(*id, &Arc::new(Tree { entries }));
            }
        }
        Ok(())
    }
}

/// Puts a composed directory into the store. What it refers to must be there.
pub fn put(
    objects: &Objects,
    cache: &TreeCache,
    mut entries: Vec<Entry>,
) -> Result<TreeId, StoreError> {
    let unrepresentable =
        |source| StoreError::Unrepresentable { path: Path::new(".").to_owned(), source };
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for entry in &entries {
        match &entry.kind {
            Kind::File { id, size, .. } => match contents::size(objects, id)? {
                Some(found) if found == *size => {}
                Some(_) => {
                    let why = "a file is not as long as is said";
                    return Err(unrepresentable(FormatError::Invalid { what: "a tree", why }));
                }
                None => return Err(StoreError::Missing { record: RecordId::data(id) }),
            },
            Kind::Directory(id) => {
                cache.get(objects, id)?;
                // What is in memory may have been collected since.
                let record = RecordId::tree(id);
                if !objects.contains(&record)? {
                    return Err(StoreError::Missing { record });
                }
            }
            Kind::Symlink(_) => {}
        }
    }
    let (id, bytes) = tree::encode(&entries).map_err(unrepresentable)?;
    let writer = objects.writer();
    if writer.claim(RecordId::tree(&id))? {
        let mut frame = FrameBuilder::default();
        writer.add(&mut frame, TREE_FRAME, RecordId::tree(&id), &bytes)?;
        writer.flush(&mut frame)?;
    }
    writer.finish()?;
    Ok(id)
}
