//! Repair: what is damaged is replaced by what can be saved, and what cannot is named.
//!
//! Saved are, in this order: records of which another pack has a copy; what is sound in the
//! damaged packs; what the farm has; what directories have that were captured or restored
//! (`sources.rs`). Nothing is believed that does not have the right hash.
//!
//! # Order
//!
//! 1. Under a hold, everything is looked at, and what can be saved goes to new packs in the
//!    scratch directory, synced (`rescue.rs`).
//! 2. When nobody else has a hold (`swap.rs`): the generation is raised; the new packs get
//!    their names; the damaged ones are moved to `packs/damaged/`; the index is made anew.
//! 3. Copies of tails, refs and leases are mended, farm files set aside and extracted again.
//!
//! A crash before a step leaves what the step before made: at no time is a record only in a
//! place where the next repair does not look. Packs in `packs/damaged/` are looked at, too.
//! Refs and leases that cannot be mended stay where they are, so that no collection takes
//! what they stood for to be garbage.

mod farm;
mod rescue;
mod sources;
mod swap;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::Store;
use super::error::StoreError;
use super::format::RecordId;
use super::format::pack::Record;
use super::pack;
use super::progress::Progress;
use super::verify::closure::{Closure, Lack};
use super::verify::findings::{Counted, DamagedPath};
use super::verify::packs::{PackState, contents, contents_of_file};
use super::verify::{Examination, Verified};
use rescue::Rescue;

/// How long a repair waits for others to let go of the store.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a repair did, or would do.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What was found before.
    pub found: Verified,
    /// Packs that were moved to `packs/damaged/`.
    pub packs_replaced: u64,
    /// Records that were saved from damaged packs.
    pub from_damaged_packs: u64,
    /// Damaged records of which another pack has a copy.
    pub from_other_packs: u64,
    /// Records that were saved from the farm.
    pub from_farm: u64,
    /// Records that were saved from directories.
    pub from_directories: u64,
    /// Whether the index was made anew.
    pub index_made: bool,
    /// Copies of packs' tails that were made anew.
    pub tails_mended: u64,
    /// Refs and leases that were mended.
    pub roots_mended: u64,
    /// Refs and leases that could not be. They stay as they are.
    pub roots_lost: Vec<PathBuf>,
    /// Files of the farm, and in its trees, that were replaced.
    pub farm_files: u64,
    /// Files in the farm's trees that could not be.
    pub farm_lost: Vec<PathBuf>,
    /// Records that are lost, those that nothing needs included.
    pub lost_records: u64,
    /// Paths that are lost.
    pub lost: Counted<DamagedPath>,
}

impl Repaired {
    /// Whether something could not be repaired.
    pub fn has_lost(&self) -> bool {
        self.lost.count > 0 || !self.roots_lost.is_empty() || !self.farm_lost.is_empty()
    }

    /// Whether anything was changed.
    pub fn has_changed(&self) -> bool {
        self.packs_replaced
            + self.from_damaged_packs
            + self.from_farm
            + self.from_directories
            + self.tails_mended
            + self.roots_mended
            + self.farm_files
            > 0
            || self.index_made
    }
}

impl Store {
    /// Replaces what is damaged by what can be saved. With `dry`, says what that would be and
    /// changes nothing.
    ///
    /// Damaged packs are kept in `packs/damaged/`. What is lost is no longer known to the
    /// index, so that the next snapshot that has it stores it again.
    pub fn repair(&self, dry: bool) -> Result<Repaired, StoreError> {
        let _alone = self.wait_to_be_alone(PATIENCE)?;
        let hold = self.hold()?;
        let mut examined = self.examine()?;
        let mut repaired =
            Repaired { found: std::mem::take(&mut examined.verified), ..Repaired::default() };
        if repaired.found.is_clean() {
            return Ok(repaired);
        }
        let storage = (!dry).then(|| self.inner.objects.shared_storage());
        let mut rescue = Rescue::new(&examined.objects, &examined.bad, storage);
        self.save(&examined, &mut rescue, &mut repaired)?;
        self.count_besides(&examined, &mut repaired);
        if dry {
            return Ok(repaired);
        }
        let packs = rescue.seal()?;
        let needs_swap = repaired.packs_replaced > 0 || !packs.is_empty() || repaired.index_made;
        drop(hold);
        if needs_swap || examined.is_generation_damaged {
            self.swap(&examined, packs, PATIENCE)?;
        }
        self.mend_tails(&examined)?;
        self.mend_roots(&examined)?;
        farm::mend(self, &examined.farm, &mut repaired)?;
        self.warn_of_edits();
        Ok(repaired)
    }

    /// Saves what can be saved, and finds out what is lost.
    fn save(
        &self,
        examined: &Examination,
        rescue: &mut Rescue<'_>,
        repaired: &mut Repaired,
    ) -> Result<(), StoreError> {
        let wanted = self.wanted(examined)?;
        repaired.from_other_packs = rescue.find_copies(&|id| wanted.contains(id))?;
        let root = &self.inner.root;
        let storage = self.inner.objects.storage();
        for (id, state) in examined.bad.packs.iter().filter(|(_, state)| state.is_damaged) {
            let holds = contents(&examined.objects, *id)?;
            rescue.save(&state.path, &holds, &|record| !state.bad_records.contains(record))?;
        }
        for path in &examined.strays {
            rescue.save(path, &contents_of_file(storage, path), &|_| true)?;
        }
        repaired.from_damaged_packs = rescue.count();

        let linked = self.places()?;
        // A tree that is saved names others that may have to be.
        let mut lack = self.still_lost(examined, rescue, None)?;
        lack.records.extend(wanted.iter().copied());
        loop {
            let before = rescue.count();
            rescue.forget_saved(&mut lack)?;
            for path in self.set_aside_packs()? {
                let contents = contents_of_file(storage, &path);
                rescue.save(&path, &contents, &|record| lack.records.contains(record))?;
            }
            repaired.from_damaged_packs += rescue.count() - before;
            let at_farm = rescue.count();
            sources::from_farm(rescue, &self.inner.farm, &lack)?;
            repaired.from_farm += rescue.count() - at_farm;
            let at_directories = rescue.count();
            sources::from_directories(rescue, root, &lack)?;
            sources::from_linked(rescue, &linked, &lack)?;
            repaired.from_directories += rescue.count() - at_directories;
            if rescue.count() == before {
                break;
            }
            lack = self.still_lost(examined, rescue, None)?;
        }
        let lack = self.still_lost(examined, rescue, Some(repaired))?;
        let mut lost: HashSet<RecordId> = lack.records;
        for id in wanted {
            if !rescue.has(&id)? {
                lost.insert(id);
            }
        }
        repaired.lost_records = lost.len() as u64;
        Ok(())
    }

    /// The records that cannot be read where they should be.
    fn wanted(&self, examined: &Examination) -> Result<HashSet<RecordId>, StoreError> {
        let Examination { bad, lack, objects, .. } = examined;
        let mut wanted: HashSet<RecordId> = lack.records.union(&bad.records).copied().collect();
        for (pack, state) in bad.packs.iter().filter(|(_, state)| state.is_damaged) {
            // What a pack holds that is gone is known to the store's own index only.
            let by = if state.is_lost { &self.inner.objects } else { objects };
            let holds = contents(by, *pack)?;
            let is_bad = |record: &&Record| {
                let (frame, _) = holds.frames[record.frame as usize];
                !state.is_sound(&record.id, frame)
            };
            wanted.extend(holds.records.iter().filter(is_bad).map(|record| record.id));
        }
        Ok(wanted)
    }

    /// What roots need and nobody has. Names the paths, if asked to.
    fn still_lost(
        &self,
        examined: &Examination,
        rescue: &Rescue<'_>,
        name: Option<&mut Repaired>,
    ) -> Result<Lack, StoreError> {
        let progress = Progress::new(&self.events, "repair: trees", None);
        let mut closure = Closure::new(rescue, &progress);
        for root in &examined.roots {
            closure.count(&root.tree)?;
        }
        if let Some(repaired) = name {
            repaired.lost = closure.paths(&examined.roots)?;
        }
        Ok(closure.into_lack())
    }

    /// Packs that earlier repairs have set aside.
    fn set_aside_packs(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = swap::directory(&self.inner.root);
        let Ok(names) = self.inner.objects.storage().list(&directory) else {
            return Ok(Vec::new());
        };
        let mut paths: Vec<_> = names.into_iter().map(|name| directory.join(name)).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
        paths.sort_unstable();
        Ok(paths)
    }

    /// Counts what is to be done besides.
    fn count_besides(&self, examined: &Examination, repaired: &mut Repaired) {
        let Examination { bad, farm, .. } = examined;
        let damaged = bad.packs.values().filter(|state| state.is_damaged);
        let tails = bad.packs.values().filter(|state| state.is_tail_damaged && !state.is_damaged);
        let is_there = |state: &&PackState| state.size > 0 || !state.is_lost;
        repaired.packs_replaced =
            damaged.clone().filter(is_there).count() as u64 + examined.strays.len() as u64;
        repaired.tails_mended = tails.count() as u64;
        repaired.index_made = examined.is_index_damaged
            || damaged.count() + examined.strays.len() > 0
            || repaired.from_damaged_packs + repaired.from_farm + repaired.from_directories > 0;
        for (sort, path) in &examined.bad_roots {
            match self.roots_of(*sort).as_it_was(path) {
                Some(_) => repaired.roots_mended += 1,
                None => repaired.roots_lost.push(path.clone()),
            }
        }
        repaired.farm_files = (farm.bad.len() + farm.bad_in_trees.len()) as u64;
    }

    /// Makes the copies of tails anew.
    fn mend_tails(&self, examined: &Examination) -> Result<(), StoreError> {
        let objects = &self.inner.objects;
        for (pack, state) in &examined.bad.packs {
            if state.is_tail_damaged && !state.is_damaged {
                pack::write_tail(
                    objects.storage(),
                    objects.root(),
                    &objects.scratch().fresh(),
                    pack,
                )?;
            }
        }
        Ok(())
    }

    /// Writes refs and leases as they were.
    fn mend_roots(&self, examined: &Examination) -> Result<(), StoreError> {
        for (sort, path) in &examined.bad_roots {
            self.roots_of(*sort).mend(path)?;
        }
        Ok(())
    }
}
