//! Layers and a delta make one tree.
//!
//! The operations here are those of a POSIX file system, by inode number, and know nothing of
//! any kernel's protocol. An inode that was looked up stays usable until as many lookups are
//! forgotten, also when its last name is gone. Whether a caller *may* do something is for the
//! kernel to decide (`default_permissions`).
//!
//! | room | operations |
//! |---|---|
//! | `lower` | the layers, merged |
//! | `inode` | the inodes in use |
//! | `look` | lookup, getattr, readdir, readlink, statfs, forget |
//! | `names` | create, mkdir, symlink, mknod, link, unlink, rmdir |
//! | `rename` | rename with its flags |
//! | `content` | read, write, truncate, fallocate, seek, copy, fsync; copy-up |
//! | `copy` | content from file to file |
//! | `again` | an inode by its number alone, after a process was killed |
//! | `attributes` | setattr, extended attributes |
//! | `acl` | access control lists |
//! | `journal`, `events` | what changed, in order, and at which paths |
//!
//! Locks are taken in this order: an inode's content, the delta's writer, the delta's index,
//! the table of inodes, the journal. Layers are asked while neither index nor table is locked.

mod acl;
mod again;
mod attributes;
mod content;
mod copy;
mod events;
mod inode;
mod journal;
mod look;
mod lower;
mod names;
mod rename;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

pub use crate::delta::{Change, ChangeKind, FileKind, Time};
use crate::delta::{Child, Delta, DeltaError, Node, Op, Writer};
pub use attributes::{SetAttr, SetTime};
pub use events::Event;
use inode::{Inode, Inodes};
pub use journal::{EventKind, Journal, NOTES};
pub use look::{DirEntry, Space};
pub use lower::Attached;
use lower::{Layers, LowerNode};
pub use rename::RenameMode;

/// Why an overlay cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A layer cannot stand at this path.
    #[error("a layer cannot be attached at `{}`", at.display())]
    Attach {
        /// The path: it must be relative and without `..`.
        at: PathBuf,
    },
    /// The delta cannot be opened.
    #[error("cannot open the delta of a workspace")]
    Delta(#[from] DeltaError),
}

/// What an overlay is made of.
pub struct Options {
    /// The layers, the lowest first. Directories merge.
    pub layers: Vec<Attached>,
    /// The directory of the delta, made if it is missing.
    pub delta: PathBuf,
    /// Who owns what comes from the layers.
    pub uid: u32,
    /// And its group.
    pub gid: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permission bits that what it makes does not get, unless the directory has a default
    /// access control list.
    pub umask: u16,
}

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u16,
    /// Names that lead to it. Of directories that stem from a layer always 1, which means that
    /// nobody has counted their subdirectories.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The number of a device.
    pub rdev: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
}

/// Layers and a delta as one tree. Called from several threads at once.
pub struct Overlay {
    layers: Layers,
    root: Arc<LowerNode>,
    delta: Delta,
    inodes: Inodes,
    /// Numbers below this one were given out by a process that was killed: how often they were
    /// looked up is not known. 0 if there was none.
    known_before: u64,
    walk: again::Walk,
    /// Files made without a name that have none yet, and may be given one.
    nameless: Mutex<HashSet<u64>>,
    /// Whether what the overlay stands on survives a loss of power, too.
    settled: AtomicBool,
    journal: Arc<Journal>,
    uid: u32,
    gid: u32,
}

/// What stands at a name.
struct At {
    target: Option<Target>,
    /// Whether the layers have something there.
    over: bool,
}

/// Something that can be looked up.
#[derive(Clone)]
enum Target {
    /// A node of the delta.
    Known(u64),
    /// Something of the layers that the delta does not know.
    Lower(Arc<LowerNode>),
}

impl Target {
    fn ino(&self) -> u64 {
        match self {
            Target::Known(ino) => *ino,
            Target::Lower(lower) => lower.ino,
        }
    }
}

impl Overlay {
    /// Opens the overlay. Nothing of the layers is read.
    pub fn open(options: Options) -> Result<Overlay, OverlayError> {
        let delta = Delta::open(&options.delta)?;
        Overlay::new(options, delta, 0)
    }

    /// Opens the overlay for those who use it already, through a process that was killed. What
    /// they know by its number is found again; what has no name any more is still there.
    pub fn take_over(options: Options) -> Result<Overlay, OverlayError> {
        let delta = Delta::take_over(&options.delta)?;
        let known_before = delta.read().next;
        Overlay::new(options, delta, known_before)
    }

    fn new(options: Options, delta: Delta, known_before: u64) -> Result<Overlay, OverlayError> {
        let Options { layers, uid, gid, .. } = options;
        let layers = Layers::new(layers).map_err(|at| OverlayError::Attach { at })?;
        let root = layers.root();
        let inodes = Inodes::new(Inode::of_lower(Arc::clone(&root)));
        Ok(Overlay {
            layers,
            root,
            delta,
            inodes,
            known_before,
            walk: Default::default(),
            nameless: Mutex::default(),
            settled: AtomicBool::new(false),
            journal: Arc::new(Journal::new()),
            uid,
            gid,
        })
    }

    /// Has `complain` told, from now on, where a layer failed and what it said: callers get only a
    /// number. It is called while somebody waits. Whoever is first is told.
    pub fn complain_to(&self, complain: impl Fn(&Path, &io::Error) + Send + Sync + 'static) {
        let _ = self.layers.complain.set(Box::new(complain));
    }

    /// What differs from the layers, sorted by path.
    pub fn changes(&self) -> Vec<Change> {
        self.delta.current_changes()
    }

    /// Makes all changes of names and attributes so far survive a loss of power.
    pub fn sync(&self) -> Result<(), Errno> {
        self.delta.sync().map_err(crate::delta::errno)
    }

    /// As syncfs(2): makes everything so far survive a loss of power, content too.
    pub fn sync_all(&self) -> Result<(), Errno> {
        self.sync()?;
        nix::unistd::syncfs(self.delta.data.directory())
    }

    /// What the request `operation` made or named (or 0), if it was done although its answer may
    /// not have arrived.
    pub fn done(&self, operation: u64) -> Option<u64> {
        self.delta.read().done(operation)
    }

    /// The inode `ino`, which somebody has looked up: here, or where a process that was killed
    /// looked it up.
    fn inode(&self, ino: u64) -> Result<Arc<Inode>, Errno> {
        match self.inodes.get(ino) {
            Some(inode) => Ok(inode),
            None if self.known_before > 0 => self.find_again(ino),
            None => Err(Errno::ESTALE),
        }
    }

    /// As [`Overlay::inode`], of a directory that is still in the tree.
    fn directory(&self, ino: u64) -> Result<Arc<Inode>, Errno> {
        let inode = self.inode(ino)?;
        if inode.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(inode)
    }

    /// What stands at `name` in `dir`. While no change is going on (a [`Writer`] is held), it
    /// stays so.
    fn at(&self, dir: &Inode, name: &[u8]) -> Result<At, Errno> {
        check_name(name)?;
        match self.entry(dir, name)? {
            Some(Child::Whiteout) => Ok(At { target: None, over: true }),
            Some(Child::Node { ino, over }) => Ok(At { target: Some(Target::Known(ino)), over }),
            None => {
                let lower = match &dir.lower {
                    Some(lower) => self.layers.child(lower, name)?,
                    None => None,
                };
                Ok(At { over: lower.is_some(), target: lower.map(Target::Lower) })
            }
        }
    }

    /// The delta's entry `name` in `dir`.
    fn entry(&self, dir: &Inode, name: &[u8]) -> Result<Option<Child>, Errno> {
        let index = self.delta.read();
        match (index.named(dir.ino), index.slot(dir.ino)) {
            (Some(slot), _) => {
                let cookie = crate::delta::format::lower_ino(dir.ino, name);
                Ok(slot.children.get(cookie, name))
            }
            // It was removed, and somebody is still in it.
            (None, Some(_)) => Err(Errno::ENOENT),
            (None, None) => Ok(None),
        }
    }

    /// Puts into `ops` what makes `lower` and all above it known to the delta.
    fn track(
        &self,
        writer: &Writer<'_>,
        lower: &Arc<LowerNode>,
        ops: &mut Vec<Op>,
    ) -> Result<(), Errno> {
        let mut missing = Vec::new();
        let mut node = Some(lower);
        let index = writer.read();
        while let Some(unknown) = node.filter(|node| index.slot(node.ino).is_none()) {
            missing.push(unknown);
            node = unknown.place.as_ref().map(|(parent, _)| parent);
        }
        for lower in missing.into_iter().rev() {
            let ino = lower.ino;
            ops.push(Op::Node { ino, node: Box::new(self.node_of(lower)?) });
            if let Some((parent, name)) = &lower.place {
                let (parent, name) = (parent.ino, name.clone());
                ops.push(Op::Entry { parent, name, ino, over: true, time: None });
            }
        }
        Ok(())
    }

    /// As [`Overlay::track`], for something in use. What has no place in the layers is known.
    fn track_inode(
        &self,
        writer: &Writer<'_>,
        inode: &Inode,
        ops: &mut Vec<Op>,
    ) -> Result<(), Errno> {
        match &inode.lower {
            Some(lower) if writer.read().slot(inode.ino).is_none() => {
                self.track(writer, lower, ops)
            }
            _ => Ok(()),
        }
    }

    /// The node that the delta has for something of the layers before any change.
    fn node_of(&self, lower: &LowerNode) -> Result<Node, Errno> {
        let time = lower.time();
        Ok(Node {
            kind: lower.kind(),
            mode: lower.mode,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            own: false,
            changed: false,
            origin: Some(lower.path()?),
            target: None,
            xattrs: Default::default(),
        })
    }

    /// Changes attributes of `inode`, which everybody sees.
    fn update(&self, inode: &Inode, change: impl FnOnce(&mut Node)) -> Result<(), Errno> {
        let done = self.change_node(inode, change);
        self.note_attributes(inode);
        done
    }

    /// Changes the node of `inode`, and makes it known to the delta for that.
    fn change_node(&self, inode: &Inode, change: impl FnOnce(&mut Node)) -> Result<(), Errno> {
        let mut writer = self.delta.begin();
        let Some(mut node) = writer.read().slot(inode.ino).map(|slot| slot.node.clone()) else {
            let lower = inode.lower.as_ref().ok_or(Errno::ESTALE)?;
            let mut ops = Vec::new();
            self.track(&writer, lower, &mut ops)?;
            let mut node = self.node_of(lower)?;
            change(&mut node);
            ops.push(Op::Node { ino: inode.ino, node: Box::new(node) });
            return writer.commit(ops).map(drop);
        };
        change(&mut node);
        writer.commit(vec![Op::Node { ino: inode.ino, node: Box::new(node) }]).map(drop)
    }
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.len() > crate::delta::format::MAX_NAME {
        Err(Errno::ENAMETOOLONG)
    } else if crate::delta::format::valid_name(name) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
