//! Attributes: setattr and the extended ones.

use std::sync::PoisonError;

use nix::errno::Errno;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::acl::{self, Acl};
use super::inode::Inode;
use super::{Attr, Caller, Overlay};
use crate::delta::format::{MAX_NAME, MAX_XATTRS};
use crate::delta::{FileKind, Node, Time};

const SET_USER_ID: u16 = 0o4000;
const SET_GROUP_ID: u16 = 0o2000;
const SET_ID: u16 = SET_USER_ID | SET_GROUP_ID;
const GROUP_EXECUTE: u16 = 0o010;
/// The names of one node's extended attributes, together: a longer list cannot be asked for
/// (XATTR_LIST_MAX), and so is not made.
const MAX_NAMES: usize = 64 << 10;
/// The longest value (XATTR_SIZE_MAX).
const MAX_VALUE: usize = 64 << 10;

/// SELinux labels mounts of this kind as a whole. `ls -l` asks for every file's own label, unless it
/// hears that there are none (coreutils, `ls.c`); ENODATA would not say so.
const LABEL: &[u8] = b"security.selinux";

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time it is.
    Now,
    /// This one.
    At(Time),
}

/// What `setattr` is to change.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length of a regular file.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of content.
    pub mtime: Option<SetTime>,
}

/// Takes the bits away that let a program run as somebody else, if it is one. A `member` of
/// the group keeps set-group-id where the group may not execute: it means nothing there.
fn kill_set_id(node: &mut Node, member: bool) {
    if node.kind != FileKind::Directory {
        node.mode &= !SET_USER_ID;
        if node.mode & GROUP_EXECUTE != 0 || !member {
            node.mode &= !SET_GROUP_ID;
        }
    }
}

/// Sets the permission bits, in the mode and in the access control list.
fn chmod(node: &mut Node, mode: u16) {
    node.mode = mode & 0o7777;
    if let Some(value) = node.xattrs.get_mut(acl::ACCESS)
        && let Ok(Some(mut list)) = Acl::parse(value)
    {
        list.chmod(mode);
        *value = list.encode();
    }
}

/// Sets the access control list `name` (or removes it), and the mode with it.
fn set_acl(node: &mut Node, name: &[u8], list: Option<&Acl>, kill_set_gid: bool) {
    let kept = match list {
        Some(list) if name == acl::ACCESS => {
            node.mode = node.mode & !0o777 | list.mode();
            if kill_set_gid {
                node.mode &= !SET_GROUP_ID;
            }
            // What the mode says is not said twice.
            Some(list).filter(|list| !list.is_mode())
        }
        list => list,
    };
    match kept {
        Some(list) => drop(node.xattrs.insert(name.into(), list.encode())),
        None => drop(node.xattrs.remove(name)),
    }
}

/// Whether something of `kind` can have the extended attribute, as on a disk (xattr(7)).
fn check_xattr(kind: FileKind, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Errno::ERANGE);
    }
    if value.len() > MAX_VALUE {
        return Err(Errno::E2BIG);
    }
    let (space, rest) = name.split_at(name.iter().position(|byte| *byte == b'.').unwrap_or(0));
    match (space, rest) {
        _ if name == LABEL => Err(Errno::EOPNOTSUPP),
        (b"user" | b"trusted" | b"security", b".") => Err(Errno::EINVAL),
        (b"user", _) if !matches!(kind, FileKind::File | FileKind::Directory) => Err(Errno::EPERM),
        (b"user" | b"trusted" | b"security", _) => Ok(()),
        (b"system", _)
            if kind != FileKind::Symlink && matches!(name, acl::ACCESS | acl::DEFAULT) =>
        {
            Ok(())
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

impl Overlay {
    /// Changes attributes of `ino`.
    pub fn setattr(&self, caller: Caller, ino: u64, set: &SetAttr) -> Result<Attr, Errno> {
        let inode = self.inode(ino)?;
        if let Some(size) = set.size {
            self.truncate(&inode, size)?;
            if caller.uid != 0 {
                self.kill_set_id(&inode, caller)?;
            }
        }
        let SetAttr { mode, uid, gid, atime, mtime, .. } = *set;
        if mode.is_some() || uid.is_some() || gid.is_some() || atime.is_some() || mtime.is_some() {
            self.set_node(&inode, set)?;
        }
        self.attr(&inode)
    }

    fn set_node(&self, inode: &Inode, set: &SetAttr) -> Result<(), Errno> {
        let own = inode.own.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.delta.begin().now()?;
        let time = |set| match set {
            SetTime::Now => now,
            SetTime::At(time) => time,
        };
        if let (true, Some(mtime)) = (*own, set.mtime.map(time)) {
            let spec = TimeSpec::new(mtime.secs, i64::from(mtime.nanos));
            futimens(&*self.delta.data.file(inode.ino)?, &TimeSpec::UTIME_OMIT, &spec)?;
        }
        self.update(inode, |node| {
            if set.uid.is_some() || set.gid.is_some() {
                kill_set_id(node, true);
            }
            node.uid = set.uid.unwrap_or(node.uid);
            node.gid = set.gid.unwrap_or(node.gid);
            if let Some(mode) = set.mode {
                chmod(node, mode);
            }
            node.atime = set.atime.map_or(node.atime, time);
            node.mtime = set.mtime.map_or(node.mtime, time);
            node.ctime = now;
            node.changed = true;
        })
    }

    /// Whether `ino` has a bit that lets a program run as somebody else, which a write by an
    /// ordinary user takes away. What comes from the layers never has one.
    pub fn has_set_id(&self, ino: u64) -> bool {
        let index = self.delta.read();
        index.slot(ino).is_some_and(|slot| slot.node.mode & SET_ID != 0)
    }

    /// New content by `caller`, who may not keep set-id bits: takes those of `inode` away.
    /// Set-group-id without execution stays with a member of the group, as on Linux; only the
    /// caller's first group is known here.
    pub(super) fn kill_set_id(&self, inode: &Inode, caller: Caller) -> Result<(), Errno> {
        if inode.kind == FileKind::Directory || !self.has_set_id(inode.ino) {
            return Ok(());
        }
        let now = self.delta.begin().now()?;
        self.update(inode, |node| {
            kill_set_id(node, caller.gid == node.gid);
            node.ctime = now;
        })
    }

    /// The value of the extended attribute `name` of `ino`.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Box<[u8]>, Errno> {
        self.inode(ino)?;
        if name == LABEL {
            return Err(Errno::EOPNOTSUPP);
        }
        let index = self.delta.read();
        let value = index.slot(ino).and_then(|slot| slot.node.xattrs.get(name));
        value.cloned().ok_or(Errno::ENODATA)
    }

    /// The names of the extended attributes of `ino`, each with a NUL after it. Those of the
    /// namespace `trusted` only whoever is `privileged` sees.
    pub fn listxattr(&self, ino: u64, privileged: bool) -> Result<Vec<u8>, Errno> {
        self.inode(ino)?;
        let index = self.delta.read();
        let names = index.slot(ino).into_iter().flat_map(|slot| slot.node.xattrs.keys());
        let seen = names.filter(|name| privileged || !name.starts_with(b"trusted."));
        Ok(seen.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    /// Sets an extended attribute, with the flags of setxattr(2). With `kill_set_gid`, an access
    /// control list takes set-group-id away: whoever sets it is not of the file's group.
    pub fn setxattr(
        &self,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: i32,
        kill_set_gid: bool,
    ) -> Result<(), Errno> {
        let kind = self.inode(ino)?.kind;
        check_xattr(kind, name, value)?;
        let is_acl = name == acl::ACCESS || name == acl::DEFAULT;
        let list = if is_acl { Acl::parse(value)? } else { None };
        if list.is_some() && name == acl::DEFAULT && kind != FileKind::Directory {
            return Err(Errno::EACCES);
        }
        let there = match self.getxattr(ino, name) {
            Ok(_) => true,
            Err(Errno::ENODATA) => false,
            Err(errno) => return Err(errno),
        };
        if there && flags & libc::XATTR_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if !there && flags & libc::XATTR_REPLACE != 0 {
            return Err(Errno::ENODATA);
        }
        let (mut names, mut all) = (name.len() + 1, name.len() + value.len());
        if let Some(slot) = self.delta.read().slot(ino) {
            for (other, value) in slot.node.xattrs.iter().filter(|(other, _)| ***other != *name) {
                names += other.len() + 1;
                all += other.len() + value.len();
            }
        }
        if all > MAX_XATTRS || names > MAX_NAMES {
            return Err(Errno::ENOSPC);
        }
        self.change_xattrs(ino, |node| match list {
            _ if !is_acl => {
                node.xattrs.insert(name.into(), value.into());
            }
            list => set_acl(node, name, list.as_ref(), kill_set_gid),
        })
    }

    /// Removes an extended attribute.
    pub fn removexattr(&self, ino: u64, name: &[u8]) -> Result<(), Errno> {
        self.getxattr(ino, name)?;
        self.change_xattrs(ino, |node| {
            node.xattrs.remove(name);
        })
    }

    /// Gives `node`, which is about to be made in `dir`, the access control lists that the
    /// directory's default one asks for; if it has none, `umask` counts.
    pub(super) fn inherit(&self, dir: &Inode, node: &mut Node, umask: u16) {
        if node.kind == FileKind::Symlink {
            return;
        }
        let index = self.delta.read();
        let value = index.slot(dir.ino).and_then(|slot| slot.node.xattrs.get(acl::DEFAULT));
        // Nothing but valid lists is set. One of a log that was mended by hand is not obeyed.
        let Some(mut list) = value.and_then(|value| Acl::parse(value).ok().flatten()) else {
            node.mode &= !(umask & 0o777);
            return;
        };
        if node.kind == FileKind::Directory {
            node.xattrs.insert(acl::DEFAULT.into(), list.encode());
        }
        node.mode = list.inherit(node.mode);
        if !list.is_mode() {
            node.xattrs.insert(acl::ACCESS.into(), list.encode());
        }
    }

    fn change_xattrs(&self, ino: u64, change: impl FnOnce(&mut Node)) -> Result<(), Errno> {
        let inode = self.inode(ino)?;
        let now = self.delta.begin().now()?;
        self.update(&inode, |node| {
            change(node);
            node.ctime = now;
            node.changed = true;
        })
    }
}
