//! What can go wrong in the store.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{FileId, FormatError, PackId, RecordId, TreeId};

/// An operation of the store that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store, or a file of it, was written by a newer zagi.
    #[error(
        "`{path}` of the store has version {found}, which is newer than this zagi; update zagi"
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// A file of the store could not be read.
    #[error("cannot read `{path}` of the store: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of the store could not be written.
    #[error("cannot write `{path}` of the store: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The disk, or the user's share of it, is full.
    #[error("no space is left for `{path}`: {source}")]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The index did not answer.
    #[error("the index `{path}` of the store failed: {source}")]
    Index {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A pack is not what was written.
    #[error("pack {pack} of the store is damaged: {source}")]
    DamagedPack {
        /// The pack.
        pack: PackId,
        /// What is wrong.
        source: FormatError,
    },
    /// A record is not what its id says.
    #[error("{record} in the store is damaged: {source}")]
    DamagedRecord {
        /// The record.
        record: RecordId,
        /// What is wrong.
        source: FormatError,
    },
    /// A file, joined from its chunks, is not what its id says.
    #[error("file {id} in the store is damaged: its chunks do not add up to it")]
    DamagedFile {
        /// The file.
        id: FileId,
    },
    /// Something that is referred to is not in the store.
    #[error("{record} is not in the store")]
    Missing {
        /// What is missing.
        record: RecordId,
    },
    /// A directory cannot be kept as a tree.
    #[error("cannot make a tree of `{path}`: {source}")]
    Unrepresentable {
        /// The directory, or what was given to `put_tree`.
        path: PathBuf,
        /// The rule that it breaks.
        source: FormatError,
    },
    /// A file or directory that is to be captured could not be read.
    #[error("cannot capture `{path}`: {source}")]
    Capture {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file kept changing while it was being captured.
    #[error("cannot capture `{path}`: it changes while it is being read")]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// A directory holds what is no file, directory or link.
    #[error("cannot capture `{path}`: it is a {kind}")]
    Special {
        /// The thing.
        path: PathBuf,
        /// "socket", "named pipe", "device".
        kind: &'static str,
    },
    /// A file of a tree could not be written to where it is restored.
    #[error("cannot restore `{path}`: {source}")]
    Restore {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something stands where a tree is to be restored.
    #[error("cannot restore `{path}`: it exists")]
    Exists {
        /// What stands there.
        path: PathBuf,
    },
    /// What is around the store or in it can be neither captured nor restored to.
    #[error("`{path}` will not do: the store `{store}` is in it, or it in the store")]
    OverStore {
        /// The directory.
        path: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// A directory can share nothing with the store, and was to.
    #[error("cannot restore `{path}` by links: it is not on the store's file system")]
    CannotLink {
        /// The directory.
        path: PathBuf,
    },
    /// A text that should name a tree names none.
    #[error("there is no tree `{text}` in the store")]
    UnknownTree {
        /// The text.
        text: String,
    },
    /// Several trees' ids begin with the digits that should name one.
    #[error("`{text}` is the beginning of several trees' ids")]
    AmbiguousTree {
        /// The digits.
        text: String,
        /// Some of the trees.
        trees: Vec<TreeId>,
    },
    /// A tree for the farm could not be made.
    #[error("cannot make the tree `{key}` of the farm: {source}")]
    Make {
        /// The tree's key.
        key: String,
        /// Why its maker failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file of the farm is no longer what was extracted as soon as it is.
    #[error("`{path}` of the farm is changed by somebody as soon as it is made")]
    FarmFile {
        /// The file.
        path: PathBuf,
    },
    /// A key of the farm is not a plain file name.
    #[error("`{key}` cannot be a key of the farm: letters, digits and `-_+.` make one")]
    FarmKey {
        /// The key.
        key: String,
    },
    /// A ref's name is empty or too long.
    #[error("`{name}` cannot be the name of a ref: it is empty or too long")]
    RefName {
        /// The name.
        name: String,
    },
    /// Others were at the store for as long as one was ready to wait.
    #[error("the store `{path}` is in use by {by}; nothing was removed")]
    InUse {
        /// The store.
        path: PathBuf,
        /// Their names and numbers.
        by: String,
    },
    /// The store was repaired again and again while it was being collected.
    #[error("the store `{path}` is being repaired; nothing was removed")]
    Repairing {
        /// The store.
        path: PathBuf,
    },
    /// What a root needs cannot be known.
    #[error("nothing is removed: {who} needs what cannot be read: {source}")]
    Root {
        /// The ref, the lease or what else it is.
        who: String,
        /// What is wrong.
        source: Box<StoreError>,
    },
    /// Who uses the store could not say what they need of it.
    #[error("nothing is removed: {source}")]
    Roots {
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file that says how often something was removed is not what was written.
    #[error("`{path}` of the store is damaged: it should be a number")]
    DamagedGeneration {
        /// The file.
        path: PathBuf,
    },
    /// A lease's file is not what was written.
    #[error("the lease `{path}` is damaged")]
    DamagedLease {
        /// The file.
        path: PathBuf,
    },
    /// A ref's file is not what was written.
    #[error("the ref `{path}` is damaged")]
    DamagedRef {
        /// The file.
        path: PathBuf,
    },
}

/// Whether the kernel said that the disk or the quota is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StoreError {
    /// Whether it says that something in the store is not what was written.
    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self,
            StoreError::Missing { .. }
                | StoreError::DamagedPack { .. }
                | StoreError::DamagedRecord { .. }
                | StoreError::DamagedFile { .. }
                | StoreError::Read { .. }
        )
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Read { path, source }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| match is_full(&source) {
            true => StoreError::NoSpace { path, source },
            false => StoreError::Write { path, source },
        }
    }

    pub(super) fn capture(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Capture { path, source }
    }

    pub(super) fn restore(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists { path },
            _ if is_full(&source) => StoreError::NoSpace { path, source },
            _ => StoreError::Restore { path, source },
        }
    }
}
