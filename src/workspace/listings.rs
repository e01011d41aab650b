//! All directories of a git tree, with the sizes of their files: `cache/trees/<tree>.list`.
//!
//! Git's trees do not say how long a file is, and asking the object database for each of a
//! hundred thousand files takes longer than all else that a mount does. So it is asked once, and
//! the answers are kept by tree. A directory is read from the file when somebody looks at it;
//! nothing else of the file is.
//!
//! Integers are little-endian.
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | `zagitree` |
//! | 4 | [`VERSION`]; any other is made anew |
//! | 4 | N: how many directories |
//! | 8 | length of the file |
//! | N × 32 | sorted by id: a tree's id (20), where its block is (8), the block's length (4) |
//! | … | the blocks |
//!
//! A block is the first eight bytes of the BLAKE3 hash of the id and of what follows, which is
//! one entry after the other, sorted by name: kind (1: as [`Kind`]), size (8), the object's id
//! (20), length of the name (2), the name.
//!
//! What does not fit its checksum is not there: the object database is asked instead.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gix::objs::tree::EntryKind;
use gix::{ObjectId, ThreadSafeRepository};

use super::description::write_whole;

/// The version of the format.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"zagitree";
const HEADER: usize = 24;
const ROW: usize = 32;
/// Kind, size, id and length of the name.
const FIXED: usize = 1 + 8 + 20 + 2;
/// The longest block that is believed: a directory of a few million names.
const MAX_BLOCK: usize = 256 << 20;
/// How many rows are read at a time while one is looked for.
const WINDOW: u64 = 32;
/// The cache keeps so many bytes; what was not used for longest goes first.
const CACHE_BYTES: u64 = 512 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link.
    Link,
    /// A directory.
    Directory,
    /// A submodule.
    Submodule,
}

const KINDS: [Kind; 5] =
    [Kind::File, Kind::Executable, Kind::Link, Kind::Directory, Kind::Submodule];

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes of a file or a link's target.
    pub size: u64,
    /// The object.
    pub id: ObjectId,
    /// Its name.
    pub name: Box<[u8]>,
}

/// The directories of one tree.
pub struct Listings {
    repo: ThreadSafeRepository,
    tree: ObjectId,
    path: PathBuf,
    /// Held by whoever makes the file; what could not be written.
    kept: Mutex<Option<Vec<u8>>>,
}

impl Listings {
    /// Those of `tree`, kept in the directory `cache`. Nothing is looked at.
    pub fn new(repo: ThreadSafeRepository, tree: ObjectId, cache: &Path) -> Listings {
        let path = cache.join(format!("{tree}.list"));
        Listings { repo, tree, path, kept: Mutex::default() }
    }

    /// The directory `id`, if it is known.
    pub fn cached(&self, id: &ObjectId) -> Option<Vec<Item>> {
        if let Ok(file) = File::open(&self.path) {
            return find(&file, id).ok().flatten();
        }
        // Whoever is making it is not waited for.
        let kept = self.kept.try_lock().ok()?;
        find(&kept.as_deref()?, id).ok().flatten()
    }

    /// The directory `id`, from the object database if it is not known.
    pub fn list(&self, id: &ObjectId) -> io::Result<Vec<Item>> {
        match self.cached(id) {
            Some(items) => Ok(items),
            None => items(&self.repo.to_thread_local(), id, size),
        }
    }

    /// Makes all of them known, if they are not.
    pub fn make(&self) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_some() || self.is_sound() {
            return Ok(());
        }
        let bytes = build(&self.repo, self.tree)?;
        let written = self
            .path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| write_whole(&self.path, &bytes));
        match written {
            Ok(()) => shrink(&self.path),
            Err(_) => *kept = Some(bytes),
        }
        Ok(())
    }

    /// Whether there is a file that begins as it should; also says that it is used.
    fn is_sound(&self) -> bool {
        let Ok(file) = File::options().write(true).read(true).open(&self.path) else {
            return false;
        };
        let sound = find(&file, &self.tree).is_ok_and(|found| found.is_some());
        let now = nix::sys::time::TimeSpec::UTIME_NOW;
        let _ = nix::sys::stat::futimens(&file, &now, &now);
        sound
    }
}

/// How long the object is.
fn size(repo: &gix::Repository, id: &gix::oid) -> io::Result<u64> {
    Ok(repo.find_header(id).map_err(io::Error::other)?.size())
}

/// What the object database says of a directory; `size` is asked for the lengths.
fn items(
    repo: &gix::Repository,
    id: &ObjectId,
    size: impl Fn(&gix::Repository, &gix::oid) -> io::Result<u64>,
) -> io::Result<Vec<Item>> {
    let tree = repo.find_tree(*id).map_err(io::Error::other)?;
    let mut items = Vec::new();
    for entry in tree.iter() {
        let entry = entry.map_err(io::Error::other)?;
        let kind = match entry.mode().kind() {
            EntryKind::Tree => Kind::Directory,
            EntryKind::Commit => Kind::Submodule,
            EntryKind::Link => Kind::Link,
            EntryKind::BlobExecutable => Kind::Executable,
            EntryKind::Blob => Kind::File,
        };
        let size = match kind {
            Kind::Directory | Kind::Submodule => 0,
            _ => size(repo, entry.oid())?,
        };
        let name = entry.filename().to_vec().into();
        items.push(Item { kind, size, id: entry.oid().into(), name });
    }
    // Git sorts a directory as if its name ended in a slash.
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(items)
}

fn checksum(id: &ObjectId, payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_slice()).update(payload);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}

/// The whole file for `tree`.
fn build(repo: &ThreadSafeRepository, tree: ObjectId) -> io::Result<Vec<u8>> {
    let mut directories = BTreeMap::new();
    let (mut todo, mut seen) = (vec![tree], HashSet::from([tree]));
    let local = repo.to_thread_local();
    while let Some(id) = todo.pop() {
        let found = items(&local, &id, |_, _| Ok(0))?;
        let below = found.iter().filter(|item| item.kind == Kind::Directory).map(|item| item.id);
        todo.extend(below.filter(|id| seen.insert(*id)));
        directories.insert(id, found);
    }
    measure(repo, &mut directories)?;
    let mut offset = (HEADER + directories.len() * ROW) as u64;
    let (mut rows, mut blocks) = (Vec::new(), Vec::new());
    for (id, items) in &directories {
        let payload = encode(items);
        let length = payload.len() + 8;
        rows.extend_from_slice(id.as_slice());
        rows.extend_from_slice(&offset.to_le_bytes());
        rows.extend_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
        blocks.extend_from_slice(&checksum(id, &payload));
        blocks.extend_from_slice(&payload);
        offset += length as u64;
    }
    let mut out = Vec::with_capacity(offset as usize);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(directories.len() as u32).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.append(&mut rows);
    out.append(&mut blocks);
    Ok(out)
}

/// Asks for all lengths, from as many threads as there are processors.
fn measure(
    repo: &ThreadSafeRepository,
    directories: &mut BTreeMap<ObjectId, Vec<Item>>,
) -> io::Result<()> {
    let mut all: Vec<&mut Item> = directories
        .values_mut()
        .flatten()
        .filter(|item| !matches!(item.kind, Kind::Directory | Kind::Submodule))
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = all.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = all
            .chunks_mut(part)
            .map(|items| {
                scope.spawn(|| {
                    let repo = repo.to_thread_local();
                    items.iter_mut().try_for_each(|item| {
                        item.size = size(&repo, &item.id)?;
                        Ok(())
                    })
                })
            })
            .collect();
        let failed = || io::Error::other("a thread that reads sizes ended");
        parts.into_iter().try_for_each(|part| part.join().unwrap_or_else(|_| Err(failed())))
    })
}

fn encode(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::with_capacity(items.iter().map(|item| FIXED + item.name.len()).sum());
    for item in items {
        out.push(item.kind as u8);
        out.extend_from_slice(&item.size.to_le_bytes());
        out.extend_from_slice(item.id.as_slice());
        // Git's own limit of a path is far below.
        out.extend_from_slice(&(item.name.len().min(usize::from(u16::MAX)) as u16).to_le_bytes());
        out.extend_from_slice(&item.name[..item.name.len().min(usize::from(u16::MAX))]);
    }
    out
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<FIXED>() {
        let kind = *KINDS.get(usize::from(head[0]))?;
        let size = u64::from_le_bytes(head[1..9].try_into().ok()?);
        let id = ObjectId::try_from(&head[9..29]).ok()?;
        let length = usize::from(u16::from_le_bytes([head[29], head[30]]));
        let name = rest.get(..length)?.into();
        bytes = &rest[length..];
        items.push(Item { kind, size, id, name });
    }
    bytes.is_empty().then_some(items)
}

/// Something that can be read at any place.
trait ReadAt {
    fn read_at_all(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at_all(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at_all(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let found = from.and_then(|from| from.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The directory `id` in a file of listings; an error or `None` if it is not there, or not as
/// it was written.
fn find(file: &impl ReadAt, id: &ObjectId) -> io::Result<Option<Vec<Item>>> {
    let mut head = [0; HEADER];
    file.read_at_all(&mut head, 0)?;
    if head[..8] != *MAGIC || head[8..12] != VERSION.to_le_bytes() {
        return Ok(None);
    }
    let count = u64::from(u32::from_le_bytes([head[12], head[13], head[14], head[15]]));
    let Some((offset, length)) = row(file, count, id)? else { return Ok(None) };
    if !(8..=MAX_BLOCK).contains(&length) {
        return Ok(None);
    }
    let mut block = vec![0; length];
    file.read_at_all(&mut block, offset)?;
    let (sum, payload) = block.split_at(8);
    Ok(if checksum(id, payload) == *sum { decode(payload) } else { None })
}

/// Where the block of `id` is, and how long. Ids are spread evenly, so that the place of a row
/// can be guessed well.
fn row(file: &impl ReadAt, count: u64, id: &ObjectId) -> io::Result<Option<(u64, usize)>> {
    let wanted = id.as_slice();
    let leading = |id: &[u8]| id.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let (mut low, mut high) = (0, count);
    let (mut below, mut above) = (0_u64, u64::MAX);
    let mut rows = [0; WINDOW as usize * ROW];
    while low < high {
        let share = leading(wanted).saturating_sub(below) as f64 / (above - below).max(1) as f64;
        let guess = low + (share.clamp(0.0, 1.0) * (high - low) as f64) as u64;
        let start = guess.saturating_sub(WINDOW / 2).max(low);
        let end = (start + WINDOW).min(high);
        let rows = &mut rows[..(end - start) as usize * ROW];
        file.read_at_all(rows, HEADER as u64 + start * ROW as u64)?;
        let (first, last) = (&rows[..20], &rows[rows.len() - ROW..rows.len() - 12]);
        if wanted < first {
            (high, above) = (start, leading(first).max(below));
        } else if wanted > last {
            (low, below) = (end, leading(last).min(above));
        } else {
            let Some(row) = rows.chunks_exact(ROW).find(|row| row[..20] == *wanted) else {
                return Ok(None);
            };
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            return Ok(Some((number(&row[20..28]), number(&row[28..]) as usize)));
        }
    }
    Ok(None)
}

/// Deletes from the directory of `newest` what was not used for longest, until what is left is
/// within [`CACHE_BYTES`].
fn shrink(newest: &Path) {
    let Some(dir) = newest.parent() else { return };
    let mut files: Vec<(std::time::SystemTime, u64, PathBuf)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path() != newest)
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if bytes <= CACHE_BYTES {
            return;
        }
        bytes -= length;
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items_of(n: u8) -> Vec<Item> {
        let id = |byte| ObjectId::try_from(&[byte; 20][..]).expect("it is 20 bytes");
        (0..n)
            .map(|k| Item {
                kind: KINDS[usize::from(k) % 5],
                size: u64::from(k) << 40 | 7,
                id: id(k),
                name: format!("{k:03}\u{e9}").into_bytes().into(),
            })
            .collect()
    }

    /// A file of `count` directories with made-up ids.
    fn file(count: u32) -> (Vec<ObjectId>, Vec<u8>) {
        let hash = |n: u32| blake3::hash(&n.to_le_bytes());
        let id = |n| ObjectId::try_from(&hash(n).as_bytes()[..20]).expect("it is 20 bytes");
        let mut ids: Vec<ObjectId> = (0..count).map(id).collect();
        ids.sort();
        let mut offset = (HEADER + ids.len() * ROW) as u64;
        let (mut rows, mut blocks) = (Vec::new(), Vec::new());
        for (n, id) in ids.iter().enumerate() {
            let payload = encode(&items_of(n as u8));
            rows.extend_from_slice(id.as_slice());
            rows.extend_from_slice(&offset.to_le_bytes());
            rows.extend_from_slice(&(payload.len() as u32 + 8).to_le_bytes());
            blocks.extend_from_slice(&checksum(id, &payload));
            blocks.extend_from_slice(&payload);
            offset += payload.len() as u64 + 8;
        }
        let head =
            [&MAGIC[..], &VERSION.to_le_bytes(), &count.to_le_bytes(), &offset.to_le_bytes()];
        (ids, [head.concat(), rows, blocks].concat())
    }

    #[test]
    fn every_directory_is_found_and_no_other() {
        for count in [0, 1, 2, 31, 32, 33, 1000] {
            let (ids, bytes) = file(count);
            for (n, id) in ids.iter().enumerate() {
                let found = find(&&bytes[..], id).expect("it can be read");
                assert_eq!(found.expect("it is there"), items_of(n as u8), "{n} of {count}");
            }
            for n in 0..=255 {
                let id = ObjectId::try_from(&[n; 20][..]).expect("it is 20 bytes");
                assert_eq!(find(&&bytes[..], &id).expect("it can be read"), None);
            }
        }
    }

    #[test]
    fn what_was_damaged_or_cut_off_is_not_there() {
        let (ids, bytes) = file(3);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            for (n, id) in ids.iter().enumerate() {
                if let Ok(Some(found)) = find(&&bad[..], id) {
                    assert_eq!(found, items_of(n as u8), "bit {bit}");
                }
            }
        }
        for end in 0..bytes.len() {
            if let Ok(Some(found)) = find(&&bytes[..end], &ids[2]) {
                assert_eq!(found, items_of(2), "cut at {end}");
            }
        }
    }
}
