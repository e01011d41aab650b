//! What must be so after every transaction, whatever is in the log: a directory has one place,
//! knows it, and is not inside itself. Whoever walks up or down then comes to an end.

use super::format::{FileKind, ROOT, lower_ino};
use super::index::{ApplyError, Child, Index};

/// Looks at those nodes that a transaction has entered somewhere.
pub(super) fn places(index: &Index, entered: &[u64], nodes: usize) -> Result<(), ApplyError> {
    for ino in entered {
        let Some(slot) = index.named(*ino) else { continue };
        if slot.node.kind != FileKind::Directory {
            continue;
        }
        let (true, 1, Some((parent, name))) = (*ino != ROOT, slot.links, &slot.parent) else {
            return Err(ApplyError::Place);
        };
        let dir = index.named(*parent).ok_or(ApplyError::Place)?;
        match dir.children.get(lower_ino(*parent, name), name) {
            Some(Child::Node { ino: there, .. }) if there == *ino => {}
            _ => return Err(ApplyError::Place),
        }
        let mut at = *parent;
        for step in 0.. {
            if at == ROOT {
                break;
            }
            let above = index.named(at).and_then(|slot| slot.parent.as_ref());
            let (false, Some((above, _))) = (step > nodes, above) else {
                return Err(ApplyError::Place);
            };
            at = *above;
        }
    }
    Ok(())
}
