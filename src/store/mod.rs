//! The content-addressed store: packs, trees, refs, farm.
//!
//! A directory is [captured](Store::capture) as a [`Tree`], a Merkle directory of names,
//! execute bits, link targets and content ids; contents are stored once, whatever their
//! names. A tree comes out again as [files of one's own](Store::restore), as
//! [hard links](Store::link_tree) into the farm, or [a file at a time](Store::open_file).
//!
//! | file | what is in it |
//! |---|---|
//! | `format.rs`, `format/` | the on-disk format: ids, cuts, records, packs. Read first |
//! | `storage.rs` | the seam to the disk for what must survive a crash |
//! | `pack.rs` | writes and reads pack files |
//! | `index.rs` | where each record is (SQLite; a cache of the packs' footers) |
//! | `objects.rs`, `frames.rs` | records by name, over the two above |
//! | `contents.rs`, `extract.rs` | files from records: one, or many at a time |
//! | `beneath.rs` | directories by descriptor, never through links |
//! | `delta.rs` | files made from other files |
//! | `tree.rs` | directories, cached |
//! | `diff.rs` | what differs between two trees |
//! | `names.rs` | what people call trees |
//! | `refs.rs`, `leases.rs` | names for trees that must stay, for ever or until a time |
//! | `hold.rs` | what keeps the collector away |
//! | `collect.rs`, `collect/`, `stats.rs` | removes what no root needs; counts what is there |
//! | `verify.rs`, `repair.rs`, `verify/`, `repair/` | looks at every byte; mends |
//! | `farm.rs` | files and trees as such, for links |
//! | `snapshot.rs`, `known.rs` | directories captured again, and what is known of them |
//! | `places.rs` | which directories were made of such links |
//! | `adopt.rs` | directories that are captured and given away |
//! | `capture.rs`, `restore.rs`, `capture/`, `restore/` | directories in and out |
//! | `figures.rs` | how much of what was captured is new |
//! | `remove.rs` | trees that may be read-only, away |
//! | `scratch.rs`, `parallel.rs`, `progress.rs` | half-made things; a few threads; how far |
//!
//! # Invariants
//!
//! - What is in the store is never changed. A pack is written under another name, synced,
//!   renamed, its directory synced; then it is put in the index, and only then may a ref
//!   speak of what is in it. After a crash at any point everything that was acknowledged
//!   is there.
//! - Nothing is used that was not verified: frames, records and whole files each have a
//!   hash that is checked whenever they are decoded; files of the farm are checked when
//!   they are extracted, and carry a stamp that shows whether anybody touched them since.
//! - Any number of processes and threads may use one store at once.
//! - The index and the farm may be deleted at any time (not under a running mount); they
//!   are made again. Packs and refs may not.

mod adopt;
mod beneath;
mod capture;
mod collect;
mod contents;
mod delta;
mod diff;
mod error;
mod extract;
mod farm;
mod figures;
pub mod format;
mod frames;
mod hold;
mod index;
mod known;
mod leases;
mod names;
mod objects;
mod pack;
mod parallel;
mod places;
mod progress;
mod refs;
mod remove;
mod repair;
mod restore;
mod scratch;
mod snapshot;
mod stats;
mod storage;
mod tree;
mod verify;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use capture::Captured;
pub use collect::{Collect, Collected, FindRoots, Roots, Tally, UNUSED, Unused};
pub use diff::{Change, ChangeKind};
pub use error::StoreError;
pub use farm::{MTIME, Make};
pub use figures::{Class, Counts, Figures};
pub use format::tree::{Entry, Kind, MAX_NAME, MAX_TARGET, is_name};
pub use format::{FileId, PackId, ParseIdError, TreeId};
pub use hold::Hold;
pub use leases::Lease;
pub use objects::Rebuilt;
pub use places::Place;
pub use remove::remove_tree;
pub use repair::Repaired;
pub use restore::{Linked, Restoration, RestoreOptions, Restored, Strategy, Touched};
pub use stats::{Amount, Records, Stats};
pub use storage::{Disk, Input, Output, Storage};
pub use tree::Tree;
pub use verify::Verified;
pub use verify::findings::{Counted, Damage, DamagedPath, Finding};

use crate::event::{Events, Silent};
use farm::Farm;
use format::{RecordId, STORE_MAGIC, STORE_VERSION};
use objects::Objects;
use progress::Progress;
use refs::{Root, Sort};
use restore::Parts;
use tree::TreeCache;

/// A store. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    events: Arc<dyn Events>,
}

struct Inner {
    root: PathBuf,
    objects: Objects,
    trees: TreeCache,
    farm: Farm,
}

impl Store {
    /// Opens the store in the directory `dir`, making it where it is missing.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        Store::open_on(dir, Arc::new(Disk))
    }

    /// The same on another storage, for tests of what a disk may do.
    pub fn open_on(dir: &Path, storage: Arc<dyn Storage>) -> Result<Store, StoreError> {
        let format = dir.join("format");
        let found = match storage::read(&*storage, &format) {
            Ok(text) => Some(version(&format, &String::from_utf8_lossy(&text))?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(StoreError::read(&format)(e)),
        };
        if found.is_none() {
            create(dir, &*storage).map_err(StoreError::write(dir))?;
        }
        // These may be gone without the store being one less.
        fs::create_dir_all(dir.join("tmp")).map_err(StoreError::write(dir))?;
        Farm::create(dir)?;
        if found != Some(STORE_VERSION) {
            set_version(dir, &*storage)?;
        }
        let inner = Arc::new(Inner {
            root: dir.to_owned(),
            objects: Objects::open(dir, storage)?,
            trees: TreeCache::default(),
            farm: Farm::new(dir),
        });
        Ok(Store { inner, events: Arc::new(Silent) })
    }

    /// The same store, whose long operations tell `events` how far they are.
    pub fn with_events(&self, events: Arc<dyn Events>) -> Store {
        Store { inner: Arc::clone(&self.inner), events }
    }

    /// Keeps everything that is in the store there, for as long as this is held.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        Hold::take(&self.inner.root)
    }

    /// Puts the directory `dir` into the store. Regular files, directories and symbolic
    /// links are captured with their names, execute bits and targets; hard links within
    /// `dir` are remembered; times, owners and other mode bits are not.
    ///
    /// When this returns, the tree survives a crash; for it to survive a collection, set a
    /// ref before what is returned is dropped. A socket, pipe or device is an error, and so
    /// is a file that keeps changing.
    pub fn capture(&self, dir: &Path) -> Result<Captured, StoreError> {
        capture::capture(&self.inner.objects, dir, self.hold()?, &self.events)
    }

    /// One directory.
    pub fn tree(&self, id: &TreeId) -> Result<Arc<Tree>, StoreError> {
        self.inner.trees.get(&self.inner.objects, id)
    }

    /// Puts a directory composed of what is in the store into the store. `entries` may be in
    /// any order; what they refer to must be there, sizes included.
    pub fn put_tree(&self, entries: Vec<Entry>) -> Result<TreeId, StoreError> {
        let _hold = self.hold()?;
        tree::put(&self.inner.objects, &self.inner.trees, entries)
    }

    /// A file of the farm, open for reading. Extracted and verified on first use.
    pub fn open_file(&self, id: &FileId, exec: bool) -> Result<File, StoreError> {
        let opened = self.inner.farm.open(&self.inner.objects, id, exec);
        self.warn_of_edits();
        opened
    }

    /// The content of a file, from the packs.
    pub fn read_file(&self, id: &FileId) -> Result<Vec<u8>, StoreError> {
        contents::read(&self.inner.objects, id)
    }

    /// Writes the tree `id` to the directory `dest`: files of one's own, 0644 or 0755 less
    /// the umask, times [`MTIME`]. Blocks are shared with the store where the file system
    /// can.
    ///
    /// `dest` is made if it is missing, and removed again should this fail. If it exists,
    /// its directories are kept; a file or link in the way is an error, and what had been
    /// written before it stays.
    pub fn restore(&self, id: &TreeId, dest: &Path) -> Result<Restored, StoreError> {
        let restored = self.parts().restore(id, dest);
        self.warn_of_edits();
        restored
    }

    /// Makes the tree `id` at `dest`, as [`Store::restore`] does, but of hard links into the
    /// farm: read-only files that must be replaced, never edited. `dest` must be on the
    /// store's file system.
    pub fn link_tree(&self, id: &TreeId, dest: &Path) -> Result<Linked, StoreError> {
        let linked = self.parts().link(id, dest, |dest| self.add_place(dest, id));
        self.warn_of_edits();
        linked
    }

    /// The tree `key` of the farm, a read-only directory. If it is not there, `make` fills
    /// an empty directory that then becomes it, synced, whole or not at all. Who wants the
    /// same key meanwhile waits.
    pub fn farm_tree(&self, key: &str, make: &mut Make<'_>) -> Result<PathBuf, StoreError> {
        let _hold = self.hold()?;
        self.inner.farm.tree(key, make)
    }

    /// Files of the farm that somebody had changed, where they are kept.
    pub fn aside(&self) -> Result<Vec<PathBuf>, StoreError> {
        self.inner.farm.aside()
    }

    /// Makes `name` mean `tree`, durably. Any text without line breaks is a name, up to some
    /// 200 characters. The tree must be in the store.
    pub fn set_ref(&self, name: &str, tree: &TreeId) -> Result<(), StoreError> {
        let _hold = self.holding(tree)?;
        let root = Root { name: name.to_owned(), tree: *tree, until: None };
        self.roots_of(Sort::Ref).set(&root)
    }

    /// What `name` means.
    pub fn get_ref(&self, name: &str) -> Result<Option<TreeId>, StoreError> {
        Ok(self.roots_of(Sort::Ref).get(name)?.map(|root| root.tree))
    }

    /// All refs whose names begin with `prefix`, in order.
    pub fn refs(&self, prefix: &str) -> Result<Vec<(String, TreeId)>, StoreError> {
        let refs = self.roots_of(Sort::Ref).list(prefix)?;
        Ok(refs.into_iter().map(|root| (root.name, root.tree)).collect())
    }

    /// Forgets `name`. Says whether it was there.
    pub fn remove_ref(&self, name: &str) -> Result<bool, StoreError> {
        self.roots_of(Sort::Ref).remove(name)
    }

    /// Closes the packs that are open, as a process should that is at rest: one that the
    /// collector has removed takes up its space until then.
    pub fn rest(&self) {
        self.inner.objects.close_packs();
    }

    /// Makes the index anew from the packs. Happens by itself when it is missing or corrupt.
    pub fn rebuild_index(&self) -> Result<Rebuilt, StoreError> {
        self.inner.objects.rebuild_index()
    }

    fn parts(&self) -> Parts<'_> {
        let Inner { objects, trees, farm, .. } = &*self.inner;
        let progress = Progress::new(&self.events, "files", None);
        Parts { objects, trees, farm, progress }
    }

    /// A hold, and the certainty that `tree` is there: with what it names, as the index
    /// holds nothing without that.
    fn holding(&self, tree: &TreeId) -> Result<Hold, StoreError> {
        let (hold, record) = (self.hold()?, RecordId::tree(tree));
        // An index made anew would know trees again of which parts are gone.
        match self.inner.objects.contains(&record)? {
            true => Ok(hold),
            false => Err(StoreError::Missing { record }),
        }
    }
}

/// The version of a store whose file `format` holds `text`. Older ones are as good.
fn version(format: &Path, text: &str) -> Result<u32, StoreError> {
    match text.strip_prefix(STORE_MAGIC).and_then(|version| version.trim().parse::<u32>().ok()) {
        Some(version @ 1..=STORE_VERSION) => Ok(version),
        _ => {
            let found = text.trim().chars().take(40).collect();
            Err(StoreError::Newer { path: format.to_owned(), found })
        }
    }
}

/// Makes the directories of an empty store. Its `format` comes when they are sure to survive:
/// whoever finds it relies on them.
fn create(dir: &Path, storage: &dyn Storage) -> io::Result<()> {
    for name in ["packs", "refs", "leases"] {
        storage.create_directory(&dir.join(name))?;
    }
    storage.sync_directory(dir)?;
    match dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => match storage.sync_directory(above) {
            // Whoever may not look into it has not made the name of `dir` in it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        },
        None => Ok(()),
    }
}

/// Says that the store is one of this program's version.
fn set_version(dir: &Path, storage: &dyn Storage) -> Result<(), StoreError> {
    let format = dir.join("format");
    let scratch = scratch::Scratch::new(&dir.join("tmp")).map_err(StoreError::write(dir))?;
    let text = format!("{STORE_MAGIC}{STORE_VERSION}\n");
    storage::write(storage, &scratch.fresh(), &format, text.as_bytes())
        .and_then(|()| storage.sync_directory(dir))
        .map_err(StoreError::write(&format))
}
