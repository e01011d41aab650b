//! Which records can be had, for who follows trees.

use std::collections::{HashMap, HashSet};

use super::packs::PackState;
use crate::store::error::StoreError;
use crate::store::format::content::Links;
use crate::store::format::{PackId, RecordId, TreeId};
use crate::store::index::Location;
use crate::store::objects::{Objects, slice};

/// What of a store's records is there and sound.
pub trait View {
    /// The lengths of those of `ids` that can be had.
    fn lengths(&self, ids: &[RecordId]) -> Result<Vec<Option<u32>>, StoreError>;
    /// Whether a record was there once, even if it cannot be had.
    fn is_known(&self, id: &RecordId) -> Result<bool, StoreError>;
    /// The bytes of a record, if it can be had. They are what was written, not verified.
    fn bytes(&self, id: &RecordId) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What of the packs cannot be used.
#[derive(Debug, Default)]
pub struct Bad {
    /// Every pack that was looked at.
    pub packs: HashMap<PackId, PackState>,
    /// Lists of chunks that do not add up to their files.
    pub records: HashSet<RecordId>,
}

impl Bad {
    /// Whether the record that is said to be there can be used.
    pub fn is_sound(&self, id: &RecordId, at: &Location) -> bool {
        // A pack that was not looked at is newer than that look.
        let in_pack = self.packs.get(&at.pack).is_none_or(|pack| pack.is_sound(id, at.frame));
        in_pack && !self.records.contains(id)
    }
}

/// Records where an index says they are, but for those that are known to be bad.
pub struct Indexed<'a> {
    /// The records and the index.
    pub objects: &'a Objects,
    /// What cannot be used.
    pub bad: &'a Bad,
}

impl Indexed<'_> {
    /// Whether the hard links of a captured root are known and cannot be read.
    pub fn has_bad_links(&self, root: &TreeId) -> Result<bool, StoreError> {
        let record = RecordId::links(root);
        let Some(at) = self.objects.index().find(&record)? else { return Ok(false) };
        let bytes = self.bad.is_sound(&record, &at).then(|| read_at(self.objects, &record, &at));
        Ok(bytes.flatten().is_none_or(|bytes| Links::decode(&bytes).is_err()))
    }
}

impl View for Indexed<'_> {
    fn lengths(&self, ids: &[RecordId]) -> Result<Vec<Option<u32>>, StoreError> {
        let found = self.objects.index().find_all(ids)?;
        let sound = |(id, at): (&RecordId, Option<Location>)| {
            at.filter(|at| self.bad.is_sound(id, at)).map(|at| at.length)
        };
        Ok(ids.iter().zip(found).map(sound).collect())
    }

    fn is_known(&self, id: &RecordId) -> Result<bool, StoreError> {
        Ok(self.objects.index().find(id)?.is_some())
    }

    fn bytes(&self, id: &RecordId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(at) = self.objects.index().find(id)? else { return Ok(None) };
        if !self.bad.is_sound(id, &at) {
            return Ok(None);
        }
        Ok(read_at(self.objects, id, &at))
    }
}

/// The bytes at a place, if they can be read.
pub fn read_at(objects: &Objects, id: &RecordId, at: &Location) -> Option<Vec<u8>> {
    let frame = objects.cached_frame(at).ok()?;
    slice(&frame, at, id).ok().map(<[u8]>::to_vec)
}
