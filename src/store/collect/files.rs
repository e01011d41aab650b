//! The farm, the lists of known files, and what the caller no longer needs: caches, all of
//! them. What may not be seen half removed is renamed to `.<name>.removed` first.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mark::Needed;
use super::{Tally, UNUSED, Unused};
use crate::store::error::StoreError;
use crate::store::farm;
use crate::store::format::FileId;
use crate::store::known::{self, Known};
use crate::store::remove::remove_tree;

/// Bytes of a block, as stat(2) counts them.
const BLOCK: u64 = 512;

/// What is to be removed.
pub struct Sweep {
    farm_trees: Vec<PathBuf>,
    kept_trees: u64,
    unused: Vec<Unused>,
}

/// What was removed, and what stayed.
#[derive(Default)]
pub struct Swept {
    /// It went.
    pub removed: Vec<Tally>,
    /// It stayed.
    pub kept: Vec<Tally>,
}

/// Names of an inode that go, of those that it has.
struct Links {
    names: u64,
    gone: u64,
    bytes: u64,
}

fn read(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    StoreError::read(path)
}

/// What is in a directory, nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    match list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(read(directory)),
    }
}

/// Gives a directory a name that nobody looks for, and says whether it has one now.
fn hide(path: &mut PathBuf) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
    if is_hidden || !path.is_dir() {
        return true;
    }
    let mut name = OsStr::new(".").to_owned();
    name.push(path.file_name().unwrap_or_default());
    name.push(".removed");
    let hidden = path.with_file_name(name);
    // Left by one who was killed.
    let renamed = remove_tree(&hidden).and_then(|()| fs::rename(&*path, &hidden));
    if renamed.is_ok() {
        *path = hidden;
    }
    renamed.is_ok()
}

impl Sweep {
    /// Looks for what is to go. Half-made trees count as such only if nobody makes them.
    pub fn find(
        store: &Path,
        farm_trees: &BTreeSet<String>,
        unused: &[Unused],
    ) -> Result<Sweep, StoreError> {
        let farm = store.join("farm");
        let is_kept = |path: &Path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            match name.strip_prefix('.').and_then(|name| name.strip_suffix(".building")) {
                Some(key) => fs::File::open(farm.join("locks").join(key))
                    .is_ok_and(|lock| lock.try_lock().is_err()),
                None => farm_trees.contains(name),
            }
        };
        let mut trees = entries(&farm.join("trees"))?;
        trees.sort_unstable();
        let all = trees.len();
        trees.retain(|path| !is_kept(path));
        let kept_trees = (all - trees.len()) as u64;
        Ok(Sweep { farm_trees: trees, kept_trees, unused: unused.to_vec() })
    }

    /// Takes what is to go out of sight, while nobody can be about to use it. What cannot be
    /// taken out of sight stays.
    pub fn hide(&mut self, store: &Path) {
        self.farm_trees.retain_mut(|path| {
            let lock = path.file_name().map(|key| store.join("farm/locks").join(key));
            let hidden = hide(path);
            if let (true, Some(lock)) = (hidden, lock) {
                // Nobody waits for it: those who do have a hold.
                let _ = fs::remove_file(lock);
            }
            hidden
        });
        self.unused.retain_mut(|unused| hide(&mut unused.path));
    }

    /// Removes it, and those files of the farm that nobody needs; or, if `dry`, only counts.
    pub fn finish(
        &self,
        store: &Path,
        needed: &Needed,
        now: i64,
        dry: bool,
    ) -> Result<Swept, StoreError> {
        let mut links = HashMap::new();
        let mut tree_bytes = 0;
        for tree in &self.farm_trees {
            tree_bytes += measure(tree, &mut links)?;
        }
        let mut swept = Swept::default();
        let files = farm_files(store, needed, now, dry, &mut links, &mut swept)?;
        tree_bytes += freed(&links);
        for tree in self.farm_trees.iter().filter(|_| !dry) {
            remove_tree(tree).map_err(StoreError::write(tree))?;
        }
        let count = self.farm_trees.len() as u64;
        swept.removed.push(Tally { kind: "farm trees", count, bytes: tree_bytes });
        swept.removed.push(files);
        swept.kept.push(Tally { kind: "farm trees", count: self.kept_trees, bytes: 0 });
        swept.removed.push(known_files(store, dry)?);
        self.unused(dry, &mut swept.removed)?;
        swept.removed.retain(|tally| tally.count > 0);
        Ok(swept)
    }

    fn unused(&self, dry: bool, removed: &mut Vec<Tally>) -> Result<(), StoreError> {
        for Unused { kind, path } in &self.unused {
            let mut links = HashMap::new();
            let bytes = measure(path, &mut links)? + freed(&links);
            if !dry && remove_tree(path).is_err() {
                // It may be gone already, or another's.
                continue;
            }
            match removed.iter_mut().find(|tally| tally.kind == *kind) {
                Some(tally) => {
                    tally.count += 1;
                    tally.bytes += bytes;
                }
                None => removed.push(Tally { kind, count: 1, bytes }),
            }
        }
        Ok(())
    }
}

/// The bytes of a tree's directories; its files are put into `links`.
fn measure(path: &Path, links: &mut HashMap<u64, Links>) -> Result<u64, StoreError> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        found => found.map_err(read(path))?,
    };
    let bytes = found.blocks() * BLOCK;
    if found.is_dir() {
        let below = entries(path)?;
        return below.iter().try_fold(bytes, |sum, path| Ok(sum + measure(path, links)?));
    }
    let of = links.entry(found.ino()).or_insert(Links { names: found.nlink(), gone: 0, bytes });
    of.gone += 1;
    Ok(0)
}

/// The bytes of the inodes all of whose names go.
fn freed(links: &HashMap<u64, Links>) -> u64 {
    links.values().filter(|of| of.gone >= of.names).map(|of| of.bytes).sum()
}

/// Removes the farm's files that nobody needs, or that nobody used for long and that are
/// nowhere else. An inode that `links` has is counted there.
fn farm_files(
    store: &Path,
    needed: &Needed,
    now: i64,
    dry: bool,
    links: &mut HashMap<u64, Links>,
    swept: &mut Swept,
) -> Result<Tally, StoreError> {
    let mut gone = Tally { kind: "farm files", count: 0, bytes: 0 };
    let mut kept = gone.clone();
    for path in entries(&store.join("farm/files"))?.iter().map(|d| entries(d)) {
        for path in path? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let exec = name.ends_with('x');
            let Ok(id) = name.strip_suffix('x').unwrap_or(name).parse::<FileId>() else { continue };
            let found = match fs::symlink_metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(read(&path))?,
            };
            let bytes = found.blocks() * BLOCK;
            let of = links.get_mut(&found.ino());
            let others = found.nlink() - 1 - of.as_ref().map_or(0, |of| of.gone);
            let in_use = others > 0 || last_use(&found) >= now - UNUSED;
            if (needed.has_content(&id) && in_use) || is_edited(&id, exec, &found) {
                kept.count += 1;
                kept.bytes += bytes;
                continue;
            }
            // It is extracted again should somebody want it.
            if !dry && fs::remove_file(&path).is_err() {
                continue;
            }
            gone.count += 1;
            match of {
                Some(of) => of.gone += 1,
                None if others == 0 => gone.bytes += bytes,
                None => {}
            }
        }
    }
    swept.kept.push(kept);
    Ok(gone)
}

/// Whether somebody has changed the file, so that it may hold their work. It is set aside when
/// somebody else wants to use it, or verifies the farm.
fn is_edited(id: &FileId, exec: bool, found: &Metadata) -> bool {
    let stamped = [0, i64::from(farm::stamp(id, exec, found.len()))];
    found.mode() & 0o7777 != farm::mode(exec)
        || found.mtime() != farm::MTIME
        || !stamped.contains(&found.mtime_nsec())
}

/// When a file was read or linked last, as far as the file system tells.
fn last_use(found: &Metadata) -> i64 {
    found.atime().max(found.ctime())
}

/// Removes the lists of known files of directories that are gone.
fn known_files(store: &Path, dry: bool) -> Result<Tally, StoreError> {
    let directory = store.join("known");
    let mut gone = Tally { kind: "lists of known files", count: 0, bytes: 0 };
    for file in known::list(store).map_err(read(&directory))? {
        if Known::open(&file).is_some_and(|known| fs::symlink_metadata(known.path()).is_ok()) {
            continue;
        }
        let bytes = fs::symlink_metadata(&file).map_or(0, |found| found.blocks() * BLOCK);
        // One that cannot be removed now can be next time.
        if dry || fs::remove_file(&file).is_ok() {
            gone.count += 1;
            gone.bytes += bytes;
        }
    }
    Ok(gone)
}
