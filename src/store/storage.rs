//! The seam between the store and the disk: everything that must survive a crash (packs,
//! their footers, refs) is read and written through [`Storage`], so that a test can fail,
//! tear or forget any operation. The farm, which can always be made again, is not.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file being written.
pub trait Output: Write + Send {
    /// Makes what was written survive a crash.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read. Called from several threads.
pub trait Input: Send + Sync {
    /// Fills `buf` from byte `offset` on, or fails.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// The file's length.
    fn size(&self) -> io::Result<u64>;
}

/// What the store needs of a disk.
pub trait Storage: Send + Sync {
    /// Makes a new, empty file.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Opens a file.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>>;
    /// Gives a file another name, over what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a directory, and those above it, where they are missing.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory survive a crash.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// Reads a whole file.
pub fn read(storage: &dyn Storage, path: &Path) -> io::Result<Vec<u8>> {
    let input = storage.open(path)?;
    let mut bytes = vec![0; input.size()? as usize];
    input.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes `bytes` so that `path` holds them wholly or not at all, whatever happens: through
/// `tmp`, which is on the same file system. The caller syncs the directory of `path`.
pub fn write(storage: &dyn Storage, tmp: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = || {
        let mut output = storage.create(tmp)?;
        output.write_all(bytes)?;
        output.sync()?;
        storage.rename(tmp, path)
    };
    write().inspect_err(|_| {
        // The first error is the one to tell; `tmp` goes with its directory otherwise.
        let _ = storage.remove(tmp);
    })
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Input for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>> {
        Ok(Arc::new(File::open(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
