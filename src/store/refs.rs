//! Roots: names for trees that must stay. Refs stay for ever, leases until a given time. Each
//! is a small synced file of its own, so that no rebuild of an index can forget a root.
//!
//! ```text
//! zagi ref 1                         zagi lease 1
//! name <the name>                    name <the name>
//! tree <64 hexadecimal digits>       tree <64 hexadecimal digits>
//!                                    until <seconds since the epoch>
//! hash <BLAKE3 of the lines above>   hash <BLAKE3 of the lines above>
//! ```
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
use super::format::{TreeId, VERSION};
use super::scratch::Scratch;
use super::storage::{self, Storage};

/// A file's name is at most 255 bytes.
const MAX_FILE_NAME: usize = 255;

/// For how long a root stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Until it is removed.
    Ref,
    /// Until a time, too.
    Lease,
}

/// One root, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// What must stay.
    pub tree: TreeId,
    /// Until when, in seconds since the epoch; a lease has it, a ref has not.
    pub until: Option<i64>,
}

/// The refs, or the leases, of one store.
pub struct Roots<'s> {
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

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Sort::Ref => "ref",
            Sort::Lease => "lease",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Sort::Ref => "refs",
            Sort::Lease => "leases",
        }
    }

    fn encode(self, root: &Root) -> String {
        let (word, Root { name, tree, until }) = (self.word(), root);
        let until = until.map_or(String::new(), |until| format!("until {until}\n"));
        let body = format!("zagi {word} {VERSION}\nname {name}\ntree {tree}\n{until}");
        let hash = blake3::hash(body.as_bytes()).to_hex();
        format!("{body}hash {hash}\n")
    }

    fn decode(self, path: &Path, bytes: &[u8]) -> Result<Root, StoreError> {
        let damaged = || match self {
            Sort::Ref => StoreError::DamagedRef { path: path.to_owned() },
            Sort::Lease => StoreError::DamagedLease { path: path.to_owned() },
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let magic = format!("zagi {} ", self.word());
        let version = text.strip_prefix(&magic).and_then(|rest| rest.split('\n').next());
        match version.and_then(|version| version.parse::<u32>().ok()) {
            Some(found) if found > VERSION => {
                return Err(StoreError::Newer { path: path.to_owned(), found: found.to_string() });
            }
            _ => {}
        }
        let mut lines = text.lines().skip(1);
        let mut field = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let name = field("name").ok_or_else(damaged)?.to_owned();
        let tree = field("tree").and_then(|id| id.parse().ok()).ok_or_else(damaged)?;
        let until = match self {
            Sort::Ref => None,
            Sort::Lease => {
                Some(field("until").and_then(|time| time.parse().ok()).ok_or_else(damaged)?)
            }
        };
        let root = Root { name, tree, until };
        match self.encode(&root) == text {
            true => Ok(root),
            false => Err(damaged()),
        }
    }
}

impl Roots<'_> {
    /// The refs, or the leases, of the store `store`.
    pub fn new<'s>(
        sort: Sort,
        store: &Path,
        storage: &'s dyn Storage,
        scratch: &'s Scratch,
    ) -> Roots<'s> {
        let directory = store.join(sort.directory());
        Roots { sort, store: store.to_owned(), directory, storage, scratch }
    }

    /// Sets a root, durably.
    pub fn set(&self, root: &Root) -> Result<(), StoreError> {
        let path = self.path(&root.name)?;
        let bytes = self.sort.encode(root);
        if self.storage.list(&self.directory).is_err() {
            // The store is older than leases are.
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
            Ok(bytes) => match self.sort.decode(&path, &bytes)? {
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
                Ok(bytes) => roots.push(self.sort.decode(&path, &bytes)?),
                // Removed since the directory was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::read(&path)(e)),
            }
        }
        roots.sort_unstable();
        Ok(roots)
    }

    /// Every file that should be one, and what it says.
    pub fn each(&self) -> Result<Vec<(PathBuf, Result<Root, StoreError>)>, StoreError> {
        let mut roots = Vec::new();
        for file in self.files()? {
            let path = self.directory.join(&file);
            let decoded = match storage::read(self.storage, &path) {
                Ok(bytes) => self.sort.decode(&path, &bytes),
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
