//! File contents: read whole, or written out to many files at once, frame by frame.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::format::content::Recipe;
use super::format::{FileId, FormatError, PackId, RecordId};
use super::index::Location;
use super::objects::{Objects, slice};
use super::parallel;

/// Reads a content.
pub fn read(objects: &Objects, id: &FileId) -> Result<Vec<u8>, StoreError> {
    if *id == FileId::of(b"") {
        return Ok(Vec::new());
    }
    let whole = RecordId::data(id);
    if objects.contains(&whole)? {
        return objects.read(&whole, |bytes| verified(id, bytes).map(<[u8]>::to_vec));
    }
    let mut content = Vec::new();
    join_chunks(objects, id, |bytes| {
        content.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(content)
}

/// The length of a content, if the store has it.
pub fn size(objects: &Objects, id: &FileId) -> Result<Option<u64>, StoreError> {
    if *id == FileId::of(b"") {
        return Ok(Some(0));
    }
    if let Some(location) = objects.locate(&RecordId::data(id))? {
        return Ok(Some(location.length.into()));
    }
    match objects.read(&RecordId::recipe(id), Recipe::decode) {
        Ok(recipe) => Ok(Some(recipe.size())),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn verified<'b>(id: &FileId, bytes: &'b [u8]) -> Result<&'b [u8], FormatError> {
    match FileId::of(bytes) == *id {
        true => Ok(bytes),
        false => Err(FormatError::Hash { what: "a content" }),
    }
}

/// Gives the chunks of a content to `put`, in order, and verifies each and the whole.
fn join_chunks(
    objects: &Objects,
    id: &FileId,
    mut put: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let record = RecordId::recipe(id);
    let recipe = objects.read(&record, Recipe::decode).map_err(|e| match e {
        // Neither whole nor in chunks: what is missing is the content.
        StoreError::Missing { record: missing } if missing == record => {
            StoreError::Missing { record: RecordId::data(id) }
        }
        e => e,
    })?;
    let mut hasher = blake3::Hasher::new();
    for (length, chunk) in &recipe.chunks {
        let bytes = objects
            .read(&RecordId::data(chunk), |bytes| verified(chunk, bytes).map(<[u8]>::to_vec))?;
        if bytes.len() != *length as usize {
            return Err(StoreError::DamagedFile { id: *id });
        }
        hasher.update(&bytes);
        put(&bytes)?;
    }
    match hasher.finalize().as_bytes() == id.as_bytes() {
        true => Ok(recipe.size()),
        false => Err(StoreError::DamagedFile { id: *id }),
    }
}

/// A file that is to be written out.
#[derive(Debug, Clone)]
pub struct Want {
    /// Its content.
    pub id: FileId,
    /// Whether it is executable.
    pub exec: bool,
    /// Where it goes.
    pub target: PathBuf,
}

/// Where files that are written out go.
pub trait Sink: Sync {
    /// Makes an empty file, and says what it is called for now.
    fn begin(&self, want: &Want) -> Result<(PathBuf, File), StoreError>;
    /// Finishes the file, which has its verified content.
    fn end(&self, want: &Want, path: &Path, file: File) -> Result<(), StoreError>;
    /// How an error of writing is told.
    fn failed(&self, path: &Path, error: io::Error) -> StoreError;
}

/// One frame and the files whose contents are in it, or a file of several chunks, or one
/// without content.
enum Job {
    Frame(Location, Vec<(Want, Location)>),
    Other(Want),
}

/// Writes out `wants`, each frame being read and decoded once. Gives the bytes written.
pub fn extract(objects: &Objects, wants: Vec<Want>, sink: &dyn Sink) -> Result<u64, StoreError> {
    let ids: Vec<RecordId> = wants.iter().map(|want| RecordId::data(&want.id)).collect();
    let locations = objects.locate_all(&ids)?;
    let mut frames: BTreeMap<(PackId, u64), Vec<(Want, Location)>> = BTreeMap::new();
    let mut jobs = Vec::new();
    for (want, location) in wants.into_iter().zip(locations) {
        match location {
            Some(at) => frames.entry((at.pack, at.frame)).or_default().push((want, at)),
            None => jobs.push(Job::Other(want)),
        }
    }
    jobs.extend(frames.into_values().map(|wants| Job::Frame(wants[0].1, wants)));
    let written = parallel::run(jobs, |queue| {
        let mut bytes = 0;
        while let Some(job) = queue.next() {
            bytes += match job {
                Job::Frame(location, wants) => extract_frame(objects, &location, wants, sink)?,
                Job::Other(want) => extract_one(objects, &want, sink)?,
            };
        }
        Ok(bytes)
    })?;
    Ok(written.iter().sum())
}

fn extract_frame(
    objects: &Objects,
    location: &Location,
    wants: Vec<(Want, Location)>,
    sink: &dyn Sink,
) -> Result<u64, StoreError> {
    let sound = objects.frame(location).and_then(|frame| {
        for (want, at) in &wants {
            let record = RecordId::data(&want.id);
            verified(&want.id, slice(&frame, at, &record)?)
                .map_err(|source| StoreError::DamagedRecord { record, source })?;
        }
        Ok(frame)
    });
    let Ok(frame) = sound else {
        // The index may have been wrong: each on its own doubts it, and tells which is
        // damaged.
        return wants.iter().map(|(want, _)| extract_one(objects, want, sink)).sum();
    };
    let mut bytes = 0;
    for (want, at) in &wants {
        let content = slice(&frame, at, &RecordId::data(&want.id))?;
        bytes += write(want, sink, |file| {
            file.write_all(content).map_err(|e| sink.failed(&want.target, e))?;
            Ok(content.len() as u64)
        })?;
    }
    Ok(bytes)
}

/// Writes out one file, looking at the frames that were decoded last.
pub fn extract_one(objects: &Objects, want: &Want, sink: &dyn Sink) -> Result<u64, StoreError> {
    let failed = |e| sink.failed(&want.target, e);
    if want.id != FileId::of(b"") && !objects.contains(&RecordId::data(&want.id))? {
        return write(want, sink, |file| {
            join_chunks(objects, &want.id, |bytes| file.write_all(bytes).map_err(failed))
        });
    }
    let content = read(objects, &want.id)?;
    write(want, sink, |file| {
        file.write_all(&content).map_err(failed)?;
        Ok(content.len() as u64)
    })
}

/// Makes a file by `fill`, or leaves none.
fn write(
    want: &Want,
    sink: &dyn Sink,
    fill: impl FnOnce(&mut File) -> Result<u64, StoreError>,
) -> Result<u64, StoreError> {
    let (path, mut file) = sink.begin(want)?;
    let filled = fill(&mut file).and_then(|bytes| {
        sink.end(want, &path, file)?;
        Ok(bytes)
    });
    filled.inspect_err(|_| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&path);
    })
}
