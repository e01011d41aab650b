//! The index made anew from the packs, or made to agree with them.

use super::Objects;
use crate::store::error::StoreError;
use crate::store::format::PackId;
use crate::store::hold;
use crate::store::index::{Difference, Index, Packed};
use crate::store::pack;

/// What a rebuild of the index found.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Packs in the index.
    pub packs: u64,
    /// Records in them.
    pub records: u64,
    /// Packs whose footer cannot be read, and why. They are left where they are.
    pub damaged: Vec<(PackId, StoreError)>,
}

impl Objects {
    /// Makes the index anew if it is missing or corrupt, and makes it agree with the packs
    /// that are there.
    pub fn mend_index(&self) -> Result<(), StoreError> {
        if !self.index.is_sound()? {
            self.rebuild(|index| Ok(!index.is_sound()?))?;
        }
        self.agree()
    }

    /// Makes the index anew from the packs.
    pub fn rebuild_index(&self) -> Result<Rebuilt, StoreError> {
        Ok(self.rebuild(|_| Ok(true))?.unwrap_or_default())
    }

    fn rebuild(
        &self,
        needed: impl FnOnce(&Index) -> Result<bool, StoreError>,
    ) -> Result<Option<Rebuilt>, StoreError> {
        self.index.rebuild(needed, || {
            let (packs, rebuilt) = self.scan()?;
            // Nobody knows what an index that is gone or unreadable knew.
            let sound: Vec<_> = packs.iter().map(|packed| packed.pack).collect();
            let lost = self.index.compare(&sound).map(|difference| difference.gone);
            if !lost.is_ok_and(|lost| lost.is_empty()) {
                match hold::raise_generation(&self.root, &*self.storage, &self.scratch) {
                    // One that cannot be read is not equal to any that was remembered.
                    Err(StoreError::DamagedGeneration { .. }) => {}
                    raised => raised.map(drop)?,
                }
            }
            Ok((packs, rebuilt))
        })
    }

    /// What the packs hold.
    fn scan(&self) -> Result<(Vec<Packed>, Rebuilt), StoreError> {
        self.sync_packs()?;
        let mut rebuilt = Rebuilt::default();
        let mut packs = Vec::new();
        for pack in pack::list(&*self.storage, &self.root)? {
            match self.read_footer(&pack) {
                Ok(packed) => {
                    rebuilt.packs += 1;
                    rebuilt.records += packed.footer.records.len() as u64;
                    packs.push(packed);
                }
                Err(error) => rebuilt.damaged.push((pack, error)),
            }
        }
        Ok((packs, rebuilt))
    }

    /// Makes the index agree with the packs that are there.
    fn agree(&self) -> Result<(), StoreError> {
        let compare = |index: &Index| index.compare(&pack::list(&*self.storage, &self.root)?);
        if self.healing(|| compare(&self.index))? == Difference::default() {
            return Ok(());
        }
        let alone = self.index.alone()?;
        // Somebody may have been between the two.
        let Difference { unknown, gone } = compare(&self.index)?;
        if gone.is_empty() {
            self.sync_packs()?;
            let found: Vec<_> =
                unknown.iter().filter_map(|pack| self.read_footer(pack).ok()).collect();
            return self.index.add_found(&alone, &found);
        }
        drop(alone);
        // What was in them may be in others, too, and the index has one place for each.
        self.rebuild(|index| Ok(!compare(index)?.gone.is_empty())).map(drop)
    }

    /// A pack's footer. A disk that could not read it once is given another chance: without it
    /// all that is in the pack is missed.
    fn read_footer(&self, pack: &PackId) -> Result<Packed, StoreError> {
        let read = || pack::read_footer(&*self.storage, &self.root, pack);
        match read() {
            Err(StoreError::Read { .. }) => read(),
            done => done,
        }
    }

    /// Whoever gave a pack its name may have died before this, and nobody syncs it later
    /// who finds that it is there.
    fn sync_packs(&self) -> Result<(), StoreError> {
        let directory = pack::directory(&self.root);
        self.storage.sync_directory(&directory).map_err(StoreError::write(&directory))
    }
}
