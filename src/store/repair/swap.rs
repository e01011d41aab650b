//! New packs in, damaged ones out, and an index that says so, while nobody has a hold.
//!
//! | crash after | state |
//! |---|---|
//! | the generation is raised | nothing is gone; caches look again |
//! | a new pack has its name | both are there; the next repair finds the copies in the new one |
//! | a damaged pack is moved | readers that miss it make the index anew, and find the new one |
//! | the index is made anew | done |
//!
//! A new pack may be, byte for byte, what a damaged one was, and so have its name. Then the
//! damaged one is copied away first and replaced by one rename.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rescue;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::PackId;
use crate::store::hold::Exclusive;
use crate::store::known::{self, Known};
use crate::store::pack::{self, SealedPack};
use crate::store::storage::Storage;
use crate::store::verify::Examination;

/// Where damaged packs are kept.
pub fn directory(root: &Path) -> PathBuf {
    pack::directory(root).join("damaged")
}

impl Store {
    pub(super) fn swap(
        &self,
        examined: &Examination,
        packs: Vec<SealedPack>,
        patience: Duration,
    ) -> Result<(), StoreError> {
        let exclusive = self.wait_for_all(patience)?;
        let objects = &self.inner.objects;
        let (root, storage, scratch) = (objects.root(), objects.storage(), objects.scratch());
        self.raise(&exclusive, examined.is_generation_damaged)?;

        let damaged: Vec<PackId> = examined
            .bad
            .packs
            .iter()
            .filter(|(_, state)| state.is_damaged)
            .map(|(pack, _)| *pack)
            .collect();
        let aside = directory(root);
        if !damaged.is_empty() || !examined.strays.is_empty() {
            storage
                .create_directory(&aside)
                .and_then(|()| storage.sync_directory(&pack::directory(root)))
                .map_err(StoreError::write(&aside))?;
        }
        let mut replaced = HashSet::new();
        for sealed in packs {
            let pack = sealed.pack;
            if damaged.contains(&pack) {
                self.keep(&pack::pack_path(root, &pack), true)?;
                replaced.insert(pack);
            }
            sealed.name(root, &scratch.fresh())?;
        }
        for pack in damaged.iter().filter(|pack| !replaced.contains(*pack)) {
            self.keep(&pack::pack_path(root, pack), false)?;
            self.keep(&pack::tail_path(root, pack), false)?;
        }
        for path in &examined.strays {
            self.keep(path, false)?;
            self.keep(&path.with_extension("index"), false)?;
        }
        for directory in [&pack::directory(root), &aside] {
            match storage.sync_directory(directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::write(directory)(e));
                }
                _ => {}
            }
        }
        objects.rebuild_index()?;
        drop(exclusive);
        objects.forget_frames();
        Ok(())
    }

    fn raise(&self, exclusive: &Exclusive, is_damaged: bool) -> Result<(), StoreError> {
        let objects = &self.inner.objects;
        let (root, storage, scratch) = (objects.root(), objects.storage(), objects.scratch());
        if is_damaged {
            // Whoever remembers a generation wrote it down there.
            let remembered = known::list(root).unwrap_or_default();
            let highest = remembered.iter().filter_map(|file| Known::open(file));
            let highest = highest.map(|known| known.generation()).max().unwrap_or(0);
            exclusive.set_generation(root, storage, scratch, highest.saturating_add(1))?;
        }
        exclusive.raise_generation(root, storage, scratch).map(drop)
    }

    /// Moves a file to the damaged packs, or copies it there. That there is none is no error.
    fn keep(&self, path: &Path, copy: bool) -> Result<(), StoreError> {
        let objects = &self.inner.objects;
        let storage = objects.storage();
        let to = free_name(storage, &directory(objects.root()), path);
        let kept = match copy {
            true => rescue::copy(storage, path, &objects.scratch().fresh(), &to)
                .and_then(|()| storage.sync_directory(&directory(objects.root()))),
            false => storage.rename(path, &to),
        };
        match kept {
            // What cannot be read cannot be copied either, and is as good as not there.
            Err(e) if !copy && e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::write(&to)(e))
            }
            _ => Ok(()),
        }
    }
}

/// A name for `path` in `directory` that nothing has.
fn free_name(storage: &dyn Storage, directory: &Path, path: &Path) -> PathBuf {
    let names = storage.list(directory).unwrap_or_default();
    let part =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let mut name = format!("{stem}.{extension}");
    let mut no = 0;
    while names.iter().any(|taken| *taken == *name) {
        no += 1;
        name = format!("{stem}.{no}.{extension}");
    }
    directory.join(name)
}
