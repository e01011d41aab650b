//! Contents into the store: read, hashed, cut, and what is new of them compressed.
//!
//! A thread gathers what it reads in one buffer: many small files, or a part of a large one.
//! When the buffer is full, the index is asked for all of its records at once.

mod difference;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::clock::ATTEMPTS;
use super::listing::{Content, Node, Place};
use super::walk::{Walk, is_gone};
use crate::store::error::StoreError;
use crate::store::figures::{Class, Figures};
use crate::store::format::content::{BINARY, Parameters, Recipe};
use crate::store::format::pack::FRAME;
use crate::store::format::{FileId, RecordId, RecordKind};
use crate::store::known::Stamp;
use crate::store::objects::{Claim, Writer};
use crate::store::pack::FrameBuilder;
use crate::store::progress::Progress;

/// The buffer: several of the longest chunks.
const BUFFER: usize = 8 * BINARY.max;
/// A run of small files is about this many bytes, several frames.
const RUN: u64 = 1 << 20;
/// And at most this many files.
const RUN_FILES: usize = 1024;
/// Files from here on are begun first, so that none is left to one thread at the end.
const LARGE: u64 = 4 << 20;

/// Lays the `places` out as work for threads: large files first, then runs of those that
/// stand near each other, in order.
pub fn jobs(walk: &Walk<'_>, places: Vec<Place>) -> Vec<Vec<Place>> {
    let mut large = Vec::new();
    let mut runs: Vec<Vec<Place>> = Vec::new();
    let mut bytes = 0;
    for place in places {
        let size = match walk.directories[place.0 as usize].entries()[place.1 as usize].node {
            Node::File { stamp, .. } => stamp.size,
            _ => 0,
        };
        if size >= LARGE {
            large.push((size, place));
            continue;
        }
        bytes += size;
        match runs.last_mut() {
            Some(run) if run.len() < RUN_FILES && bytes <= RUN => run.push(place),
            _ => {
                bytes = size;
                runs.push(vec![place]);
            }
        }
    }
    large.sort_by_key(|(size, place)| (std::cmp::Reverse(*size), *place));
    large.into_iter().map(|(_, place)| vec![place]).chain(runs).collect()
}

/// A record in the buffer.
struct Piece {
    id: RecordId,
    bytes: Range<usize>,
    class: Class,
    /// It stands for the whole of a file.
    whole: bool,
}

/// One thread's share of a capture.
pub struct Worker<'w> {
    walk: &'w Walk<'w>,
    writer: &'w Writer<'w>,
    progress: &'w Progress,
    /// Nothing is stored, only counted.
    dry: bool,
    /// What was read and found new.
    pub figures: Figures,
    frame: FrameBuilder,
    buffer: Vec<u8>,
    /// Where the bytes in the buffer end.
    end: usize,
    pieces: Vec<Piece>,
    /// How often the buffer was emptied.
    flushed: u64,
    directory: Option<(u32, OwnedFd)>,
    /// The last time that was asked for.
    now: i64,
}

/// What came of reading a file.
enum Outcome {
    Read {
        stamp: Stamp,
        exec: bool,
        id: FileId,
        settled: bool,
    },
    /// There is no file any more.
    Gone,
}

/// A content that was read.
struct Found {
    id: FileId,
    size: u64,
    class: Class,
}

impl<'w> Worker<'w> {
    /// A worker with nothing done.
    pub fn new(
        walk: &'w Walk<'w>,
        writer: &'w Writer<'w>,
        progress: &'w Progress,
        dry: bool,
    ) -> Worker<'w> {
        Worker {
            walk,
            writer,
            progress,
            dry,
            figures: Figures::default(),
            frame: FrameBuilder::default(),
            buffer: vec![0; BUFFER],
            end: 0,
            pieces: Vec::new(),
            flushed: 0,
            directory: None,
            now: walk.clock.now,
        }
    }

    /// Puts the files `places` into the store, each as it was at one moment. Those that are
    /// gone are added to `gone`.
    pub fn run(&mut self, places: &[Place], gone: &mut Vec<Place>) -> Result<(), StoreError> {
        for place in places {
            let outcome = self.file(*place)?;
            let mut entries = self.walk.directories[place.0 as usize].entries();
            match (outcome, &mut entries[place.1 as usize].node) {
                (
                    Outcome::Read { stamp: now, exec: is, id, settled },
                    Node::File { stamp, exec, content, .. },
                ) => {
                    (*stamp, *exec, *content) = (now, is, Content::Read(id, settled));
                }
                _ => gone.push(*place),
            }
        }
        self.progress.add(places.len() as u64);
        self.flush()
    }

    /// Writes out what is left.
    pub fn finish(mut self) -> Result<Figures, StoreError> {
        self.writer.flush(&mut self.frame)?;
        Ok(self.figures)
    }

    /// Reads one file.
    fn file(&mut self, place: Place) -> Result<Outcome, StoreError> {
        let directory = &self.walk.directories[place.0 as usize];
        let entry = directory.entries()[place.1 as usize];
        let Node::File { stamp: seen, content, .. } = entry.node else { return Ok(Outcome::Gone) };
        let failed =
            |e: io::Error| StoreError::capture(&self.walk.path(&self.walk.below_entry(place)))(e);
        let mut before = seen;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(Duration::from_millis(10 << attempt));
            }
            let file = match self.open(place.0, directory.name(&entry)) {
                Ok(file) => file,
                Err(e) if is_no_file(&e) => return Ok(Outcome::Gone),
                Err(e) => return Err(failed(e)),
            };
            let look = || Ok(Stamp::of(&rustix::fs::fstat(&file)?));
            if attempt > 0 {
                // The first time it is compared with what the walk saw, which saves a call.
                before = look().map_err(failed)?;
            }
            let clock = &self.walk.clock;
            let (before, settled) =
                clock.settle(before, directory.device, &mut self.now, look).map_err(failed)?;
            self.make_room(before.size)?;
            let mark = (self.end, self.pieces.len(), self.flushed);
            let mut found = match content {
                Content::Unread(Some(former)) => {
                    self.difference(&file, before.size, &former, &failed)?
                }
                _ => None,
            };
            if found.is_none() {
                found = self.content(&file, before.size, &failed)?;
            }
            let Some(found) = found else { return Ok(Outcome::Gone) };
            let stat = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(Outcome::Gone);
            }
            let after = Stamp::of(&stat);
            if after == before && found.size == after.size {
                let counts = self.figures.of(found.class);
                counts.files += 1;
                counts.bytes += found.size;
                let settled = settled && stat.st_dev == directory.device;
                let exec = stat.st_mode & 0o100 != 0;
                return Ok(Outcome::Read { stamp: after, exec, id: found.id, settled });
            }
            if mark.2 == self.flushed {
                // What was read of it has not been given to anybody yet.
                self.end = mark.0;
                self.pieces.truncate(mark.1);
            }
        }
        Err(StoreError::Changing { path: self.walk.path(&self.walk.below_entry(place)) })
    }

    fn open(&mut self, directory: u32, name: &[u8]) -> io::Result<OwnedFd> {
        let fd = match &self.directory {
            Some((number, fd)) if *number == directory => fd,
            _ => &self.directory.insert((directory, self.walk.open(directory)?)).1,
        };
        // Somebody may have put a link or a pipe in its place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(fd, name, flags, Mode::empty())?)
    }

    /// Reads a content of `size` bytes into the buffer, and cuts it. None if it is no file.
    fn content(
        &mut self,
        file: &OwnedFd,
        size: u64,
        failed: &dyn Fn(io::Error) -> StoreError,
    ) -> Result<Option<Found>, StoreError> {
        let mut source = Source::new(file, size).map_err(failed)?;
        let mut start = self.end;
        match source.fill(&mut self.buffer[start..]) {
            Ok(read) => self.end += read,
            Err(e) if is_no_file(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        }
        let class = Class::of(size, &self.buffer[start..self.end]);
        if class == Class::Small || start == self.end {
            let bytes = start..self.end;
            let id = FileId::of(&self.buffer[bytes.clone()]);
            let size = bytes.len() as u64;
            if size > 0 {
                self.pieces.push(Piece { id: RecordId::data(&id), bytes, class, whole: true });
            }
            return Ok(Some(Found { id, size, class }));
        }
        let parameters = Parameters::for_file(&self.buffer[start..self.end]);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.buffer[start..self.end]);
        let mut recipe = Recipe::default();
        while start < self.end || !source.is_at_end() {
            if self.end - start < parameters.max && !source.is_at_end() {
                self.flush_but(start)?;
                let kept = self.end;
                self.end += source.fill(&mut self.buffer[kept..]).map_err(failed)?;
                hasher.update(&self.buffer[kept..self.end]);
                start = 0;
                if self.end == 0 {
                    // It ends where the part before did, earlier than was said.
                    break;
                }
            }
            let length = parameters.cut(&self.buffer[start..self.end]);
            let bytes = start..start + length;
            let id = FileId::of(&self.buffer[bytes.clone()]);
            recipe.chunks.push((length as u32, id));
            self.pieces.push(Piece { id: RecordId::data(&id), bytes, class, whole: false });
            start += length;
        }
        let id = FileId::from_bytes(*hasher.finalize().as_bytes());
        let size = recipe.size();
        match self.pieces.last_mut() {
            Some(only) if recipe.chunks.len() == 1 => only.whole = true,
            _ => self.recipe(&id, &recipe, class, failed)?,
        }
        Ok(Some(Found { id, size, class }))
    }

    /// Adds the list of a file's chunks.
    fn recipe(
        &mut self,
        id: &FileId,
        recipe: &Recipe,
        class: Class,
        failed: &dyn Fn(io::Error) -> StoreError,
    ) -> Result<(), StoreError> {
        let id = RecordId::recipe(id);
        // Only a file of terabytes has a list that is too long.
        let record = recipe.encode().map_err(|e| failed(io::Error::other(e)))?;
        if record.len() > BUFFER {
            self.flush()?;
            if self.writer.claim(id)? {
                self.figures.of(class).new_files += 1;
                if !self.dry {
                    self.writer.add(&mut self.frame, FRAME, id, &record)?;
                }
            }
            return Ok(());
        }
        self.make_room(record.len() as u64)?;
        let bytes = self.end..self.end + record.len();
        self.buffer[bytes.clone()].copy_from_slice(&record);
        self.end = bytes.end;
        self.pieces.push(Piece { id, bytes, class, whole: true });
        Ok(())
    }

    /// Sees that so many bytes fit into the buffer, or as many as ever do.
    fn make_room(&mut self, size: u64) -> Result<(), StoreError> {
        let room = (BUFFER - self.end) as u64;
        if size > room { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.flush_but(self.end)
    }

    /// Stores what is new of the pieces in the buffer; bytes from `start` on stay in it.
    fn flush_but(&mut self, start: usize) -> Result<(), StoreError> {
        let ids: Vec<RecordId> = self.pieces.iter().map(|piece| piece.id).collect();
        let claims = self.writer.claim_all(&ids)?;
        for (piece, claim) in self.pieces.drain(..).zip(claims) {
            let counts = self.figures.of(piece.class);
            let is_new = claim == Claim::New;
            if piece.id.kind == RecordKind::Data {
                let length = piece.bytes.len() as u64;
                counts.chunks += 1;
                counts.unique += u64::from(claim != Claim::Seen);
                counts.unique_bytes += if claim == Claim::Seen { 0 } else { length };
                counts.new_bytes += if is_new { length } else { 0 };
            }
            counts.new_files += u64::from(piece.whole && is_new);
            if is_new && !self.dry {
                let bytes = &self.buffer[piece.bytes];
                self.writer.add(&mut self.frame, FRAME, piece.id, bytes)?;
            }
        }
        self.buffer.copy_within(start..self.end, 0);
        self.end -= start;
        self.flushed += 1;
        Ok(())
    }
}

/// A file being read from its beginning to its end, or to where that was.
struct Source<'f> {
    file: &'f OwnedFd,
    size: u64,
    at: u64,
    /// The file may have holes: up to where there is none.
    data: Option<u64>,
}

impl<'f> Source<'f> {
    fn new(file: &'f OwnedFd, size: u64) -> io::Result<Source<'f>> {
        // Looking for holes costs calls, which small files do not repay.
        let is_sparse = size >= LARGE && {
            let stat = rustix::fs::fstat(file)?;
            (stat.st_blocks as u64).saturating_mul(512) < size
        };
        Ok(Source { file, size, at: 0, data: is_sparse.then_some(0) })
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.size
    }

    /// Fills `buffer` from where the last call ended. Less is read only at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && !self.is_at_end() {
            let most = (self.size - self.at).min((buffer.len() - filled) as u64);
            let part = &mut buffer[filled..][..most as usize];
            let read = match self.hole()? {
                0 => match rustix::io::pread(self.file, &mut *part, self.at) {
                    Err(Errno::INTR) => continue,
                    // It is shorter than it was.
                    Ok(0) => {
                        self.size = self.at;
                        0
                    }
                    read => read?,
                },
                hole => {
                    let read = hole.min(most) as usize;
                    part[..read].fill(0);
                    read
                }
            };
            self.at += read as u64;
            filled += read;
        }
        Ok(filled)
    }

    /// How many bytes from here on are a hole, and need not be read.
    fn hole(&mut self) -> io::Result<u64> {
        let Some(data) = self.data else { return Ok(0) };
        if self.at < data {
            return Ok(0);
        }
        let begins = match rustix::fs::seek(self.file, SeekFrom::Data(self.at)) {
            // There is nothing but a hole.
            Err(Errno::NXIO) => return Ok(self.size - self.at),
            // This file system does not tell.
            Err(_) => {
                self.data = None;
                return Ok(0);
            }
            Ok(begins) => begins,
        };
        if begins > self.at {
            return Ok(begins.min(self.size) - self.at);
        }
        let ends = rustix::fs::seek(self.file, SeekFrom::Hole(self.at)).unwrap_or(self.size);
        self.data = Some(ends.max(self.at + 1));
        Ok(0)
    }
}

/// Whether the error says that what was a file is none any more.
fn is_no_file(error: &io::Error) -> bool {
    let others = [Errno::NXIO, Errno::ISDIR, Errno::AGAIN];
    is_gone(error) || others.iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}
