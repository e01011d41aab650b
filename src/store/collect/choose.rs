//! Which packs are to go.

use std::collections::{HashMap, HashSet};

use super::mark::Needed;
use super::rewrite::on_disk;
use crate::store::error::StoreError;
use crate::store::format::PackId;
use crate::store::format::pack::PACK;
use crate::store::objects::Objects;
use crate::store::pack;

/// A pack goes when of its bytes, before compression, one in so many is not needed.
const WASTED: u64 = 4;
/// A pack below this size is small.
const SMALL: u64 = PACK / 8;
/// So many small packs become few large ones.
const MANY: usize = 32;

/// A pack that is to go.
pub struct Candidate {
    /// The pack.
    pub pack: PackId,
    /// How many of its records are needed and must be copied.
    pub needed: u64,
    /// What it takes on the disk.
    pub on_disk: u64,
}

/// What is to become of the packs.
pub struct Choice {
    /// They go.
    pub condemned: Vec<Candidate>,
    /// They stay, and the index forgets what is not needed of them.
    pub thinned: Vec<PackId>,
    /// How many there are.
    pub packs: u64,
    /// What they take on the disk.
    pub on_disk: u64,
}

#[derive(Default, Clone, Copy)]
struct Use {
    needed: u64,
    needed_bytes: u64,
    unneeded: u64,
}

impl Choice {
    /// Lets the packs stay of which something is needed.
    pub fn rewrite_nothing(&mut self) {
        let condemned = std::mem::take(&mut self.condemned);
        let (rewritten, gone) = condemned.into_iter().partition(|candidate| candidate.needed > 0);
        self.condemned = gone;
        let rewritten: Vec<Candidate> = rewritten;
        self.thinned.extend(rewritten.into_iter().map(|candidate| candidate.pack));
    }
}

/// Makes the index know the packs that are on the disk and no others. A pack of which that
/// cannot be known is an error.
pub fn know_all(objects: &Objects) -> Result<(), StoreError> {
    let (storage, root, index) = (objects.storage(), objects.root(), objects.index());
    // It may have been deleted under the connections that there are.
    index.forget_connections();
    objects.mend_index()?;
    let known: HashSet<PackId> = index.packs()?.into_iter().map(|known| known.pack).collect();
    for pack in pack::list(storage, root)?.iter().filter(|pack| !known.contains(pack)) {
        pack::read_footer(storage, root, pack)?;
    }
    Ok(())
}

/// Looks at every pack.
pub fn choose(objects: &Objects, needed: &Needed) -> Result<Choice, StoreError> {
    let mut uses: HashMap<i64, Use> = HashMap::new();
    objects.index().each(&mut |row| {
        let of = uses.entry(row.pack).or_default();
        match needed.has(&row.id) {
            true => {
                of.needed += 1;
                of.needed_bytes += u64::from(row.length);
            }
            false => of.unneeded += 1,
        }
    })?;
    let mut packs = objects.index().packs()?;
    // Old ones first: what was written together stays together.
    packs.sort_unstable_by_key(|known| known.no);
    let mut choice = Choice { condemned: Vec::new(), thinned: Vec::new(), packs: 0, on_disk: 0 };
    let mut small = Vec::new();
    for known in &packs {
        let footer = pack::read_footer(objects.storage(), objects.root(), &known.pack)?.footer;
        let of = uses.get(&known.no).copied().unwrap_or_default();
        // Copies of what is in another pack, and what was forgotten before, are no use either.
        let raw: u64 = footer.records.iter().map(|record| u64::from(record.length)).sum();
        let on_disk = on_disk(known.size, &footer);
        choice.packs += 1;
        choice.on_disk += on_disk;
        let candidate = Candidate { pack: known.pack, needed: of.needed, on_disk };
        let wasted = raw.saturating_sub(of.needed_bytes);
        if of.needed == 0 || wasted * WASTED >= raw {
            choice.condemned.push(candidate);
        } else {
            if of.unneeded > 0 {
                choice.thinned.push(known.pack);
            }
            if known.size < SMALL {
                small.push(candidate);
            }
        }
    }
    if small.len() >= MANY {
        choice.thinned.retain(|pack| small.iter().all(|candidate| candidate.pack != *pack));
        choice.condemned.extend(small);
    }
    Ok(choice)
}
