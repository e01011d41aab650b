//! What a user names to the broker of system mode to be shown to an app of theirs.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::error::{WorkspaceError, at};

/// Where what is of root is everybody's to see, and its alone to change.
const SYSTEM: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix", "/gnu", "/etc"];

/// Device and inode of what `user` names to be shown. It must be theirs or the system's: the broker could
/// read what that user cannot, as workspaces of others that let it in.
pub(super) fn of<'p>(
    user: u32,
    named: impl Iterator<Item = &'p PathBuf>,
) -> Result<BTreeMap<PathBuf, (u64, u64)>, WorkspaceError> {
    let one = |path: &PathBuf| {
        let real = path.canonicalize().map_err(at(path))?;
        let about = real.symlink_metadata().map_err(at(path))?;
        let open = about.is_file() && about.mode() & 0o004 != 0;
        let of_system = open || SYSTEM.iter().any(|dir| real.starts_with(dir));
        match about.uid() == user || (about.uid() == 0 && of_system) {
            true => Ok((path.clone(), (about.dev(), about.ino()))),
            false => Err(at(path)(io::Error::other("it is another user's"))),
        }
    };
    named.map(one).collect()
}
