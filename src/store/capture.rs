//! Directories into the store.
//!
//! First a walk that looks at every name; then a few threads read, hash, cut and compress;
//! last the trees, from the bottom up. Contents are streamed: what is in memory is the
//! names, and about two megabytes a thread.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;

use super::error::StoreError;
use super::format::content::{BINARY, Links, Parameters, Recipe, WHOLE_BELOW};
use super::format::pack::{FRAME, TREE_FRAME};
use super::format::tree::{self, Entry, Kind};
use super::format::{FileId, RecordId, TreeId};
use super::hold::Hold;
use super::objects::{Objects, Writer};
use super::pack::FrameBuilder;
use super::parallel;
use super::progress::Progress;

/// How often a file that changes while it is read is read again.
const ATTEMPTS: u32 = 4;
/// The buffer through which large files are read: several of the longest chunks.
const BUFFER: usize = 4 * BINARY.max;
/// Small files that a thread takes at once.
const BATCH: usize = 256;

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
    /// The tree is safe from the collector as long as this lives.
    pub hold: Hold,
}

enum Node {
    /// Which file of the walk.
    File {
        file: usize,
        exec: bool,
    },
    /// Which directory of the walk.
    Directory(usize),
    Symlink(Box<[u8]>),
}

struct Directory {
    path: PathBuf,
    entries: Vec<(Box<[u8]>, Node)>,
}

/// A file and where its first name stands.
struct Source {
    directory: usize,
    entry: usize,
    size: u64,
}

/// The names below a directory. A directory stands after the one that holds it.
#[derive(Default)]
struct Walk {
    directories: Vec<Directory>,
    files: Vec<Source>,
    inodes: HashMap<(u64, u64), usize>,
    names: u64,
}

impl Walk {
    fn new(root: &Path) -> Result<Walk, StoreError> {
        let mut walk = Walk::default();
        walk.directories.push(Directory { path: root.to_owned(), entries: Vec::new() });
        // Depth first, so that files that belong together are packed together.
        let mut pending = vec![0];
        while let Some(at) = pending.pop() {
            walk.read(at)?;
            let children = walk.directories[at].entries.iter().rev();
            pending.extend(children.filter_map(|(_, node)| match node {
                Node::Directory(child) => Some(*child),
                _ => None,
            }));
        }
        Ok(walk)
    }

    fn read(&mut self, at: usize) -> Result<(), StoreError> {
        let path = self.directories[at].path.clone();
        let failed = |e| StoreError::capture(&path)(e);
        let mut names = fs::read_dir(&path)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(failed)?;
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let path = path.join(&name);
            let node = self.node(&path, at, entries.len())?;
            entries.push((name.into_vec().into_boxed_slice(), node));
        }
        self.directories[at].entries = entries;
        Ok(())
    }

    fn node(&mut self, path: &Path, directory: usize, entry: usize) -> Result<Node, StoreError> {
        let failed = |e| StoreError::capture(path)(e);
        let found = fs::symlink_metadata(path).map_err(failed)?;
        let kind = found.file_type();
        if kind.is_file() {
            self.names += 1;
            let exec = found.mode() & 0o100 != 0;
            let key = (found.dev(), found.ino());
            if found.nlink() > 1
                && let Some(file) = self.inodes.get(&key)
            {
                return Ok(Node::File { file: *file, exec });
            }
            let file = self.files.len();
            self.files.push(Source { directory, entry, size: found.len() });
            if found.nlink() > 1 {
                self.inodes.insert(key, file);
            }
            Ok(Node::File { file, exec })
        } else if kind.is_dir() {
            self.directories.push(Directory { path: path.to_owned(), entries: Vec::new() });
            Ok(Node::Directory(self.directories.len() - 1))
        } else if kind.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            Ok(Node::Symlink(target.into_os_string().into_vec().into()))
        } else {
            let kind = if kind.is_socket() {
                "socket"
            } else if kind.is_fifo() {
                "named pipe"
            } else {
                "device"
            };
            Err(StoreError::Special { path: path.to_owned(), kind })
        }
    }

    fn path(&self, file: usize) -> PathBuf {
        let Source { directory, entry, .. } = self.files[file];
        let directory = &self.directories[directory];
        directory.path.join(OsStr::from_bytes(&directory.entries[entry].0))
    }

    /// Large files first, so that none is left to one thread at the end; then runs of small
    /// ones, in order.
    fn jobs(&self) -> Vec<Range<usize>> {
        let is_small = |file: usize| self.files[file].size < WHOLE_BELOW;
        let (small, mut large): (Vec<_>, Vec<_>) =
            (0..self.files.len()).partition(|f| is_small(*f));
        large.sort_by_key(|file| std::cmp::Reverse(self.files[*file].size));
        let mut jobs: Vec<Range<usize>> = large.into_iter().map(|file| file..file + 1).collect();
        let mut bytes = 0;
        let first_small = jobs.len();
        for file in small {
            bytes += self.files[file].size;
            match jobs[first_small..].last_mut() {
                Some(run) if run.end == file && run.len() < BATCH && bytes <= FRAME as u64 => {
                    run.end += 1;
                }
                _ => {
                    bytes = self.files[file].size;
                    jobs.push(file..file + 1);
                }
            }
        }
        jobs
    }

    /// Which files have several names in here.
    fn links(&self) -> Links {
        let root = &self.directories[0].path;
        let mut names: HashMap<usize, Vec<Box<[u8]>>> =
            self.inodes.values().map(|file| (*file, Vec::new())).collect();
        if names.is_empty() {
            return Links::default();
        }
        for directory in &self.directories {
            let below = directory.path.strip_prefix(root).expect("it was found below the root");
            for (name, node) in &directory.entries {
                if let Node::File { file, .. } = node
                    && let Some(names) = names.get_mut(file)
                {
                    let path = below.join(OsStr::from_bytes(name));
                    names.push(path.into_os_string().into_vec().into());
                }
            }
        }
        let mut groups: Vec<_> = names.into_values().filter(|names| names.len() > 1).collect();
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups.sort_unstable();
        Links { groups }
    }
}

/// Puts the directory `root` into the store.
pub fn capture(
    objects: &Objects,
    root: &Path,
    hold: Hold,
    progress: &Progress,
) -> Result<Captured, StoreError> {
    let walk = Walk::new(root)?;
    let writer = objects.writer();
    let done = parallel::run(walk.jobs(), |queue| {
        let mut worker = Worker::new(&writer);
        let mut files = Vec::new();
        while let Some(job) = queue.next() {
            progress.add(job.len() as u64);
            for file in job {
                files.push((file, worker.file(&walk.path(file))?));
            }
        }
        writer.flush(&mut worker.frame)?;
        Ok((files, worker.new_bytes))
    })?;

    let mut contents = vec![(FileId::of(b""), 0); walk.files.len()];
    let mut new_bytes = 0;
    for (files, bytes) in done {
        new_bytes += bytes;
        for (file, content) in files {
            contents[file] = content;
        }
    }
    let (tree, bytes) = write_trees(&writer, &walk, &contents)?;
    let stored_bytes = writer.finish()?;
    Ok(Captured { tree, files: walk.names, bytes, new_bytes, stored_bytes, hold })
}

/// Writes the trees, children before parents. Gives the root's id and the bytes of all files.
fn write_trees(
    writer: &Writer<'_>,
    walk: &Walk,
    contents: &[(FileId, u64)],
) -> Result<(TreeId, u64), StoreError> {
    let mut frame = FrameBuilder::default();
    let mut ids = vec![None; walk.directories.len()];
    let mut bytes = 0;
    for (at, directory) in walk.directories.iter().enumerate().rev() {
        let mut entries = Vec::with_capacity(directory.entries.len());
        for (name, node) in &directory.entries {
            let kind = match node {
                Node::File { file, exec } => {
                    let (id, size) = contents[*file];
                    bytes += size;
                    Kind::File { exec: *exec, id, size }
                }
                Node::Directory(child) => {
                    Kind::Directory(ids[*child].expect("children stand after their parents"))
                }
                Node::Symlink(target) => Kind::Symlink(target.clone()),
            };
            entries.push(Entry { name: name.clone(), kind });
        }
        let (id, record) = tree::encode(&entries).map_err(|source| {
            StoreError::Unrepresentable { path: directory.path.clone(), source }
        })?;
        if writer.claim(RecordId::tree(&id))? {
            writer.add(&mut frame, TREE_FRAME, RecordId::tree(&id), &record)?;
        }
        ids[at] = Some(id);
    }
    let root = ids[0].expect("there is always a root");
    let links = walk.links();
    if !links.groups.is_empty() && writer.claim(RecordId::links(&root))? {
        let record = links.encode().map_err(|source| StoreError::Unrepresentable {
            path: walk.directories[0].path.clone(),
            source,
        })?;
        writer.add(&mut frame, TREE_FRAME, RecordId::links(&root), &record)?;
    }
    writer.flush(&mut frame)?;
    Ok((root, bytes))
}

/// One thread's share of a capture.
struct Worker<'w> {
    writer: &'w Writer<'w>,
    frame: FrameBuilder,
    buffer: Vec<u8>,
    new_bytes: u64,
}

impl<'w> Worker<'w> {
    fn new(writer: &'w Writer<'w>) -> Worker<'w> {
        Worker { writer, frame: FrameBuilder::default(), buffer: vec![0; BUFFER], new_bytes: 0 }
    }

    /// Puts a file into the store, as it was at one moment.
    fn file(&mut self, path: &Path) -> Result<(FileId, u64), StoreError> {
        let failed = |e| StoreError::capture(path)(e);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(Duration::from_millis(10 << attempt));
            }
            // Somebody may have put a link or a pipe in its place.
            let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).custom_flags(flags.bits()).open(path).map_err(failed)?;
            let before = file.metadata().map_err(failed)?;
            if !before.is_file() {
                return Err(StoreError::Changing { path: path.to_owned() });
            }
            let content = self.content(&mut file, before.len(), path)?;
            let after = file.metadata().map_err(failed)?;
            if is_same(&before, &after) && content.1 == before.len() {
                return Ok(content);
            }
        }
        Err(StoreError::Changing { path: path.to_owned() })
    }

    fn content(
        &mut self,
        file: &mut File,
        size: u64,
        path: &Path,
    ) -> Result<(FileId, u64), StoreError> {
        let failed = |e| StoreError::capture(path)(e);
        // A small file is not asked for what is behind its end: if there is something by
        // now, its length has changed, which is looked at later.
        let first = if size < WHOLE_BELOW { size as usize } else { BUFFER };
        let (mut start, mut end) = (0, fill(file, &mut self.buffer[..first], 0).map_err(failed)?);
        if size < WHOLE_BELOW {
            let id = FileId::of(&self.buffer[..end]);
            if end > 0 {
                self.record(RecordId::data(&id), 0..end)?;
            }
            return Ok((id, end as u64));
        }
        let parameters = Parameters::for_file(&self.buffer[..end]);
        let mut hasher = blake3::Hasher::new();
        let mut recipe = Recipe::default();
        while start < end {
            let length = parameters.cut(&self.buffer[start..end]);
            let chunk = start..start + length;
            let bytes = &self.buffer[chunk.clone()];
            hasher.update(bytes);
            let id = FileId::of(bytes);
            recipe.chunks.push((length as u32, id));
            self.record(RecordId::data(&id), chunk)?;
            start += length;
            if end - start < parameters.max {
                self.buffer.copy_within(start..end, 0);
                end = fill(file, &mut self.buffer, end - start).map_err(failed)?;
                start = 0;
            }
        }
        let id = FileId::from_bytes(*hasher.finalize().as_bytes());
        let size = recipe.size();
        if recipe.chunks.len() > 1 && self.writer.claim(RecordId::recipe(&id))? {
            let record = recipe
                .encode()
                .map_err(|source| StoreError::Unrepresentable { path: path.to_owned(), source })?;
            self.writer.add(&mut self.frame, FRAME, RecordId::recipe(&id), &record)?;
        }
        Ok((id, size))
    }

    /// Adds the record that is in this part of the buffer, if it is new.
    fn record(&mut self, id: RecordId, part: Range<usize>) -> Result<(), StoreError> {
        if self.writer.claim(id)? {
            self.new_bytes += part.len() as u64;
            self.writer.add(&mut self.frame, FRAME, id, &self.buffer[part])?;
        }
        Ok(())
    }
}

/// Reads until `buffer` is full, from `filled` on, or the file ends. Gives where the bytes
/// end.
fn fill(file: &mut File, buffer: &mut [u8], mut filled: usize) -> io::Result<usize> {
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    let facts =
        |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.ino());
    facts(a) == facts(b)
}
