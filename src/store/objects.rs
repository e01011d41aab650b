//! Records by name: found through the index, read from packs, verified; and written to new
//! packs, each once.

mod renew;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

pub use renew::Rebuilt;

use super::error::StoreError;
use super::format::pack::Record;
use super::format::{FormatError, PackId, RecordId};
use super::frames::FrameCache;
use super::hold;
use super::index::{Index, Location, Packed};
use super::pack::{self, EncodedFrame, FrameBuilder, PackWriter};
use super::scratch::Scratch;
use super::storage::{Input, Storage};

/// Packs are kept open up to this many.
const OPEN_PACKS: usize = 128;

const UNPOISONED: &str = "nothing panics with it held";

/// All records of a store.
pub struct Objects {
    root: PathBuf,
    storage: Arc<dyn Storage>,
    index: Index,
    scratch: Scratch,
    packs: Mutex<HashMap<PackId, Arc<dyn Input>>>,
    frames: Mutex<FrameCache>,
    // The index is doubted once a process, not once a missing record.
    doubted: Mutex<bool>,
}

impl Objects {
    /// The records of the store `root`, whose directories are there.
    pub fn open(root: &Path, storage: Arc<dyn Storage>) -> Result<Objects, StoreError> {
        let tmp = root.join("tmp");
        // Garbage that cannot be removed does no harm.
        let _ = Scratch::sweep(&tmp);
        let objects = Objects {
            root: root.to_owned(),
            storage,
            index: Index::new(root),
            scratch: Scratch::new(&tmp).map_err(StoreError::write(&tmp))?,
            packs: Mutex::default(),
            frames: Mutex::default(),
            doubted: Mutex::new(false),
        };
        objects.mend_index()?;
        Ok(objects)
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The same records for who wants to see the index as it is: it is never doubted.
    pub fn believing(&self) -> Result<Objects, StoreError> {
        let tmp = self.root.join("tmp");
        Ok(Objects {
            root: self.root.clone(),
            storage: Arc::clone(&self.storage),
            index: Index::new(&self.root),
            scratch: Scratch::new(&tmp).map_err(StoreError::write(&tmp))?,
            packs: Mutex::default(),
            frames: Mutex::default(),
            doubted: Mutex::new(true),
        })
    }

    /// The same records by an index of their own, which knows `packs`.
    pub fn with_own_index(&self, packs: Vec<Packed>) -> Result<Objects, StoreError> {
        let mut objects = self.believing()?;
        let directory = objects.scratch.fresh();
        std::fs::create_dir(&directory).map_err(StoreError::write(&directory))?;
        objects.index = Index::new(&directory);
        objects.index.rebuild(|_| Ok(true), || Ok((packs, ())))?;
        Ok(objects)
    }

    /// The store's generation; see `hold.rs`.
    pub fn generation(&self) -> Result<u64, StoreError> {
        hold::generation(&self.root, &*self.storage)
    }

    /// Where half-made things go.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// How files that must survive a crash are written.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Forgets what was read of packs, which may be others by now.
    pub fn forget_frames(&self) {
        self.packs.lock().expect(UNPOISONED).clear();
        *self.frames.lock().expect(UNPOISONED) = FrameCache::default();
    }

    /// The same, to be kept.
    pub fn shared_storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Closes all packs: one that was removed takes up its space until the last one who had
    /// it open lets go of it.
    pub fn close_packs(&self) {
        self.packs.lock().expect(UNPOISONED).clear();
    }

    /// Whether the record is in the store, as far as the index knows.
    pub fn contains(&self, id: &RecordId) -> Result<bool, StoreError> {
        Ok(self.locate(id)?.is_some())
    }

    /// Where the record is, as far as the index knows.
    pub fn locate(&self, id: &RecordId) -> Result<Option<Location>, StoreError> {
        self.healing(|| self.index.find(id))
    }

    /// The same for many.
    pub fn locate_all(&self, ids: &[RecordId]) -> Result<Vec<Option<Location>>, StoreError> {
        self.healing(|| self.index.find_all(ids))
    }

    /// At most `limit` records of one kind whose ids are from `first` to `last`, in order.
    pub fn between(
        &self,
        first: &RecordId,
        last: &RecordId,
        limit: usize,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.healing(|| self.index.between(first, last, limit))
    }

    /// Reads a record and gives it to `verify`, which makes something of it or says what is
    /// wrong with it.
    pub fn read<R>(
        &self,
        id: &RecordId,
        verify: impl Fn(&[u8]) -> Result<R, FormatError>,
    ) -> Result<R, StoreError> {
        self.doubting(|| {
            let mut gone = None;
            loop {
                let location = self.locate(id)?.ok_or(StoreError::Missing { record: *id })?;
                match self.read_at(id, &location, &verify) {
                    // The collector has moved it between the look-up and the look into the
                    // pack: the index says where it is now.
                    Err(StoreError::Read { source, .. })
                        if source.kind() == io::ErrorKind::NotFound
                            && gone != Some(location.pack) =>
                    {
                        gone = Some(location.pack);
                    }
                    read => return read,
                }
            }
        })
    }

    /// The same where it is known where the record is. The index is not doubted.
    pub fn read_at<R>(
        &self,
        id: &RecordId,
        location: &Location,
        verify: impl Fn(&[u8]) -> Result<R, FormatError>,
    ) -> Result<R, StoreError> {
        let frame = self.cached_frame(location)?;
        verify(slice(&frame, location, id)?)
            .map_err(|source| StoreError::DamagedRecord { record: *id, source })
    }

    /// Runs `work`; if a record is missing or damaged, which may be the index's fault, makes
    /// the index anew and runs it again. Only the first time in this process; threads that
    /// come upon the same fault meanwhile wait, and run theirs again, too. Later, what is damaged
    /// in a pack that was opened long ago is looked for again: somebody may have mended it.
    pub fn doubting<R>(&self, work: impl Fn() -> Result<R, StoreError>) -> Result<R, StoreError> {
        let was_doubted = *self.doubted.lock().expect(UNPOISONED);
        let done = work();
        let doubtful = matches!(
            done,
            Err(StoreError::Missing { .. }
                | StoreError::DamagedPack { .. }
                | StoreError::DamagedRecord { .. }
                | StoreError::Read { .. })
        );
        if !doubtful {
            return done;
        }
        if was_doubted {
            if matches!(done, Err(StoreError::Missing { .. })) {
                return done;
            }
            self.close_packs();
            return work();
        }
        let mut doubted = self.doubted.lock().expect(UNPOISONED);
        if !*doubted {
            self.rebuild_index()?;
            self.close_packs();
            *doubted = true;
        }
        drop(doubted);
        work()
    }

    /// Runs `work`; if SQLite finds its file corrupt, makes the index anew and runs it again.
    fn healing<R>(&self, work: impl Fn() -> Result<R, StoreError>) -> Result<R, StoreError> {
        match work() {
            Err(e) if self.index.is_lost(&e) => {
                self.rebuild_index()?;
                work()
            }
            done => done,
        }
    }

    /// Reads the frame that holds a record.
    pub fn frame(&self, location: &Location) -> Result<Vec<u8>, StoreError> {
        let path = pack::pack_path(&self.root, &location.pack);
        let input = self.input(&location.pack, &path)?;
        pack::read_frame(&*input, &path, &location.pack, location.frame)
    }

    /// Reads and verifies a frame, which holds `records`, as it is in its pack.
    pub fn encoded_frame(
        &self,
        pack: &PackId,
        frame: u64,
        records: &[&Record],
    ) -> Result<EncodedFrame, StoreError> {
        let path = pack::pack_path(&self.root, pack);
        let input = self.input(pack, &path)?;
        pack::read_encoded(&*input, &path, pack, frame, records)
    }

    /// The same, kept in memory for a while.
    pub fn cached_frame(&self, location: &Location) -> Result<Arc<Vec<u8>>, StoreError> {
        let key = (location.pack, location.frame);
        if let Some(frame) = self.frames.lock().expect(UNPOISONED).get(key) {
            return Ok(frame);
        }
        let frame = Arc::new(self.frame(location)?);
        self.frames.lock().expect(UNPOISONED).put(key, &frame);
        Ok(frame)
    }

    fn input(&self, pack: &PackId, path: &Path) -> Result<Arc<dyn Input>, StoreError> {
        if let Some(input) = self.packs.lock().expect(UNPOISONED).get(pack) {
            return Ok(Arc::clone(input));
        }
        let input = self.storage.open(path).map_err(StoreError::read(path))?;
        let mut packs = self.packs.lock().expect(UNPOISONED);
        if packs.len() >= OPEN_PACKS {
            packs.clear();
        }
        packs.insert(*pack, Arc::clone(&input));
        Ok(input)
    }

    /// Begins to write records.
    pub fn writer(&self) -> Writer<'_> {
        Writer {
            objects: self,
            claimed: Mutex::default(),
            current: Mutex::default(),
            full: None,
            stored: AtomicU64::new(0),
        }
    }

    /// Runs `work` with a writer whose full packs are synced while the next is written; then
    /// all that was added is in the store, durably. Gives the bytes that were written too.
    pub fn write<R>(
        &self,
        work: impl FnOnce(&Writer<'_>) -> Result<R, StoreError>,
    ) -> Result<(R, u64), StoreError> {
        thread::scope(|scope| {
            // One pack is being synced, one waits, one is written.
            let (full, packs) = sync_channel(1);
            let syncing = scope.spawn(move || packs.iter().try_for_each(|pack| self.commit(pack)));
            let mut writer = self.writer();
            writer.full = Some(full);
            let done = work(&writer);
            // Ends the other thread.
            writer.full = None;
            // Its error is why the writer's packs were not taken.
            syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((done?, writer.finish()?))
        })
    }

    fn commit(&self, pack: PackWriter) -> Result<(), StoreError> {
        let added = {
            let writing = self.index.writing()?;
            let packed = pack.finish(&self.root, &self.scratch.fresh())?;
            self.index.add(&writing, &packed)
        };
        match added {
            // The pack has its name, so making the index anew finds it.
            Err(e) if self.index.is_lost(&e) => self.rebuild_index().map(drop),
            added => added,
        }
    }
}

/// The bytes of a record in its frame. An index that points elsewhere is found out here or
/// by the record's hash.
pub fn slice<'f>(
    frame: &'f [u8],
    location: &Location,
    record: &RecordId,
) -> Result<&'f [u8], StoreError> {
    let (start, length) = (location.offset as usize, location.length as usize);
    frame.get(start..start + length).ok_or(StoreError::DamagedRecord {
        record: *record,
        source: FormatError::Truncated { what: "a frame" },
    })
}

/// Writes records into new packs. Used by several threads, each with a [`FrameBuilder`] of
/// its own. Nothing is referred to before [`Writer::finish`]; if it never comes, whole packs
/// that were finished stay and will be found again, and the last one is removed.
pub struct Writer<'o> {
    objects: &'o Objects,
    claimed: Mutex<HashSet<RecordId>>,
    current: Mutex<Option<PackWriter>>,
    full: Option<SyncSender<PackWriter>>,
    stored: AtomicU64,
}

/// How a record stands to the store and to a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The store does not have it: who claimed it must add it.
    New,
    /// The store had it before.
    Stored,
    /// This writer was asked for it before.
    Seen,
}

impl<'o> Writer<'o> {
    /// What is in the store.
    pub fn objects(&self) -> &'o Objects {
        self.objects
    }

    /// Whether the record is new to the store and to this writer. Says so once; the caller
    /// must then add it.
    pub fn claim(&self, id: RecordId) -> Result<bool, StoreError> {
        if !self.claimed.lock().expect(UNPOISONED).insert(id) {
            return Ok(false);
        }
        Ok(!self.objects.contains(&id)?)
    }

    /// The same for many, whose places in the index are looked up together.
    pub fn claim_all(&self, ids: &[RecordId]) -> Result<Vec<Claim>, StoreError> {
        let (mut fresh, mut claims) = (Vec::new(), Vec::with_capacity(ids.len()));
        {
            let mut claimed = self.claimed.lock().expect(UNPOISONED);
            for id in ids {
                let is_fresh = claimed.insert(*id);
                claims.push(if is_fresh { Claim::New } else { Claim::Seen });
                if is_fresh {
                    fresh.push(*id);
                }
            }
        }
        if fresh.is_empty() {
            return Ok(claims);
        }
        let mut found = self.objects.locate_all(&fresh)?.into_iter();
        for claim in claims.iter_mut().filter(|claim| **claim == Claim::New) {
            if found.next().is_some_and(|location| location.is_some()) {
                *claim = Claim::Stored;
            }
        }
        Ok(claims)
    }

    /// Adds a record to `frame`, which is written out first if it would be over `limit`.
    pub fn add(
        &self,
        frame: &mut FrameBuilder,
        limit: usize,
        id: RecordId,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        if frame.is_full(bytes.len(), limit) {
            self.flush(frame)?;
        }
        frame.push(id, bytes);
        Ok(())
    }

    /// Writes out what was added to `frame`.
    pub fn flush(&self, frame: &mut FrameBuilder) -> Result<(), StoreError> {
        let path = &self.objects.root;
        let encoded = frame
            .encode()
            .map_err(|source| StoreError::Unrepresentable { path: path.clone(), source })?;
        let Some(encoded) = encoded else { return Ok(()) };
        self.stored.fetch_add(encoded.stored(), Ordering::Relaxed);
        let full = {
            let mut current = self.current.lock().expect(UNPOISONED);
            let mut pack = match current.take() {
                Some(pack) => pack,
                None => self.begin()?,
            };
            pack.append(encoded)?;
            if pack.is_full() {
                Some(pack)
            } else {
                *current = Some(pack);
                None
            }
        };
        let Some(pack) = full else { return Ok(()) };
        let Some(sender) = &self.full else { return self.objects.commit(pack) };
        sender.send(pack).map_err(|_| {
            // Nobody sees this one: why the pack was not taken is told instead.
            StoreError::write(path)(io::ErrorKind::BrokenPipe.into())
        })
    }

    fn begin(&self) -> Result<PackWriter, StoreError> {
        PackWriter::new(Arc::clone(&self.objects.storage), self.objects.scratch.fresh())
    }

    /// Ends the last pack. Then every record that was added is in the store, durably. Gives
    /// the bytes that were written.
    pub fn finish(self) -> Result<u64, StoreError> {
        if let Some(pack) = self.current.lock().expect(UNPOISONED).take() {
            self.objects.commit(pack)?;
        }
        Ok(self.stored.load(Ordering::Relaxed))
    }
}
