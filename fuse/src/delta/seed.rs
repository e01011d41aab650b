//! A delta that begins with something in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::error::{DeltaError, io_error};
use super::format::{CREATED, FileKind, MAX_TARGET, Op, ROOT, lower_ino, valid_name};
use super::index::Child;
use super::node::blank;
use super::{Delta, Writer, errno};

/// Something a delta begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Where, relative to the root. Directories on the way that the delta does not know are
    /// made, with mode 0755; so they hide what layers have there.
    pub path: PathBuf,
    /// What.
    pub kind: SeedKind,
}

/// The kinds of thing a delta can begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedKind {
    /// A directory with this mode.
    Directory {
        /// Permission bits.
        mode: u16,
    },
    /// A file.
    File {
        /// Permission bits.
        mode: u16,
        /// All of it.
        content: Vec<u8>,
    },
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
}

impl Delta {
    /// Puts `entries` into the delta in the directory `path` (made if it is missing), owned by
    /// `uid` and `gid` and changed now. Nothing is synced: do it before the first mount, and
    /// again if that did not come to be. Entries that are there are replaced.
    pub fn seed(path: &Path, uid: u32, gid: u32, entries: &[Seed]) -> Result<(), DeltaError> {
        let delta = Delta::open(path)?;
        let mut writer = delta.begin();
        for seed in entries {
            let failed = |source| DeltaError::Seed { path: seed.path.clone(), source };
            writer.seed(uid, gid, seed).map_err(failed)?;
        }
        // In order, but not synced: dropping a delta that is closed costs nothing.
        let failed = |source: Errno| io_error("close", path)(source.into());
        writer.commit(vec![Op::Closed]).map_err(failed)?;
        Ok(())
    }
}

impl Writer<'_> {
    fn seed(&mut self, uid: u32, gid: u32, seed: &Seed) -> Result<(), Errno> {
        let now = self.now()?;
        let blank = |kind, mode| blank(kind, mode, uid, gid, now);
        let mut ops = Vec::new();
        let mut next = self.read().next;
        if self.read().named(ROOT).is_none() {
            let mut root = blank(FileKind::Directory, 0o755);
            root.origin = Some(Box::default());
            ops.push(Op::Node { ino: ROOT, node: Box::new(root) });
        }
        let names = components(&seed.path)?;
        let (last, parents) = names.split_last().ok_or(Errno::EINVAL)?;
        let mut parent = ROOT;
        let mut made = |ops: &mut Vec<Op>, parent, name: &OsStr, node| {
            let ino = next | CREATED;
            next += 1;
            ops.push(Op::Node { ino, node: Box::new(node) });
            let name = name.as_bytes().into();
            ops.push(Op::Entry { parent, name, ino, over: false, time: Some(now) });
            ino
        };
        for name in parents {
            parent = match self.child(parent, name) {
                Some((ino, FileKind::Directory)) => ino,
                Some(_) => return Err(Errno::ENOTDIR),
                None => made(&mut ops, parent, name, blank(FileKind::Directory, 0o755)),
            };
        }
        if matches!(
            (&seed.kind, self.child(parent, last)),
            (SeedKind::Directory { .. }, Some((_, FileKind::Directory)))
        ) {
            return Ok(());
        }
        let ino = match &seed.kind {
            SeedKind::Directory { mode } => {
                made(&mut ops, parent, last, blank(FileKind::Directory, *mode))
            }
            SeedKind::Symlink(target) if target.is_empty() || target.len() > MAX_TARGET => {
                return Err(Errno::EINVAL);
            }
            SeedKind::Symlink(target) => {
                let mut node = blank(FileKind::Symlink, 0o777);
                node.target = Some(target.as_slice().into());
                made(&mut ops, parent, last, node)
            }
            SeedKind::File { mode, .. } => {
                let mut node = blank(FileKind::File, *mode);
                node.own = true;
                made(&mut ops, parent, last, node)
            }
        };
        if let SeedKind::File { content, .. } = &seed.kind {
            let file = self.delta.data.create_uncached(ino)?;
            file.write_all_at(content, 0).map_err(errno)?;
        }
        for ino in self.commit(ops)? {
            self.release_orphan(ino);
        }
        Ok(())
    }

    fn child(&self, parent: u64, name: &OsStr) -> Option<(u64, FileKind)> {
        let index = self.read();
        let cookie = lower_ino(parent, name.as_bytes());
        match index.named(parent)?.children.get(cookie, name.as_bytes())? {
            Child::Node { ino, .. } => Some((ino, index.named(ino)?.node.kind)),
            Child::Whiteout => None,
        }
    }
}

fn components(path: &Path) -> Result<Vec<&OsStr>, Errno> {
    path.components()
        .map(|component| match component {
            Component::Normal(name) if valid_name(name.as_bytes()) => Ok(name),
            _ => Err(Errno::EINVAL),
        })
        .collect()
}
