//! Everything that a tree needs: is it there?
//!
//! First each tree is looked at once, however many trees hold it, and the number of damaged
//! paths in it is remembered. Paths are named by a second walk, which goes only where there
//! is something to name and ends when enough are. So memory is a small entry a tree.

use std::collections::{HashMap, HashSet};

use super::findings::{Counted, DamagedPath, KEPT_PATHS};
use super::view::View;
use crate::store::error::StoreError;
use crate::store::format::content::Recipe;
use crate::store::format::delta::Delta;
use crate::store::format::tree::{self, Entry, Kind};
use crate::store::format::{FileId, FormatError, RecordId, RecordKind, TreeId};
use crate::store::objects::Objects;
use crate::store::progress::Progress;

/// Chunks that are looked up at once.
const BATCH: usize = 8192;

/// Something that must stay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootTree {
    /// Its ref's or lease's name.
    pub name: String,
    /// What it means.
    pub tree: TreeId,
}

/// What is damaged among all that the roots need.
#[derive(Debug, Default)]
pub struct Lack {
    /// Records that cannot be had. Of a file that has none at all, its `Data` record.
    pub records: HashSet<RecordId>,
    /// Files that cannot be had, and how long they are.
    pub files: HashMap<FileId, u64>,
}

/// A walk over all that roots need.
pub struct Closure<'a> {
    view: &'a dyn View,
    progress: &'a Progress,
    /// Damaged paths in each tree.
    counts: HashMap<TreeId, u64>,
    /// Files of several chunks that are all there.
    joined: HashSet<FileId>,
    lack: Lack,
}

/// A directory whose entries are being looked at.
struct Open {
    id: TreeId,
    entries: Vec<Entry>,
    next: usize,
    count: u64,
}

impl<'a> Closure<'a> {
    /// A walk in what `view` has.
    pub fn new(view: &'a dyn View, progress: &'a Progress) -> Closure<'a> {
        let (counts, joined, lack) = Default::default();
        Closure { view, progress, counts, joined, lack }
    }

    /// The number of damaged paths in a tree; a directory that cannot be read is one.
    pub fn count(&mut self, root: &TreeId) -> Result<u64, StoreError> {
        let mut open = Vec::new();
        let mut last = self.enter(root, &mut open)?;
        while let Some(top) = open.last_mut() {
            top.count = top.count.saturating_add(last);
            last = 0;
            match top.entries.get(top.next).map(|entry| entry.kind.clone()) {
                Some(kind) => {
                    top.next += 1;
                    if let Kind::Directory(id) = kind {
                        last = self.enter(&id, &mut open)?;
                    }
                }
                None => {
                    last = top.count;
                    self.counts.insert(top.id, top.count);
                    open.pop();
                }
            }
        }
        Ok(last)
    }

    /// Gives what is known of a tree, or 0 and looks into it.
    fn enter(&mut self, id: &TreeId, open: &mut Vec<Open>) -> Result<u64, StoreError> {
        if let Some(count) = self.counts.get(id) {
            return Ok(*count);
        }
        self.progress.add(1);
        let Some(entries) = self.read(id)? else {
            self.lack.records.insert(RecordId::tree(id));
            self.counts.insert(*id, 1);
            return Ok(1);
        };
        let count = self.bad_files(&entries)?.len() as u64;
        open.push(Open { id: *id, entries, next: 0, count });
        Ok(0)
    }

    fn read(&self, id: &TreeId) -> Result<Option<Vec<Entry>>, StoreError> {
        let bytes = self.view.bytes(&RecordId::tree(id))?;
        Ok(bytes.and_then(|bytes| tree::decode(id, &bytes).ok()))
    }

    /// Which of a directory's entries are files that cannot be had.
    fn bad_files(&mut self, entries: &[Entry]) -> Result<HashSet<usize>, StoreError> {
        let file = |(no, entry): (usize, &Entry)| match entry.kind {
            Kind::File { id, size, .. } if id != FileId::of(b"") => Some((no, id, size)),
            _ => None,
        };
        let files: Vec<_> = entries.iter().enumerate().filter_map(file).collect();
        let ids: Vec<_> = files.iter().map(|(_, id, _)| RecordId::data(id)).collect();
        let mut bad = HashSet::new();
        for ((no, id, size), length) in files.into_iter().zip(self.view.lengths(&ids)?) {
            let is_sound = match length {
                Some(length) => u64::from(length) == size,
                None => self.has_parts(&id)?,
            };
            if !is_sound {
                bad.insert(no);
                self.lack.files.insert(id, size);
            }
        }
        Ok(bad)
    }

    /// Whether all parts of a file that is not one record are there.
    fn has_parts(&mut self, id: &FileId) -> Result<bool, StoreError> {
        if self.joined.contains(id) {
            return Ok(true);
        }
        let forms = [RecordId::data(id), RecordId::recipe(id), RecordId::delta(id)];
        let Some(form) = self.first_known(&forms)? else {
            self.lack.records.insert(RecordId::data(id));
            return Ok(false);
        };
        let is_sound = match form.kind {
            RecordKind::Recipe => self.has_chunks(&form)?,
            RecordKind::Delta => match self.decoded(&form, Delta::decode)? {
                Some(delta) => self.has_base(&delta)?,
                None => false,
            },
            // It is known and cannot be had.
            _ => {
                self.lack.records.insert(form);
                false
            }
        };
        if is_sound {
            self.joined.insert(*id);
        }
        Ok(is_sound)
    }

    /// The one of `ids` that a reader would read.
    fn first_known(&self, ids: &[RecordId]) -> Result<Option<RecordId>, StoreError> {
        for id in ids {
            if self.view.is_known(id)? {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// What is in a record; nothing, and the record is noted, if it cannot be had.
    fn decoded<R>(
        &mut self,
        id: &RecordId,
        decode: impl Fn(&[u8]) -> Result<R, FormatError>,
    ) -> Result<Option<R>, StoreError> {
        let decoded = self.view.bytes(id)?.and_then(|bytes| decode(&bytes).ok());
        if decoded.is_none() {
            self.lack.records.insert(*id);
        }
        Ok(decoded)
    }

    fn has_base(&mut self, delta: &Delta) -> Result<bool, StoreError> {
        let forms = [RecordId::data(&delta.base), RecordId::recipe(&delta.base)];
        match self.first_known(&forms)? {
            Some(form) if form.kind == RecordKind::Recipe => self.has_chunks(&form),
            form => {
                let length = self.view.lengths(&forms[..1])?[0];
                let is_sound = length.is_some_and(|length| u64::from(length) == delta.base_size);
                if !is_sound {
                    self.lack.records.insert(form.unwrap_or(forms[0]));
                }
                Ok(is_sound)
            }
        }
    }

    /// Whether all chunks of a recipe are there.
    fn has_chunks(&mut self, recipe: &RecordId) -> Result<bool, StoreError> {
        let Some(recipe) = self.decoded(recipe, Recipe::decode)? else { return Ok(false) };
        let mut is_sound = true;
        for chunks in recipe.chunks.chunks(BATCH) {
            let ids: Vec<_> = chunks.iter().map(|(_, chunk)| RecordId::data(chunk)).collect();
            for (no, length) in self.view.lengths(&ids)?.into_iter().enumerate() {
                if length != Some(chunks[no].0) {
                    self.lack.records.insert(ids[no]);
                    is_sound = false;
                }
            }
        }
        Ok(is_sound)
    }

    /// The files of several chunks that were met; all their chunks are there.
    pub fn joined(&self) -> Vec<FileId> {
        let mut joined: Vec<_> = self.joined.iter().copied().collect();
        joined.sort_unstable();
        joined
    }

    /// The damaged paths of `roots`, which must have been counted, in the order of a walk.
    pub fn paths(&mut self, roots: &[RootTree]) -> Result<Counted<DamagedPath>, StoreError> {
        let mut paths = Counted::default();
        for root in roots {
            let count = self.counts.get(&root.tree).copied().unwrap_or(0);
            paths.count = paths.count.saturating_add(count);
            if count > 0 {
                self.name(root, &mut paths.first)?;
            }
        }
        Ok(paths)
    }

    fn name(&mut self, root: &RootTree, paths: &mut Vec<DamagedPath>) -> Result<(), StoreError> {
        let mut pending = vec![(root.tree, Vec::new())];
        while let Some((id, at)) = pending.pop() {
            if paths.len() >= KEPT_PATHS {
                return Ok(());
            }
            let mut put = |path, directory| {
                paths.push(DamagedPath { root: root.name.clone(), path, directory });
            };
            let Some(entries) = self.read(&id)? else {
                put(at, true);
                continue;
            };
            let join = |name: &[u8]| {
                let slash: &[u8] = if at.is_empty() { b"" } else { b"/" };
                [&at[..], slash, name].concat()
            };
            let bad = self.bad_files(&entries)?;
            let mut directories = Vec::new();
            for (no, entry) in entries.iter().enumerate() {
                match entry.kind {
                    Kind::Directory(id) if self.counts.get(&id).is_some_and(|n| *n > 0) => {
                        directories.push((id, join(&entry.name)));
                    }
                    Kind::File { .. } if bad.contains(&no) => put(join(&entry.name), false),
                    _ => {}
                }
            }
            pending.extend(directories.into_iter().rev());
        }
        Ok(())
    }

    /// What was found to be damaged.
    pub fn into_lack(self) -> Lack {
        self.lack
    }
}

impl Lack {
    /// Whether nothing is damaged.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.files.is_empty()
    }

    /// Whether the index of `objects` does not know a record of it.
    pub fn has_unknown(&self, objects: &Objects) -> Result<bool, StoreError> {
        let records: Vec<_> = self.records.iter().copied().collect();
        for records in records.chunks(BATCH) {
            if objects.index().find_all(records)?.iter().any(Option::is_none) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that the hard links of a root cannot be had.
    pub fn add_links(&mut self, root: &TreeId) {
        self.records.insert(RecordId { kind: RecordKind::Links, id: *root.as_bytes() });
    }
}
