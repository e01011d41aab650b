//! Makes files and directories of trees, in one go or a subtree and a file at a time.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use crate::store::beneath::{Root, ancestors, join, make_directory, split};
use crate::store::error::StoreError;
use crate::store::extract::{Sink, Want, extract, extract_one};
use crate::store::farm::{Farm, MTIME};
use crate::store::format::content::Links;
use crate::store::format::tree::Kind;
use crate::store::format::{FileId, FormatError, RecordId, TreeId};
use crate::store::objects::Objects;
use crate::store::parallel;
use crate::store::progress::Progress;
use crate::store::tree::TreeCache;

/// Files whose names are in memory at once. So many that hardly a frame is decoded for two
/// batches.
const BATCH: usize = 1 << 16;

/// Directories that are added one by one are filled so many at a time.
const JOBS: usize = 4096;

const UNPOISONED: &str = "nothing panics with it held";

/// How the files of a restored tree came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// They share blocks with the store until one of them is written to.
    Reflink,
    /// They are further names of the store's own files: read-only.
    Link,
    /// They were written.
    Copy,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strategy::Reflink => "reflink",
            Strategy::Link => "link",
            Strategy::Copy => "copy",
        })
    }
}

/// A store, as far as it is needed here.
pub struct Parts<'s> {
    /// Its records.
    pub objects: &'s Objects,
    /// Its directories.
    pub trees: &'s TreeCache,
    /// Its farm.
    pub farm: &'s Farm,
    /// Counts files.
    pub progress: Progress,
}

/// Where a file goes: which of the batch's directories, and the name in it.
struct Spot {
    directory: usize,
    name: Box<[u8]>,
}

/// Files that are still to be made, in directories that are there.
#[derive(Default)]
struct Batch {
    directories: Vec<Box<[u8]>>,
    wants: Vec<Want<Spot>>,
}

/// A directory that was made and is to be filled.
struct Job {
    path: Box<[u8]>,
    tree: TreeId,
}

/// Makes things below a directory. Paths are relative to it.
pub struct Maker<'p> {
    parts: &'p Parts<'p>,
    root: Root,
    // The farm's, where files become links.
    farm_files: Option<Root>,
    strategy: Strategy,
    groups: Groups,
    // Directories that were added and are not yet filled.
    jobs: Mutex<Vec<Job>>,
    batch: Mutex<Batch>,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl<'p> Maker<'p> {
    /// Makes things below `root`, the files of `groups` as hard links of each other.
    pub fn new(
        parts: &'p Parts<'p>,
        root: Root,
        strategy: Strategy,
        groups: Groups,
    ) -> Result<Maker<'p>, StoreError> {
        let farm_files = (strategy == Strategy::Link).then(|| parts.farm.files()).transpose()?;
        let (jobs, batch) = Default::default();
        let (files, bytes) = Default::default();
        Ok(Maker { parts, root, farm_files, strategy, groups, jobs, batch, files, bytes })
    }

    /// Makes everything that is in the tree `id` at the root, which may have other things.
    pub fn tree(&self, id: &TreeId) -> Result<(), StoreError> {
        self.fill(vec![Job { path: Box::default(), tree: *id }])
    }

    /// Makes the directories of a path, where they are missing.
    pub fn make_parents(&self, path: &[u8]) -> Result<(), StoreError> {
        for path in ancestors(path) {
            make_directory(&self.root, path, || self.root.path(path))?;
        }
        Ok(())
    }

    /// Makes, sooner or later, what is to be at `path`, whose directory is there.
    pub fn add(&self, path: &[u8], kind: &Kind) -> Result<(), StoreError> {
        let (directory, name) = split(path);
        let open = || {
            let failed = StoreError::restore(&self.root.path(directory));
            self.root.directory(directory).map_err(failed)
        };
        match kind {
            Kind::Directory(tree) => {
                make_directory(&self.root, path, || self.root.path(path))?;
                let mut jobs = self.jobs.lock().expect(UNPOISONED);
                jobs.push(Job { path: path.into(), tree: *tree });
                if jobs.len() >= JOBS {
                    self.fill(std::mem::take(&mut jobs))?;
                }
            }
            Kind::File { exec, id, size } => {
                self.count(*size);
                if !self.is_made(directory, name, id, *exec, &open()?)? {
                    let mut batch = self.batch.lock().expect(UNPOISONED);
                    if batch.directories.last().is_none_or(|last| **last != *directory) {
                        batch.directories.push(directory.into());
                    }
                    let target = Spot { directory: batch.directories.len() - 1, name: name.into() };
                    batch.wants.push(Want { id: *id, exec: *exec, target });
                }
                if self.is_full() {
                    self.flush()?;
                }
            }
            Kind::Symlink(target) => {
                rustix::fs::symlinkat(&**target, open()?, name)
                    .map_err(|e| StoreError::restore(&self.root.path(path))(e.into()))?;
            }
        }
        Ok(())
    }

    fn fill(&self, mut jobs: Vec<Job>) -> Result<(), StoreError> {
        while !jobs.is_empty() {
            jobs = parallel::spread(jobs, || self.is_full(), |job, new| self.directory(job, new))?;
            if self.is_full() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.lock().expect(UNPOISONED).wants.len() >= BATCH
    }

    fn directory(&self, job: Job, new: &mut Vec<Job>) -> Result<(), StoreError> {
        let tree = self.parts.trees.get(self.parts.objects, &job.tree)?;
        let below = |name: &[u8]| self.root.path(&join(&job.path, name));
        let directory = self
            .root
            .directory(&job.path)
            .map_err(|e| StoreError::restore(&self.root.path(&job.path))(e))?;
        let mut later = Vec::new();
        for entry in &tree.entries {
            let name = &*entry.name;
            match &entry.kind {
                Kind::File { exec, id, size } => {
                    self.count(*size);
                    if !self.is_made(&job.path, name, id, *exec, &directory)? {
                        later.push((*id, *exec, name));
                    }
                }
                Kind::Directory(tree) => {
                    make_directory(&directory, name, || below(name))?;
                    new.push(Job { path: join(&job.path, name), tree: *tree });
                }
                Kind::Symlink(target) => {
                    rustix::fs::symlinkat(&**target, &directory, name)
                        .map_err(|e| StoreError::restore(&below(name))(e.into()))?;
                }
            }
        }
        // The last is the next to be taken.
        new.reverse();
        self.parts.trees.fetch(self.parts.objects, new.iter().map(|job| job.tree))?;
        if !later.is_empty() {
            let mut batch = self.batch.lock().expect(UNPOISONED);
            let directory = batch.directories.len();
            batch.directories.push(job.path);
            batch.wants.extend(later.into_iter().map(|(id, exec, name)| Want {
                id,
                exec,
                target: Spot { directory, name: name.into() },
            }));
        }
        Ok(())
    }

    fn count(&self, size: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    /// Makes a file now, if that is a link. True also if it will be a link to another one.
    fn is_made(
        &self,
        path: &[u8],
        name: &[u8],
        id: &FileId,
        exec: bool,
        directory: &OwnedFd,
    ) -> Result<bool, StoreError> {
        let Some(files) = &self.farm_files else {
            return Ok(self.groups.is_another(path, name, id, exec));
        };
        let Parts { objects, farm, progress, .. } = self.parts;
        let target = || self.root.path(&join(path, name));
        let made = farm.link(objects, files, (id, exec), (directory.as_fd(), name), target)?;
        progress.add(made.into());
        Ok(made)
    }

    /// Makes the files that were put off.
    fn flush(&self) -> Result<(), StoreError> {
        let Batch { directories, wants } =
            std::mem::take(&mut *self.batch.lock().expect(UNPOISONED));
        let sink = TreeSink { root: &self.root, directories };
        let Parts { objects, farm, progress, .. } = self.parts;
        if self.strategy == Strategy::Copy {
            // Straight from the packs: each frame is decoded once, and all is verified,
            // for less than it costs to open, look at and copy the farm's files.
            return extract(objects, wants, &sink, progress);
        }
        farm.fill(objects, wants.iter().map(|want| (want.id, want.exec)), progress)?;
        parallel::run(wants, |queue| {
            let mut local = Open::new();
            while let Some(want) = queue.next() {
                match &self.farm_files {
                    Some(files) => self.link_now(files, &want, &sink, &mut local)?,
                    None => self.clone_now(&want, &sink, &mut local)?,
                }
            }
            Ok(())
        })
        .map(drop)
    }

    fn link_now(
        &self,
        files: &Root,
        want: &Want<Spot>,
        sink: &TreeSink<'_>,
        local: &mut Open,
    ) -> Result<(), StoreError> {
        let Parts { objects, farm, progress, .. } = self.parts;
        let target = || sink.path(want);
        let mut at = sink.directory(local, want)?;
        for _ in 0..8 {
            let place = (at.as_fd(), &*want.target.name);
            if farm.link(objects, files, (&want.id, want.exec), place, target)? {
                return Ok(());
            }
            // Changed or evicted since all were filled in.
            farm.fill(objects, [(want.id, want.exec)], progress)?;
            at = sink.directory(local, want)?;
        }
        Err(StoreError::FarmFile { path: farm.path(&want.id, want.exec) })
    }

    /// Makes a file that shares its blocks with the farm's, or a copy where it cannot.
    fn clone_now(
        &self,
        want: &Want<Spot>,
        sink: &TreeSink<'_>,
        local: &mut Open,
    ) -> Result<(), StoreError> {
        let Parts { objects, farm, .. } = self.parts;
        let source = farm.open(objects, &want.id, want.exec)?;
        let (file, ()) = sink.begin(local, want)?;
        if rustix::fs::ioctl_ficlone(&file, &source).is_ok() {
            return sink.end(local, want, &(), file).inspect_err(|_| sink.undo(local, want, &()));
        }
        sink.undo(local, want, &());
        extract_one(objects, want, sink, local)
    }

    /// Makes what is still to be made. Gives the number of files, and their bytes.
    pub fn finish(self) -> Result<(u64, u64), StoreError> {
        self.fill(std::mem::take(&mut *self.jobs.lock().expect(UNPOISONED)))?;
        self.flush()?;
        self.groups.link(&self.root)?;
        Ok((self.files.into_inner(), self.bytes.into_inner()))
    }
}

/// Whether files below `root` can share blocks with the store's.
pub fn can_reflink(farm: &Farm, root: &Root) -> bool {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let probe = || -> io::Result<()> {
        let file = rustix::fs::openat(root, c".", flags, Mode::from_raw_mode(0o600))?;
        Ok(rustix::fs::ioctl_ficlone(file, File::open(farm.probe())?)?)
    };
    probe().is_ok()
}

/// A thread has no more directories open than this.
const OPEN: usize = 64;

/// The directories that a thread had open last. A frame's files are in a few of them.
type Open = HashMap<usize, OwnedFd>;

/// Files of one's own.
struct TreeSink<'r> {
    root: &'r Root,
    directories: Vec<Box<[u8]>>,
}

impl TreeSink<'_> {
    fn path(&self, want: &Want<Spot>) -> std::path::PathBuf {
        self.root.path(&join(&self.directories[want.target.directory], &want.target.name))
    }

    fn directory<'l>(
        &self,
        local: &'l mut Open,
        want: &Want<Spot>,
    ) -> Result<BorrowedFd<'l>, StoreError> {
        let number = want.target.directory;
        if !local.contains_key(&number) {
            if local.len() >= OPEN {
                local.clear();
            }
            let directory = self.root.directory(&self.directories[number]);
            local.insert(number, directory.map_err(|e| self.failed(want, e))?);
        }
        Ok(local[&number].as_fd())
    }
}

impl Sink for TreeSink<'_> {
    type Target = Spot;
    type Local = Open;
    type Open = ();

    fn begin(&self, local: &mut Open, want: &Want<Spot>) -> Result<(File, ()), StoreError> {
        let mode = Mode::from_raw_mode(if want.exec { 0o755 } else { 0o644 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let directory = self.directory(local, want)?;
        let file = rustix::fs::openat(directory, &*want.target.name, flags, mode);
        Ok((file.map_err(|e| self.failed(want, e.into()))?.into(), ()))
    }

    fn end(&self, _: &mut Open, want: &Want<Spot>, (): &(), file: File) -> Result<(), StoreError> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: MTIME, tv_nsec: 0 },
        };
        rustix::fs::futimens(&file, &times).map_err(|e| self.failed(want, e.into()))
    }

    fn undo(&self, local: &mut Open, want: &Want<Spot>, (): &()) {
        // The first error is the one to tell.
        if let Ok(directory) = self.directory(local, want) {
            let _ = rustix::fs::unlinkat(directory, &*want.target.name, AtFlags::empty());
        }
    }

    fn failed(&self, want: &Want<Spot>, error: io::Error) -> StoreError {
        StoreError::restore(&self.path(want))(error)
    }
}

/// The inodes of a captured tree that had several names: the first one is made as any file,
/// the others are linked to it.
#[derive(Default)]
pub struct Groups {
    record: Option<RecordId>,
    links: Links,
    // Which group each path is in.
    members: HashMap<Box<[u8]>, usize>,
    seen: Mutex<Vec<Vec<(FileId, bool)>>>,
}

impl Groups {
    /// Those of the captured tree `id`.
    pub fn read(parts: &Parts<'_>, id: &TreeId) -> Result<Groups, StoreError> {
        let record = RecordId::links(id);
        if !parts.objects.contains(&record)? {
            return Ok(Groups::default());
        }
        Ok(Groups::new(record, parts.objects.read(&record, Links::decode)?))
    }

    fn new(record: RecordId, links: Links) -> Groups {
        let groups = links.groups.iter().enumerate();
        let members = groups.flat_map(|(n, group)| group.iter().map(move |path| (path.clone(), n)));
        let members = members.collect();
        let seen = Mutex::new(vec![Vec::new(); links.groups.len()]);
        Groups { record: Some(record), links, members, seen }
    }

    /// Only those of which `keep` says so.
    pub fn filter(
        self,
        mut keep: impl FnMut(&[Box<[u8]>]) -> Result<bool, StoreError>,
    ) -> Result<Groups, StoreError> {
        let Some(record) = self.record else { return Ok(self) };
        let mut groups = Vec::new();
        for group in self.links.groups {
            if keep(&group)? {
                groups.push(group);
            }
        }
        Ok(Groups::new(record, Links { groups }))
    }

    /// All names of all groups.
    pub fn paths(&self) -> impl Iterator<Item = &Box<[u8]>> {
        self.members.keys()
    }

    /// Whether a file is one of the other names of an inode.
    fn is_another(&self, directory: &[u8], name: &[u8], id: &FileId, exec: bool) -> bool {
        if self.members.is_empty() {
            return false;
        }
        let path = join(directory, name);
        let Some(group) = self.members.get(&path) else { return false };
        self.seen.lock().expect(UNPOISONED)[*group].push((*id, exec));
        self.links.groups[*group][0] != path
    }

    /// Makes the other names.
    fn link(&self, root: &Root) -> Result<(), StoreError> {
        let seen = self.seen.lock().expect(UNPOISONED);
        for (group, seen) in self.links.groups.iter().zip(&*seen) {
            // Only files that the tree itself says are the same may be one.
            let agree = seen.len() == group.len() && seen.iter().all(|file| *file == seen[0]);
            if let (false, Some(record)) = (agree, self.record) {
                let what = "a list of hard links";
                let source = FormatError::Invalid { what, why: "the tree disagrees" };
                return Err(StoreError::DamagedRecord { record, source });
            }
            let open = |path: &[u8]| root.directory(split(path).0);
            let (first, first_name) = (open(&group[0]), split(&group[0]).1);
            let first = first.map_err(|e| StoreError::restore(&root.path(&group[0]))(e))?;
            for other in &group[1..] {
                let link = || -> io::Result<()> {
                    let (to, empty) = (open(other)?, AtFlags::empty());
                    Ok(rustix::fs::linkat(&first, first_name, to, split(other).1, empty)?)
                };
                link().map_err(|e| StoreError::restore(&root.path(other))(e))?;
            }
        }
        Ok(())
    }
}
