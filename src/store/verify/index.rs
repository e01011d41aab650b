//! The index against what the packs hold.
//!
//! Each record of a footer is looked up. A row that points to exactly there is *confirmed*;
//! one that points into another pack is that pack's to confirm, for a record may be in
//! several. A pack that has more rows than were confirmed has rows of what is not there.

use std::collections::HashMap;

use super::findings::{Damage, Findings};
use super::packs::{Contents, PackState, contents};
use crate::store::error::StoreError;
use crate::store::format::PackId;
use crate::store::format::pack::Record;
use crate::store::index::{Known, Location};
use crate::store::objects::Objects;
use crate::store::parallel;

/// Records that a thread looks up at once.
const BATCH: usize = 4096;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    missing: u64,
    wrong: u64,
    confirmed: u64,
}

/// Compares the index with the packs that it knows. Puts down what disagrees, and says
/// whether anything does. Others may add packs meanwhile; so what seems wrong is looked at
/// once more while they may not.
pub fn compare(
    objects: &Objects,
    packs: &HashMap<PackId, PackState>,
    findings: &Findings,
) -> Result<bool, StoreError> {
    let index = objects.index();
    let looked = |found: Result<Disagreements, StoreError>| match found {
        Err(e) if index.is_lost(&e) => Ok(vec![(Damage::Index, e.to_string())]),
        found => found,
    };
    if looked(disagreements(objects, packs))?.is_empty() {
        return Ok(false);
    }
    let found = looked(index.frozen(|| disagreements(objects, packs)))?;
    for (damage, why) in &found {
        findings.add(damage.clone(), why);
    }
    Ok(!found.is_empty())
}

type Disagreements = Vec<(Damage, String)>;

fn disagreements(
    objects: &Objects,
    packs: &HashMap<PackId, PackState>,
) -> Result<Disagreements, StoreError> {
    let mut names: Vec<&PackId> = packs.keys().collect();
    names.sort_unstable();
    let mut counts = HashMap::new();
    for pack in names.iter().copied().filter(|pack| packs[pack].is_indexed) {
        // What a pack without a readable footer holds is not known.
        if !packs[pack].is_lost {
            counts.insert(*pack, count(objects, pack, &contents(objects, *pack)?)?);
        }
    }
    let mut rows: HashMap<PackId, u64> = HashMap::new();
    let mut found = Vec::new();
    for (pack, count) in objects.index().rows_by_pack()? {
        match pack {
            Some(pack) => *rows.entry(pack).or_default() += count,
            None => {
                found.push((Damage::Index, "it has rows of packs that it does not know".to_owned()))
            }
        }
    }
    for Known { pack, size, forgotten, .. } in objects.index().packs()? {
        if let Some(counts) = counts.get_mut(&pack)
            && counts.missing <= forgotten
        {
            // What no root needs need not be known.
            counts.missing = 0;
        }
        if packs.get(&pack).is_some_and(|state| !state.is_damaged && state.size != size) {
            found.push((
                Damage::Index,
                "it has another size for a pack than the pack has".to_owned(),
            ));
        }
    }
    for pack in names {
        let Some(Counts { missing, wrong, confirmed }) = counts.get(pack).copied() else {
            continue;
        };
        let extra = rows.get(pack).map_or(0, |rows| rows.saturating_sub(confirmed + wrong));
        if missing + wrong + extra > 0 {
            let damage = Damage::IndexRows { pack: *pack, missing, wrong, extra };
            found.push((damage, "the index is not what the pack says".to_owned()));
        }
    }
    Ok(found)
}

fn count(objects: &Objects, pack: &PackId, contents: &Contents) -> Result<Counts, StoreError> {
    // In the order of the index's keys, which is several times faster.
    let mut records: Vec<&Record> = contents.records.iter().collect();
    records.sort_unstable_by_key(|record| record.id.id);
    let jobs: Vec<&[&Record]> = records.chunks(BATCH).collect();
    let counts = parallel::run(jobs, |queue| {
        let mut counts = Counts::default();
        while let Some(records) = queue.next() {
            let ids: Vec<_> = records.iter().map(|record| record.id).collect();
            for (record, found) in records.iter().zip(objects.index().find_all(&ids)?) {
                let Record { offset, length, .. } = **record;
                let (frame, _) = contents.frames[record.frame as usize];
                let here = Location { pack: *pack, frame, offset, length };
                match found {
                    None => counts.missing += 1,
                    Some(found) if found == here => counts.confirmed += 1,
                    Some(found) if found.pack != *pack => {}
                    // A pack may have a record twice.
                    Some(found) if has(contents, record, &found) => {}
                    Some(_) => counts.wrong += 1,
                }
            }
        }
        Ok::<_, StoreError>(counts)
    })?;
    Ok(counts.into_iter().fold(Counts::default(), |a, b| Counts {
        missing: a.missing + b.missing,
        wrong: a.wrong + b.wrong,
        confirmed: a.confirmed + b.confirmed,
    }))
}

/// Whether the record is also at that place of the pack.
fn has(contents: &Contents, record: &Record, at: &Location) -> bool {
    let no = contents.frames.partition_point(|(frame, _)| *frame < at.frame);
    contents.frames.get(no).is_some_and(|(frame, _)| *frame == at.frame)
        && contents.records_of(no).iter().any(|other| {
            (other.id, other.offset, other.length) == (record.id, at.offset, at.length)
        })
}
