//! What is in a store, and what it takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Store;
use super::error::StoreError;
use super::format::delta::Delta;
use super::format::tree::{self, Kind};
use super::format::{RecordId, RecordKind, TreeId};
use super::objects::Objects;
use super::pack;
use super::refs::Sort;

/// Some things, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Records of one kind, in packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Records {
    /// How many.
    pub count: u64,
    /// Their bytes before compression.
    pub raw: u64,
    /// Their share of the bytes of their frames.
    pub stored: u64,
}

/// What is in a store, and what it takes.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Packs, and what they take with the copies of their tails.
    pub packs: Amount,
    /// The index, in bytes.
    pub index: u64,
    /// What the packs hold, by kind.
    pub records: BTreeMap<RecordKind, Records>,
    /// Of these, what the index does not know there: copies, and what the collector has made
    /// it forget. Bytes before compression.
    pub unused: Amount,
    /// Contents that are told by others, and their lengths.
    pub deltas: Amount,
    /// Refs.
    pub refs: u64,
    /// Leases.
    pub leases: u64,
    /// The trees that they name, each once.
    pub trees: u64,
    /// The files of those, each as many times as there is a tree with it.
    pub rooted: Amount,
    /// Files of the farm, and what they take.
    pub farm_files: Amount,
    /// Trees of the farm.
    pub farm_trees: u64,
    /// Files that somebody had changed, set aside, and what they take.
    pub aside: Amount,
    /// Directories made of links into the farm.
    pub places: u64,
}

impl Store {
    /// Counts what is in the store. Reads the footer of every pack and every rooted tree once.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let (root, objects) = (&self.inner.root, &self.inner.objects);
        let _hold = self.hold()?;
        let mut stats = Stats::default();
        add_packs(objects, &mut stats)?;
        let mut deltas = Vec::new();
        let mut known = Amount::default();
        objects.index().each(&mut |row| {
            known.add(row.length.into());
            if row.id.kind == RecordKind::Delta {
                deltas.push(row.id);
            }
        })?;
        let all = stats.records.values();
        let (count, raw) = all.fold((0, 0), |sum, of| (sum.0 + of.count, sum.1 + of.raw));
        // Others may add packs while these are counted.
        stats.unused = Amount {
            count: count.saturating_sub(known.count),
            bytes: raw.saturating_sub(known.bytes),
        };
        for id in deltas {
            stats.deltas.add(objects.read(&id, Delta::decode)?.size());
        }
        for suffix in ["", "-wal"] {
            stats.index += size(&root.join(format!("index.db{suffix}")))?;
        }
        let (mut rooted, mut sizes) = (BTreeSet::new(), HashMap::new());
        for sort in [Sort::Ref, Sort::Lease] {
            let roots = self.roots_of(sort).list("")?;
            match sort {
                Sort::Ref => stats.refs = roots.len() as u64,
                Sort::Lease => stats.leases = roots.len() as u64,
            }
            rooted.extend(roots.into_iter().map(|root| root.tree));
        }
        stats.trees = rooted.len() as u64;
        for tree in rooted {
            let of = files_below(objects, &tree, &mut sizes)?;
            stats.rooted.count += of.count;
            stats.rooted.bytes += of.bytes;
        }
        for directory in names(&root.join("farm/files"))? {
            add_files(&root.join("farm/files").join(directory), &mut stats.farm_files)?;
        }
        add_files(&root.join("farm/aside"), &mut stats.aside)?;
        stats.farm_trees = names(&root.join("farm/trees"))?.len() as u64;
        stats.places = names(&root.join("places"))?.len() as u64;
        Ok(stats)
    }
}

fn add_packs(objects: &Objects, stats: &mut Stats) -> Result<(), StoreError> {
    let (storage, root) = (objects.storage(), objects.root());
    for pack in pack::list(storage, root)? {
        let packed = pack::read_footer(storage, root, &pack)?;
        stats.packs.add(packed.size + size(&pack::tail_path(root, &pack))?);
        for record in &packed.footer.records {
            let frame = &packed.footer.frames[record.frame as usize];
            let of = stats.records.entry(record.id.kind).or_default();
            of.count += 1;
            of.raw += u64::from(record.length);
            let share = u64::from(record.length) * u64::from(frame.stored);
            of.stored += share / u64::from(frame.raw).max(1);
        }
    }
    Ok(())
}

/// The files below a tree, and their lengths. `sizes` holds what was found out before.
fn files_below(
    objects: &Objects,
    root: &TreeId,
    sizes: &mut HashMap<TreeId, Amount>,
) -> Result<Amount, StoreError> {
    let mut pending = vec![*root];
    while let Some(id) = pending.last().copied() {
        if sizes.contains_key(&id) {
            pending.pop();
            continue;
        }
        let entries = objects.read(&RecordId::tree(&id), |bytes| tree::decode(&id, bytes))?;
        let mut sum = Amount::default();
        let before = pending.len();
        for entry in &entries {
            match &entry.kind {
                Kind::File { size, .. } => sum.add(*size),
                Kind::Directory(id) => match sizes.get(id) {
                    Some(of) => {
                        sum.count += of.count;
                        sum.bytes += of.bytes;
                    }
                    None => pending.push(*id),
                },
                Kind::Symlink(_) => {}
            }
        }
        // Else it is looked at again when what is below is known.
        if pending.len() == before {
            sizes.insert(id, sum);
        }
    }
    Ok(sizes.get(root).copied().unwrap_or_default())
}

/// The names in a directory, none if it is not there.
fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let list = || -> io::Result<Vec<_>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    match list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(StoreError::read(directory)),
    }
}

/// A file's length, 0 if it is not there.
fn size(path: &Path) -> Result<u64, StoreError> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        found => Ok(found.map_err(StoreError::read(path))?.len()),
    }
}

fn add_files(directory: &Path, to: &mut Amount) -> Result<(), StoreError> {
    for name in names(directory)? {
        // Evicted since the directory was read.
        if let Ok(found) = fs::symlink_metadata(directory.join(name)) {
            to.add(found.blocks() * 512);
        }
    }
    Ok(())
}
