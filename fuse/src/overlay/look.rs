//! Looking: lookup, getattr, readdir, readlink, statfs, and forgetting what was seen.

use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;

use super::inode::Inode;
use super::journal::Noted;
use super::lower::{Listing, LowerNode};
use super::{Attr, Child, Overlay, Target};
use crate::delta::format::CREATED;
use crate::delta::{FileKind, ROOT, Slot, Time};

/// How many entries a listing takes at first, and at most, at a time: whoever has little room shall
/// not pay for what does not fit.
const FIRST_BATCH: usize = 32;
const BATCH: usize = 1024;
/// The position of `.` in a listing, then of `..`, then of everything else.
const AFTER_DOT: u64 = 1;
const AFTER_DOT_DOT: u64 = 2;

/// One line of a listing.
#[derive(Debug)]
pub struct DirEntry<'a> {
    /// The inode number.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// The name.
    pub name: &'a [u8],
    /// Where to go on after this one. It stays valid while other names come and go.
    pub next: u64,
    /// The attributes, if they were asked for. Taking the entry counts as a lookup then,
    /// except of `.` and `..`.
    pub attr: Option<Attr>,
}

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// Size of a block in bytes.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Those that are free.
    pub free: u64,
    /// Those that an ordinary user may take.
    pub available: u64,
    /// All inodes.
    pub files: u64,
    /// Those that are free.
    pub files_free: u64,
}

/// A name on its way into a listing.
struct Listed {
    cookie: u64,
    name: Box<[u8]>,
    target: Target,
}

impl Overlay {
    /// Looks up `name` in the directory `parent`.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attr, Errno> {
        let dir = self.directory(parent)?;
        loop {
            let target = self.at(&dir, name)?.target.ok_or(Errno::ENOENT)?;
            if let Some(inode) = self.take(&dir, name, target)? {
                return self.attr(&inode);
            }
        }
    }

    /// Counts a lookup of what was found at `name` in `dir`. `None` if it has gone since.
    fn take(&self, dir: &Inode, name: &[u8], target: Target) -> Result<Option<Arc<Inode>>, Errno> {
        let lower = match target {
            Target::Known(ino) => return self.take_known(ino),
            Target::Lower(lower) => lower,
        };
        let known = {
            let index = self.delta.read();
            let known = match (index.named(dir.ino), index.slot(dir.ino)) {
                (Some(slot), _) => slot.children.get(lower.ino, name),
                (None, Some(_)) => return Ok(None),
                (None, None) => None,
            };
            match known {
                None => return Ok(Some(self.inodes.insert(Inode::of_lower(lower)))),
                Some(known) => known,
            }
        };
        match known {
            Child::Node { ino, .. } => self.take_known(ino),
            Child::Whiteout => Ok(None),
        }
    }

    /// Counts a lookup of a node of the delta. `None` if it was removed since.
    pub(super) fn take_known(&self, ino: u64) -> Result<Option<Arc<Inode>>, Errno> {
        if let Some(inode) = self.inodes.look_up(ino) {
            return Ok(Some(inode));
        }
        let origin = |slot: &Slot| if slot.node.own { None } else { slot.node.origin.clone() };
        let Some(origin) = self.delta.read().named(ino).map(origin) else { return Ok(None) };
        let lower = match origin {
            Some(origin) => self.layers.resolve(&self.root, &origin)?,
            None => None,
        };
        let index = self.delta.read();
        let Some(slot) = index.named(ino) else { return Ok(None) };
        let kind = slot.node.kind;
        // The layers may be others than they were; what they have there now may not fit.
        let lower = lower.filter(|lower| lower.kind() == kind);
        let own = RwLock::new(slot.node.own);
        Ok(Some(self.inodes.insert(Inode { ino, kind, lower, own, noted: Noted::default() })))
    }

    /// Counts a lookup of `ino`, which has been made or named just now.
    pub fn found(&self, ino: u64) -> Result<Attr, Errno> {
        let inode = self.inode(ino)?;
        self.inodes.look_up(ino).ok_or(Errno::ESTALE)?;
        self.attr(&inode)
    }

    /// The attributes of `ino`.
    pub fn getattr(&self, ino: u64) -> Result<Attr, Errno> {
        self.attr(&*self.inode(ino)?)
    }

    pub(super) fn attr(&self, inode: &Inode) -> Result<Attr, Errno> {
        let lower_size = inode.lower.as_ref().map_or(0, |lower| lower.size);
        let mut attr = {
            let index = self.delta.read();
            match (index.slot(inode.ino), &inode.lower) {
                (Some(slot), _) => of_slot(inode.ino, slot, lower_size),
                (None, Some(lower)) => return Ok(self.of_lower(lower)),
                (None, None) => return Err(Errno::ESTALE),
            }
        };
        let own = *inode.own.read().unwrap_or_else(PoisonError::into_inner);
        if own {
            self.add_data(&mut attr);
        }
        Ok(attr)
    }

    /// Completes `attr` with what its data file says. One that is missing is seen as empty, so
    /// that it can be listed and removed; reading it fails.
    fn add_data(&self, attr: &mut Attr) {
        let Ok(stat) = self.delta.data.stat(attr.ino) else {
            (attr.size, attr.blocks) = (0, 0);
            return;
        };
        let time = |secs, nanos: i64| Time { secs, nanos: nanos as u32 };
        attr.size = stat.st_size as u64;
        attr.blocks = stat.st_blocks as u64;
        attr.mtime = time(stat.st_mtime, stat.st_mtime_nsec);
        attr.ctime = attr.ctime.max(time(stat.st_ctime, stat.st_ctime_nsec));
    }

    fn of_lower(&self, lower: &LowerNode) -> Attr {
        let (kind, time) = (lower.kind(), lower.time());
        let size = if kind == FileKind::Directory { 4096 } else { lower.size };
        Attr {
            ino: lower.ino,
            kind,
            mode: lower.mode,
            links: 1,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    /// Lists the directory `ino` from the position `offset` on (0: the beginning), until
    /// `add` answers that there is no more room. With `plus`, entries carry attributes.
    pub fn readdir(
        &self,
        ino: u64,
        offset: u64,
        plus: bool,
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let dir = self.directory(ino)?;
        if offset < AFTER_DOT_DOT && self.add_dots(&dir, offset, plus, add)? {
            return Ok(());
        }
        let mut cursor = offset.max(AFTER_DOT_DOT);
        let lower = match &dir.lower {
            Some(lower) => Some(self.layers.list(lower)?),
            None => None,
        };
        let mut taken = false;
        let mut most = FIRST_BATCH;
        loop {
            let (batch, more) = self.batch(&dir, cursor, lower.as_ref(), most);
            most = (most * 2).min(BATCH);
            for (at, listed) in batch.iter().enumerate() {
                // Two names with one hash stay together: going on between them would lose one.
                let twin = batch.get(at + 1).is_some_and(|next| next.cookie == listed.cookie);
                let next = if twin { cursor } else { listed.cookie };
                match self.add(&dir, listed, next, plus, add) {
                    Ok(false) => taken = true,
                    Ok(true) => return Ok(()),
                    // What was taken counts; whoever goes on from there finds the error.
                    Err(_) if taken => return Ok(()),
                    Err(errno) => return Err(errno),
                }
                cursor = next;
            }
            match more {
                Some(bound) => cursor = bound,
                None => return Ok(()),
            }
        }
    }

    fn add_dots(
        &self,
        dir: &Inode,
        offset: u64,
        plus: bool,
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<bool, Errno> {
        let attr = if plus { Some(self.attr(dir)?) } else { None };
        let parent = self.parent(dir);
        let dots = [(&b"."[..], dir.ino, AFTER_DOT), (b"..", parent, AFTER_DOT_DOT)];
        for (name, ino, next) in dots.into_iter().skip(offset as usize) {
            let attr = attr.map(|attr| Attr { ino, ..attr });
            if add(&DirEntry { ino, kind: FileKind::Directory, name, next, attr }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory in which the directory `dir` stands.
    pub(super) fn parent(&self, dir: &Inode) -> u64 {
        match self.delta.read().slot(dir.ino) {
            Some(slot) => slot.places.last().map_or(ROOT, |(parent, _)| parent),
            None => {
                let place = dir.lower.as_ref().and_then(|lower| lower.place.as_ref());
                place.map_or(ROOT, |(parent, _)| parent.ino)
            }
        }
    }

    /// About `most` names after the position `cursor`, and up to which position they are complete
    /// (if there are more).
    fn batch(
        &self,
        dir: &Inode,
        cursor: u64,
        lower: Option<&Listing>,
        most: usize,
    ) -> (Vec<Listed>, Option<u64>) {
        let lower = lower.map_or(&[][..], |listing| {
            &listing[listing.partition_point(|child| child.ino <= cursor)..]
        });
        let mut more = lower.get(most).map(|_| lower[most - 1].ino);
        let mut upper: Vec<(u64, Box<[u8]>, Child)> = Vec::new();
        let index = self.delta.read();
        match (index.named(dir.ino), index.slot(dir.ino)) {
            (Some(slot), _) => {
                for (cookie, name, child) in slot.children.from(cursor + 1) {
                    if more.is_some_and(|bound| cookie > bound) {
                        break;
                    }
                    if upper.len() >= most && upper.last().is_some_and(|last| last.0 != cookie) {
                        more = upper.last().map(|last| last.0);
                        break;
                    }
                    upper.push((cookie, name.into(), child));
                }
            }
            // Removed, and somebody is still in it: it is empty.
            (None, Some(_)) => return (Vec::new(), None),
            (None, None) => {}
        }
        let end = more.unwrap_or(u64::MAX);
        (merge(upper, &lower[..lower.partition_point(|child| child.ino <= end)]), more)
    }

    fn add(
        &self,
        dir: &Inode,
        listed: &Listed,
        next: u64,
        plus: bool,
        add: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<bool, Errno> {
        let (ino, name) = (listed.target.ino(), &listed.name[..]);
        if !plus {
            let kind = match &listed.target {
                Target::Lower(lower) => lower.kind(),
                Target::Known(ino) => match self.delta.read().named(*ino) {
                    Some(slot) => slot.node.kind,
                    None => return Ok(false),
                },
            };
            return Ok(add(&DirEntry { ino, kind, name, next, attr: None }));
        }
        // What has just gone is not listed.
        let Some(inode) = self.take(dir, name, listed.target.clone())? else { return Ok(false) };
        let attr = self.attr(&inode)?;
        let full = add(&DirEntry { ino, kind: inode.kind, name, next, attr: Some(attr) });
        if full {
            drop(inode);
            self.forget(ino, 1);
        }
        Ok(full)
    }

    /// Whether the directory has no entries.
    pub(super) fn is_empty(&self, dir: &Target) -> Result<bool, Errno> {
        let (ino, lower) = match dir {
            Target::Lower(lower) => (lower.ino, Some(Arc::clone(lower))),
            Target::Known(ino) => {
                let Some(inode) = self.take_known(*ino)? else { return Err(Errno::ENOENT) };
                let lower = inode.lower.clone();
                drop(inode);
                self.forget(*ino, 1);
                (*ino, lower)
            }
        };
        if self.delta.read().slot(ino).is_some_and(|slot| slot.children.any_node()) {
            return Ok(false);
        }
        let Some(lower) = lower else { return Ok(true) };
        let listing = self.layers.list(&lower)?;
        let index = self.delta.read();
        let Some(slot) = index.slot(ino) else { return Ok(listing.is_empty()) };
        Ok(listing.iter().all(|child| slot.children.get(child.ino, child.name()).is_some()))
    }

    /// The target of the symbolic link `ino`.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(ino)?;
        if inode.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        let target = self.delta.read().slot(ino).and_then(|slot| slot.node.target.clone());
        match (target, &inode.lower) {
            (Some(target), _) => Ok(target.into()),
            (None, Some(lower)) => self.layers.target(lower),
            (None, None) => Err(Errno::EIO),
        }
    }

    /// How much room there is where the delta is.
    pub fn statfs(&self) -> Result<Space, Errno> {
        let stat = nix::sys::statvfs::fstatvfs(self.delta.data.directory())?;
        Ok(Space {
            block_size: stat.fragment_size(),
            blocks: stat.blocks(),
            free: stat.blocks_free(),
            available: stat.blocks_available(),
            files: stat.files(),
            files_free: stat.files_free(),
        })
    }

    /// Takes back `count` lookups of `ino`.
    pub fn forget(&self, ino: u64, count: u64) {
        if self.inodes.forget(ino, count) && !self.was_known_before(ino) {
            self.nameless.lock().unwrap_or_else(PoisonError::into_inner).remove(&ino);
            self.delta.release_orphan(ino);
        }
    }

    /// Whether somebody may use `ino` whose lookups were counted by a process that was killed.
    pub(super) fn was_known_before(&self, ino: u64) -> bool {
        self.known_before > 0 && (ino & CREATED == 0 || ino & !CREATED < self.known_before)
    }

    /// Lets go of the nodes in `loose`, which have no name, unless they are in use.
    pub(super) fn release(&self, loose: impl IntoIterator<Item = u64>) {
        for ino in loose {
            if self.inodes.get(ino).is_none() && !self.was_known_before(ino) {
                self.delta.release_orphan(ino);
            }
        }
    }
}

fn of_slot(ino: u64, slot: &Slot, lower_size: u64) -> Attr {
    let node = &slot.node;
    let size = match node.kind {
        FileKind::Directory => 4096,
        FileKind::Symlink => node.target.as_ref().map_or(lower_size, |target| target.len() as u64),
        FileKind::File => lower_size,
        _ => 0,
    };
    let links = match (node.kind, &node.origin) {
        (FileKind::Directory, _) if slot.links == 0 && ino != ROOT => 0,
        // Counting the subdirectories of the layers would mean to list them.
        (FileKind::Directory, Some(_)) => 1,
        (FileKind::Directory, None) => 2 + slot.subdirectories,
        _ => slot.links,
    };
    Attr {
        ino,
        kind: node.kind,
        mode: node.mode,
        links,
        uid: node.uid,
        gid: node.gid,
        rdev: node.rdev,
        size,
        blocks: size.div_ceil(512),
        atime: node.atime,
        mtime: node.mtime,
        ctime: node.ctime,
    }
}

/// The delta's entries over the layers' ones, both in order.
fn merge(upper: Vec<(u64, Box<[u8]>, Child)>, lower: &[Arc<LowerNode>]) -> Vec<Listed> {
    let hidden = |child: &Arc<LowerNode>| {
        let start = upper.partition_point(|(cookie, ..)| *cookie < child.ino);
        upper[start..]
            .iter()
            .take_while(|(cookie, ..)| *cookie == child.ino)
            .any(|(_, name, _)| **name == *child.name())
    };
    let mut listed: Vec<Listed> = lower
        .iter()
        .filter(|child| !hidden(child))
        .map(|child| Listed {
            cookie: child.ino,
            name: child.name().into(),
            target: Target::Lower(Arc::clone(child)),
        })
        .collect();
    listed.extend(upper.into_iter().filter_map(|(cookie, name, child)| match child {
        Child::Node { ino, .. } => Some(Listed { cookie, name, target: Target::Known(ino) }),
        Child::Whiteout => None,
    }));
    // Two sorted runs: the sort is a merge.
    listed.sort_by_key(|listed| listed.cookie);
    listed
}
