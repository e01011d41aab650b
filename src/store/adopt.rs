//! Directories that are the caller's to give away: captured, and their files moved into the
//! farm instead of being extracted into it again later.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::beneath::{self, Root, join};
use super::capture::Captured;
use super::error::StoreError;
use super::farm::{MTIME, mode, stamp};
use super::format::TreeId;
use super::format::tree::{Entry, Kind};
use super::known::{self, Stamp};
use super::{Store, parallel};

/// A directory whose files may be moved.
struct Job {
    path: Box<[u8]>,
    tree: TreeId,
}

/// What makes a file one that can be moved.
struct Terms {
    /// No file was changed after this, in nanoseconds since 1970.
    since: i64,
    /// The coarseness of the file system's clock.
    margin: i64,
    device: u64,
    owner: u32,
}

impl Store {
    /// As [`Store::capture`], of a directory that nobody else has and that the caller will
    /// delete: its files are moved into the farm where that is on the same file system, so
    /// that links to them cost no extraction. Some or all may stay where they are.
    pub fn capture_owned(&self, dir: &Path) -> Result<Captured, StoreError> {
        let since = known::now(self.inner.objects.scratch());
        let captured = self.capture(dir)?;
        // The farm is a convenience; the tree is in the packs.
        if let (Ok(since), Ok(root)) = (since, Root::open(dir)) {
            let _ = self.adopt(&root, &captured.tree, since);
        }
        Ok(captured)
    }

    fn adopt(&self, root: &Root, tree: &TreeId, since: i64) -> Result<(), StoreError> {
        let files = self.inner.farm.files()?;
        let failed = |e: Errno| StoreError::read(&root.path(b""))(e.into());
        let device = rustix::fs::fstat(&files).map_err(failed)?.st_dev;
        let terms = Terms {
            since,
            margin: known::margin(&files),
            device,
            owner: nix::unistd::geteuid().as_raw(),
        };
        if rustix::fs::fstat(root).map_err(failed)?.st_dev != device {
            return Ok(());
        }
        let first = vec![Job { path: Box::default(), tree: *tree }];
        parallel::spread(
            first,
            || false,
            |job, new| {
                let directory = root.directory(&job.path);
                let directory = directory.map_err(StoreError::read(&root.path(&job.path)))?;
                for entry in &self.tree(&job.tree)?.entries {
                    match &entry.kind {
                        Kind::Directory(tree) => {
                            new.push(Job { path: join(&job.path, &entry.name), tree: *tree });
                        }
                        _ => self.adopt_file(&files, &directory, entry, &terms).map_err(failed)?,
                    }
                }
                Ok(())
            },
        )
        .map(drop)
    }

    /// Moves a file to its place in the farm, if it is certain to be what was captured. That
    /// is so where it was last touched before the capture began: by its ctime, which nobody
    /// can set.
    fn adopt_file(
        &self,
        files: &Root,
        directory: &impl std::os::fd::AsFd,
        entry: &Entry,
        terms: &Terms,
    ) -> Result<(), Errno> {
        let Kind::File { exec, id, size } = entry.kind else { return Ok(()) };
        let name = &*entry.name;
        let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !beneath::is(&found, FileType::RegularFile)
            || (found.st_dev, found.st_uid, found.st_size as u64)
                != (terms.device, terms.owner, size)
            || !Stamp::of(&found).is_settled(terms.since, terms.margin)
        {
            return Ok(());
        }
        let empty = AtFlags::empty();
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode(exec)), empty)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: MTIME, tv_nsec: stamp(&id, exec, size).into() },
        };
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        let target = self.inner.farm.path(&id, exec);
        let put = || {
            let flags = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(directory, name, CWD, &target, flags)
        };
        match put() {
            Err(Errno::NOENT) => {
                let parent = OsStr::from_bytes(&id.to_string().as_bytes()[..2]).to_owned();
                match rustix::fs::mkdirat(files, parent, Mode::from_raw_mode(0o755)) {
                    Err(e) if e != Errno::EXIST => Err(e),
                    _ => put(),
                }
            }
            // It has the content already, for all that is known.
            Err(Errno::EXIST) => Ok(()),
            done => done,
        }
    }
}
