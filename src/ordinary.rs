//! Ordinary files in directories where somebody else is at work, who may exchange them for a pipe, which
//! is waited for, or for a link to what is not theirs to read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Opens the file at `path`, wherever links lead; nothing else than a file, and without waiting.
pub fn open(path: &Path) -> io::Result<File> {
    // It is looked at when it is open: before, it may have been another.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    only_files(file)
}

/// Opens the file at `path` below `root`, with no link on the way.
pub fn open_below(root: &Path, path: &Path) -> io::Result<File> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, directory, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    only_files(File::from(openat2(&root, path, flags, Mode::empty(), resolve)?))
}

/// The bytes of the file at `path`, wherever links lead, of which there may be no more than `most`.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long")),
        false => Ok(bytes),
    }
}

fn only_files(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_files_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("in")).unwrap();
        std::fs::write(at("in/file"), "text").unwrap();
        symlink(at("in/file"), at("link")).unwrap();
        symlink("in", at("aside")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&at("in/file"), 4).unwrap(), b"text");
        assert_eq!(read(&at("link"), 4).unwrap(), b"text");
        assert_eq!(read(&at("link"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for name in ["pipe", "in"] {
            assert_eq!(open(&at(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        let below = |name: &str| open_below(dir.path(), Path::new(name));
        assert!(below("in/file").is_ok());
        for name in ["link", "aside/file", "../in/file", "/etc/hosts", "pipe"] {
            assert!(below(name).is_err(), "{name}");
        }
    }
}
