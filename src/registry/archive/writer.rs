//! Writes members below a destination; every rule about hostile archives stands here.
//!
//! Why nothing gets out: each directory on the way to a member was seen to be a directory
//! and no link, and is never replaced, so a member's path means what it says. A link's
//! target is written so that `..` stands only at its front, where it walks up those same
//! directories and not above the destination; what follows may pass other links, of which
//! the same holds.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{ArchiveError, Limits, Unpacked};

/// One member of an archive.
pub(super) enum Member<'a> {
    Directory,
    File {
        executable: bool,
        bytes: &'a mut dyn Read,
    },
    /// The target as published.
    Symlink(&'a [u8]),
    /// The name of another member.
    HardLink(&'a [u8]),
    /// A device, pipe or socket.
    Special,
}

pub(super) struct Writer<'a> {
    archive: &'a Path,
    dest: &'a Path,
    strip: usize,
    limits: Limits,
    members: u64,
    unpacked: Unpacked,
    /// Directories below `dest` that were seen to be such.
    directories: HashSet<PathBuf>,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub fn new(
        archive: &'a Path,
        dest: &'a Path,
        strip: usize,
        limits: Limits,
    ) -> Result<Writer<'a>, ArchiveError> {
        fs::create_dir_all(dest).map_err(write_error(dest))?;
        Ok(Writer {
            archive,
            dest,
            strip,
            limits,
            members: 0,
            unpacked: Unpacked::default(),
            directories: HashSet::new(),
            buffer: vec![0; 128 << 10],
        })
    }

    pub fn unpacked(&self) -> Unpacked {
        self.unpacked
    }

    /// Notes a member's modification time.
    pub fn seen_at(&mut self, time: u64) {
        let time = i64::try_from(time).unwrap_or(0);
        self.unpacked.newest = self.unpacked.newest.max(time);
    }

    pub fn damaged(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Damaged { archive: self.archive.to_owned(), source }
    }

    pub fn unsupported(&self, what: &str) -> ArchiveError {
        ArchiveError::Unsupported { archive: self.archive.to_owned(), what: what.to_owned() }
    }

    /// Adds one member.
    pub fn add(&mut self, name: &[u8], member: Member<'_>) -> Result<(), ArchiveError> {
        self.members += 1;
        if self.members > self.limits.members {
            let limit = self.limits.members;
            return Err(ArchiveError::TooMany { archive: self.archive.to_owned(), limit });
        }
        let Some(path) = self.place(name)? else { return Ok(()) };
        if path.as_os_str().is_empty() {
            // The destination itself, which is there.
            return match member {
                Member::Directory => Ok(()),
                _ => Err(self.conflict(name)),
            };
        }
        match member {
            Member::Directory => return self.directory(name, &path),
            Member::Special => {
                let (archive, name) = (self.archive.to_owned(), lossy(name));
                return Err(ArchiveError::Special { archive, name });
            }
            Member::File { executable, bytes } => self.file(name, &path, executable, bytes)?,
            Member::Symlink(target) => self.symlink(name, &path, target)?,
            Member::HardLink(target) => self.hard_link(name, &path, target)?,
        }
        self.unpacked.files += 1;
        Ok(())
    }

    /// Where a name stands below the destination: `.` and empty components mean nothing,
    /// `..` the component before it. `None` for what is stripped whole.
    fn place(&self, name: &[u8]) -> Result<Option<PathBuf>, ArchiveError> {
        let climbs =
            || ArchiveError::Climbs { archive: self.archive.to_owned(), name: lossy(name) };
        let components = normalise(Vec::new(), name).ok_or_else(climbs)?;
        match components.len() {
            0 => Ok(Some(PathBuf::new())),
            n if n <= self.strip => Ok(None),
            _ => Ok(Some(components[self.strip..].iter().map(|c| OsStr::from_bytes(c)).collect())),
        }
    }

    fn directory(&mut self, name: &[u8], path: &Path) -> Result<(), ArchiveError> {
        let mut walked = PathBuf::new();
        for component in path {
            walked.push(component);
            if self.directories.contains(&walked) {
                continue;
            }
            let full = self.dest.join(&walked);
            match fs::symlink_metadata(&full) {
                Ok(there) if there.is_dir() => {}
                Ok(there) if there.is_symlink() => {
                    let (archive, name) = (self.archive.to_owned(), lossy(name));
                    return Err(ArchiveError::ThroughLink { archive, name, link: walked });
                }
                Ok(_) => return Err(self.conflict(name)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir(&full).map_err(write_error(&full))?;
                }
                Err(e) => return Err(write_error(&full)(e)),
            }
            self.directories.insert(walked.clone());
        }
        Ok(())
    }

    /// Makes `path`'s directory and takes away what is at `path`: of members with the same
    /// name the last one counts, as tar has it, and none is written through another.
    fn clear(&mut self, name: &[u8], path: &Path) -> Result<PathBuf, ArchiveError> {
        if let Some(parent) = path.parent() {
            self.directory(name, parent)?;
        }
        let full = self.dest.join(path);
        match fs::symlink_metadata(&full) {
            Ok(there) if there.is_dir() => return Err(self.conflict(name)),
            Ok(_) => fs::remove_file(&full).map_err(write_error(&full))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(write_error(&full)(e)),
        }
        Ok(full)
    }

    fn file(
        &mut self,
        name: &[u8],
        path: &Path,
        executable: bool,
        bytes: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let full = self.clear(name, path)?;
        let mode = if executable { 0o755 } else { 0o644 };
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&full)
            .map_err(write_error(&full))?;
        loop {
            let n = match bytes.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.damaged(e)),
            };
            self.unpacked.bytes += n as u64;
            if self.unpacked.bytes > self.limits.bytes {
                let limit = self.limits.bytes;
                return Err(ArchiveError::TooLarge { archive: self.archive.to_owned(), limit });
            }
            file.write_all(&self.buffer[..n]).map_err(write_error(&full))?;
        }
    }

    fn symlink(&mut self, name: &[u8], path: &Path, target: &[u8]) -> Result<(), ArchiveError> {
        let full = self.clear(name, path)?;
        let parent: Vec<&[u8]> = path.parent().into_iter().flatten().map(OsStr::as_bytes).collect();
        let climbs = || ArchiveError::LinkClimbs {
            archive: self.archive.to_owned(),
            name: lossy(name),
            target: lossy(target),
        };
        if target.is_empty() {
            return Err(climbs());
        }
        let absolute = target.starts_with(b"/");
        // An absolute target means the root that a package will be installed to.
        let base = if absolute { Vec::new() } else { parent.clone() };
        let leads_to = normalise(base, target).ok_or_else(climbs)?;
        let target = match absolute || !is_plain(target) {
            true => relative(&parent, &leads_to),
            false => OsStr::from_bytes(target).into(),
        };
        std::os::unix::fs::symlink(&target, &full).map_err(write_error(&full))
    }

    fn hard_link(&mut self, name: &[u8], path: &Path, target: &[u8]) -> Result<(), ArchiveError> {
        let climbs = || ArchiveError::LinkClimbs {
            archive: self.archive.to_owned(),
            name: lossy(name),
            target: lossy(target),
        };
        let missing = || ArchiveError::HardLink {
            archive: self.archive.to_owned(),
            name: lossy(name),
            target: lossy(target),
        };
        let other = self.place(target).map_err(|_| climbs())?.ok_or_else(missing)?;
        if other == path {
            return Err(missing());
        }
        // Its directories are real ones, and it is a file: not a link to one elsewhere.
        if let Some(parent) = other.parent() {
            let known = parent.as_os_str().is_empty() || self.directories.contains(parent);
            if !known {
                return Err(missing());
            }
        }
        let from = self.dest.join(&other);
        match fs::symlink_metadata(&from) {
            Ok(there) if there.is_file() => {}
            _ => return Err(missing()),
        }
        let full = self.clear(name, path)?;
        fs::hard_link(&from, &full).map_err(write_error(&full))
    }

    fn conflict(&self, name: &[u8]) -> ArchiveError {
        ArchiveError::Conflict { archive: self.archive.to_owned(), name: lossy(name) }
    }
}

/// The components of `path` seen from `base`; `None` where it climbs above the root, or
/// holds a zero byte, which no file name can.
fn normalise<'a>(base: Vec<&'a [u8]>, path: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    if path.contains(&0) {
        return None;
    }
    let mut components = base;
    for component in path.split(|&c| c == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            _ => components.push(component),
        }
    }
    Some(components)
}

/// Whether `..` stands only at the front of a target.
fn is_plain(target: &[u8]) -> bool {
    let mut components = target.split(|&c| c == b'/').filter(|c| !matches!(*c, b"" | b"."));
    components.by_ref().find(|c| *c != b"..");
    components.all(|c| c != b"..")
}

/// The way from the directory `from` to `to`, both seen from the destination.
fn relative(from: &[&[u8]], to: &[&[u8]]) -> PathBuf {
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(&b".."[..], from.len() - common);
    let way: PathBuf = up.chain(to[common..].iter().copied()).map(OsStr::from_bytes).collect();
    if way.as_os_str().is_empty() { ".".into() } else { way }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError + use<> {
    let path = path.to_owned();
    move |source| ArchiveError::Write { path, source }
}
