//! Every byte of one pack: header, frames, records, footer, trailer, the copy beside it, and
//! the name, which is the hash of it all.
//!
//! What a pack holds is known from its footer; where that is damaged, from the copy beside
//! it; where that is damaged too, from the index's rows. Whichever it is, a record counts as
//! sound only if its own hash says so.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::findings::{Damage, Findings};
use crate::store::error::StoreError;
use crate::store::format::content::{Links, Recipe};
use crate::store::format::delta::Delta;
use crate::store::format::pack::{
    FRAME_HEADER, Footer, Frame, FrameHeader, HEADER, Record, TRAILER, check_header,
};
use crate::store::format::{FileId, FormatError, PackId, RecordId, RecordKind, TreeId, tree};
use crate::store::objects::Objects;
use crate::store::pack;
use crate::store::parallel;
use crate::store::progress::Progress;
use crate::store::storage::{self, Input, Storage};

/// A thread takes frames of about so many bytes at once.
const SHARE: u64 = 4 << 20;
/// Whole packs are hashed through a buffer of this size.
const BUFFER: usize = 1 << 20;

/// What a pack holds, as far as anything tells, in the order of its frames.
#[derive(Debug, Default)]
pub struct Contents {
    /// Where each frame begins, and its lengths where they are known.
    pub frames: Vec<(u64, Option<Frame>)>,
    /// The records, in the order of their frames; `frame` counts in `frames`.
    pub records: Vec<Record>,
}

/// What is known of a pack after a look at all of it.
#[derive(Debug, Default)]
pub struct PackState {
    /// Its file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Records in it, as far as is known.
    pub records: u64,
    /// Whether it must be replaced: its bytes or its name are not what was written.
    pub is_damaged: bool,
    /// Whether the copy beside it must be replaced.
    pub is_tail_damaged: bool,
    /// Whether nothing of it can be read.
    pub is_lost: bool,
    /// Whether the index knows it.
    pub is_indexed: bool,
    /// Frames that cannot be used, by where they begin.
    pub bad_frames: BTreeSet<u64>,
    /// Records that are not what their ids say, in frames that can be used.
    pub bad_records: BTreeSet<RecordId>,
}

impl PackState {
    /// Whether a record in the frame at `frame` can be read.
    pub fn is_sound(&self, record: &RecordId, frame: u64) -> bool {
        !self.is_lost && !self.bad_frames.contains(&frame) && !self.bad_records.contains(record)
    }
}

impl Contents {
    fn of_footer(footer: Footer) -> Contents {
        let frames = footer.frames.into_iter().map(|frame| (frame.offset, Some(frame))).collect();
        let mut records = footer.records;
        records.sort_by_key(|record| record.frame);
        Contents { frames, records }
    }

    /// From the index's rows.
    fn of_rows(mut rows: Vec<(RecordId, u64, u32, u32)>) -> Contents {
        rows.sort_unstable_by_key(|(_, frame, offset, _)| (*frame, *offset));
        let mut contents = Contents::default();
        for (id, at, offset, length) in rows {
            if contents.frames.last().is_none_or(|(last, _)| *last != at) {
                contents.frames.push((at, None));
            }
            let frame = contents.frames.len() as u32 - 1;
            contents.records.push(Record { id, frame, offset, length });
        }
        contents
    }

    /// As a footer; of a frame of which no more is known, only the place is right.
    pub fn into_footer(self) -> Footer {
        let frame = |(offset, frame): (u64, Option<Frame>)| {
            frame.unwrap_or(Frame { offset, stored: 0, raw: 0 })
        };
        Footer { frames: self.frames.into_iter().map(frame).collect(), records: self.records }
    }

    /// The records of the frame with this number.
    pub fn records_of(&self, frame: usize) -> &[Record] {
        let frame = frame as u32;
        let start = self.records.partition_point(|record| record.frame < frame);
        let end = self.records.partition_point(|record| record.frame <= frame);
        &self.records[start..end]
    }

    /// Runs of frames of about [`SHARE`] bytes.
    fn shares(&self) -> Vec<Range<usize>> {
        let mut shares: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        for (no, (_, frame)) in self.frames.iter().enumerate() {
            bytes += frame.as_ref().map_or(SHARE / 16, |frame| frame.stored.into());
            match shares.last_mut() {
                Some(share) if bytes <= SHARE => share.end += 1,
                _ => {
                    bytes = 0;
                    shares.push(no..no + 1);
                }
            }
        }
        shares
    }
}

/// Whether the bytes of a record are what its name says. A list of chunks or of links and a delta
/// are not named by their bytes: only its form is looked at here.
pub fn check_record(id: &RecordId, bytes: &[u8]) -> Result<(), FormatError> {
    match id.kind {
        RecordKind::Data if FileId::of(bytes).as_bytes() == &id.id => Ok(()),
        RecordKind::Data => Err(FormatError::Hash { what: "a content" }),
        RecordKind::Recipe => Recipe::decode(bytes).map(drop),
        RecordKind::Tree => tree::decode(&TreeId::from_bytes(id.id), bytes).map(drop),
        RecordKind::Delta => Delta::decode(bytes).map(drop),
        RecordKind::Links => Links::decode(bytes).map(drop),
    }
}

/// A pack that is looked at.
struct Examined<'a> {
    objects: &'a Objects,
    pack: PackId,
    path: &'a Path,
    input: &'a dyn Input,
    size: u64,
    findings: &'a Findings,
}

/// Looks at all of a pack.
pub fn examine(
    objects: &Objects,
    pack: PackId,
    findings: &Findings,
    progress: &Progress,
) -> Result<PackState, StoreError> {
    let path = pack::pack_path(objects.root(), &pack);
    let mut state = PackState { path: path.clone(), ..PackState::default() };
    let opened = objects.storage().open(&path).and_then(|input| {
        let size = input.size()?;
        Ok((input, size))
    });
    let (input, size) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            findings.add(Damage::PackUnreadable { pack }, e);
            (state.is_lost, state.is_damaged) = (true, true);
            return Ok(state);
        }
    };
    state.size = size;
    let examined = Examined { objects, pack, path: &path, input: &*input, size, findings };
    examined.header(&mut state);
    let contents = examined.contents(&mut state)?;
    state.records = contents.records.len() as u64;
    let hash = examined.frames(&contents, &mut state, progress)?;
    if !state.is_damaged && hash.as_ref() != Some(&pack) {
        let is = hash.map(|hash| format!("its bytes are those of pack {hash}"));
        findings.add(Damage::PackName { pack }, is.unwrap_or("it cannot be read twice".into()));
        state.is_damaged = true;
    }
    Ok(state)
}

/// What a pack holds: from its footer, the copy beside it, or the index.
pub fn contents(objects: &Objects, pack: PackId) -> Result<Contents, StoreError> {
    let path = pack::pack_path(objects.root(), &pack);
    let Ok(input) = objects.storage().open(&path) else {
        return known_rows(objects, &pack);
    };
    let Ok(size) = input.size() else {
        return known_rows(objects, &pack);
    };
    let findings = Findings::default();
    let examined =
        Examined { objects, pack, path: &path, input: &*input, size, findings: &findings };
    examined.contents(&mut PackState::default())
}

/// What a file that is called as no pack is holds, by its own footer or the copy beside it.
pub fn contents_of_file(storage: &dyn Storage, path: &Path) -> Contents {
    let own = storage.open(path).ok().and_then(|input| {
        let size = input.size().ok()?;
        own_tail(&*input, size).ok()
    });
    let beside = || {
        let copy = storage::read(storage, &path.with_extension("index")).ok()?;
        Footer::decode(&copy).ok().map(|(footer, _)| footer)
    };
    let footer = own.map(|(_, footer)| footer).or_else(beside);
    footer.map_or_else(Contents::default, Contents::of_footer)
}

/// The bytes of a pack's own tail, and what they say.
fn own_tail(input: &dyn Input, size: u64) -> Result<(Vec<u8>, Footer), String> {
    let truncated = || FormatError::Truncated { what: "a pack" }.to_string();
    let mut trailer = [0; TRAILER];
    let at = size.checked_sub(TRAILER as u64).ok_or_else(truncated)?;
    input.read_exact_at(&mut trailer, at).map_err(|e| e.to_string())?;
    let offset = Footer::tail_offset(&trailer, size).map_err(|e| e.to_string())?;
    let mut tail = vec![0; (size - offset) as usize];
    input.read_exact_at(&mut tail, offset).map_err(|e| e.to_string())?;
    let (footer, _) = Footer::decode(&tail).map_err(|e| e.to_string())?;
    Ok((tail, footer))
}

/// What the index says of a pack: nothing, if it cannot be read.
fn known_rows(objects: &Objects, pack: &PackId) -> Result<Contents, StoreError> {
    match objects.index().rows_of(pack) {
        Ok(rows) => Ok(Contents::of_rows(rows)),
        Err(e) if objects.index().is_lost(&e) => Ok(Contents::default()),
        Err(e) => Err(e),
    }
}

impl Examined<'_> {
    fn header(&self, state: &mut PackState) {
        let mut head = [0; HEADER];
        let read = self.input.read_exact_at(&mut head, 0);
        let checked = read.map_err(|e| e.to_string());
        if let Err(why) = checked.and_then(|()| check_header(&head).map_err(|e| e.to_string())) {
            self.findings.add(Damage::PackHeader { pack: self.pack }, why);
            state.is_damaged = true;
        }
    }

    fn contents(&self, state: &mut PackState) -> Result<Contents, StoreError> {
        let Examined { objects, pack, findings, .. } = self;
        let beside = storage::read(objects.storage(), &pack::tail_path(objects.root(), pack));
        let own = match own_tail(self.input, self.size) {
            Ok(own) => Some(own),
            Err(why) => {
                findings.add(Damage::PackFooter { pack: *pack }, why);
                state.is_damaged = true;
                None
            }
        };
        let wrong = match (&own, &beside) {
            (_, Err(e)) => Some(e.to_string()),
            (Some((tail, _)), Ok(copy)) if tail == copy => None,
            (_, Ok(copy)) => match Footer::decode(copy) {
                Err(e) => Some(e.to_string()),
                Ok(_) if own.is_some() => Some("it is another pack's".to_owned()),
                Ok(_) => None,
            },
        };
        if let Some(why) = wrong {
            findings.add(Damage::PackTail { pack: *pack }, why);
            state.is_tail_damaged = true;
        }
        if let Some((_, footer)) = own {
            return Ok(Contents::of_footer(footer));
        }
        match beside.ok().and_then(|copy| Footer::decode(&copy).ok()) {
            Some((footer, _)) => Ok(Contents::of_footer(footer)),
            None => known_rows(objects, pack),
        }
    }

    /// Looks at all frames and the records in them, and hashes the whole file.
    fn frames(
        &self,
        contents: &Contents,
        state: &mut PackState,
        progress: &Progress,
    ) -> Result<Option<PackId>, StoreError> {
        let bad = Mutex::new((BTreeSet::new(), BTreeSet::new(), None));
        // None is the hash of the whole file, which takes longest.
        let jobs = std::iter::once(None).chain(contents.shares().into_iter().map(Some)).collect();
        let hashes = parallel::run(jobs, |queue| {
            let mut hash = None;
            while let Some(job) = queue.next() {
                let Some(share) = job else {
                    hash = self.hash().ok();
                    continue;
                };
                for no in share {
                    let (at, frame) = &contents.frames[no];
                    progress.add(frame.as_ref().map_or(0, |frame| frame.stored.into()));
                    let records = contents.records_of(no);
                    let found = self.frame(*at, frame.as_ref(), records);
                    let mut bad = bad.lock().expect("nothing panics with it held");
                    let (frames, wrong, first) = &mut *bad;
                    match found {
                        Ok(records) => wrong.extend(records),
                        Err(why) => {
                            frames.insert(*at);
                            first.get_or_insert(why);
                        }
                    }
                }
            }
            Ok::<_, StoreError>(hash)
        })?;
        let (frames, records, why) = bad.into_inner().expect("nothing panics with it held");
        let pack = self.pack;
        if let (Some(first), Some(why)) = (frames.first(), why) {
            let damage = Damage::PackFrames { pack, first: *first, count: frames.len() as u64 };
            self.findings.add(damage, why);
        }
        for record in &records {
            let why = FormatError::Hash { what: "a record" };
            self.findings.add(Damage::PackRecord { pack, record: *record }, why);
        }
        state.is_damaged |= !frames.is_empty() || !records.is_empty();
        (state.bad_frames, state.bad_records) = (frames, records);
        Ok(hashes.into_iter().flatten().next())
    }

    /// Looks at one frame. Gives the records that are not what they should be.
    fn frame(
        &self,
        at: u64,
        frame: Option<&Frame>,
        records: &[Record],
    ) -> Result<Vec<RecordId>, String> {
        if let Some(expected) = frame {
            let mut header = [0; FRAME_HEADER];
            self.input.read_exact_at(&mut header, at).map_err(|e| e.to_string())?;
            let header = FrameHeader::decode(&header).map_err(|e| e.to_string())?;
            if header.stored != expected.stored {
                return Err("its header and the footer disagree on its length".to_owned());
            }
        }
        let raw = pack::read_frame(self.input, self.path, &self.pack, at).map_err(|e| match e {
            StoreError::DamagedPack { source, .. } => source.to_string(),
            StoreError::Read { source, .. } => source.to_string(),
            e => e.to_string(),
        })?;
        let is_sound = |record: &Record| {
            let start = record.offset as usize;
            let bytes = raw.get(start..start + record.length as usize);
            bytes.is_some_and(|bytes| check_record(&record.id, bytes).is_ok())
        };
        Ok(records.iter().filter(|record| !is_sound(record)).map(|record| record.id).collect())
    }

    fn hash(&self) -> io::Result<PackId> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER.min(self.size as usize)];
        let mut at = 0;
        while at < self.size {
            let part = (self.size - at).min(BUFFER as u64) as usize;
            self.input.read_exact_at(&mut buffer[..part], at)?;
            hasher.update(&buffer[..part]);
            at += part as u64;
        }
        Ok(PackId::from_bytes(*hasher.finalize().as_bytes()))
    }
}
