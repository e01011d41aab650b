//! Trees of the store as directories: independent copies, or links into the farm.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::contents::{self, Sink, Want};
use super::error::StoreError;
use super::farm::{Farm, MTIME};
use super::format::content::Links;
use super::format::tree::Kind;
use super::format::{FormatError, RecordId, TreeId};
use super::objects::Objects;
use super::parallel;
use super::tree::TreeCache;

/// How the files of a restored tree came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// They share blocks with the store until one of them is written to.
    Reflink,
    /// They were written.
    Copy,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strategy::Reflink => "reflink",
            Strategy::Copy => "copy",
        })
    }
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Regular files.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
    /// How they were made.
    pub strategy: Strategy,
}

/// What was linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// Regular files, each a hard link into the farm.
    pub files: u64,
    /// Their lengths in all.
    pub bytes: u64,
}

/// A store, as far as it is needed here.
pub struct Parts<'s> {
    /// Its records.
    pub objects: &'s Objects,
    /// Its directories.
    pub trees: &'s TreeCache,
    /// Its farm.
    pub farm: &'s Farm,
}

/// The regular files of a tree, whose directories and symbolic links have been made.
struct Layout {
    wants: Vec<Want>,
    bytes: u64,
}

impl Parts<'_> {
    /// Writes the tree `id` to `dest`, which need not exist: files of one's own, writable.
    pub fn restore(&self, id: &TreeId, dest: &Path) -> Result<Restored, StoreError> {
        self.or_nothing(dest, || {
            let Layout { mut wants, bytes } = self.lay_out(id, dest)?;
            let files = wants.len() as u64;
            let links = self.take_links(id, dest, &mut wants)?;
            let strategy = self.copy(wants)?;
            for (first, others) in links {
                for other in others {
                    fs::hard_link(&first, &other).map_err(StoreError::restore(&other))?;
                }
            }
            Ok(Restored { files, bytes, strategy })
        })
    }

    /// Makes the tree `id` at `dest` of hard links into the farm.
    pub fn link(&self, id: &TreeId, dest: &Path) -> Result<Linked, StoreError> {
        self.or_nothing(dest, || {
            let Layout { wants, bytes } = self.lay_out(id, dest)?;
            self.farm.fill(self.objects, wants.iter().map(|want| (want.id, want.exec)))?;
            for want in &wants {
                self.farm.link(self.objects, &want.id, want.exec, &want.target)?;
            }
            Ok(Linked { files: wants.len() as u64, bytes })
        })
    }

    /// Runs `work`; if it fails and `dest` was not there before, it is not there after.
    fn or_nothing<R>(
        &self,
        dest: &Path,
        work: impl FnOnce() -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let was_there = fs::symlink_metadata(dest).is_ok();
        work().inspect_err(|_| {
            if !was_there {
                // The first error is the one to tell.
                let _ = fs::remove_dir_all(dest);
            }
        })
    }

    /// Makes the directories and symbolic links of a tree. Directories that are there
    /// already are kept; anything else in the way is an error.
    fn lay_out(&self, id: &TreeId, dest: &Path) -> Result<Layout, StoreError> {
        fs::create_dir_all(dest).map_err(StoreError::restore(dest))?;
        let mut layout = Layout { wants: Vec::new(), bytes: 0 };
        let mut pending = vec![(*id, dest.to_owned())];
        while let Some((id, directory)) = pending.pop() {
            let tree = self.trees.get(self.objects, &id)?;
            for entry in &tree.entries {
                let target = directory.join(OsStr::from_bytes(&entry.name));
                match &entry.kind {
                    Kind::File { exec, id, size } => {
                        layout.bytes += size;
                        layout.wants.push(Want { id: *id, exec: *exec, target });
                    }
                    Kind::Directory(id) => {
                        make_directory(&target)?;
                        pending.push((*id, target));
                    }
                    Kind::Symlink(to) => {
                        std::os::unix::fs::symlink(OsStr::from_bytes(to), &target)
                            .map_err(StoreError::restore(&target))?;
                    }
                }
            }
        }
        Ok(layout)
    }

    /// Takes out of `wants` the files that were names of an inode that stays in it.
    fn take_links(
        &self,
        id: &TreeId,
        dest: &Path,
        wants: &mut Vec<Want>,
    ) -> Result<Vec<(PathBuf, Vec<PathBuf>)>, StoreError> {
        let record = RecordId::links(id);
        if !self.objects.contains(&record)? {
            return Ok(Vec::new());
        }
        let links = self.objects.read(&record, Links::decode)?;
        let path = |relative: &[u8]| dest.join(OsStr::from_bytes(relative));
        let mut taken = Vec::new();
        let mut firsts = HashMap::new();
        for group in &links.groups {
            let [first, others @ ..] = &group[..] else { continue };
            firsts.extend(others.iter().map(|other| (path(other), path(first))));
            taken.push((path(first), others.iter().map(|other| path(other)).collect()));
        }
        // Only files that the tree itself says are the same may be one.
        let kept: HashMap<_, _> =
            wants.iter().map(|want| (&want.target, (want.id, want.exec))).collect();
        let agrees = |(other, first): (&PathBuf, &PathBuf)| {
            kept.get(other).is_some_and(|file| kept.get(first) == Some(file))
        };
        if !firsts.iter().all(agrees) {
            let source =
                FormatError::Invalid { what: "a list of hard links", why: "the tree disagrees" };
            return Err(StoreError::DamagedRecord { record, source });
        }
        wants.retain(|want| !firsts.contains_key(&want.target));
        Ok(taken)
    }

    /// Makes files of one's own. Whether blocks can be shared is found out by the first one.
    fn copy(&self, wants: Vec<Want>) -> Result<Strategy, StoreError> {
        let Some(first) = wants.first() else { return Ok(Strategy::Copy) };
        if !self.reflink(first)? {
            // Straight from the packs: each frame is decoded once, and all is verified,
            // for less than it costs to open, look at and copy the farm's files.
            contents::extract(self.objects, wants, &CopySink)?;
            return Ok(Strategy::Copy);
        }
        let rest = &wants[1..];
        self.farm.fill(self.objects, rest.iter().map(|want| (want.id, want.exec)))?;
        parallel::run(rest.iter().collect(), |queue| {
            while let Some(want) = queue.next() {
                if !self.reflink(want)? {
                    contents::extract_one(self.objects, want, &CopySink)?;
                }
            }
            Ok(())
        })?;
        Ok(Strategy::Reflink)
    }

    /// Makes a file that shares its blocks with the farm's. False, and no file, where the
    /// file system cannot.
    fn reflink(&self, want: &Want) -> Result<bool, StoreError> {
        let source = self.farm.open(self.objects, &want.id, want.exec)?;
        let (path, file) = CopySink.begin(want)?;
        let cloned = rustix::fs::ioctl_ficlone(&file, &source).is_ok();
        match cloned {
            true => CopySink.end(want, &path, file)?,
            false => fs::remove_file(&path).map_err(StoreError::restore(&path))?,
        }
        Ok(cloned)
    }
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        // A link to a directory would lead out of the tree.
        Err(e)
            if e.kind() == io::ErrorKind::AlreadyExists
                && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) =>
        {
            Ok(())
        }
        made => made.map_err(StoreError::restore(path)),
    }
}

/// Files of one's own.
struct CopySink;

impl Sink for CopySink {
    fn begin(&self, want: &Want) -> Result<(PathBuf, File), StoreError> {
        let mode = if want.exec { 0o755 } else { 0o644 };
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&want.target);
        Ok((want.target.clone(), file.map_err(StoreError::restore(&want.target))?))
    }

    fn end(&self, _: &Want, path: &Path, file: File) -> Result<(), StoreError> {
        let mtime: SystemTime = UNIX_EPOCH + Duration::from_secs(MTIME as u64);
        file.set_modified(mtime).map_err(StoreError::restore(path))
    }

    fn failed(&self, path: &Path, error: io::Error) -> StoreError {
        StoreError::restore(path)(error)
    }
}
