//! What an agent's own home begins with: copies of files of the user's, and a link to its program.
//!
//! The agent may have been there before, or be there now under the same name: what it put in the way is
//! not followed, least of all a link that leads out of its home, where this program could write.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, readlinkat, symlinkat, unlinkat};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Copies a file to `path` below `home`, if nothing is there.
pub(super) fn begin(home: &Path, path: &Path, from: &Path) -> io::Result<()> {
    let Some((at, name)) = parent(home, path)? else { return Ok(()) };
    let mut source = File::open(from)?;
    let mode = source.metadata()?.permissions().mode() & 0o777;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match openat(&at, name, flags, Mode::from_raw_mode(mode)) {
        Ok(made) => io::copy(&mut source, &mut File::from(made)).map(drop),
        // Also a link that leads nowhere yet.
        Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Makes `path` below `home` a link to `target`, also where it was one to somewhere else.
pub(super) fn link(home: &Path, path: &Path, target: &Path) -> io::Result<()> {
    let Some((at, name)) = parent(home, path)? else { return Ok(()) };
    // What is no link is the agent's own.
    if readlinkat(&at, name, Vec::new()).is_ok() {
        unlinkat(&at, name, AtFlags::empty())?;
    }
    match symlinkat(target, &at, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The directory of `path` below `home`, which is made, and its name there.
fn parent<'a>(home: &Path, path: &'a Path) -> io::Result<Option<(OwnedFd, &'a OsStr)>> {
    let names: Vec<_> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let Some((name, parents)) = names.split_last() else { return Ok(None) };
    let mut at = openat(CWD, home, DIRECTORY, Mode::empty())?;
    for parent in parents {
        match mkdirat(&at, *parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at = openat(&at, *parent, DIRECTORY, Mode::empty())?;
    }
    Ok(Some((at, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_led_elsewhere_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (home, path) = (dir.path().join("home"), Path::new("a/tool"));
        std::fs::create_dir(&home).unwrap();
        for target in ["/first", "/second"] {
            link(&home, path, Path::new(target)).unwrap();
            assert_eq!(home.join(path).read_link().unwrap(), Path::new(target));
        }
        std::fs::write(home.join("own"), "own").unwrap();
        link(&home, Path::new("own"), Path::new("/first")).unwrap();
        assert_eq!(std::fs::read_to_string(home.join("own")).unwrap(), "own");
        // A directory that leads out of it is not followed.
        std::os::unix::fs::symlink(dir.path(), home.join("out")).unwrap();
        assert!(link(&home, Path::new("out/tool"), Path::new("/first")).is_err());
        assert!(!dir.path().join("tool").exists());
    }
}
