//! Finding an inode again by its number alone.
//!
//! Whoever takes over from a process that was killed is asked about numbers that it never gave
//! out. Those of the delta are in its log. Those of the layers are hashes of places, so the layers
//! are walked, breadth first, until the number turns up; the walk goes on where it stopped when
//! the next one is asked for. It remembers numbers only: sixteen bytes a file.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use nix::errno::Errno;

use super::Overlay;
use super::inode::Inode;
use super::lower::{Layers, LowerNode};
use crate::delta::{FileKind, ROOT, Slot};

/// How far the walk has come.
#[derive(Default)]
pub(super) struct Walk(Mutex<Option<State>>);

struct State {
    /// The number of what stands in a directory → that of the directory.
    parents: HashMap<u64, u64>,
    /// Directories not listed yet.
    todo: VecDeque<Arc<LowerNode>>,
}

impl Walk {
    /// The directories above `ino`, the nearest first, and it itself before them; `None` if the
    /// layers have no such number.
    fn find(
        &self,
        layers: &Layers,
        root: &Arc<LowerNode>,
        ino: u64,
    ) -> Result<Option<Vec<u64>>, Errno> {
        // One walks, the others wait for what it finds.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.get_or_insert_with(|| State {
            parents: HashMap::new(),
            todo: VecDeque::from([Arc::clone(root)]),
        });
        while !state.parents.contains_key(&ino) {
            let Some(dir) = state.todo.pop_front() else { return Ok(None) };
            // What cannot be listed, nobody has looked up either.
            let Ok(listing) = layers.list_anew(&dir) else { continue };
            for child in listing.iter() {
                state.parents.insert(child.ino, dir.ino);
                if child.kind() == FileKind::Directory {
                    state.todo.push_back(Arc::clone(child));
                }
            }
        }
        let mut way = vec![ino];
        let mut at = ino;
        while let Some(parent) = state.parents.get(&at).filter(|parent| **parent != ROOT) {
            way.push(*parent);
            at = *parent;
        }
        Ok(Some(way))
    }

    /// Forgets everything: nobody has asked for a while.
    pub(super) fn rest(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Overlay {
    /// The inode `ino`, which is not in use here.
    pub(super) fn find_again(&self, ino: u64) -> Result<Arc<Inode>, Errno> {
        let origin = |slot: &Slot| {
            let origin = if slot.node.own { None } else { slot.node.origin.clone() };
            (slot.node.kind, slot.node.own, origin)
        };
        let known = self.delta.read().slot(ino).map(origin);
        let (kind, own, lower) = match known {
            Some((kind, own, origin)) => {
                let lower = match origin {
                    Some(origin) => self.layers.resolve(&self.root, &origin)?,
                    None => None,
                };
                (kind, own, lower.filter(|lower| lower.kind() == kind))
            }
            None => {
                let lower = self.find_in_layers(ino)?;
                (lower.kind(), false, Some(lower))
            }
        };
        Ok(self.inodes.adopt(Inode {
            ino,
            kind,
            lower,
            own: RwLock::new(own),
            noted: Default::default(),
        }))
    }

    fn find_in_layers(&self, ino: u64) -> Result<Arc<LowerNode>, Errno> {
        let way = self.walk.find(&self.layers, &self.root, ino)?.ok_or(Errno::ESTALE)?;
        let mut node = Arc::clone(&self.root);
        for ino in way.into_iter().rev() {
            let listing = self.layers.list(&node)?;
            let at = listing.partition_point(|child| child.ino < ino);
            let found = listing.get(at).filter(|child| child.ino == ino);
            node = Arc::clone(found.ok_or(Errno::ESTALE)?);
        }
        Ok(node)
    }

    /// Nobody has asked for anything for a while: lets go of what can be found again.
    pub fn rest(&self) {
        self.walk.rest();
    }
}
