//! Directories into the store.
//!
//! First a walk looks at every name and compares what the kernel says with what was known
//! (`walk.rs`); then a few threads read, hash, cut and compress what is not known (`read.rs`);
//! last the trees, from the bottom up (`trees.rs`). Everything is opened by a path below the
//! open root, in parts, so that no path is too long and no link is followed (`below.rs`).
//!
//! What is in memory is the names, some hundred bytes a file, and about four megabytes a
//! thread. Where something is gone or became something else since the walk, another walk
//! looks again, and what the first found out and still holds is not read twice.

mod below;
mod clock;
mod listing;
mod presence;
mod read;
mod remember;
mod trees;
mod walk;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::error::StoreError;
use super::figures::Figures;
use super::format::TreeId;
use super::hold::Hold;
use super::known::{self, Item, Known, Recorder, Row};
use super::objects::{Objects, Writer};
use super::parallel;
use super::progress::Progress;
use crate::event::Events;
use clock::{ATTEMPTS, Clock};
use listing::{Content, Entry, Node, Place};
use read::Worker;
pub use remember::remember;
use walk::{Trouble, Walk};

/// What was captured.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The tree's id.
    pub tree: TreeId,
    /// Regular files.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
    /// Bytes of content that the store did not have, before compression.
    pub new_bytes: u64,
    /// Bytes by which the store has grown.
    pub stored_bytes: u64,
    /// Of the files that were read; the others were as they were last time.
    pub figures: Figures,
    /// The tree is safe from the collector as long as this lives.
    pub hold: Hold,
}

/// Puts the directory `dir` into the store, whatever was known of it.
pub fn capture(
    objects: &Objects,
    dir: &Path,
    hold: Hold,
    events: &Arc<dyn Events>,
) -> Result<Captured, StoreError> {
    let generation = objects.generation()?;
    let capture = Capture { objects, events, dir, owner: None, generation, dry: false };
    capture.run(hold, None, |_, _, _| ())
}

/// Puts the directory `dir`, a canonical path, into the store, if it is `owner`'s where one is
/// given. Files that are as they were when it was captured last are not read.
pub fn snapshot(
    objects: &Objects,
    (dir, owner): (&Path, Option<u32>),
    hold: Hold,
    events: &Arc<dyn Events>,
) -> Result<Captured, StoreError> {
    let generation = objects.generation()?;
    let known = Known::load(objects.root(), dir);
    let capture = Capture { objects, events, dir, owner, generation, dry: false };
    capture.run(hold, known, |walk, ids, same| {
        if !same {
            // It is a cache: the next capture reads more if it cannot be written.
            let _ = save(objects, walk, ids, dir, generation);
        }
    })
}

/// Reads the directories `dirs`, one after the other, and says how much of each neither the
/// store has nor those before it.
pub fn analyse(
    objects: &Objects,
    dirs: &[PathBuf],
    _hold: &Hold,
    events: &Arc<dyn Events>,
) -> Result<Vec<Figures>, StoreError> {
    let generation = objects.generation()?;
    let writer = objects.writer();
    let analyse = |dir: &PathBuf| {
        let capture = Capture { objects, events, dir, owner: None, generation, dry: true };
        let (root, clock) = capture.open()?;
        let mut figures = Figures::default();
        capture.settle(&writer, &root, clock, None, &mut figures)?;
        Ok(figures)
    };
    dirs.iter().map(analyse).collect()
}

/// Remembers that the directory `dir`, a canonical path, is the tree that `ids` tells of.
fn save(
    objects: &Objects,
    walk: &Walk<'_>,
    ids: &[TreeId],
    dir: &Path,
    generation: u64,
) -> io::Result<()> {
    let count = walk.directories.len() as u32;
    known::record(objects.root(), objects.scratch(), dir, (generation, count), |recorder| {
        record(recorder, walk, ids)
    })
}

/// Adds all that is known of a walk.
fn record<W: io::Write>(
    recorder: &mut Recorder<W>,
    walk: &Walk<'_>,
    ids: &[TreeId],
) -> io::Result<()> {
    for (directory, id) in walk.directories.iter().zip(ids) {
        let entries = directory.entries();
        let rows: Vec<Row<'_>> = entries
            .iter()
            .filter_map(|entry| {
                let item = match entry.node {
                    Node::File { stamp, exec, content, .. } => {
                        let (id, settled) = match content {
                            Content::Unread(former) => (former?, false),
                            Content::Known(id) => (id, true),
                            Content::Read(id, settled) => (id, settled),
                        };
                        Item::File { stamp, settled, exec, id }
                    }
                    Node::Directory(number) => Item::Directory(number),
                    Node::Symlink { stamp, settled } => {
                        Item::Symlink { stamp, settled, target: directory.target(entry) }
                    }
                };
                Some(Row { name: directory.name(entry), item })
            })
            .collect();
        recorder.directory(directory.device, id, rows.into_iter())?;
    }
    Ok(())
}

/// A directory on its way into the store.
struct Capture<'c> {
    objects: &'c Objects,
    events: &'c Arc<dyn Events>,
    dir: &'c Path,
    /// Whose it must be.
    owner: Option<u32>,
    generation: u64,
    /// Nothing is stored, only counted.
    dry: bool,
}

impl Capture<'_> {
    /// `done` is given what was found, each directory's tree, and whether all of it was known.
    fn run(
        self,
        hold: Hold,
        known: Option<Known>,
        done: impl FnOnce(&Walk<'_>, &[TreeId], bool),
    ) -> Result<Captured, StoreError> {
        let (root, clock) = self.open()?;
        let mut figures = Figures::default();
        let write = |writer: &Writer<'_>| {
            let walk = self.settle(writer, &root, clock, known, &mut figures)?;
            let (ids, bytes) = trees::write(writer, &walk.0)?;
            trees::write_links(writer, &walk.0, &ids[0], &walk.1)?;
            Ok((walk.0, ids, bytes))
        };
        let ((walk, ids, bytes), stored_bytes) = self.objects.write(write)?;
        let same = ids.iter().zip(&walk.directories).all(|(id, d)| d.former == Some(*id));
        done(&walk, &ids, same);
        let is_file = |entry: &&Entry| matches!(entry.node, Node::File { .. });
        let files = walk.directories.iter().map(|d| d.entries().iter().filter(is_file).count());
        Ok(Captured {
            tree: ids[0],
            files: files.sum::<usize>() as u64,
            bytes,
            new_bytes: figures.total().new_bytes,
            stored_bytes,
            figures,
            hold,
        })
    }

    /// Opens the directory, and looks at the clock before anything else.
    fn open(&self) -> Result<(File, Clock<'_>), StoreError> {
        let failed = |e| StoreError::capture(self.dir)(e);
        let root = File::open(self.dir).map_err(failed)?;
        let found = root.metadata().map_err(failed)?;
        if !found.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        if self.owner.is_some_and(|owner| owner != found.uid()) {
            return Err(failed(io::ErrorKind::PermissionDenied.into()));
        }
        let scratch = self.objects.scratch();
        let now = known::now(scratch).map_err(StoreError::write(self.objects.root()))?;
        let clock = Clock { now, margin: known::margin(&root), device: found.dev(), scratch };
        Ok((root, clock))
    }

    /// Looks at the directory and reads what must be read until both agree. Gives the other
    /// names of inodes too.
    fn settle<'r>(
        &'r self,
        writer: &Writer<'_>,
        root: &'r File,
        clock: Clock<'r>,
        mut known: Option<Known>,
        figures: &mut Figures,
    ) -> Result<(Walk<'r>, Vec<(Place, Place)>), StoreError> {
        // Whether the trees that are known are in the store.
        let mut trees = known.as_ref().is_some_and(|known| known.generation() == self.generation);
        let mut disturbed = PathBuf::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(Duration::from_millis(10 << attempt));
            }
            let mut walk = match Walk::new(root.as_fd(), self.dir, clock, known.as_ref()) {
                Ok(walk) => walk,
                Err(Trouble::Failed(e)) => return Err(e),
                Err(Trouble::Disturbed(path)) => {
                    disturbed = path;
                    continue;
                }
            };
            if !trees {
                walk.directories.iter_mut().for_each(|directory| directory.former = None);
                if attempt == 0 && known.is_some() {
                    presence::doubt(self.objects, &walk)?;
                }
            }
            let (unread, others) = plan(&walk);
            let total = Some(unread.len() as u64);
            let progress = Progress::new(self.events, "files", total);
            let (read, gone) = read_all(writer, &walk, unread, &progress, self.dry)?;
            *figures = *figures + read;
            let Some(gone) = gone.first() else {
                copy_to_others(&walk, &others);
                return Ok((walk, others));
            };
            disturbed = walk.path(&walk.below_entry(*gone));
            known = self.so_far(&walk);
            trees = false;
        }
        Err(StoreError::Changing { path: disturbed })
    }

    /// What a walk found out that was not at rest.
    fn so_far(&self, walk: &Walk<'_>) -> Option<Known> {
        let count = walk.directories.len() as u32;
        let none = vec![TreeId::from_bytes([0; 32]); walk.directories.len()];
        let mut recorder = Recorder::new(Vec::new(), self.dir, self.generation, count).ok()?;
        record(&mut recorder, walk, &none).ok()?;
        Known::decode(recorder.finish().ok()?).ok()
    }
}

/// Which files must be read, in order, each inode once; and for every inode with several
/// names the others, each with the first one.
fn plan(walk: &Walk<'_>) -> (Vec<Place>, Vec<(Place, Place)>) {
    let (mut unread, mut others) = (Vec::new(), Vec::new());
    let mut inodes: HashMap<(u64, u64), Place> = HashMap::new();
    for (number, directory) in walk.directories.iter().enumerate() {
        for (at, entry) in directory.entries().iter().enumerate() {
            let place = (number as u32, at as u32);
            let Node::File { stamp, linked, content, .. } = entry.node else { continue };
            if linked {
                let key = (directory.device, stamp.inode);
                if let Some(first) = inodes.get(&key) {
                    others.push((*first, place));
                    continue;
                }
                inodes.insert(key, place);
            }
            if let Content::Unread(_) = content {
                unread.push(place);
            }
        }
    }
    (unread, others)
}

/// Reads files. Gives those that are gone.
fn read_all(
    writer: &Writer<'_>,
    walk: &Walk<'_>,
    places: Vec<Place>,
    progress: &Progress,
    dry: bool,
) -> Result<(Figures, Vec<Place>), StoreError> {
    if places.is_empty() {
        return Ok(Default::default());
    }
    let done = parallel::run(read::jobs(walk, places), |queue| {
        let mut worker = Worker::new(walk, writer, progress, dry);
        let mut gone = Vec::new();
        while let Some(job) = queue.next() {
            worker.run(&job, &mut gone)?;
        }
        Ok((worker.finish()?, gone))
    })?;
    let (figures, gone): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    Ok((figures.into_iter().fold(Figures::default(), |a, b| a + b), gone.concat()))
}

/// Says of every name of an inode what was found out by its first one.
fn copy_to_others(walk: &Walk<'_>, others: &[(Place, Place)]) {
    for (first, other) in others {
        let node = walk.directories[first.0 as usize].entries()[first.1 as usize].node;
        walk.directories[other.0 as usize].entries()[other.1 as usize].node = node;
    }
}
