//! The farm: what is not what was extracted is set aside and extracted again, and the farm's
//! trees get the new file where they had the old one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Repaired;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::FileId;
use crate::store::progress::Progress;
use crate::store::verify::farm::{FarmState, parse};

/// Mends the farm, whose packs are mended.
pub fn mend(store: &Store, state: &FarmState, repaired: &mut Repaired) -> Result<(), StoreError> {
    let (farm, objects) = (&store.inner.farm, &store.inner.objects);
    let wrong = wrong_inodes(store, state)?;
    let mut files = 0;
    for file in &state.bad {
        farm.set_aside_now(&file.path)?;
        files += 1;
    }
    for path in &state.bad_in_trees {
        let inode = fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()));
        let known = inode.ok().and_then(|inode| wrong.iter().find(|(wrong, ..)| *wrong == inode));
        let progress = Progress::new(&store.events, "repair: farm", None);
        let replaced = match known {
            None => false,
            Some((_, id, exec)) => match farm.fill(objects, [(*id, *exec)], &progress) {
                Ok(()) => {
                    let source = farm.path(id, *exec);
                    replace(&source, path).map_err(StoreError::write(path))?;
                    true
                }
                Err(e) if e.is_damage() => false,
                Err(e) => return Err(e),
            },
        };
        match replaced {
            true => files += 1,
            false => repaired.farm_lost.push(path.clone()),
        }
    }
    repaired.farm_files = files;
    Ok(())
}

type Inode = (u64, u64);

/// The inodes that are known not to be what they should, and what that is.
fn wrong_inodes(
    store: &Store,
    state: &FarmState,
) -> Result<Vec<(Inode, FileId, bool)>, StoreError> {
    let inode =
        |path: &Path| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let mut wrong: Vec<_> = state
        .bad
        .iter()
        .filter_map(|file| Some((inode(&file.path)?, file.id, file.exec)))
        .collect();
    // What is set aside is called after what it was, and its inode.
    for path in store.inner.farm.aside()? {
        let was = PathBuf::from(path.file_stem().unwrap_or_default());
        if let (Some((id, exec)), Some(inode)) = (parse(&was), inode(&path)) {
            wrong.push((inode, id, exec));
        }
    }
    Ok(wrong)
}

/// Puts another name of `source` in the place of `path`, in a directory that may be
/// read-only.
fn replace(source: &Path, path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mode = fs::metadata(directory)?.permissions().mode();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".zagi-repair");
    let tmp = directory.join(name);
    fs::set_permissions(directory, Permissions::from_mode(mode | 0o700))?;
    let replaced = match fs::remove_file(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        // Left by a repair that died, or not there.
        _ => fs::hard_link(source, &tmp).and_then(|()| fs::rename(&tmp, path)),
    };
    fs::set_permissions(directory, Permissions::from_mode(mode))?;
    replaced
}
