//! Contents written out to files, many at a time: each frame is read and decoded once,
//! whatever it is that is wanted of it, and by several threads. Nothing is written that was
//! not verified. Long runs of zeros become holes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::contents;
use super::error::StoreError;
use super::format::{FileId, PackId, RecordId};
use super::index::Location;
use super::objects::{Objects, slice};
use super::parallel;
use super::progress::Progress;

/// A file that is to be written out.
#[derive(Debug, Clone)]
pub struct Want<T> {
    /// Its content.
    pub id: FileId,
    /// Whether it is executable.
    pub exec: bool,
    /// Where it goes.
    pub target: T,
}

/// Where files that are written out go.
pub trait Sink: Sync {
    /// A file's place.
    type Target: Send;
    /// What a thread keeps from one file to the next.
    type Local: Default;
    /// What is known of a file while it is written.
    type Open;
    /// Makes an empty file.
    fn begin(
        &self,
        local: &mut Self::Local,
        want: &Want<Self::Target>,
    ) -> Result<(File, Self::Open), StoreError>;
    /// Finishes the file, which has its verified content.
    fn end(
        &self,
        local: &mut Self::Local,
        want: &Want<Self::Target>,
        open: &Self::Open,
        file: File,
    ) -> Result<(), StoreError>;
    /// Removes a file that was begun and cannot be finished.
    fn undo(&self, local: &mut Self::Local, want: &Want<Self::Target>, open: &Self::Open);
    /// How an error of writing is told.
    fn failed(&self, want: &Want<Self::Target>, error: io::Error) -> StoreError;
}

/// One frame and the files whose contents are in it, or a file that is not one record.
enum Job<T> {
    Frame(Vec<(Want<T>, Location)>),
    Other(Want<T>),
}

/// Writes out `wants`, in no order.
pub fn extract<S: Sink>(
    objects: &Objects,
    mut wants: Vec<Want<S::Target>>,
    sink: &S,
    progress: &Progress,
) -> Result<(), StoreError> {
    // The index is looked through in its own order.
    wants.sort_unstable_by_key(|want| want.id);
    let ids: Vec<RecordId> = wants.iter().map(|want| RecordId::data(&want.id)).collect();
    let locations = objects.locate_all(&ids)?;
    let mut frames: BTreeMap<(PackId, u64), Vec<_>> = BTreeMap::new();
    let mut others = Vec::new();
    for (want, location) in wants.into_iter().zip(locations) {
        match location {
            Some(at) => frames.entry((at.pack, at.frame)).or_default().push((want, at)),
            None => others.push(want),
        }
    }
    // Mostly the large ones, so they come first.
    let mut jobs = in_order(objects, others)?;
    jobs.extend(frames.into_values().map(|mut wants| {
        wants.sort_unstable_by_key(|(_, at)| at.offset);
        Job::Frame(wants)
    }));
    parallel::run(jobs, |queue| {
        let mut local = S::Local::default();
        while let Some(job) = queue.next() {
            match job {
                Job::Frame(wants) => {
                    extract_frame(objects, &wants, sink, &mut local)?;
                    progress.add(wants.len() as u64);
                }
                Job::Other(want) => {
                    extract_one(objects, &want, sink, &mut local)?;
                    progress.add(1);
                }
            }
        }
        Ok(())
    })
    .map(drop)
}

/// Files in chunks, in the order in which their lists lie, which is that of their chunks: so
/// those that share a frame come while it is remembered.
fn in_order<T>(objects: &Objects, wants: Vec<Want<T>>) -> Result<Vec<Job<T>>, StoreError> {
    let lists: Vec<RecordId> = wants.iter().map(|want| RecordId::recipe(&want.id)).collect();
    let locations = objects.locate_all(&lists)?;
    let mut wants: Vec<_> = locations.into_iter().zip(wants).collect();
    wants.sort_by_key(|(at, _)| at.as_ref().map(|at| (at.pack, at.frame, at.offset)));
    Ok(wants.into_iter().map(|(_, want)| Job::Other(want)).collect())
}

fn extract_frame<S: Sink>(
    objects: &Objects,
    wants: &[(Want<S::Target>, Location)],
    sink: &S,
    local: &mut S::Local,
) -> Result<(), StoreError> {
    let Some((_, first)) = wants.first() else { return Ok(()) };
    let sound = objects.frame(first).and_then(|frame| {
        let mut last = None;
        for (want, at) in wants {
            if last.replace(at.offset) == Some(at.offset) {
                continue;
            }
            let record = RecordId::data(&want.id);
            contents::verified(&want.id, slice(&frame, at, &record)?)
                .map_err(|source| StoreError::DamagedRecord { record, source })?;
        }
        Ok(frame)
    });
    let Ok(frame) = sound else {
        // The index may have been wrong: each on its own doubts it, and tells which is
        // damaged.
        return wants.iter().try_for_each(|(want, _)| extract_one(objects, want, sink, local));
    };
    for (want, at) in wants {
        let content = slice(&frame, at, &RecordId::data(&want.id))?;
        write(want, sink, local, |file| put(file, content).map_err(|e| sink.failed(want, e)))?;
    }
    Ok(())
}

/// Writes out one file, looking at the frames that were decoded last.
pub fn extract_one<S: Sink>(
    objects: &Objects,
    want: &Want<S::Target>,
    sink: &S,
    local: &mut S::Local,
) -> Result<(), StoreError> {
    let failed = |e| sink.failed(want, e);
    write(want, sink, local, |file| {
        let mut sparse = Sparse::new(file);
        contents::stream(objects, &want.id, |bytes| sparse.put(bytes).map_err(failed))?;
        sparse.finish().map_err(failed)
    })
}

/// Makes a file by `fill`, or leaves none.
fn write<S: Sink>(
    want: &Want<S::Target>,
    sink: &S,
    local: &mut S::Local,
    fill: impl FnOnce(&File) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (file, open) = sink.begin(local, want)?;
    let filled = fill(&file).and_then(|()| sink.end(local, want, &open, file));
    if filled.is_err() {
        sink.undo(local, want, &open);
    }
    filled
}

fn put(mut file: &File, content: &[u8]) -> io::Result<()> {
    if content.len() < RUN {
        return file.write_all(content);
    }
    let mut sparse = Sparse::new(file);
    sparse.put(content)?;
    sparse.finish()
}

/// A block of the file systems that have holes.
const BLOCK: usize = 4096;
/// Zeros that are left out. Their first ones are only seen from the next block on, so every
/// run of 64 KiB is one.
const RUN: usize = (64 << 10) - BLOCK;
static ZEROS: [u8; RUN] = [0; RUN];

/// A new file that is written from its beginning to its end, with holes for long runs of
/// zeros.
struct Sparse<'f> {
    file: &'f File,
    at: u64,
    // Zeros that follow what was written.
    zeros: u64,
}

impl Sparse<'_> {
    fn new(file: &File) -> Sparse<'_> {
        Sparse { file, at: 0, zeros: 0 }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let zeros = leading_zeros(bytes);
            self.zeros += zeros as u64;
            bytes = &bytes[zeros..];
            let blocks = bytes.chunks(BLOCK);
            let data = blocks.take_while(|block| **block != ZEROS[..block.len()]);
            let (data, rest) = bytes.split_at(data.map(<[u8]>::len).sum());
            if !data.is_empty() {
                self.settle()?;
                self.file.write_all_at(data, self.at)?;
                self.at += data.len() as u64;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Writes out the zeros, if they are few.
    fn settle(&mut self) -> io::Result<()> {
        if self.zeros < RUN as u64 {
            self.file.write_all_at(&ZEROS[..self.zeros as usize], self.at)?;
        }
        self.at += std::mem::take(&mut self.zeros);
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.zeros < RUN as u64 {
            return self.settle();
        }
        self.file.set_len(self.at + self.zeros)
    }
}

fn leading_zeros(bytes: &[u8]) -> usize {
    let blocks = bytes.chunks(BLOCK).take_while(|block| **block == ZEROS[..block.len()]);
    let whole: usize = blocks.map(<[u8]>::len).sum();
    whole + bytes[whole..].iter().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn long_runs_of_zeros_become_holes_and_every_byte_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let data = |n: usize| (0..n).map(|i| (i % 251) as u8 + 1).collect::<Vec<u8>>();
        let zeros = |n: usize| vec![0; n];
        let shapes = [
            (vec![data(10), zeros(64 << 10), data(10)], false),
            (vec![zeros(1 << 20)], true),
            (vec![data(5000), zeros(1 << 20), data(1), zeros(100_000)], true),
            (vec![zeros(200_000), data(70_000), zeros(3)], true),
            (vec![data(4096), zeros(4096), data(100_000), zeros(8191), data(1)], false),
        ];
        for (n, (parts, holes)) in shapes.iter().enumerate() {
            let content = parts.concat();
            for piece in [content.len(), 65_536, 10_007, 4096] {
                let path = dir.path().join(format!("{n}.{piece}"));
                let file = File::create(&path).unwrap();
                let mut sparse = Sparse::new(&file);
                content.chunks(piece).for_each(|piece| sparse.put(piece).unwrap());
                sparse.finish().unwrap();
                file.sync_all().unwrap();
                assert!(std::fs::read(&path).unwrap() == content, "{n} in pieces of {piece}");
                if *holes {
                    let blocks = file.metadata().unwrap().blocks() * 512;
                    assert!(blocks < content.len() as u64 - 60_000, "{n}: {blocks}");
                }
            }
        }
    }
}
