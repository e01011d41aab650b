//! Whether the index agrees with the packs that are there.
//!
//! They part ways where a process dies, or a disk fails, between giving a pack its name and
//! writing the index; where somebody puts an older index back, or takes a pack away. An index
//! that knows too little makes what is there seem lost; one that knows too much makes a
//! capture leave out what is gone. So the names are compared whenever a store is opened.

use super::{Alone, Index, Packed, Session};
use crate::store::error::StoreError;
use crate::store::format::PackId;

/// How the index and the packs differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Packs that are there and not in the index.
    pub unknown: Vec<PackId>,
    /// Packs in the index that are not there.
    pub gone: Vec<PackId>,
}

impl Index {
    /// Compares the index with the packs that are there, which are in order.
    pub fn compare(&self, there: &[PackId]) -> Result<Difference, StoreError> {
        let known = self.with(|session| session.names())?;
        let without = |from: &[PackId], others: &[PackId]| -> Vec<PackId> {
            from.iter().filter(|pack| others.binary_search(pack).is_err()).copied().collect()
        };
        Ok(Difference { unknown: without(there, &known), gone: without(&known, there) })
    }

    /// Adds packs that were found, durably.
    pub fn add_found(&self, _: &Alone, packs: &[Packed]) -> Result<(), StoreError> {
        self.with(|session| session.add(packs, false))
    }
}

impl Session {
    /// The packs, in order.
    fn names(&self) -> rusqlite::Result<Vec<PackId>> {
        let mut query = self.connection.prepare_cached("SELECT name FROM packs ORDER BY name")?;
        let names = query.query_map([], |row| row.get(0).map(PackId::from_bytes))?;
        names.collect()
    }
}
