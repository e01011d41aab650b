//! What is needed: everything that can be reached from the roots.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::store::error::StoreError;
use crate::store::format::content::Recipe;
use crate::store::format::delta::Delta;
use crate::store::format::tree::{self, Kind};
use crate::store::format::{FileId, RecordId, RecordKind, TreeId};
use crate::store::objects::Objects;
use crate::store::parallel;
use crate::store::progress::Progress;

/// Chunk lists and deltas that a thread reads at once.
const BATCH: usize = 256;

/// The first eight bytes of an id, which is a hash already.
type Prefixes = HashSet<u64, BuildHasherDefault<Prefix>>;

#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, prefix: u64) {
        self.0 = prefix;
    }
}

fn prefix(id: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The ids that are needed. Trees are remembered wholly: one taken for another would not be
/// looked into. Contents, of which there are many times more, by eight bytes: one taken for
/// another only stays in vain.
#[derive(Default)]
pub struct Needed {
    trees: HashSet<TreeId>,
    contents: Prefixes,
    /// Chunk lists and deltas that were looked into, wholly as well: one taken for another
    /// would lose its chunks.
    expanded: HashSet<RecordId>,
}

impl Needed {
    /// Whether the record is needed. A content is in each of its forms.
    pub fn has(&self, id: &RecordId) -> bool {
        match id.kind {
            RecordKind::Tree | RecordKind::Links => self.trees.contains(&TreeId::from_bytes(id.id)),
            RecordKind::Data | RecordKind::Recipe | RecordKind::Delta => {
                self.contents.contains(&prefix(&id.id))
            }
        }
    }

    /// Whether the content is needed.
    pub fn has_content(&self, id: &FileId) -> bool {
        self.contents.contains(&prefix(id.as_bytes()))
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// How many directories are needed.
    pub fn trees(&self) -> u64 {
        self.trees.len() as u64
    }

    /// Adds `root` and all below it, except for what `self` or `before` has.
    pub fn add(
        &mut self,
        objects: &Objects,
        root: &TreeId,
        before: Option<&Needed>,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let mut pending = vec![*root];
        while let Some(id) = pending.pop() {
            if self.trees.contains(&id) || before.is_some_and(|b| b.trees.contains(&id)) {
                continue;
            }
            // Not through the cache of trees: nobody looks at most of these again.
            let entries = objects.read(&RecordId::tree(&id), |bytes| tree::decode(&id, bytes))?;
            self.trees.insert(id);
            progress.add(1);
            for entry in entries {
                match entry.kind {
                    Kind::File { id, .. } if before.is_none_or(|b| !b.has_content(&id)) => {
                        self.contents.insert(prefix(id.as_bytes()));
                    }
                    Kind::File { .. } => {}
                    Kind::Directory(id) => pending.push(id),
                    Kind::Symlink(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Adds what the contents that are needed are made of.
    pub fn add_parts(&mut self, objects: &Objects) -> Result<(), StoreError> {
        if self.is_empty() {
            return Ok(());
        }
        loop {
            let mut lists = Vec::new();
            let mut deltas = false;
            objects.index().each(&mut |row| {
                let of_parts = matches!(row.id.kind, RecordKind::Recipe | RecordKind::Delta);
                if of_parts && self.has(&row.id) && self.expanded.insert(row.id) {
                    deltas |= row.id.kind == RecordKind::Delta;
                    lists.push((row.pack, row.frame, row.id));
                }
            })?;
            // In the order in which they lie, so that each frame is decoded about once.
            lists.sort_unstable_by_key(|(pack, frame, _)| (*pack, *frame));
            let jobs: Vec<_> = lists.chunks(BATCH).collect();
            let parts = parallel::run(jobs, |queue| {
                let mut parts = Prefixes::default();
                while let Some(lists) = queue.next() {
                    lists.iter().try_for_each(|(.., id)| read_parts(objects, id, &mut parts))?;
                }
                Ok::<_, StoreError>(parts)
            })?;
            parts.into_iter().for_each(|parts| self.contents.extend(parts));
            // A delta's base may be a chunk list, a chunk is nothing more.
            if !deltas {
                return Ok(());
            }
        }
    }

    /// Adds all that `other` has.
    pub fn join(&mut self, other: Needed) {
        self.trees.extend(other.trees);
        self.contents.extend(other.contents);
        self.expanded.extend(other.expanded);
    }
}

/// Adds the contents that a chunk list or a delta names.
fn read_parts(objects: &Objects, id: &RecordId, parts: &mut Prefixes) -> Result<(), StoreError> {
    match id.kind {
        RecordKind::Recipe => {
            let recipe = objects.read(id, Recipe::decode)?;
            parts.extend(recipe.chunks.iter().map(|(_, id)| prefix(id.as_bytes())));
        }
        RecordKind::Delta => {
            parts.insert(prefix(objects.read(id, Delta::decode)?.base.as_bytes()));
        }
        RecordKind::Data | RecordKind::Tree | RecordKind::Links => {}
    }
    Ok(())
}
