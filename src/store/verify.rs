//! Verification: is everything in the store what was written, and is all there that the refs
//! and leases need?
//!
//! | what | how |
//! |---|---|
//! | packs (`packs.rs`) | every byte: header, each frame and record, footer, the copy beside, the name |
//! | index (`index.rs`) | SQLite's own check; each record of each footer looked up, all rows counted |
//! | refs, leases (`closure.rs`) | their own hashes; every tree, file and chunk below them is there and sound |
//! | large files | all their chunks joined and hashed |
//! | farm (`farm.rs`) | every file by its content, and its names in the farm's trees |
//!
//! Nothing is changed. A pack, its index and its paths are looked at under a [`Hold`], so
//! nothing is removed meanwhile; what is added meanwhile is not looked at. Packs are read one
//! after the other, each by several threads and once from front to end, so memory does not
//! grow with them.
//!
//! [`Hold`]: super::Hold

pub(super) mod closure;
pub(super) mod farm;
pub(super) mod findings;
mod index;
pub(super) mod packs;
pub(super) mod view;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use super::contents;
use super::error::StoreError;
use super::format::{FileId, PackId, RecordId};
use super::index::{Known, Packed};
use super::objects::Objects;
use super::pack;
use super::parallel;
use super::progress::Progress;
use super::refs::Sort;
use super::{Store, hold};
use closure::{Closure, Lack, RootTree};
use farm::FarmState;
use findings::{Counted, Damage, DamagedPath, Finding, Findings};
use packs::PackState;
use view::{Bad, Indexed};

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Packs that were read.
    pub packs: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of packs.
    pub bytes: u64,
    /// Refs and leases.
    pub roots: u64,
    /// Files of the farm.
    pub farm_files: u64,
    /// Packs that the index does not know and that nothing needs: a process died just before
    /// it told anybody of them. They are no damage.
    pub unknown_packs: u64,
    /// What is damaged.
    pub findings: Counted<Finding>,
    /// What cannot be restored because of it.
    pub paths: Counted<DamagedPath>,
}

impl Verified {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.findings.count == 0 && self.paths.count == 0
    }
}

type BadRoots = Vec<(Sort, PathBuf)>;

/// What a look at everything has found, for a repair.
pub(super) struct Examination {
    pub verified: Verified,
    pub bad: Bad,
    pub lack: Lack,
    pub roots: Vec<RootTree>,
    pub farm: FarmState,
    /// Files of refs and leases that are damaged.
    pub bad_roots: BadRoots,
    /// Whether the index is not what the packs say.
    pub is_index_damaged: bool,
    pub is_generation_damaged: bool,
    /// Files among the packs that are called as no pack is.
    pub strays: Vec<PathBuf>,
    /// The records, by an index that is right.
    pub objects: Objects,
}

impl Store {
    /// Looks at every byte of the store. Damage is what it returns, not an error.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let _hold = self.hold()?;
        Ok(self.examine()?.verified)
    }

    /// The same, and all that a repair needs to know. The caller has a hold.
    pub(super) fn examine(&self) -> Result<Examination, StoreError> {
        let believed = self.inner.objects.believing()?;
        let objects = &believed;
        let findings = Findings::default();
        let index_fault = objects.index().fault()?;
        let (packs, strays) = self.examine_packs(objects, index_fault.is_none(), &findings)?;
        let mut bad = Bad { packs, ..Bad::default() };
        let is_generation_damaged = match hold::generation(objects.root(), objects.storage()) {
            Err(e @ StoreError::DamagedGeneration { .. }) => {
                findings.add(Damage::Generation, e);
                true
            }
            other => other.map(|_| false)?,
        };
        let mut is_index_damaged = match index_fault {
            Some(why) => {
                findings.add(Damage::Index, why);
                true
            }
            None => index::compare(objects, &bad.packs, &findings)?,
        };
        let (roots, bad_roots) = self.examine_roots(&findings)?;

        let unknown = unknown_packs(&bad);
        // What can be had is what the packs hold, whatever the index says.
        let mut truth = None;
        if is_index_damaged {
            truth = Some(objects.with_own_index(packed(objects, &bad.packs)?)?);
        }
        let by = truth.as_ref().unwrap_or(objects);
        let (mut lack, mut paths) = self.follow(by, &mut bad, &roots, &findings)?;
        if truth.is_none() && (unknown > 0 && !lack.is_empty() || lack.has_unknown(objects)?) {
            let by = truth.insert(objects.with_own_index(packed(objects, &bad.packs)?)?);
            let (real, named) = self.follow(by, &mut bad, &roots, &findings)?;
            if real.records != lack.records {
                findings.add(Damage::Index, "it does not know all that is needed");
                is_index_damaged = true;
            }
            (lack, paths) = (real, named);
        }
        report_missing(truth.as_ref().unwrap_or(objects), &lack, &findings)?;
        let progress = Progress::new(&self.events, "verify: farm", None);
        let places = self.places()?;
        let farm = farm::examine(&self.inner.farm, &places, objects, &findings, &progress)?;
        let verified = Verified {
            packs: bad.packs.values().filter(|pack| !pack.is_lost).count() as u64,
            records: bad.packs.values().map(|pack| pack.records).sum(),
            bytes: bad.packs.values().map(|pack| pack.size).sum(),
            roots: roots.len() as u64,
            farm_files: farm.files,
            unknown_packs: if is_index_damaged { 0 } else { unknown },
            findings: findings.into_inner(),
            paths,
        };
        Ok(Examination {
            verified,
            bad,
            lack,
            roots,
            farm,
            bad_roots,
            is_index_damaged,
            is_generation_damaged,
            strays,
            objects: truth.unwrap_or(believed),
        })
    }

    fn examine_packs(
        &self,
        objects: &Objects,
        is_index_sound: bool,
        findings: &Findings,
    ) -> Result<(HashMap<PackId, PackState>, Vec<PathBuf>), StoreError> {
        let (known, names) = objects.index().frozen(|| {
            // What a damaged index says of packs accuses nobody.
            let known = if is_index_sound { objects.index().packs()? } else { Vec::new() };
            Ok((known, pack::list_all(objects.storage(), objects.root())?))
        })?;
        let (there, strays) = names;
        for path in &strays {
            findings.add(Damage::StrayPack { path: path.clone() }, "no pack is called so");
        }
        let mut packs = HashMap::new();
        let bytes = Progress::new(&self.events, "verify: packs", None);
        for pack in there {
            packs.insert(pack, packs::examine(objects, pack, findings, &bytes)?);
        }
        for Known { pack, .. } in known {
            let state = packs.entry(pack).or_insert_with(|| {
                findings.add(Damage::PackMissing { pack }, "its file is gone");
                let path = pack::pack_path(objects.root(), &pack);
                PackState { path, is_lost: true, is_damaged: true, ..PackState::default() }
            });
            state.is_indexed = true;
        }
        Ok((packs, strays))
    }

    /// The refs and leases, and the files of those that are damaged.
    fn examine_roots(&self, findings: &Findings) -> Result<(Vec<RootTree>, BadRoots), StoreError> {
        let (mut roots, mut bad) = (Vec::new(), Vec::new());
        for sort in [Sort::Ref, Sort::Lease] {
            for (path, root) in self.roots_of(sort).each()? {
                match root {
                    Ok(root) => roots.push(RootTree { name: root.name, tree: root.tree }),
                    Err(e) => {
                        findings.add(Damage::Root { path: path.clone() }, e);
                        bad.push((sort, path));
                    }
                }
            }
        }
        Ok((roots, bad))
    }

    /// Looks for all that the roots need, where the index of `objects` says it is.
    fn follow(
        &self,
        objects: &Objects,
        bad: &mut Bad,
        roots: &[RootTree],
        findings: &Findings,
    ) -> Result<(Lack, Counted<DamagedPath>), StoreError> {
        let progress = Progress::new(&self.events, "verify: trees", None);
        loop {
            let view = Indexed { objects, bad };
            let mut closure = Closure::new(&view, &progress);
            let mut links = Vec::new();
            for root in roots {
                closure.count(&root.tree)?;
                if view.has_bad_links(&root.tree)? {
                    links.push(root.tree);
                }
            }
            let wrong = self.examine_joined(objects, closure.joined())?;
            if wrong.is_empty() {
                let paths = closure.paths(roots)?;
                let mut lack = closure.into_lack();
                links.iter().for_each(|root| lack.add_links(root));
                return Ok((lack, paths));
            }
            // Now that they are known to be bad, the paths that need them can be named.
            for file in wrong {
                findings.add(Damage::Content { file }, "its chunks do not add up to it");
                bad.records.insert(RecordId::recipe(&file));
            }
        }
    }

    /// Joins the chunks of files. Gives those that are something else then.
    fn examine_joined(
        &self,
        objects: &Objects,
        files: Vec<FileId>,
    ) -> Result<Vec<FileId>, StoreError> {
        let progress = Progress::new(&self.events, "verify: large files", Some(files.len() as u64));
        let bad = Mutex::new(Vec::new());
        parallel::run(files, |queue| {
            while let Some(file) = queue.next() {
                match contents::stream(objects, &file, |_| Ok(())) {
                    Ok(_) => {}
                    // A sound frame of which a part is not sound, or one that just went bad.
                    Err(e) if e.is_damage() => {
                        bad.lock().expect("nothing panics with it held").push(file);
                    }
                    Err(e) => return Err(e),
                }
                progress.add(1);
            }
            Ok(())
        })?;
        Ok(bad.into_inner().expect("nothing panics with it held"))
    }
}

/// What each pack holds, as far as anything tells.
fn packed(
    objects: &Objects,
    packs: &HashMap<PackId, PackState>,
) -> Result<Vec<Packed>, StoreError> {
    let mut readable: Vec<_> = packs.iter().filter(|(_, state)| !state.is_lost).collect();
    readable.sort_unstable_by_key(|(pack, _)| **pack);
    let holds = |(pack, state): (&PackId, &PackState)| {
        let footer = packs::contents(objects, *pack)?.into_footer();
        Ok(Packed { pack: *pack, footer, size: state.size })
    };
    readable.into_iter().map(holds).collect()
}

/// Packs that the index does not know and that can be read.
fn unknown_packs(bad: &Bad) -> u64 {
    bad.packs.values().filter(|pack| !pack.is_indexed && !pack.is_lost).count() as u64
}

/// Names the records that are needed and nowhere. Of what is in a damaged pack the pack
/// tells.
fn report_missing(objects: &Objects, lack: &Lack, findings: &Findings) -> Result<(), StoreError> {
    let mut records: Vec<_> = lack.records.iter().copied().collect();
    records.sort_unstable();
    for records in records.chunks(4096) {
        for (record, at) in records.iter().zip(objects.index().find_all(records)?) {
            if at.is_none() {
                let record = *record;
                findings.add(Damage::Missing { record }, "no pack has it");
            }
        }
    }
    Ok(())
}
