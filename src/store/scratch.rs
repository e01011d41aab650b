//! Directories for half-made things. Each is locked by the process that made it; what nobody
//! holds a lock on is garbage of a process that died, and is removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::remove::remove_tree;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory of one's own, removed with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    // Held, not used: the lock goes with the descriptor.
    _lock: File,
    next: AtomicU64,
}

impl Scratch {
    /// Makes one in `parent`.
    pub fn new(parent: &Path) -> io::Result<Scratch> {
        Scratch::named(parent, OsStr::new(""))
    }

    /// Makes one in `parent` whose name begins with `prefix`.
    pub fn named(parent: &Path, prefix: &OsStr) -> io::Result<Scratch> {
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut name = OsString::from(prefix);
            name.push(format!("{}-{n}", std::process::id()));
            let path = parent.join(name);
            match fs::create_dir(&path) {
                // Of another process with our number: an earlier one, or one in another
                // process namespace.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Between the two calls somebody may have taken it for garbage.
            let Ok(lock) = File::open(&path) else { continue };
            lock.lock()?;
            let held = lock.metadata()?;
            match fs::metadata(&path) {
                Ok(found) if (found.dev(), found.ino()) == (held.dev(), held.ino()) => {
                    return Ok(Scratch { path, _lock: lock, next: AtomicU64::new(0) });
                }
                _ => continue,
            }
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it that was not given out before.
    pub fn fresh(&self) -> PathBuf {
        self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Removes what dead processes left in `parent`.
    pub fn sweep(parent: &Path) -> io::Result<()> {
        Scratch::sweep_named(parent, OsStr::new(""))
    }

    /// The same for those whose names begin with `prefix`.
    pub fn sweep_named(parent: &Path, prefix: &OsStr) -> io::Result<()> {
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
            let ours = |rest: &[u8]| rest.iter().all(|b| b.is_ascii_digit() || *b == b'-');
            if !rest.is_some_and(|rest| prefix.is_empty() || ours(rest)) {
                continue;
            }
            let path = entry.path();
            // Whoever is faster removes it; what cannot be removed now, can be next time.
            if let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
            {
                let _ = remove_tree(&path);
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it fails, the next process to open the store sweeps it.
        let _ = remove_tree(&self.path);
    }
}
