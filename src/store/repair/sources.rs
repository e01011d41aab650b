//! Where lost contents may still be: the farm, directories that were captured or restored,
//! and packs that were set aside. A file is used only if its content has the hash.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::rescue::Rescue;
use crate::store::error::StoreError;
use crate::store::farm::Farm;
use crate::store::format::content::{BINARY, Parameters, Recipe, WHOLE_BELOW};
use crate::store::format::tree::{self, Entry, Kind};
use crate::store::format::{FileId, RecordId, RecordKind, TreeId};
use crate::store::known::{self, Item, Known, KnownDirectory};
use crate::store::places::Place;
use crate::store::verify::closure::Lack;
use crate::store::verify::view::View;

/// The buffer through which files are read: several of the longest chunks.
const BUFFER: usize = 4 * BINARY.max;

/// Contents that are wanted and where they may be found.
type Places = BTreeMap<FileId, Vec<PathBuf>>;

/// What of `lack` might be in files: those files, and whole contents that no tree that can
/// be read names.
pub fn files(lack: &Lack) -> HashSet<FileId> {
    let of_record = |record: &RecordId| match record.kind {
        RecordKind::Data | RecordKind::Recipe | RecordKind::Delta => {
            Some(FileId::from_bytes(record.id))
        }
        _ => None,
    };
    lack.files.keys().copied().chain(lack.records.iter().filter_map(of_record)).collect()
}

/// Saves what the farm has. Gives how many files helped.
pub fn from_farm(rescue: &mut Rescue<'_>, farm: &Farm, lack: &Lack) -> Result<u64, StoreError> {
    let paths = |id: &FileId| vec![farm.path(id, false), farm.path(id, true)];
    let places: Places = files(lack).into_iter().map(|id| (id, paths(&id))).collect();
    from_places(rescue, places)
}

/// Saves what directories have that were captured or restored. Gives how many files helped,
/// and how many trees could be told from what was noted of such directories.
pub fn from_directories(
    rescue: &mut Rescue<'_>,
    root: &Path,
    lack: &Lack,
) -> Result<(u64, u64), StoreError> {
    let wanted = files(lack);
    let trees: HashSet<TreeId> = lack
        .records
        .iter()
        .filter(|record| record.kind == RecordKind::Tree)
        .map(|record| TreeId::from_bytes(record.id))
        .collect();
    let (mut helped, mut told) = (0, 0);
    // What cannot be listed or read is of no help, and no more is lost by it.
    for file in known::list(root).unwrap_or_default() {
        let Some(known) = Known::open(&file) else { continue };
        told += tell_trees(rescue, &known, &trees)?;
        let mut places = Places::new();
        for (id, path) in known.find(&wanted) {
            places.entry(id).or_default().push(known.path().join(path));
        }
        helped += from_places(rescue, places)?;
    }
    Ok((helped, told))
}

/// Saves what directories have that were made of links into the farm. Gives how many files
/// helped.
pub fn from_linked(
    rescue: &mut Rescue<'_>,
    linked: &[Place],
    lack: &Lack,
) -> Result<u64, StoreError> {
    let wanted = files(lack);
    let mut helped = 0;
    for place in linked {
        let mut places = Places::new();
        let mut seen = HashSet::new();
        let mut pending = vec![(place.tree, place.path.clone())];
        while let Some((id, path)) = pending.pop() {
            let bytes = rescue.bytes(&RecordId::tree(&id))?;
            for entry in bytes.and_then(|bytes| tree::decode(&id, &bytes).ok()).unwrap_or_default()
            {
                let path = path.join(OsStr::from_bytes(&entry.name));
                match entry.kind {
                    // One place of each content will do.
                    Kind::File { id, .. } if wanted.contains(&id) => {
                        places.entry(id).or_insert_with(|| vec![path]);
                    }
                    Kind::Directory(id) if seen.insert(id) => pending.push((id, path)),
                    _ => {}
                }
            }
        }
        helped += from_places(rescue, places)?;
    }
    Ok(helped)
}

/// Makes the wanted trees from the rows of the directories that were such trees. Their ids
/// say whether they are.
fn tell_trees(
    rescue: &mut Rescue<'_>,
    known: &Known,
    wanted: &HashSet<TreeId>,
) -> Result<u64, StoreError> {
    let mut told = 0;
    let mut ids: HashMap<u32, TreeId> = HashMap::new();
    let mut numbers = Vec::new();
    for number in 0.. {
        let Some(directory) = known.directory(number) else { break };
        ids.insert(number, directory.tree);
        if wanted.contains(&directory.tree) {
            numbers.push(number);
        }
    }
    for number in numbers {
        let Some(directory) = known.directory(number) else { continue };
        let id = directory.tree;
        if rescue.has(&RecordId::tree(&id))? {
            continue;
        }
        if let Some(entries) = entries(directory, &ids)
            && let Ok((is, bytes)) = tree::encode(&entries)
            && is == id
        {
            rescue.put(RecordId::tree(&id), &bytes)?;
            told += 1;
        }
    }
    Ok(told)
}

fn entries(directory: KnownDirectory<'_>, ids: &HashMap<u32, TreeId>) -> Option<Vec<Entry>> {
    let entry = |row: known::Row<'_>| {
        let kind = match row.item {
            Item::File { stamp, exec, id, .. } => Kind::File { exec, id, size: stamp.size },
            Item::Directory(child) => Kind::Directory(*ids.get(&child)?),
            Item::Symlink { target, .. } => Kind::Symlink(target.into()),
        };
        Some(Entry { name: row.name.into(), kind })
    };
    directory.map(entry).collect()
}

fn from_places(rescue: &mut Rescue<'_>, places: Places) -> Result<u64, StoreError> {
    let mut helped = 0;
    for (id, paths) in places {
        for path in paths {
            // Whatever keeps a file from being read, it does not help.
            if let Ok(true) = has_content(&path, &id) {
                helped += u64::from(put_file(rescue, &path, &id)?);
                break;
            }
        }
    }
    Ok(helped)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn has_content(path: &Path, id: &FileId) -> io::Result<bool> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open(path)?)?;
    Ok(hasher.finalize().as_bytes() == id.as_bytes())
}

/// Saves those parts of a file that are lost. Each part is right by its own hash, so what
/// was saved of a file that changes meanwhile does no harm.
fn put_file(rescue: &mut Rescue<'_>, path: &Path, id: &FileId) -> Result<bool, StoreError> {
    let failed = |e| StoreError::capture(path)(e);
    let before = rescue.count();
    let mut file = open(path).map_err(failed)?;
    let mut buffer = vec![0; BUFFER];
    let (mut start, mut end) = (0, fill(&mut file, &mut buffer, 0).map_err(failed)?);
    if (end as u64) < WHOLE_BELOW {
        if FileId::of(&buffer[..end]) == *id {
            put_missing(rescue, RecordId::data(id), &buffer[..end])?;
        }
        return Ok(rescue.count() > before);
    }
    let parameters = Parameters::for_file(&buffer[..end]);
    let mut hasher = blake3::Hasher::new();
    let mut recipe = Recipe::default();
    while start < end {
        let length = parameters.cut(&buffer[start..end]);
        let bytes = &buffer[start..start + length];
        hasher.update(bytes);
        let chunk = FileId::of(bytes);
        put_missing(rescue, RecordId::data(&chunk), bytes)?;
        recipe.chunks.push((length as u32, chunk));
        start += length;
        if end - start < parameters.max {
            buffer.copy_within(start..end, 0);
            end = fill(&mut file, &mut buffer, end - start).map_err(failed)?;
            start = 0;
        }
    }
    let is_it = hasher.finalize().as_bytes() == id.as_bytes();
    if is_it
        && recipe.chunks.len() > 1
        && let Ok(bytes) = recipe.encode()
    {
        put_missing(rescue, RecordId::recipe(id), &bytes)?;
    }
    Ok(rescue.count() > before)
}

fn put_missing(rescue: &mut Rescue<'_>, id: RecordId, bytes: &[u8]) -> Result<(), StoreError> {
    match rescue.has(&id)? {
        true => Ok(()),
        false => rescue.put(id, bytes),
    }
}

/// Reads until `buffer` is full, from `filled` on, or the file ends. Gives where the bytes
/// end.
fn fill(file: &mut File, buffer: &mut [u8], mut filled: usize) -> io::Result<usize> {
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
