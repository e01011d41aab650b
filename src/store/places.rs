//! Which directories share files with the farm by hard links, so that when one of those
//! files turns out to have been changed, everywhere that shows it can be named.
//!
//! One small file a directory, `places/<BLAKE3 of the path>`, written before the first link:
//!
//! ```text
//! zagi place 1
//! tree <64 hexadecimal digits>
//! hash <BLAKE3 of the two lines above and of the path, 64 hexadecimal digits>
//! <the path, to the end of the file>
//! ```
//!
//! Directories in the farm itself need none: they are all looked at, and mended.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Store;
use super::error::StoreError;
use super::farm::Edited;
use super::format::{TreeId, VERSION};
use crate::event::Event;

/// A directory of hard links into the farm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it was made.
    pub path: PathBuf,
    /// What it was made of.
    pub tree: TreeId,
}

/// Files of the farm that were changed, by device and inode.
type Wanted<'e> = HashMap<(u64, u64), &'e Edited>;

impl Place {
    fn encode(&self) -> Vec<u8> {
        let head = format!("zagi place {VERSION}\ntree {}\n", self.tree);
        let path = self.path.as_os_str().as_bytes();
        let hash = blake3::Hasher::new().update(head.as_bytes()).update(path).finalize();
        [head.as_bytes(), format!("hash {}\n", hash.to_hex()).as_bytes(), path].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Place> {
        let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
        let (_, tree, _) = (parts.next()?, parts.next()?, parts.next()?);
        let tree = std::str::from_utf8(tree.strip_prefix(b"tree ")?).ok()?.parse().ok()?;
        let place = Place { path: Path::new(OsStr::from_bytes(parts.next()?)).to_owned(), tree };
        // Another version's, or not what was written.
        (place.encode() == bytes).then_some(place)
    }
}

impl Store {
    /// The directories outside of the store that were made of hard links into the farm and
    /// are still there. A record that is damaged is left out.
    pub fn places(&self) -> Result<Vec<Place>, StoreError> {
        let directory = self.inner.root.join("places");
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::read(&directory))?,
        };
        let mut places = Vec::new();
        for entry in entries {
            let path = entry.map_err(StoreError::read(&directory))?.path();
            // One that is gone by now is none.
            let Ok(bytes) = fs::read(&path) else { continue };
            match Place::decode(&bytes) {
                // If it stays, it is not there next time either.
                Some(place) if !place.path.is_dir() => drop(fs::remove_file(&path)),
                place => places.extend(place),
            }
        }
        places.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(places)
    }

    /// Remembers that the directory `dir`, a canonical path, is made of links for `tree`.
    /// In the farm itself that is known.
    pub(super) fn add_place(&self, dir: &Path, tree: &TreeId) -> Result<(), StoreError> {
        let farm = self.inner.root.join("farm");
        if farm.canonicalize().is_ok_and(|farm| dir.starts_with(farm)) {
            return Ok(());
        }
        let directory = self.inner.root.join("places");
        let name = blake3::hash(dir.as_os_str().as_bytes()).to_hex();
        let path = directory.join(name.as_str());
        let place = Place { path: dir.to_owned(), tree: *tree };
        let tmp = self.inner.objects.scratch().fresh();
        let write = || {
            fs::create_dir_all(&directory)?;
            let mut file = File::create_new(&tmp)?;
            file.write_all(&place.encode())?;
            file.sync_all()?;
            fs::rename(&tmp, &path)?;
            File::open(&directory)?.sync_all()
        };
        write().map_err(StoreError::write(&path))
    }

    /// If files of the farm were found changed since this was last asked, says where else
    /// the change shows, and mends the farm's own trees.
    pub(super) fn warn_of_edits(&self) {
        let edited = self.inner.farm.take_edited();
        if edited.is_empty() {
            return;
        }
        let wanted: Wanted<'_> = edited.iter().map(|e| ((e.device, e.inode), e)).collect();
        let mut shown: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        let mut see = |path: &Path, edited: &Edited| {
            shown.entry(edited.inode).or_default().push(path.to_owned());
        };
        for place in self.places().unwrap_or_default() {
            find(&place.path, &wanted, &mut see);
        }
        let trees = self.inner.root.join("farm/trees");
        let mut mended = Vec::new();
        find(&trees, &wanted, &mut |path, edited| mended.push((path.to_owned(), edited)));
        for (path, edited) in mended {
            if self.mend(&path, edited).is_err() {
                see(&path, edited);
            }
        }
        for edited in &edited {
            let paths = shown.remove(&edited.inode).unwrap_or_default();
            let shows: Vec<String> = paths.iter().map(|p| format!("`{}`", p.display())).collect();
            let shows = match shows.len() {
                0 => "it shows nowhere else".to_owned(),
                _ => format!("the change shows at {}", shows.join(", ")),
            };
            self.events.emit(Event::Warning(format!(
                "somebody changed a file that is shared with the store by hard links; {shows}; \
                 it is kept as `{}`, and the store makes it anew",
                edited.aside.display()
            )));
        }
    }

    /// Puts a sound file in the place of a changed one, in a tree of the farm.
    fn mend(&self, path: &Path, edited: &Edited) -> Result<(), StoreError> {
        let failed = |e: io::Error| StoreError::write(path)(e);
        let objects = &self.inner.objects;
        self.inner.farm.open(objects, &edited.id, edited.exec)?;
        let new = objects.scratch().fresh();
        let sound = self.inner.farm.path(&edited.id, edited.exec);
        fs::hard_link(&sound, &new).map_err(failed)?;
        let directory = path.parent().unwrap_or(path);
        let mode = fs::metadata(directory).map_err(failed)?.permissions();
        fs::set_permissions(directory, Permissions::from_mode(mode.mode() | 0o700))
            .map_err(failed)?;
        let put = fs::rename(&new, path).map_err(failed);
        fs::set_permissions(directory, mode).map_err(failed)?;
        put
    }
}

/// Tells `see` every name below `directory` of an inode that is wanted.
fn find<'e>(directory: &Path, wanted: &Wanted<'e>, see: &mut impl FnMut(&Path, &'e Edited)) {
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        // What cannot be looked into cannot be told of.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                pending.push(entry.path());
            } else if let Some(edited) = wanted.get(&(found.dev(), found.ino())) {
                see(&entry.path(), edited);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_round_trips_and_no_byte_of_it_may_change() {
        let path = Path::new(OsStr::from_bytes(b"/a \xff\n/b")).to_owned();
        let place = Place { path, tree: TreeId::from_bytes([7; 32]) };
        let bytes = place.encode();
        assert_eq!(Place::decode(&bytes), Some(place));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Place::decode(&changed), None, "byte {at}");
            assert_eq!(Place::decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
