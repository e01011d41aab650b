//! New packs for what can be saved. They get their names only when all of it is written.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::store::error::StoreError;
use crate::store::format::pack::{FRAME, TREE_FRAME};
use crate::store::format::{PackId, RecordId, RecordKind};
use crate::store::index::Location;
use crate::store::objects::{Objects, slice};
use crate::store::pack::{self, FrameBuilder, PackWriter, SealedPack};
use crate::store::storage::Storage;
use crate::store::verify::closure::Lack;
use crate::store::verify::packs::{Contents, check_record, contents};
use crate::store::verify::view::{Bad, Indexed, View, read_at};

/// Records that are looked up at once.
const BATCH: usize = 8192;

/// What can be saved, and what the store has when it is.
pub struct Rescue<'s> {
    now: Indexed<'s>,
    /// Where new packs go; nowhere, if only to see what could be saved.
    storage: Option<Arc<dyn Storage>>,
    data: FrameBuilder,
    others: FrameBuilder,
    current: Option<PackWriter>,
    sealed: Vec<SealedPack>,
    /// The records in the new packs, and their lengths.
    written: HashMap<RecordId, u32>,
    /// The bytes of those of them that name others.
    texts: HashMap<RecordId, Vec<u8>>,
    /// Records of which a sound pack that stays has a copy.
    copies: HashMap<RecordId, Location>,
}

impl<'s> Rescue<'s> {
    /// Nothing is saved yet. `objects` is the store by an index that is right.
    pub fn new(
        objects: &'s Objects,
        bad: &'s Bad,
        storage: Option<Arc<dyn Storage>>,
    ) -> Rescue<'s> {
        Rescue {
            now: Indexed { objects, bad },
            storage,
            data: FrameBuilder::default(),
            others: FrameBuilder::default(),
            current: None,
            sealed: Vec::new(),
            written: HashMap::new(),
            texts: HashMap::new(),
            copies: HashMap::new(),
        }
    }

    /// Whether the record is saved, or was never in danger.
    pub fn has(&self, id: &RecordId) -> Result<bool, StoreError> {
        Ok(self.lengths(std::slice::from_ref(id))?[0].is_some())
    }

    /// Takes out of `lack` what is saved.
    pub fn forget_saved(&self, lack: &mut Lack) -> Result<(), StoreError> {
        let records: Vec<_> = lack.records.iter().copied().collect();
        for records in records.chunks(BATCH) {
            for (record, length) in records.iter().zip(self.lengths(records)?) {
                if length.is_some() {
                    lack.records.remove(record);
                }
            }
        }
        Ok(())
    }

    /// Records in the new packs.
    pub fn count(&self) -> u64 {
        self.written.len() as u64
    }

    /// Records of `wanted` that packs which stay have, too.
    pub fn find_copies(&mut self, wanted: &dyn Fn(&RecordId) -> bool) -> Result<u64, StoreError> {
        let Indexed { objects, bad } = self.now;
        for (pack, state) in bad.packs.iter().filter(|(_, state)| !state.is_damaged) {
            let Contents { frames, records } = contents(objects, *pack)?;
            for record in records.iter().filter(|record| wanted(&record.id)) {
                let (frame, _) = frames[record.frame as usize];
                if state.is_sound(&record.id, frame) {
                    let (offset, length) = (record.offset, record.length);
                    let at = Location { pack: *pack, frame, offset, length };
                    self.copies.entry(record.id).or_insert(at);
                }
            }
        }
        Ok(self.copies.len() as u64)
    }

    /// Saves those sound records of a pack's file that `wanted` wants and nobody else has.
    pub fn save(
        &mut self,
        path: &Path,
        contents: &Contents,
        wanted: &dyn Fn(&RecordId) -> bool,
    ) -> Result<(), StoreError> {
        let Ok(input) = self.now.objects.storage().open(path) else { return Ok(()) };
        for (no, (at, _)) in contents.frames.iter().enumerate() {
            let records = contents.records_of(no);
            let records: Vec<_> = records.iter().filter(|record| wanted(&record.id)).collect();
            let ids: Vec<RecordId> = records.iter().map(|record| record.id).collect();
            let stays = self.stay(&ids)?;
            if stays.iter().all(|stays| *stays) {
                continue;
            }
            // The name of the pack is only for errors, which say here that there is nothing
            // to be saved.
            let unnamed = PackId::from_bytes([0; 32]);
            let Ok(frame) = pack::read_frame(&*input, path, &unnamed, *at) else { continue };
            for (record, stays) in records.into_iter().zip(stays) {
                let (frame_at, offset, length) = (*at, record.offset, record.length);
                let at = Location { pack: unnamed, frame: frame_at, offset, length };
                if let (false, Ok(bytes)) = (stays, slice(&frame, &at, &record.id))
                    && check_record(&record.id, bytes).is_ok()
                {
                    self.put(record.id, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Which of the records are safe already.
    fn stay(&self, ids: &[RecordId]) -> Result<Vec<bool>, StoreError> {
        let Indexed { objects, bad } = self.now;
        let stays = |(id, at): (&RecordId, Option<Location>)| {
            self.written.contains_key(id)
                || self.copies.contains_key(id)
                || at.is_some_and(|at| {
                    let pack = bad.packs.get(&at.pack);
                    pack.is_none_or(|pack| !pack.is_damaged) && bad.is_sound(id, &at)
                })
        };
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            all.extend(ids.iter().zip(objects.index().find_all(ids)?).map(stays));
        }
        Ok(all)
    }

    /// Adds a record, whose bytes are right.
    pub fn put(&mut self, id: RecordId, bytes: &[u8]) -> Result<(), StoreError> {
        if self.written.insert(id, bytes.len() as u32).is_some() {
            return Ok(());
        }
        if id.kind != RecordKind::Data {
            self.texts.insert(id, bytes.to_vec());
        }
        if self.storage.is_none() {
            return Ok(());
        }
        let limit = if id.kind == RecordKind::Tree { TREE_FRAME } else { FRAME };
        let is_data = id.kind == RecordKind::Data;
        let frame = if is_data { &mut self.data } else { &mut self.others };
        if frame.is_full(bytes.len(), limit) {
            let mut full = std::mem::take(frame);
            self.append(&mut full)?;
        }
        let frame = if is_data { &mut self.data } else { &mut self.others };
        frame.push(id, bytes);
        Ok(())
    }

    fn append(&mut self, frame: &mut FrameBuilder) -> Result<(), StoreError> {
        let Indexed { objects, .. } = self.now;
        let path = || objects.root().to_owned();
        let encoded = frame.encode();
        let encoded =
            encoded.map_err(|source| StoreError::Unrepresentable { path: path(), source })?;
        let (Some(encoded), Some(storage)) = (encoded, &self.storage) else { return Ok(()) };
        let mut pack = match self.current.take() {
            Some(pack) => pack,
            None => PackWriter::new(Arc::clone(storage), objects.scratch().fresh())?,
        };
        pack.append(encoded)?;
        match pack.is_full() {
            true => self.sealed.push(pack.seal()?),
            false => self.current = Some(pack),
        }
        Ok(())
    }

    /// Ends the last pack. What is given is on the disk and has no names yet.
    pub fn seal(&mut self) -> Result<Vec<SealedPack>, StoreError> {
        for mut frame in [std::mem::take(&mut self.data), std::mem::take(&mut self.others)] {
            self.append(&mut frame)?;
        }
        if let Some(pack) = self.current.take() {
            self.sealed.push(pack.seal()?);
        }
        Ok(std::mem::take(&mut self.sealed))
    }
}

impl View for Rescue<'_> {
    fn lengths(&self, ids: &[RecordId]) -> Result<Vec<Option<u32>>, StoreError> {
        let saved = |id: &RecordId| {
            let copy = || self.copies.get(id).map(|at| at.length);
            self.written.get(id).copied().or_else(copy)
        };
        let now = self.now.lengths(ids)?;
        Ok(ids.iter().zip(now).map(|(id, now)| now.or_else(|| saved(id))).collect())
    }

    fn is_known(&self, id: &RecordId) -> Result<bool, StoreError> {
        // What is bad and not saved will not be known any more.
        self.has(id)
    }

    fn bytes(&self, id: &RecordId) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(text) = self.texts.get(id) {
            return Ok(Some(text.clone()));
        }
        if let Some(at) = self.copies.get(id) {
            return Ok(read_at(self.now.objects, id, at));
        }
        self.now.bytes(id)
    }
}

/// Copies a file to another name, whole or not at all, through `tmp`.
pub fn copy(storage: &dyn Storage, from: &Path, tmp: &Path, to: &Path) -> io::Result<()> {
    let input = storage.open(from)?;
    let size = input.size()?;
    let mut output = storage.create(tmp)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let part = buffer.len().min((size - at) as usize);
        input.read_exact_at(&mut buffer[..part], at)?;
        output.write_all(&buffer[..part])?;
        at += part as u64;
    }
    output.sync()?;
    storage.rename(tmp, to)
}
