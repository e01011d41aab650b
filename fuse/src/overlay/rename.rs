//! Rename, with its flags.

use nix::errno::Errno;

use super::inode::Inode;
use super::{Overlay, Target};
use crate::delta::{FileKind, Op, Writer};

/// What a rename may do with what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Take its place.
    Replace,
    /// Nothing: the rename fails.
    NoReplace,
    /// Put it where the other one was.
    Exchange,
}

impl Overlay {
    /// Moves `name` in `parent` to `new_name` in `new_parent`, in one step. What comes from
    /// the layers moves without being read: its record says where it stems from.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let from_dir = self.directory(parent)?;
        let to_dir = self.directory(new_parent)?;
        let mut writer = self.delta.begin();
        let from = self.at(&from_dir, name)?;
        let to = self.at(&to_dir, new_name)?;
        let source = from.target.as_ref().ok_or(Errno::ENOENT)?;
        self.check_rename(&from_dir, source, &to_dir, to.target.as_ref(), mode)?;
        if to.target.as_ref().is_some_and(|target| target.ino() == source.ino()) {
            return Ok(());
        }
        let source_dir = self.kind_of(source)? == FileKind::Directory;
        let mut ops = Vec::new();
        self.track_inode(&writer, &from_dir, &mut ops)?;
        self.track_inode(&writer, &to_dir, &mut ops)?;
        self.track_target(&writer, source, &mut ops)?;
        let now = writer.now()?;
        let time = Some(now);
        let enter = |parent, name: &[u8], target: &Target, over| Op::Entry {
            parent,
            name: name.into(),
            ino: target.ino(),
            over,
            time,
        };
        if mode == RenameMode::Exchange {
            let target = to.target.as_ref().ok_or(Errno::ENOENT)?;
            self.track_target(&writer, target, &mut ops)?;
            ops.push(enter(parent, name, target, from.over));
            ops.push(enter(new_parent, new_name, source, to.over));
            let target_dir = self.kind_of(target)? == FileKind::Directory;
            self.commit_and_release(writer, ops, None, now)?;
            let below = source_dir || target_dir;
            self.note_moved(parent, name, target_dir, below);
            self.note_moved(new_parent, new_name, source_dir, below);
            return Ok(());
        }
        ops.push(enter(new_parent, new_name, source, to.over));
        if to.target.is_some() && writer.read().named(source.ino()).is_some_and(|s| s.node.own) {
            writer.replaces(source.ino());
        }
        ops.push(if from.over {
            Op::Whiteout { parent, name: name.into(), time }
        } else {
            Op::Remove { parent, name: name.into(), time }
        });
        self.commit_and_release(writer, ops, to.target.as_ref(), now)?;
        self.note_removed(parent, name, source_dir);
        self.note_moved(new_parent, new_name, source_dir, source_dir);
        to.target.iter().chain([source]).for_each(|target| self.note_others(target));
        Ok(())
    }

    fn track_target(
        &self,
        writer: &Writer<'_>,
        target: &Target,
        ops: &mut Vec<Op>,
    ) -> Result<(), Errno> {
        match target {
            Target::Known(_) => Ok(()),
            Target::Lower(lower) => self.track(writer, lower, ops),
        }
    }

    /// Answers in the order in which Linux does, so that nobody sees another error here.
    fn check_rename(
        &self,
        from_dir: &Inode,
        source: &Target,
        to_dir: &Inode,
        target: Option<&Target>,
        mode: RenameMode,
    ) -> Result<(), Errno> {
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
            (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
            _ => {}
        }
        let is_dir = |target: &Target| Ok(self.kind_of(target)? == FileKind::Directory);
        let source_dir = is_dir(source)?;
        if source_dir && self.is_below(to_dir, source.ino()) {
            return Err(Errno::EINVAL);
        }
        let Some(target) = target.filter(|target| target.ino() != source.ino()) else {
            return Ok(());
        };
        let target_dir = is_dir(target)?;
        let above = target_dir && self.is_below(from_dir, target.ino());
        match (mode, source_dir, target_dir) {
            (RenameMode::Exchange, ..) if above => Err(Errno::EINVAL),
            (RenameMode::Exchange, ..) => Ok(()),
            _ if above => Err(Errno::ENOTEMPTY),
            (_, true, false) => Err(Errno::ENOTDIR),
            (_, false, true) => Err(Errno::EISDIR),
            (_, true, true) if !self.is_empty(target)? => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }
}
