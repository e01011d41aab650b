//! Directories for half-made things. Each is locked by the process that made it; what nobody
//! holds a lock on is garbage of a process that died, and is removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{}-{n}", std::process::id()));
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

    /// A path in it that was not given out before.
    pub fn fresh(&self) -> PathBuf {
        self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Removes what dead processes left in `parent`.
    pub fn sweep(parent: &Path) -> io::Result<()> {
        for entry in fs::read_dir(parent)? {
            let path = entry?.path();
            // Whoever is faster removes it; what cannot be removed now, can be next time.
            if let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
            {
                let _ = fs::remove_dir_all(&path);
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it fails, the next process to open the store sweeps it.
        let _ = fs::remove_dir_all(&self.path);
    }
}
