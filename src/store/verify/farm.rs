//! The farm, by content: each file is read and hashed, not only its stamp looked at.
//!
//! A tree of the farm is made of links to such files and of files that its maker wrote. What
//! a maker wrote is known to nobody; but a file that carries a stamp was extracted once, so
//! its content must be the one that the stamp was made for.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::Stat;

use super::findings::{Damage, Findings};
use crate::store::beneath;
use crate::store::error::StoreError;
use crate::store::farm::{Farm, MTIME};
use crate::store::format::FileId;
use crate::store::objects::Objects;
use crate::store::parallel;
use crate::store::places::Place;
use crate::store::progress::Progress;

const BUFFER: usize = 256 << 10;

/// A file of the farm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FarmFile {
    /// What its content should be.
    pub id: FileId,
    /// Whether it is executable.
    pub exec: bool,
    /// Where it is.
    pub path: PathBuf,
}

/// What was found in a farm.
#[derive(Debug, Default)]
pub struct FarmState {
    /// Files that were looked at.
    pub files: u64,
    /// Files that are not what was extracted.
    pub bad: Vec<FarmFile>,
    /// Files in trees that are not what was extracted.
    pub bad_in_trees: Vec<PathBuf>,
}

/// Looks at all of the farm; and, for what was changed in it, at `places`, which are made of
/// links to it.
pub fn examine(
    farm: &Farm,
    places: &[Place],
    objects: &Objects,
    findings: &Findings,
    progress: &Progress,
) -> Result<FarmState, StoreError> {
    let parts = subdirectories(&farm.root().join("files"))?;
    // By device and inode; so no content is read twice.
    let sound = Mutex::new(HashSet::new());
    let done = parallel::run(parts, |queue| {
        let mut state = FarmState::default();
        while let Some(directory) = queue.next() {
            for path in names(&directory)? {
                let Some((id, exec)) = parse(&path) else { continue };
                let Ok(Some(found)) = beneath::stat(rustix::fs::CWD, &path) else { continue };
                state.files += 1;
                progress.add(found.st_size as u64);
                match fault(farm, objects, &id, exec, &path, &found)? {
                    None => {
                        let inode = (found.st_dev, found.st_ino);
                        sound.lock().expect("nothing panics with it held").insert(inode);
                    }
                    Some(why) => {
                        findings.add(Damage::FarmFile { path: path.clone() }, why);
                        state.bad.push(FarmFile { id, exec, path });
                    }
                }
            }
        }
        Ok(state)
    })?;
    let sound = sound.into_inner().expect("nothing panics with it held");
    let trees = subdirectories(&farm.root().join("trees"))?;
    let in_trees = parallel::run(trees, |queue| {
        let mut bad = Vec::new();
        while let Some(tree) = queue.next() {
            walk(&tree, &mut |path, found| {
                if sound.contains(&(found.dev(), found.ino())) || !is_stamped(found) {
                    return;
                }
                progress.add(found.len());
                let is_its_own = hash(path).is_ok_and(|id| farm.is_stamp_of(&id, found));
                if !is_its_own {
                    bad.push(path.to_owned());
                }
            });
        }
        Ok::<_, StoreError>(bad)
    })?;
    let mut state = FarmState::default();
    for part in done {
        state.files += part.files;
        state.bad.extend(part.bad);
    }
    state.bad_in_trees = in_trees.into_iter().flatten().collect();
    state.bad_in_trees.extend(edited_in_trees(farm, &state)?);
    state.bad.sort_unstable();
    state.bad_in_trees.sort_unstable();
    state.bad_in_trees.dedup();
    for path in &state.bad_in_trees {
        findings.add(Damage::FarmTree { path: path.clone() }, "it is not what was extracted");
    }
    tell_places(places, &state, findings);
    Ok(state)
}

/// The names in the farm's trees of files that were found changed, now or earlier.
fn edited_in_trees(farm: &Farm, state: &FarmState) -> Result<Vec<PathBuf>, StoreError> {
    let changed: HashSet<(u64, u64)> = farm
        .aside()?
        .iter()
        .chain(state.bad.iter().map(|file| &file.path))
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .filter(|found| found.nlink() > 1)
        .map(|found| (found.dev(), found.ino()))
        .collect();
    let mut names = Vec::new();
    if !changed.is_empty() {
        for tree in subdirectories(&farm.root().join("trees"))? {
            walk(&tree, &mut |path, found| {
                if changed.contains(&(found.dev(), found.ino())) {
                    names.push(path.to_owned());
                }
            });
        }
    }
    Ok(names)
}

/// Where else than in the farm its changed files show.
fn tell_places(places: &[Place], state: &FarmState, findings: &Findings) {
    let changed: HashSet<(u64, u64)> = state
        .bad
        .iter()
        .filter_map(|file| fs::symlink_metadata(&file.path).ok())
        .filter(|found| found.nlink() > 1)
        .map(|found| (found.dev(), found.ino()))
        .collect();
    if changed.is_empty() {
        return;
    }
    for place in places {
        walk(&place.path, &mut |path, found| {
            if changed.contains(&(found.dev(), found.ino())) {
                let why = "it is one with a file of the farm that somebody has changed";
                findings.add(Damage::Place { path: path.to_owned() }, why);
            }
        });
    }
}

/// Why a file is not what was extracted, if so.
fn fault(
    farm: &Farm,
    objects: &Objects,
    id: &FileId,
    exec: bool,
    path: &Path,
    found: &Stat,
) -> Result<Option<String>, StoreError> {
    if !farm.is_sound(objects, id, exec, found)? {
        return Ok(Some("somebody has changed it".to_owned()));
    }
    Ok(match hash(path) {
        Ok(is) if is == *id => None,
        Ok(_) => Some("it does not match its hash".to_owned()),
        Err(e) => Some(e.to_string()),
    })
}

/// The id of what a file holds.
pub fn hash(path: &Path) -> io::Result<FileId> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER.min(file.metadata()?.len() as usize + 1)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(FileId::from_bytes(*hasher.finalize().as_bytes())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
    }
}

/// Whether a file carries a stamp of the farm, its own or another's.
fn is_stamped(found: &Metadata) -> bool {
    found.is_file() && found.mtime() == MTIME && found.mtime_nsec() != 0
}

/// What a file of the farm is called after.
pub fn parse(path: &Path) -> Option<(FileId, bool)> {
    let name = path.file_name()?.to_str()?;
    let (id, exec) = match name.strip_suffix('x') {
        Some(id) => (id, true),
        None => (name, false),
    };
    id.parse().ok().map(|id| (id, exec))
}

fn names(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut names = list().map_err(StoreError::read(directory))?;
    names.sort_unstable();
    Ok(names)
}

/// The directories in one, less those that are being made.
fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let is_made = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
    };
    Ok(names(directory)?.into_iter().filter(is_made).collect())
}

/// Every regular file below a directory. What is removed meanwhile is not there.
fn walk(directory: &Path, see: &mut dyn FnMut(&Path, &Metadata)) {
    let Ok(names) = names(directory) else { return };
    for path in names {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => walk(&path, see),
            Ok(found) if found.is_file() => see(&path, &found),
            _ => {}
        }
    }
}
