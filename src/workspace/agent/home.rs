//! What an agent's own home begins with: copies of files of the user's.
//!
//! The agent may have been there before, or be there now under the same name: what it put in the way is
//! not followed, least of all a link that leads out of its home, where this program could write.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Copies a file to `path` below `home`, if nothing is there.
pub(super) fn begin(home: &Path, path: &Path, from: &Path) -> io::Result<()> {
    let names: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let Some((name, parents)) = names.split_last() else { return Ok(()) };
    let mut at = openat(CWD, home, DIRECTORY, Mode::empty())?;
    for parent in parents {
        match mkdirat(&at, *parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at = openat(&at, *parent, DIRECTORY, Mode::empty())?;
    }
    let mut source = File::open(from)?;
    let mode = source.metadata()?.permissions().mode() & 0o777;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match openat(&at, *name, flags, Mode::from_raw_mode(mode)) {
        Ok(made) => io::copy(&mut source, &mut File::from(made)).map(drop),
        // Also a link that leads nowhere yet.
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
