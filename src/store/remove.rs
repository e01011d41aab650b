//! Removing whole directories.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a tree whose directories may be read-only, as those of the farm are. That there
/// is none is no error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    fn open_up(directory: &Path) -> io::Result<()> {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
            }
        }
        Ok(())
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
