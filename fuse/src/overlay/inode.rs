//! The inodes in use: those that somebody has looked up and not forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::journal::Noted;
use super::lower::LowerNode;
use crate::delta::{FileKind, ROOT};

const SHARDS: usize = 16;

/// Something that was looked up.
pub(crate) struct Inode {
    /// Its number.
    pub ino: u64,
    /// What it is; that never changes.
    pub kind: FileKind,
    /// What it stems from in the layers, as far as that is still needed.
    pub lower: Option<Arc<LowerNode>>,
    /// Whether the content is in a data file of the delta. Held shared while content is read
    /// or written, exclusively while its home changes.
    pub own: RwLock<bool>,
    /// When it was last said to be another.
    pub noted: Noted,
}

impl Inode {
    /// Something of the layers.
    pub fn of_lower(lower: Arc<LowerNode>) -> Inode {
        let (ino, kind) = (lower.ino, lower.kind());
        Inode { ino, kind, lower: Some(lower), own: RwLock::new(false), noted: Noted::default() }
    }
}

/// All inodes in use.
pub(crate) struct Inodes {
    root: Arc<Inode>,
    shards: [Mutex<HashMap<u64, Counted>>; SHARDS],
}

struct Counted {
    inode: Arc<Inode>,
    lookups: u64,
}

impl Inodes {
    /// Only the root, which is always there.
    pub fn new(root: Inode) -> Inodes {
        Inodes { root: Arc::new(root), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    fn shard(&self, ino: u64) -> MutexGuard<'_, HashMap<u64, Counted>> {
        // A count is changed in one statement: a panic elsewhere does not spoil it.
        self.shards[ino as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inode `ino`, if it is in use.
    pub fn get(&self, ino: u64) -> Option<Arc<Inode>> {
        if ino == ROOT {
            return Some(Arc::clone(&self.root));
        }
        self.shard(ino).get(&ino).map(|counted| Arc::clone(&counted.inode))
    }

    /// Counts one more lookup of `ino`, if it is in use.
    pub fn look_up(&self, ino: u64) -> Option<Arc<Inode>> {
        if ino == ROOT {
            return Some(Arc::clone(&self.root));
        }
        let mut shard = self.shard(ino);
        let counted = shard.get_mut(&ino)?;
        counted.lookups += 1;
        Some(Arc::clone(&counted.inode))
    }

    /// Counts one more lookup of `inode`; returns the one in use, if there is one already.
    pub fn insert(&self, inode: Inode) -> Arc<Inode> {
        if inode.ino == ROOT {
            return Arc::clone(&self.root);
        }
        let mut shard = self.shard(inode.ino);
        let counted = shard
            .entry(inode.ino)
            .or_insert_with(|| Counted { inode: Arc::new(inode), lookups: 0 });
        counted.lookups += 1;
        Arc::clone(&counted.inode)
    }

    /// Puts `inode` in use without counting a lookup; returns the one in use, if there is one.
    pub fn adopt(&self, inode: Inode) -> Arc<Inode> {
        let mut shard = self.shard(inode.ino);
        let counted = shard
            .entry(inode.ino)
            .or_insert_with(|| Counted { inode: Arc::new(inode), lookups: 0 });
        Arc::clone(&counted.inode)
    }

    /// Takes back `count` lookups; says whether nobody uses the inode any more.
    pub fn forget(&self, ino: u64, count: u64) -> bool {
        if ino == ROOT {
            return false;
        }
        let mut shard = self.shard(ino);
        let Some(counted) = shard.get_mut(&ino) else { return false };
        counted.lookups = counted.lookups.saturating_sub(count);
        // Somebody may be at work on one that was adopted: two of one number would each think
        // that it alone decides where the content is.
        let unused = counted.lookups == 0 && Arc::strong_count(&counted.inode) == 1;
        if unused {
            shard.remove(&ino);
        }
        unused
    }
}
