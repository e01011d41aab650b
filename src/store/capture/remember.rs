//! What a tree that has just been restored looks like, so that its first snapshot need not
//! read it.

use std::path::Path;
use std::sync::Arc;

use super::listing::{Content, Node};
use super::walk::Walk;
use super::{Capture, save};
use crate::event::{Events, Silent};
use crate::store::error::StoreError;
use crate::store::format::TreeId;
use crate::store::format::tree::Kind;
use crate::store::known;
use crate::store::objects::Objects;
use crate::store::tree::TreeCache;

/// Remembers that `made`, which will be `dir`, a canonical path, holds the tree `id`. Nobody
/// else may have written to it yet: what stands there is taken for what was to be made. The
/// caller holds the store. Says whether all of it was as the tree has it, and was remembered:
/// it is a cache, and where it is not made the next snapshot reads more.
pub fn remember(
    objects: &Objects,
    trees: &TreeCache,
    made: &Path,
    dir: &Path,
    id: &TreeId,
) -> bool {
    matches!(try_to(objects, trees, made, dir, id), Ok(true))
}

fn try_to(
    objects: &Objects,
    trees: &TreeCache,
    made: &Path,
    dir: &Path,
    id: &TreeId,
) -> Result<bool, StoreError> {
    let events: Arc<dyn Events> = Arc::new(Silent);
    let generation = objects.generation()?;
    let capture =
        Capture { objects, events: &events, dir: made, owner: None, generation, dry: true };
    let (root, clock) = capture.open()?;
    let Ok(walk) = Walk::new(std::os::fd::AsFd::as_fd(&root), made, clock, None) else {
        return Ok(false);
    };
    let now = known::now(clock.scratch).map_err(StoreError::write(objects.root()))?;
    let mut ids = vec![*id; walk.directories.len()];
    for (number, directory) in walk.directories.iter().enumerate() {
        let tree = trees.get(objects, &ids[number])?;
        let mut entries = directory.entries();
        if entries.len() != tree.entries.len() {
            return Ok(false);
        }
        for (entry, told) in entries.iter_mut().zip(&tree.entries) {
            if *directory.name(entry) != *told.name {
                return Ok(false);
            }
            let target = directory.target(entry)
                == match &told.kind {
                    Kind::Symlink(target) => target,
                    _ => &b""[..],
                };
            match (&mut entry.node, &told.kind) {
                (Node::Directory(below), Kind::Directory(id)) => ids[*below as usize] = *id,
                (Node::Symlink { stamp, settled }, Kind::Symlink(_)) if target => {
                    *settled = clock.is_settled(stamp, directory.device, now);
                }
                (Node::File { stamp, exec, content, .. }, Kind::File { exec: x, id, size })
                    if exec == x && stamp.size == *size =>
                {
                    let settled = clock.is_settled(stamp, directory.device, now);
                    *content = Content::Read(*id, settled);
                }
                _ => return Ok(false),
            }
        }
    }
    Ok(save(objects, &walk, &ids, dir, generation).is_ok())
}
