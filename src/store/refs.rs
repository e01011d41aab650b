//! Roots: names for trees that must stay. Refs stay for ever, leases until a given time. Each
//! is a small synced file of its own, so that no rebuild of an index can forget a root.
//!
//! What is in the files is in [`super::format::root`].
//!
//! In the file's name, bytes other than letters, digits and `-_+.@` are written `%xx`, and so
//! is a first `.`. A newer version is refused. The modification time of a ref's file is when
//! it was set or looked up last: by that, refs that are only caches are found to be of no use
//! any more.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use super::error::StoreError;
use super::format::FormatError;
use super::scratch::Scratch;
use super::storage::{self, Storage};

pub use super::format::root::{Root, Sort};

/// A file's name is at most 255 bytes.
const MAX_FILE_NAME: usize = 255;

/// Files over this length are not mended; none is this long.
const MAX_MENDED: usize = 4096;

/// A root's file, and what it says.
pub type Found = (PathBuf, Result<Root, StoreError>);

/// The refs, or the leases, of one store.
pub struct RootFiles<'s> {
    sort: Sort,
    store: PathBuf,
    directory: PathBuf,
    storage: &'s dyn Storage,
    scratch: &'s Scratch,
}

fn file_name(name: &str) -> Result<String, StoreError> {
    let mut file = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'+' | b'@' => {
                file.push(byte.into());
            }
            b'.' if at > 0 => file.push('.'),
            _ => file.push_str(&format!("%{byte:02x}")),
        }
    }
    // A line break would end the name in the file.
    if name.is_empty() || file.len() > MAX_FILE_NAME || name.contains('\n') {
        return Err(StoreError::RefName { name: name.to_owned() });
    }
    Ok(file)
}

impl RootFiles<'_> {
    /// The refs, or the leases, of the store `store`.
    pub fn new<'s>(
        sort: Sort,
        store: &Path,
        storage: &'s dyn Storage,
        scratch: &'s Scratch,
    ) -> RootFiles<'s> {
        let directory = store.join(match sort {
            Sort::Ref => "refs",
            Sort::Lease => "leases",
        });
        RootFiles { sort, store: store.to_owned(), directory, storage, scratch }
    }

    /// Sets a root, durably.
    pub fn set(&self, root: &Root) -> Result<(), StoreError> {
        let path = self.path(&root.name)?;
        let bytes = self.sort.encode(root);
        if !self.storage.list(&self.directory).is_ok_and(|names| !names.is_empty()) {
            // The store is older than leases are; or somebody made the directory and died
            // before it was sure to survive.
            self.storage
                .create_directory(&self.directory)
                .and_then(|()| self.storage.sync_directory(&self.store))
                .map_err(StoreError::write(&self.directory))?;
        }
        storage::write(self.storage, &self.scratch.fresh(), &path, bytes.as_bytes())
            .map_err(StoreError::write(&path))?;
        self.sync()
    }

    /// The root `name`, which is in use from now on.
    pub fn get(&self, name: &str) -> Result<Option<Root>, StoreError> {
        let path = self.path(name)?;
        match storage::read(self.storage, &path) {
            Ok(bytes) => match self.decode(&path, &bytes)? {
                root if root.name == name => {
                    touch(&path);
                    Ok(Some(root))
                }
                _ => Err(StoreError::DamagedRef { path }),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::read(&path)(e)),
        }
    }

    /// All whose names begin with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<Root>, StoreError> {
        let begins = if prefix.is_empty() { String::new() } else { file_name(prefix)? };
        let mut roots = Vec::new();
        for file in self.files()? {
            if !file.as_bytes().starts_with(begins.as_bytes()) {
                continue;
            }
            let path = self.directory.join(file);
            match storage::read(self.storage, &path) {
                Ok(bytes) => roots.push(self.decode(&path, &bytes)?),
                // Removed since the directory was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::read(&path)(e)),
            }
        }
        roots.sort_unstable();
        Ok(roots)
    }

    /// Every file that should be one, and what it says.
    pub fn each(&self) -> Result<Vec<Found>, StoreError> {
        let mut roots = Vec::new();
        for file in self.files()? {
            let path = self.directory.join(&file);
            let decoded = match storage::read(self.storage, &path) {
                Ok(bytes) => self.decode(&path, &bytes),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => Err(StoreError::read(&path)(e)),
            };
            // One root's file under another's name.
            let is_named = |root: &Root| {
                file_name(&root.name).is_ok_and(|name| file.as_bytes() == name.as_bytes())
            };
            let decoded = match decoded {
                Ok(root) if !is_named(&root) => Err(StoreError::DamagedRef { path: path.clone() }),
                decoded => decoded,
            };
            roots.push((path, decoded));
        }
        roots.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(roots)
    }

    /// What a damaged file said before it was damaged, if that can be told for sure: if one
    /// bit of it was changed, which its hash shows, or only its name.
    pub fn as_it_was(&self, path: &Path) -> Option<Root> {
        let mut bytes = storage::read(self.storage, path).ok()?;
        if bytes.len() > MAX_MENDED {
            return None;
        }
        if let Ok(root) = self.sort.decode(&bytes) {
            let right = self.path(&root.name).ok()?;
            let is_free = right != path && self.storage.open(&right).is_err();
            return is_free.then_some(root);
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(root) = self.sort.decode(&bytes)
                && self.path(&root.name).is_ok_and(|right| right == path)
            {
                return Some(root);
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        None
    }

    /// Makes a damaged file what it was, durably. Says whether that could be told.
    pub fn mend(&self, path: &Path) -> Result<bool, StoreError> {
        let Some(root) = self.as_it_was(path) else { return Ok(false) };
        self.set(&root)?;
        if self.path(&root.name)? != path {
            self.storage.remove(path).map_err(StoreError::write(path))?;
            self.sync()?;
        }
        Ok(true)
    }

    fn files(&self) -> Result<Vec<OsString>, StoreError> {
        match self.storage.list(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.sort == Sort::Lease => {
                Ok(Vec::new())
            }
            files => files.map_err(StoreError::read(&self.directory)),
        }
    }

    /// Removes the root `name`. Says whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.path(name)?;
        match self.storage.remove(&path) {
            Ok(()) => self.sync().map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::write(&path)(e)),
        }
    }

    /// The file of the root `name`.
    pub fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        Ok(self.directory.join(file_name(name)?))
    }

    fn decode(&self, path: &Path, bytes: &[u8]) -> Result<Root, StoreError> {
        let path = path.to_owned();
        self.sort.decode(bytes).map_err(|source| match (source, self.sort) {
            (FormatError::Newer { found, .. }, _) => {
                StoreError::Newer { path, found: found.to_string() }
            }
            (_, Sort::Ref) => StoreError::DamagedRef { path },
            (_, Sort::Lease) => StoreError::DamagedLease { path },
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.storage.sync_directory(&self.directory).map_err(StoreError::write(&self.directory))
    }
}

/// Dates the file now.
fn touch(path: &Path) {
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let now = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
    // In a store that may only be read nothing is collected either.
    let _ = utimensat(CWD, path, &now, AtFlags::empty());
}
