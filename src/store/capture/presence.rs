//! Whether what was known to be in the store still is, once something was removed from it.

use std::collections::HashSet;

use super::listing::{Content, Node};
use super::walk::Walk;
use crate::store::delta;
use crate::store::error::StoreError;
use crate::store::format::content::Recipe;
use crate::store::format::{FileId, RecordId};
use crate::store::objects::Objects;

/// Makes those files of a walk that the store no longer has whole unread again.
pub fn doubt(objects: &Objects, walk: &Walk<'_>) -> Result<(), StoreError> {
    let mut ids = HashSet::new();
    for directory in &walk.directories {
        for entry in directory.entries().iter() {
            if let Node::File { content: Content::Known(id), .. } = entry.node {
                ids.insert(id);
            }
        }
    }
    ids.remove(&FileId::of(b""));
    let missing = missing(objects, ids.into_iter().collect())?;
    if missing.is_empty() {
        return Ok(());
    }
    for directory in &walk.directories {
        for entry in directory.entries().iter_mut() {
            if let Node::File { content, .. } = &mut entry.node
                && let Content::Known(id) = *content
                && missing.contains(&id)
            {
                *content = Content::Unread(Some(id));
            }
        }
    }
    Ok(())
}

/// Those of `ids` that are neither in one piece in the store nor with all of their chunks,
/// nor with all of what they are told by.
fn missing(objects: &Objects, ids: Vec<FileId>) -> Result<HashSet<FileId>, StoreError> {
    let absent = |ids: Vec<FileId>| -> Result<Vec<FileId>, StoreError> {
        let records: Vec<RecordId> = ids.iter().map(RecordId::data).collect();
        let found = objects.locate_all(&records)?;
        Ok(ids.into_iter().zip(found).filter(|(_, at)| at.is_none()).map(|(id, _)| id).collect())
    };
    let mut missing = HashSet::new();
    for id in absent(ids)? {
        let recipe = RecordId::recipe(&id);
        // Asked first, as a record that is missed when it is read makes the index doubted.
        let whole = objects.contains(&recipe)?
            && match objects.read(&recipe, Recipe::decode) {
                Ok(list) => absent(list.chunks.into_iter().map(|(_, id)| id).collect())?.is_empty(),
                // It cannot be read, so it is stored again.
                Err(_) => false,
            };
        if !whole && !delta::is_whole(objects, &id)? {
            missing.insert(id);
        }
    }
    Ok(missing)
}
