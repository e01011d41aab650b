//! What is needed of packs that are to go, copied into new packs. The index is told nothing of
//! them yet.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mark::Needed;
use crate::store::error::StoreError;
use crate::store::format::pack::{FRAME, Footer, Record, TREE_FRAME};
use crate::store::format::{PackId, RecordId, RecordKind};
use crate::store::index::{Location, Packed};
use crate::store::objects::{Objects, slice};
use crate::store::pack::{self, EncodedFrame, FrameBuilder, PackWriter};
use crate::store::progress::Progress;
use crate::store::storage::{Input, Output, Storage};

/// Bytes that a pack takes on the disk, with the copy of its tail.
pub fn on_disk(size: u64, footer: &Footer) -> u64 {
    size + footer.encode(0).len() as u64
}

/// Copies records into new packs.
pub struct Copier<'o> {
    objects: &'o Objects,
    storage: Arc<dyn Storage>,
    current: Option<PackWriter>,
    trees: FrameBuilder,
    others: FrameBuilder,
    /// The packs that were written.
    pub packs: Vec<PackId>,
    /// The bytes that they take.
    pub bytes: u64,
    kept: bool,
}

impl Drop for Copier<'_> {
    fn drop(&mut self) {
        // What stays is found by the next collection.
        let _ = self.forget();
    }
}

impl<'o> Copier<'o> {
    /// Nothing is copied yet. `dry` counts what would be written, to the byte.
    pub fn new(objects: &'o Objects, dry: bool) -> Copier<'o> {
        Copier {
            objects,
            storage: if dry { Arc::new(Nowhere) } else { objects.shared_storage() },
            current: None,
            trees: FrameBuilder::default(),
            others: FrameBuilder::default(),
            packs: Vec::new(),
            bytes: 0,
            // What was not written need not be removed.
            kept: dry,
        }
    }

    /// Copies what is needed of `pack` and known to be in it.
    pub fn copy(
        &mut self,
        pack: &PackId,
        needed: &Needed,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let root = self.objects.root();
        let Packed { footer, .. } = pack::read_footer(self.objects.storage(), root, pack)?;
        let mut frames: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
        for record in &footer.records {
            frames.entry(record.frame).or_default().push(record);
        }
        for (no, records) in frames {
            let frame = footer.frames[no as usize].offset;
            let stays = self.staying(pack, frame, &records, needed)?;
            match stays.len() {
                0 => {}
                all if all == records.len() => {
                    let frame = self.objects.encoded_frame(pack, frame, &records)?;
                    self.append(frame)?;
                }
                _ => self.copy_some(pack, frame, &stays)?,
            }
            progress.add(stays.len() as u64);
        }
        Ok(())
    }

    /// Which records of a frame are needed and known to be in it.
    fn staying<'r>(
        &self,
        pack: &PackId,
        frame: u64,
        records: &[&'r Record],
        needed: &Needed,
    ) -> Result<Vec<&'r Record>, StoreError> {
        let wanted: Vec<&Record> =
            records.iter().copied().filter(|record| needed.has(&record.id)).collect();
        let ids: Vec<RecordId> = wanted.iter().map(|record| record.id).collect();
        let locations = self.objects.locate_all(&ids)?;
        let is_here = |record: &Record, at: Option<Location>| {
            at.is_some_and(|at| at.pack == *pack && at.frame == frame && at.offset == record.offset)
        };
        Ok(wanted
            .into_iter()
            .zip(locations)
            .filter(|(record, at)| is_here(record, *at))
            .map(|(record, _)| record)
            .collect())
    }

    fn copy_some(
        &mut self,
        pack: &PackId,
        frame: u64,
        records: &[&Record],
    ) -> Result<(), StoreError> {
        let at = |record: &Record| Location {
            pack: *pack,
            frame,
            offset: record.offset,
            length: record.length,
        };
        let Some(first) = records.first() else { return Ok(()) };
        let raw = self.objects.frame(&at(first))?;
        for record in records {
            let bytes = slice(&raw, &at(record), &record.id)?;
            let is_tree = record.id.kind == RecordKind::Tree;
            let limit = if is_tree { TREE_FRAME } else { FRAME };
            let builder = if is_tree { &mut self.trees } else { &mut self.others };
            let full = match builder.is_full(bytes.len(), limit) {
                true => encode(builder, self.objects.root())?,
                false => None,
            };
            builder.push(record.id, bytes);
            full.map_or(Ok(()), |full| self.append(full))?;
        }
        Ok(())
    }

    fn append(&mut self, frame: EncodedFrame) -> Result<(), StoreError> {
        let mut pack = match self.current.take() {
            Some(pack) => pack,
            None => PackWriter::new(Arc::clone(&self.storage), self.objects.scratch().fresh())?,
        };
        pack.append(frame)?;
        match pack.is_full() {
            true => self.end(pack),
            false => {
                self.current = Some(pack);
                Ok(())
            }
        }
    }

    fn end(&mut self, pack: PackWriter) -> Result<(), StoreError> {
        let Packed { pack, footer, size } =
            pack.finish(self.objects.root(), &self.objects.scratch().fresh())?;
        self.bytes += on_disk(size, &footer);
        self.packs.push(pack);
        Ok(())
    }

    /// What was copied is in use from now on.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Removes what was copied, as far as nobody has found it meanwhile: who makes the index
    /// anew finds all packs that are there.
    fn forget(&mut self) -> Result<(), StoreError> {
        if self.kept || self.packs.is_empty() {
            return Ok(());
        }
        let (index, root) = (self.objects.index(), self.objects.root());
        let _writing = index.writing()?;
        let known = index.packs()?;
        let copies: Vec<&PackId> = self
            .packs
            .iter()
            .filter(|pack| known.iter().all(|known| known.pack != **pack))
            .collect();
        let remove = |path: PathBuf| self.storage.remove(&path).map_err(StoreError::write(&path));
        copies.iter().try_for_each(|pack| remove(pack::pack_path(root, pack)))?;
        // A pack without its tail is damaged; the other way round is nothing.
        let directory = pack::directory(root);
        self.storage.sync_directory(&directory).map_err(StoreError::write(&directory))?;
        copies.iter().try_for_each(|pack| remove(pack::tail_path(root, pack)))
    }

    /// Ends the last pack. What was copied is then on the disk, durably.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        let root = self.objects.root();
        for frame in [encode(&mut self.others, root)?, encode(&mut self.trees, root)?] {
            frame.map_or(Ok(()), |frame| self.append(frame))?;
        }
        self.current.take().map_or(Ok(()), |pack| self.end(pack))
    }
}

fn encode(builder: &mut FrameBuilder, root: &Path) -> Result<Option<EncodedFrame>, StoreError> {
    let path = || PathBuf::from(root);
    builder.encode().map_err(|source| StoreError::Unrepresentable { path: path(), source })
}

/// A disk that takes everything and keeps nothing.
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Nowhere {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Nowhere {
    fn create(&self, _: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(Nowhere))
    }
    fn open(&self, _: &Path) -> io::Result<Arc<dyn Input>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok(Vec::new())
    }
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
