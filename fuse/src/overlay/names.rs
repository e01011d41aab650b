//! Names: create, mkdir, symlink, mknod, link, unlink, rmdir.

use std::sync::{PoisonError, RwLock};

use nix::errno::Errno;

use super::inode::Inode;
use super::{At, Attr, Caller, Overlay, Target};
use crate::delta::format::{CREATED, MAX_TARGET};
use crate::delta::{FileKind, Node, Op, ROOT, Time, Writer, blank};

/// Set-group-id: what is made in such a directory belongs to the directory's group.
const SET_GROUP_ID: u16 = 0o2000;
/// The most names a file can have, as on ext4.
const MAX_LINKS: u32 = 65_000;

impl Overlay {
    /// Makes an empty regular file. Counts as a lookup of it, like all that make something.
    pub fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u16,
    ) -> Result<Attr, Errno> {
        self.make(caller, parent, name, |now| {
            let mut node = blank(FileKind::File, mode, caller.uid, caller.gid, now);
            node.own = true;
            node
        })
    }

    /// Makes an empty regular file without a name, in the file system of the directory `parent`,
    /// as open(2) does with O_TMPFILE. Counts as a lookup of it. [`Overlay::link`] can name it.
    pub fn tmpfile(&self, caller: Caller, parent: u64, mode: u16) -> Result<Attr, Errno> {
        let dir = self.directory(parent)?;
        let mut writer = self.delta.begin();
        let now = writer.now()?;
        let mut node = blank(FileKind::File, mode, caller.uid, caller.gid, now);
        node.own = true;
        let (mode, gid) = self.mode_and_group(&dir)?;
        if mode & SET_GROUP_ID != 0 {
            node.gid = gid;
        }
        self.inherit(&dir, &mut node, caller.umask);
        let ino = writer.read().next | CREATED;
        self.delta.data.create_next(ino)?;
        if let Err(errno) = writer.commit(vec![Op::Node { ino, node: Box::new(node) }]) {
            self.delta.data.remove(ino);
            return Err(errno);
        }
        drop(writer);
        self.nameless.lock().unwrap_or_else(PoisonError::into_inner).insert(ino);
        let (own, noted) = (RwLock::new(true), Default::default());
        self.inodes.adopt(Inode { ino, kind: FileKind::File, lower: None, own, noted });
        self.found(ino)
    }

    /// Makes a directory.
    pub fn mkdir(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u16,
    ) -> Result<Attr, Errno> {
        self.make(caller, parent, name, |now| {
            blank(FileKind::Directory, mode, caller.uid, caller.gid, now)
        })
    }

    /// Makes a symbolic link to `target`.
    pub fn symlink(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr, Errno> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() > MAX_TARGET {
            return Err(Errno::ENAMETOOLONG);
        }
        self.make(caller, parent, name, |now| {
            let mut node = blank(FileKind::Symlink, 0o777, caller.uid, caller.gid, now);
            node.target = Some(target.into());
            node
        })
    }

    /// Makes a pipe, a socket or a device (which no mount of ours lets anybody open).
    pub fn mknod(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        kind: FileKind,
        mode: u16,
        rdev: u32,
    ) -> Result<Attr, Errno> {
        match kind {
            FileKind::File => return self.create(caller, parent, name, mode),
            FileKind::Directory | FileKind::Symlink => return Err(Errno::EINVAL),
            _ => {}
        }
        self.make(caller, parent, name, |now| Node {
            rdev,
            ..blank(kind, mode, caller.uid, caller.gid, now)
        })
    }

    fn make(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        node: impl FnOnce(Time) -> Node,
    ) -> Result<Attr, Errno> {
        let dir = self.directory(parent)?;
        let mut writer = self.delta.begin();
        let At { target: None, over } = self.at(&dir, name)? else { return Err(Errno::EEXIST) };
        let mut ops = Vec::new();
        self.track_inode(&writer, &dir, &mut ops)?;
        let now = writer.now()?;
        let mut node = node(now);
        self.inherit(&dir, &mut node, caller.umask);
        let (mode, gid) = self.mode_and_group(&dir)?;
        if mode & SET_GROUP_ID != 0 {
            node.gid = gid;
            if node.kind == FileKind::Directory {
                node.mode |= SET_GROUP_ID;
            }
        }
        let ino = writer.read().next | CREATED;
        let own = node.own;
        if own {
            self.delta.data.create_next(ino)?;
        }
        ops.push(Op::Node { ino, node: Box::new(node) });
        ops.push(Op::Entry { parent, name: name.into(), ino, over, time: Some(now) });
        if let Err(errno) = writer.commit(ops) {
            if own {
                self.delta.data.remove(ino);
            }
            return Err(errno);
        }
        let inode = self.take_known(ino)?.ok_or(Errno::EIO)?;
        self.note_created(parent, name, &inode);
        drop(writer);
        self.attr(&inode)
    }

    fn mode_and_group(&self, dir: &Inode) -> Result<(u16, u32), Errno> {
        match (self.delta.read().slot(dir.ino), &dir.lower) {
            (Some(slot), _) => Ok((slot.node.mode, slot.node.gid)),
            (None, Some(lower)) => Ok((lower.mode, self.gid)),
            (None, None) => Err(Errno::ESTALE),
        }
    }

    /// Gives `ino` one more name.
    pub fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Attr, Errno> {
        let inode = self.inode(ino)?;
        let dir = self.directory(parent)?;
        let mut writer = self.delta.begin();
        let At { target: None, over } = self.at(&dir, name)? else { return Err(Errno::EEXIST) };
        if inode.kind == FileKind::Directory {
            return Err(Errno::EPERM);
        }
        let links = {
            let index = writer.read();
            match index.slot(ino) {
                Some(slot) if index.named(ino).is_some() => slot.links,
                Some(_) if self.was_made_nameless(ino) => 0,
                Some(_) => return Err(Errno::ENOENT),
                None => 1,
            }
        };
        if links >= MAX_LINKS {
            return Err(Errno::EMLINK);
        }
        let mut ops = Vec::new();
        self.track_inode(&writer, &dir, &mut ops)?;
        self.track_inode(&writer, &inode, &mut ops)?;
        if links == 0 {
            let node = writer.read().slot(ino).map(|slot| slot.node.clone());
            ops.push(Op::Node { ino, node: Box::new(node.ok_or(Errno::ENOENT)?) });
        }
        let time = Some(writer.now()?);
        ops.push(Op::Entry { parent, name: name.into(), ino, over, time });
        writer.commit(ops)?;
        self.note_moved(parent, name, false, false);
        self.note_attributes(&inode);
        self.inodes.look_up(ino).ok_or(Errno::ESTALE)?;
        drop(writer);
        self.attr(&inode)
    }

    /// Whether the nameless `ino` never had a name. After a process was killed nobody knows, and
    /// the kernel's word is taken, which lets nobody name what was removed (I_LINKABLE).
    fn was_made_nameless(&self, ino: u64) -> bool {
        let nameless = self.nameless.lock().unwrap_or_else(PoisonError::into_inner);
        nameless.contains(&ino) || self.was_known_before(ino)
    }

    /// Removes the name of something that is not a directory.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, |kind, _| {
            if kind == FileKind::Directory { Err(Errno::EISDIR) } else { Ok(()) }
        })
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, |kind, target| {
            if kind != FileKind::Directory {
                Err(Errno::ENOTDIR)
            } else if self.is_empty(target)? {
                Ok(())
            } else {
                Err(Errno::ENOTEMPTY)
            }
        })
    }

    fn remove(
        &self,
        parent: u64,
        name: &[u8],
        may: impl FnOnce(FileKind, &Target) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let dir = self.directory(parent)?;
        let writer = self.delta.begin();
        let At { target, over } = self.at(&dir, name)?;
        let target = target.ok_or(Errno::ENOENT)?;
        let kind = self.kind_of(&target)?;
        may(kind, &target)?;
        let mut ops = Vec::new();
        self.track_inode(&writer, &dir, &mut ops)?;
        let now = writer.now()?;
        let time = Some(now);
        ops.push(if over {
            Op::Whiteout { parent, name: name.into(), time }
        } else {
            Op::Remove { parent, name: name.into(), time }
        });
        self.commit_and_release(writer, ops, Some(&target), now)?;
        self.note_removed(parent, name, kind == FileKind::Directory);
        self.note_others(&target);
        Ok(())
    }

    /// Commits `ops`, after which `gone` has no name, and lets go of what nobody uses.
    pub(super) fn commit_and_release(
        &self,
        mut writer: Writer<'_>,
        ops: Vec<Op>,
        gone: Option<&Target>,
        now: Time,
    ) -> Result<(), Errno> {
        let untracked = match gone {
            Some(Target::Lower(lower)) => Some((lower.ino, self.node_of(lower)?)),
            _ => None,
        };
        let mut loose = writer.commit(ops)?;
        if let Some((ino, node)) = untracked {
            self.delta.add_orphan(ino, Node { ctime: now, ..node });
            loose.push(ino);
        }
        drop(writer);
        self.release(loose);
        Ok(())
    }

    pub(super) fn kind_of(&self, target: &Target) -> Result<FileKind, Errno> {
        match target {
            Target::Lower(lower) => Ok(lower.kind()),
            Target::Known(ino) => {
                self.delta.read().slot(*ino).map(|slot| slot.node.kind).ok_or(Errno::ENOENT)
            }
        }
    }

    /// Whether the directory `dir` is `ino` or stands somewhere below it.
    pub(super) fn is_below(&self, dir: &Inode, ino: u64) -> bool {
        let index = self.delta.read();
        let mut at = dir.ino;
        let mut lower = dir.lower.as_ref();
        loop {
            if at == ino {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = match (index.slot(at), lower.and_then(|lower| lower.place.as_ref())) {
                (Some(slot), _) => match slot.places.last() {
                    Some((parent, _)) => parent,
                    None => return false,
                },
                (None, Some((parent, _))) => {
                    lower = Some(parent);
                    parent.ino
                }
                (None, None) => return false,
            };
        }
    }
}
