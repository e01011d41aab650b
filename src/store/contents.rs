//! File contents, read whole or piece by piece. Many at once are for `extract.rs`.

use super::delta;
use super::error::StoreError;
use super::format::content::Recipe;
use super::format::{FileId, FormatError, RecordId};
use super::index::Location;
use super::objects::Objects;

/// Reads a content.
pub fn read(objects: &Objects, id: &FileId) -> Result<Vec<u8>, StoreError> {
    if *id == FileId::of(b"") {
        return Ok(Vec::new());
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
    match objects.doubting(|| form(objects, id)) {
        Ok(Form::Whole(location)) => Ok(Some(location.length.into())),
        Ok(Form::Chunks) => Ok(Some(objects.read(&RecordId::recipe(id), Recipe::decode)?.size())),
        Ok(Form::Delta) => Ok(Some(delta::read(objects, id)?.size())),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// How a content is stored.
enum Form {
    /// In one record, which is there.
    Whole(Location),
    /// In chunks, listed by its recipe.
    Chunks,
    /// By what another content holds.
    Delta,
}

/// How the content `id`, which is not the empty one, is stored.
fn form(objects: &Objects, id: &FileId) -> Result<Form, StoreError> {
    let whole = RecordId::data(id);
    if let Some(location) = objects.locate(&whole)? {
        Ok(Form::Whole(location))
    } else if objects.contains(&RecordId::recipe(id))? {
        Ok(Form::Chunks)
    } else if objects.contains(&RecordId::delta(id))? {
        Ok(Form::Delta)
    } else {
        // What is missing is the content, whatever it was stored as.
        Err(StoreError::Missing { record: whole })
    }
}

/// The content `bytes`, if they are it.
pub fn verified<'b>(id: &FileId, bytes: &'b [u8]) -> Result<&'b [u8], FormatError> {
    match FileId::of(bytes) == *id {
        true => Ok(bytes),
        false => Err(FormatError::Hash { what: "a content" }),
    }
}

/// Gives a content to `put`, part by part, and its length. A part may have been put before
/// the whole is found to be damaged.
pub fn stream(
    objects: &Objects,
    id: &FileId,
    mut put: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    if *id == FileId::of(b"") {
        return Ok(0);
    }
    match objects.doubting(|| form(objects, id))? {
        Form::Whole(_) => {
            let content = objects
                .read(&RecordId::data(id), |bytes| verified(id, bytes).map(<[u8]>::to_vec))?;
            put(&content)?;
            Ok(content.len() as u64)
        }
        Form::Chunks => join_chunks(objects, id, put),
        Form::Delta => delta::join(objects, id, put),
    }
}

/// Gives the chunks of a content to `put`, in order, and verifies each and the whole.
fn join_chunks(
    objects: &Objects,
    id: &FileId,
    mut put: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let recipe = objects.read(&RecordId::recipe(id), Recipe::decode)?;
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
