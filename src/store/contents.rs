//! File contents, read whole or piece by piece. Many at once are for `extract.rs`.

use super::error::StoreError;
use super::format::content::Recipe;
use super::format::{FileId, FormatError, RecordId};
use super::objects::Objects;

/// Reads a content.
pub fn read(objects: &Objects, id: &FileId) -> Result<Vec<u8>, StoreError> {
    if *id == FileId::of(b"") {
        return Ok(Vec::new());
    }
    let whole = RecordId::data(id);
    if objects.contains(&whole)? {
        return objects.read(&whole, |bytes| verified(id, bytes).map(<[u8]>::to_vec));
    }
    let mut content = Vec::new();
    stream(objects, id, |bytes| {
        content.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(content)
}

/// The length of a content, if the store has it.
pub fn size(objects: &Objects, id: &FileId) -> Result<Option<u64>, StoreError> {
    if *id == FileId::of(b"") {
        return Ok(Some(0));
    }
    if let Some(location) = objects.locate(&RecordId::data(id))? {
        return Ok(Some(location.length.into()));
    }
    match objects.read(&RecordId::recipe(id), Recipe::decode) {
        Ok(recipe) => Ok(Some(recipe.size())),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The content `bytes`, if they are it.
pub fn verified<'b>(id: &FileId, bytes: &'b [u8]) -> Result<&'b [u8], FormatError> {
    match FileId::of(bytes) == *id {
        true => Ok(bytes),
        false => Err(FormatError::Hash { what: "a content" }),
    }
}

/// Gives the pieces of a content that is not one record to `put`, in order, and verifies
/// each and, at the end, the whole. Gives the content's length.
pub fn stream(
    objects: &Objects,
    id: &FileId,
    mut put: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let record = RecordId::recipe(id);
    let recipe = objects.read(&record, Recipe::decode).map_err(|e| match e {
        // Neither whole nor in chunks: what is missing is the content.
        StoreError::Missing { record: missing } if missing == record => {
            StoreError::Missing { record: RecordId::data(id) }
        }
        e => e,
    })?;
    let mut hasher = blake3::Hasher::new();
    for (length, chunk) in &recipe.chunks {
        let bytes = objects
            .read(&RecordId::data(chunk), |bytes| verified(chunk, bytes).map(<[u8]>::to_vec))?;
        if bytes.len() != *length as usize {
            return Err(StoreError::DamagedFile { id: *id });
        }
        hasher.update(&bytes);
        put(&bytes)?;
    }
    match hasher.finalize().as_bytes() == id.as_bytes() {
        true => Ok(recipe.size()),
        false => Err(StoreError::DamagedFile { id: *id }),
    }
}
