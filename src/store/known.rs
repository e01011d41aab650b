//! What was seen of the files of a directory when it was last captured or restored, so that
//! the next capture reads only what has changed.
//!
//! One file a directory, `known/<BLAKE3 of its canonical path>`:
//!
//! ```text
//! 8   "zagiknow"  u32 version
//! u64 generation of the store when everything in here was in it (`hold.rs`)
//! u32 length of the directory's path, the path
//! u32 number of directories, then each after the one that holds it, the root first:
//!   u32 length of what follows of it
//!   u64 device  32 TreeId  u32 number of rows, in the order of the names' bytes:
//!     u8 kind: 1 file, 2 executable file, 3 directory, 4 symbolic link; + 128 if unsettled
//!     u8 length of the name, the name
//!     file       u64 size  i64 mtime  i64 ctime (ns since 1970)  u64 inode  32 FileId
//!     directory  u32 its number, counted from 0
//!     link       the same four numbers  u16 length of the target, the target
//! 32  BLAKE3 of everything above
//! ```
//!
//! It is a cache: written by rename, never synced, and one that is missing, damaged, of
//! another version or of another directory is as good as none.
//!
//! # When a row is believed
//!
//! A file that still has the size, times, inode and device of its row has the row's content,
//! with one exception: a change so soon after the one that the row was made of that the
//! clock of the file system had not moved on between them. Such a row is *unsettled*: its
//! ctime is not older, by [`margin`], than a time before its file was read. It is kept as
//! what stood there formerly, but not believed. Nor is one from the future, where the clock
//! was set back. The mtime can be set by anybody; the ctime cannot.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::format::tree::is_name;
use super::format::{FileId, FormatError, Reader, TreeId, VERSION};
use super::scratch::Scratch;

const MAGIC: &[u8; 8] = b"zagiknow";
const HASH: usize = 32;
const WHAT: &str = "a list of known files";
const UNSETTLED: u8 = 0x80;

/// What the kernel says of a file; times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its length in bytes.
    pub size: u64,
    /// When its content was changed, or what somebody set.
    pub mtime: i64,
    /// When anything of it was changed.
    pub ctime: i64,
    /// Its inode.
    pub inode: u64,
}

impl Stamp {
    /// The stamp in what `stat` gave.
    pub fn of(stat: &rustix::fs::Stat) -> Stamp {
        // Out of range is far away, and equal only to what is as far.
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Stamp {
            size: stat.st_size as u64,
            mtime: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
            inode: stat.st_ino,
        }
    }

    /// Whether a later change is sure to give another stamp, if this one was taken at `now`
    /// or later on a file system whose clock moves at least once a `margin`.
    pub fn is_settled(&self, now: i64, margin: i64) -> bool {
        self.ctime < now.saturating_sub(margin)
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'k> {
    /// A regular file.
    File {
        /// What the kernel said of it.
        stamp: Stamp,
        /// Whether the stamp will do to know it again.
        settled: bool,
        /// Its owner may execute it.
        exec: bool,
        /// Its content.
        id: FileId,
    },
    /// A directory: its number.
    Directory(u32),
    /// A symbolic link.
    Symlink {
        /// What the kernel said of it.
        stamp: Stamp,
        /// Whether the stamp will do to know it again.
        settled: bool,
        /// Where it leads.
        target: &'k [u8],
    },
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'k> {
    /// One path component.
    pub name: &'k [u8],
    /// What stands there.
    pub item: Item<'k>,
}

/// One directory that was seen.
pub struct KnownDirectory<'k> {
    /// The file system that it was on.
    pub device: u64,
    /// Its tree.
    pub tree: TreeId,
    rows: u32,
    reader: Reader<'k>,
}

impl<'k> Iterator for KnownDirectory<'k> {
    type Item = Row<'k>;

    fn next(&mut self) -> Option<Row<'k>> {
        self.rows = self.rows.checked_sub(1)?;
        // The hash was right, so that it does not end early unless a writer was wrong.
        read_row(&mut self.reader).ok()
    }
}

/// What was seen of one directory and everything below it.
pub struct Known {
    bytes: Vec<u8>,
    directories: Vec<usize>,
    generation: u64,
    path: PathBuf,
}

/// The file of the directory `dir`, a canonical path, in the store `root`.
pub fn path(root: &Path, dir: &Path) -> PathBuf {
    let name = blake3::hash(dir.as_os_str().as_bytes()).to_hex();
    root.join("known").join(name.as_str())
}

/// All such files of the store `root`.
pub fn list(root: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(root.join("known")) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The time by the clock of the store's file system, in nanoseconds since 1970.
pub fn now(scratch: &Scratch) -> io::Result<i64> {
    let path = scratch.fresh();
    let made = File::options().write(true).create_new(true).open(&path)?.metadata()?;
    fs::remove_file(&path)?;
    Ok(made.mtime().saturating_mul(1_000_000_000).saturating_add(made.mtime_nsec()))
}

/// The longest time between two changes that may carry the same ctime on the file system of
/// `file`. What is on a disk of this machine is dated by the kernel's tick, of at most 10
/// milliseconds; others have clocks of their own, and some count in steps of two seconds.
pub fn margin(file: impl AsFd) -> i64 {
    // ext, XFS, btrfs, tmpfs, overlayfs, F2FS, bcachefs, ZFS: magic(5) of statfs(2).
    const LOCAL: [u64; 8] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x794c_7630,
        0xf2f5_2010,
        0xca45_1a4e,
        0x2fc1_2fc1,
    ];
    match rustix::fs::fstatfs(file) {
        Ok(found) if LOCAL.contains(&(found.f_type as u64)) => 20_000_000,
        _ => 3_000_000_000,
    }
}

impl Known {
    /// What is known of `dir`, a canonical path, if anything.
    pub fn load(root: &Path, dir: &Path) -> Option<Known> {
        Known::open(&path(root, dir)).filter(|known| known.path == dir)
    }

    /// What one of the files of [`list`] says, if it can be read.
    pub fn open(file: &Path) -> Option<Known> {
        Known::decode(fs::read(file).ok()?).ok()
    }

    /// Reads the format; every byte is under the hash at its end.
    pub fn decode(bytes: Vec<u8>) -> Result<Known, FormatError> {
        let end = bytes.len().checked_sub(HASH).ok_or(FormatError::Truncated { what: WHAT })?;
        let mut reader = Reader::new(WHAT, &bytes[..end]);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        reader.version()?;
        if blake3::hash(&bytes[..end]).as_bytes()[..] != bytes[end..] {
            return Err(FormatError::Hash { what: WHAT });
        }
        let generation = reader.u64()?;
        let length = reader.u32()? as usize;
        let path = PathBuf::from(OsStr::from_bytes(reader.take(length)?));
        let count = reader.count(4)?;
        let mut at = MAGIC.len() + 4 + 8 + 4 + length + 4;
        let mut directories = Vec::with_capacity(count);
        for _ in 0..count {
            directories.push(at + 4);
            let length = reader.u32()? as usize;
            reader.take(length)?;
            at += 4 + length;
        }
        reader.finish()?;
        Ok(Known { bytes, directories, generation, path })
    }

    /// The store's generation at that time.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The directory's canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory with a number; 0 is the root.
    pub fn directory(&self, number: u32) -> Option<KnownDirectory<'_>> {
        let at = *self.directories.get(number as usize)?;
        let mut reader = Reader::new(WHAT, &self.bytes[at..self.bytes.len() - HASH]);
        let device = reader.u64().ok()?;
        let tree = TreeId::from_bytes(reader.array().ok()?);
        let rows = reader.u32().ok()?;
        Some(KnownDirectory { device, tree, rows, reader })
    }

    /// Where the contents `wanted` stood, relative to the directory.
    pub fn find(&self, wanted: &HashSet<FileId>) -> Vec<(FileId, PathBuf)> {
        let mut paths = vec![PathBuf::new(); self.directories.len()];
        let mut found = Vec::new();
        for number in 0..self.directories.len() {
            let path = std::mem::take(&mut paths[number]);
            for row in self.directory(number as u32).into_iter().flatten() {
                let below = || path.join(OsStr::from_bytes(row.name));
                match row.item {
                    Item::File { id, .. } if wanted.contains(&id) => found.push((id, below())),
                    // One that stands before its parent is not ours.
                    Item::Directory(child) if child as usize > number => {
                        if let Some(path) = paths.get_mut(child as usize) {
                            *path = below();
                        }
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

fn read_row<'k>(reader: &mut Reader<'k>) -> Result<Row<'k>, FormatError> {
    let kind = reader.u8()?;
    let length = reader.u8()?;
    let name = reader.take(length.into())?;
    if !is_name(name) {
        return Err(FormatError::Invalid { what: WHAT, why: "a name is not one" });
    }
    let settled = kind & UNSETTLED == 0;
    let item = match kind & !UNSETTLED {
        kind @ (1 | 2) => {
            let stamp = read_stamp(reader)?;
            let id = FileId::from_bytes(reader.array()?);
            Item::File { stamp, settled, exec: kind == 2, id }
        }
        3 => Item::Directory(reader.u32()?),
        4 => {
            let stamp = read_stamp(reader)?;
            let length = reader.u16()?;
            Item::Symlink { stamp, settled, target: reader.take(length.into())? }
        }
        _ => return Err(FormatError::Invalid { what: WHAT, why: "a kind is unknown" }),
    };
    Ok(Row { name, item })
}

fn read_stamp(reader: &mut Reader<'_>) -> Result<Stamp, FormatError> {
    Ok(Stamp {
        size: reader.u64()?,
        mtime: reader.u64()? as i64,
        ctime: reader.u64()? as i64,
        inode: reader.u64()?,
    })
}

/// Writes what was seen of one directory, in the order of the format.
pub struct Recorder<W> {
    out: W,
    hasher: blake3::Hasher,
    row: Vec<u8>,
}

/// Replaces the list of `dir`, a canonical path, by one of so many `directories`, which
/// `fill` adds. Everything in it must be in the store `root` at `generation`, and kept there
/// by a hold of the caller's.
pub fn record(
    root: &Path,
    scratch: &Scratch,
    dir: &Path,
    (generation, directories): (u64, u32),
    fill: impl FnOnce(&mut Recorder<BufWriter<File>>) -> io::Result<()>,
) -> io::Result<()> {
    let (from, to) = (scratch.fresh(), path(root, dir));
    match fs::create_dir(root.join("known")) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let file = BufWriter::with_capacity(1 << 18, File::create_new(&from)?);
    let mut recorder = Recorder::new(file, dir, generation, directories)?;
    let written = fill(&mut recorder).and_then(|()| recorder.finish()?.flush());
    written.and_then(|()| fs::rename(&from, to)).inspect_err(|_| {
        // The first error is the one to tell; the scratch directory goes otherwise.
        let _ = fs::remove_file(&from);
    })
}

impl<W: Write> Recorder<W> {
    /// Begins the list of `dir`, a canonical path.
    pub fn new(out: W, dir: &Path, generation: u64, directories: u32) -> io::Result<Recorder<W>> {
        let mut recorder = Recorder { out, hasher: blake3::Hasher::new(), row: Vec::new() };
        let name = dir.as_os_str().as_bytes();
        let mut head = Vec::from(*MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend(generation.to_le_bytes());
        head.extend((name.len() as u32).to_le_bytes());
        head.extend(name);
        head.extend(directories.to_le_bytes());
        recorder.write(&head)?;
        Ok(recorder)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    /// Adds the next directory. Its rows come in the order of their names.
    pub fn directory<'k>(
        &mut self,
        device: u64,
        tree: &TreeId,
        rows: impl ExactSizeIterator<Item = Row<'k>>,
    ) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.row);
        bytes.clear();
        bytes.extend([0; 4]);
        bytes.extend(device.to_le_bytes());
        bytes.extend(tree.as_bytes());
        bytes.extend((rows.len() as u32).to_le_bytes());
        for row in rows {
            write_row(&mut bytes, &row);
        }
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.write(&bytes)?;
        self.row = bytes;
        Ok(())
    }

    /// Ends the list.
    pub fn finish(mut self) -> io::Result<W> {
        let hash = self.hasher.finalize();
        self.out.write_all(hash.as_bytes())?;
        Ok(self.out)
    }
}

fn write_row(bytes: &mut Vec<u8>, row: &Row<'_>) {
    let (kind, settled) = match row.item {
        Item::File { exec: false, settled, .. } => (1, settled),
        Item::File { exec: true, settled, .. } => (2, settled),
        Item::Directory(_) => (3, true),
        Item::Symlink { settled, .. } => (4, settled),
    };
    bytes.push(if settled { kind } else { kind | UNSETTLED });
    bytes.push(row.name.len() as u8);
    bytes.extend(row.name);
    match row.item {
        Item::File { stamp, id, .. } => {
            write_stamp(bytes, &stamp);
            bytes.extend(id.as_bytes());
        }
        Item::Directory(number) => bytes.extend(number.to_le_bytes()),
        Item::Symlink { stamp, target, .. } => {
            write_stamp(bytes, &stamp);
            bytes.extend((target.len() as u16).to_le_bytes());
            bytes.extend(target);
        }
    }
}

fn write_stamp(bytes: &mut Vec<u8>, stamp: &Stamp) {
    bytes.extend(stamp.size.to_le_bytes());
    bytes.extend(stamp.mtime.to_le_bytes());
    bytes.extend(stamp.ctime.to_le_bytes());
    bytes.extend(stamp.inode.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(ctime: i64) -> Stamp {
        Stamp { size: 7, mtime: -5, ctime, inode: 11 }
    }

    #[test]
    fn lists_come_back_and_belong_to_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("tmp")).unwrap();
        let scratch = Scratch::new(&root.join("tmp")).unwrap();
        let (here, id) = (Path::new("/somewhere"), FileId::of(b"content"));
        let trees = [[1; 32], [2; 32]].map(TreeId::from_bytes);
        let file = Item::File { stamp: stamp(9), settled: true, exec: true, id };
        let racy = Item::File { stamp: stamp(10), settled: false, exec: false, id };
        let link = Item::Symlink { stamp: stamp(3), settled: false, target: b"to" };
        let top = [
            Row { name: b"d", item: Item::Directory(1) },
            Row { name: b"file\xff", item: file },
            Row { name: b"link", item: link },
        ];
        record(root, &scratch, here, (6, 2), |recorder| {
            recorder.directory(40, &trees[0], top.into_iter())?;
            recorder.directory(41, &trees[1], [Row { name: b"x", item: racy }].into_iter())
        })
        .unwrap();
        let known = Known::load(root, here).unwrap();
        assert_eq!((known.generation(), known.path()), (6, here));
        let first = known.directory(0).unwrap();
        assert_eq!((first.device, first.tree), (40, trees[0]));
        assert_eq!(first.collect::<Vec<_>>(), top);
        let second: Vec<_> = known.directory(1).unwrap().collect();
        assert_eq!(second, [Row { name: b"x", item: racy }]);
        assert!(known.directory(2).is_none());
        // Another directory's, under this one's name.
        let other = path(root, Path::new("/elsewhere"));
        fs::copy(path(root, here), &other).unwrap();
        assert!(Known::load(root, Path::new("/elsewhere")).is_none());
        assert_eq!(list(root).unwrap().len(), 2);
        fs::write(&other, "x").unwrap();
        assert!(Known::open(&other).is_none());
    }

    #[test]
    fn a_stamp_is_settled_once_the_clock_has_moved_on() {
        assert!(stamp(79).is_settled(100, 20));
        assert!(!stamp(80).is_settled(100, 20));
        assert!(!stamp(100).is_settled(100, 0));
        // The clock was set back.
        assert!(!stamp(200).is_settled(100, 20));
        assert!(!stamp(i64::MAX).is_settled(i64::MAX, 20));
    }

    #[test]
    fn random_bytes_are_refused_without_a_panic() {
        let mut noise = blake3::Hasher::new().finalize_xof();
        for length in 0..600 {
            let mut bytes = vec![0; length];
            noise.fill(&mut bytes);
            bytes.splice(0..length.min(12), [&MAGIC[..], &[1, 0, 0, 0]].concat());
            assert!(Known::decode(bytes.clone()).is_err());
            // Under a hash that is right, the rest may be anything.
            let end = bytes.len().saturating_sub(HASH);
            let hash = blake3::hash(&bytes[..end]);
            bytes.splice(end.., *hash.as_bytes());
            if let Ok(known) = Known::decode(bytes) {
                known.directory(0).into_iter().flatten().for_each(drop);
            }
        }
    }
}
