//! Large files that changed, as the difference from what they held before.
//!
//! Such a file is read twice: first to see which of its chunks the store lacks and how well
//! these compress, by a sample; then to make the delta, given up as soon as it is no longer
//! clearly smaller. Where it is given up, the file is read as if nothing was known of it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use super::{Found, Source, Worker, is_no_file};
use crate::store::delta;
use crate::store::error::StoreError;
use crate::store::figures::Class;
use crate::store::format::content::Parameters;
use crate::store::format::pack::FRAME;
use crate::store::format::{FileId, RecordId};
use crate::store::pack::FrameBuilder;

/// What the chunks would take up must be worth the look-ups and the reading of a base.
const LEAST: u64 = 16 << 10;

/// What is to be known of a file before a delta is made of it.
struct Survey {
    id: FileId,
    class: Class,
    chunks: u64,
    /// The different ones, and their bytes.
    unique: u64,
    unique_bytes: u64,
    /// Bytes of those that the store does not have.
    new_bytes: u64,
    /// About how long these are when compressed.
    compressed: u64,
}

impl Worker<'_> {
    /// Stores a file of `size` bytes as the difference from `former`, which it held before.
    /// None where that is not clearly smaller than what is new of it, or if it changes.
    pub(super) fn difference(
        &mut self,
        file: &OwnedFd,
        size: u64,
        former: &FileId,
        failed: &dyn Fn(io::Error) -> StoreError,
    ) -> Result<Option<Found>, StoreError> {
        if self.dry || size < delta::MIN {
            return Ok(None);
        }
        let objects = self.writer.objects();
        let Some(base) = delta::base_for(objects, former)? else { return Ok(None) };
        // The buffer is needed.
        self.flush()?;
        let Some(survey) = self.survey(file, size, failed)? else { return Ok(None) };
        let Survey { id, class, .. } = survey;
        let record = RecordId::delta(&id);
        let mut stored = 0;
        if !delta::is_whole(objects, &id)? {
            // A quarter less, or it is not worth it that all depends on the base.
            let limit = survey.compressed / 4 * 3;
            if survey.compressed < LEAST || survey.new_bytes < size / 16 {
                return Ok(None);
            }
            let mut source = Source::new(file, size).map_err(failed)?;
            let fill = |bytes: &mut [u8]| source.fill(bytes).map(drop).map_err(failed);
            let made = delta::make(objects, &base, (&id, size), limit as usize, fill)?;
            let Some(bytes) = made else { return Ok(None) };
            if self.writer.claim(record)? {
                stored = bytes.len() as u64;
                self.add_alone(record, &bytes)?;
            }
        }
        self.count(&survey, stored);
        Ok(Some(Found { id, size, class }))
    }

    fn add_alone(&mut self, id: RecordId, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() <= FRAME {
            return self.writer.add(&mut self.frame, FRAME, id, bytes);
        }
        // The frame that small ones share would keep the room.
        let mut frame = FrameBuilder::default();
        self.writer.add(&mut frame, FRAME, id, bytes)?;
        self.writer.flush(&mut frame)
    }

    fn count(&mut self, survey: &Survey, stored: u64) {
        let counts = self.figures.of(survey.class);
        counts.chunks += survey.chunks;
        counts.unique += survey.unique;
        counts.unique_bytes += survey.unique_bytes;
        if stored > 0 {
            counts.new_files += 1;
            counts.new_bytes += survey.new_bytes;
            self.figures.delta_bytes += survey.new_bytes;
            self.figures.delta_stored += stored;
        }
    }

    /// Cuts and hashes a file, and stores nothing. None if it is no file any more.
    fn survey(
        &mut self,
        file: &OwnedFd,
        size: u64,
        failed: &dyn Fn(io::Error) -> StoreError,
    ) -> Result<Option<Survey>, StoreError> {
        let mut source = Source::new(file, size).map_err(failed)?;
        let (mut start, mut end) = match source.fill(&mut self.buffer) {
            Ok(read) => (0, read),
            Err(e) if is_no_file(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let class = Class::of(size, &self.buffer[..end]);
        let parameters = Parameters::for_file(&self.buffer[..end]);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.buffer[..end]);
        let mut sample = Sample::default();
        let mut chunks = 0;
        let mut seen: HashMap<FileId, u64> = HashMap::new();
        let (mut unique_bytes, mut new_bytes) = (0, 0);
        while start < end {
            let mut cut = Vec::new();
            while end - start >= parameters.max || (source.is_at_end() && start < end) {
                let length = parameters.cut(&self.buffer[start..end]);
                let bytes = start..start + length;
                let id = FileId::of(&self.buffer[bytes.clone()]);
                chunks += 1;
                if seen.insert(id, length as u64).is_none() {
                    unique_bytes += length as u64;
                    cut.push((RecordId::data(&id), bytes));
                }
                start += length;
            }
            let ids: Vec<RecordId> = cut.iter().map(|(id, _)| *id).collect();
            let found = self.writer.objects().locate_all(&ids)?;
            for ((_, bytes), _) in cut.into_iter().zip(found).filter(|(_, at)| at.is_none()) {
                new_bytes += bytes.len() as u64;
                sample.see(&self.buffer[bytes], new_bytes);
            }
            self.buffer.copy_within(start..end, 0);
            end -= start;
            start = 0;
            let read = source.fill(&mut self.buffer[end..]).map_err(failed)?;
            hasher.update(&self.buffer[end..end + read]);
            end += read;
        }
        let id = FileId::from_bytes(*hasher.finalize().as_bytes());
        let (unique, compressed) = (seen.len() as u64, sample.estimate(new_bytes));
        Ok(Some(Survey { id, class, chunks, unique, unique_bytes, new_bytes, compressed }))
    }
}

/// About every fourth frame of what is new, compressed.
#[derive(Default)]
struct Sample {
    frame: FrameBuilder,
    /// Bytes in it.
    length: u64,
    raw: u64,
    stored: u64,
}

impl Sample {
    /// A chunk with which `seen` bytes are new by now.
    fn see(&mut self, chunk: &[u8], seen: u64) {
        if self.length == 0 && 4 * self.raw >= seen {
            return;
        }
        // What it is called is of no interest.
        self.frame.push(RecordId::data(&FileId::of(b"")), chunk);
        self.length += chunk.len() as u64;
        if self.length >= FRAME as u64 {
            self.compress();
        }
    }

    fn compress(&mut self) {
        let stored = self.frame.encode().ok().flatten().map_or(0, |frame| frame.stored());
        self.stored += stored;
        self.raw += self.length;
        self.length = 0;
    }

    /// How long `new` bytes will be about, when compressed.
    fn estimate(mut self, new: u64) -> u64 {
        self.compress();
        let (stored, raw) = (u128::from(self.stored), u128::from(self.raw.max(1)));
        (stored * u128::from(new) / raw) as u64
    }
}
