//! The second phase: nobody relies on anything that is not found now.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use super::files::{self, Sweep};
use super::mark::Needed;
use super::{Collect, Collected, Gathered, Plan, Tally};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::PackId;
use crate::store::hold::Exclusive;
use crate::store::objects::Objects;
use crate::store::pack;
use crate::store::scratch::Scratch;

impl Store {
    /// What a collection that changes nothing says.
    pub(super) fn tell(&self, ask: &Collect<'_>, plan: Plan<'_>) -> Result<Collected, StoreError> {
        let files = Sweep::find(&self.inner.root, &plan.roots.farm_trees, &plan.roots.unused)?;
        let swept = files.finish(&self.inner.root, &plan.needed, ask.now, true)?;
        Ok(told(&plan, swept))
    }

    /// The second phase.
    pub(super) fn sweep(
        &self,
        ask: &Collect<'_>,
        mut plan: Plan<'_>,
        exclusive: Exclusive,
    ) -> Result<Collected, StoreError> {
        let (root, objects) = (&self.inner.root, &self.inner.objects);
        plan.roots = self.gather(ask)?;
        let mut late = Needed::default();
        self.mark(&plan.roots, &mut late, Some(&plan.needed))?;
        if !late.is_empty() {
            keep_for(objects, &mut plan, &late)?;
            plan.needed.join(late);
        }
        let done = self.sweep_records(&mut plan, &exclusive);
        let Plan { roots, needed, .. } = &plan;
        let mut files = Sweep::find(root, &roots.farm_trees, &roots.unused)?;
        files.hide(root);
        drop(exclusive);
        objects.close_packs();
        // Of those who died since the store was opened; as harmless as before if it fails.
        let _ = Scratch::sweep(&root.join("tmp"));
        // Forgets those that are gone.
        self.places()?;
        let swept = files.finish(root, needed, ask.now, false)?;
        // The caches went in any case: on a full disk that makes the room for another try.
        done.map(|()| told(&plan, swept))
    }

    /// Removes the roots that have run out, then the packs.
    fn sweep_records(&self, plan: &mut Plan<'_>, exclusive: &Exclusive) -> Result<(), StoreError> {
        let (root, objects) = (&self.inner.root, &self.inner.objects);
        let Plan { roots, choice, .. } = &*plan;
        if !choice.condemned.is_empty() || !choice.thinned.is_empty() {
            exclusive.raise_generation(root, objects.storage(), objects.scratch())?;
        }
        for name in &roots.stale_refs {
            self.remove_ref(name)?;
        }
        for name in &roots.expired_leases {
            self.remove_lease(name)?;
        }
        replace_packs(objects, plan)?;
        plan.copier.keep();
        Ok(())
    }
}

/// Lets the packs stay that `late`, which was not there at the first look, relies on.
fn keep_for(objects: &Objects, plan: &mut Plan<'_>, late: &Needed) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    for candidate in std::mem::take(&mut plan.choice.condemned) {
        let packed = pack::read_footer(objects.storage(), objects.root(), &candidate.pack)?;
        match packed.footer.records.iter().any(|record| late.has(&record.id)) {
            true => plan.choice.thinned.push(candidate.pack),
            false => gone.push(candidate),
        }
    }
    plan.choice.condemned = gone;
    Ok(())
}

/// Makes the index know the new packs and not the old ones, and removes these.
fn replace_packs(objects: &Objects, plan: &Plan<'_>) -> Result<(), StoreError> {
    let Plan { needed, choice, copier, .. } = plan;
    let (storage, root, index) = (objects.storage(), objects.root(), objects.index());
    let footer = |pack: &PackId| pack::read_footer(storage, root, pack);
    // While this is held, nobody makes the index anew of packs that are about to go.
    let writing = index.writing()?;
    if !choice.condemned.is_empty() || !choice.thinned.is_empty() || !copier.packs.is_empty() {
        index.change(&writing, &mut |change| {
            for candidate in &choice.condemned {
                let pack = &candidate.pack;
                change.forget(pack, &footer(pack)?.footer, &|_| true)?;
                change.forget_pack(pack)?;
            }
            for pack in &choice.thinned {
                change.forget(pack, &footer(pack)?.footer, &|id| !needed.has(id))?;
            }
            copier.packs.iter().try_for_each(|pack| change.add(&footer(pack)?))
        })?;
    }
    let directory = pack::directory(root);
    let sync = || storage.sync_directory(&directory).map_err(StoreError::write(&directory));
    for candidate in &choice.condemned {
        let path = pack::pack_path(root, &candidate.pack);
        match storage.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::write(&path)(e));
            }
            _ => {}
        }
    }
    // A tail without its pack is nothing, but a pack without its tail is damaged.
    sync()?;
    remove_lone_tails(objects)?;
    sync()
}

/// Tails whose packs are gone: somebody was killed between the two.
fn remove_lone_tails(objects: &Objects) -> Result<(), StoreError> {
    let (storage, directory) = (objects.storage(), pack::directory(objects.root()));
    let names = storage.list(&directory).map_err(StoreError::read(&directory))?;
    let names: HashSet<PathBuf> = names.into_iter().map(PathBuf::from).collect();
    for name in &names {
        let is_tail = name.extension().is_some_and(|extension| extension == "index");
        if is_tail && !names.contains(&name.with_extension("pack")) {
            let path = directory.join(name);
            storage.remove(&path).map_err(StoreError::write(&path))?;
        }
    }
    Ok(())
}

fn told(plan: &Plan<'_>, swept: files::Swept) -> Collected {
    let Plan { roots, needed, choice, copier, .. } = plan;
    let Gathered { stale_refs, expired_leases, .. } = roots;
    let tally = |kind, count: usize, bytes| Tally { kind, count: count as u64, bytes };
    let gone: u64 = choice.condemned.iter().map(|candidate| candidate.on_disk).sum();
    let mut removed = vec![
        tally("packs", choice.condemned.len(), gone),
        tally("refs", stale_refs.len(), 0),
        tally("leases", expired_leases.len(), 0),
    ];
    removed.extend(swept.removed);
    removed.retain(|tally| tally.count > 0);
    let mut written = vec![tally("packs", copier.packs.len(), copier.bytes)];
    written.retain(|tally| tally.count > 0);
    let packs = choice.packs + copier.packs.len() as u64 - choice.condemned.len() as u64;
    let others = roots.trees.len() as u64 - roots.refs - roots.leases;
    let mut kept = vec![
        Tally { kind: "refs", count: roots.refs, bytes: 0 },
        Tally { kind: "leases", count: roots.leases, bytes: 0 },
        Tally { kind: "trees of workspaces", count: others, bytes: 0 },
        Tally { kind: "directories", count: needed.trees(), bytes: 0 },
        Tally { kind: "packs", count: packs, bytes: choice.on_disk + copier.bytes - gone },
    ];
    kept.extend(swept.kept);
    kept.retain(|tally| tally.count > 0);
    Collected { removed, written, kept }
}
