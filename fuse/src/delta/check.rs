//! What must be so after every transaction, whatever is in the log: a directory has one place,
//! knows it, and is not inside itself. Whoever walks up or down then comes to an end.

use super::format::{FileKind, ROOT};
use super::index::{ApplyError, Child, Index};

/// Looks at those nodes that a transaction has entered somewhere.
pub(super) fn places(index: &Index, entered: &[u64], nodes: usize) -> Result<(), ApplyError> {
    for ino in entered {
        let Some(slot) = index.named(*ino) else { continue };
        if slot.node.kind != FileKind::Directory {
            continue;
        }
        let (true, 1, Some((parent, cookie))) = (*ino != ROOT, slot.links, slot.places.last())
        else {
            return Err(ApplyError::Place);
        };
        let dir = index.named(parent).ok_or(ApplyError::Place)?;
        let leads_there = |(_, _, child): (u64, &[u8], Child)| matches!(child, Child::Node { ino: there, .. } if there == *ino);
        let mut here = dir.children.from(cookie).take_while(|(at, ..)| *at == cookie);
        if !here.any(leads_there) {
            return Err(ApplyError::Place);
        }
        let mut at = parent;
        for step in 0.. {
            if at == ROOT {
                break;
            }
            let above = index.named(at).and_then(|slot| slot.places.last());
            let (false, Some((above, _))) = (step > nodes, above) else {
                return Err(ApplyError::Place);
            };
            at = above;
        }
    }
    Ok(())
}
