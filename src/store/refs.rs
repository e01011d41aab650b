//! Refs: names for trees that must stay. Each is a small synced file of its own, so that no
//! rebuild of an index can forget a root.
//!
//! ```text
//! zagi ref 1
//! name <the name>
//! tree <64 hexadecimal digits>
//! hash <BLAKE3 of the lines above, 64 hexadecimal digits>
//! ```
//!
//! In the file's name, bytes other than letters, digits and `-_+.@` are written `%xx`, and so
//! is a first `.`. A newer version is refused.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::format::{TreeId, VERSION};
use super::scratch::Scratch;
use super::storage::{self, Storage};

/// A file's name is at most 255 bytes.
const MAX_FILE_NAME: usize = 255;

/// The refs of one store.
pub struct Refs<'s> {
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

fn encode(name: &str, tree: &TreeId) -> String {
    let body = format!("zagi ref {VERSION}\nname {name}\ntree {tree}\n");
    let hash = blake3::hash(body.as_bytes()).to_hex();
    format!("{body}hash {hash}\n")
}

fn decode(path: &Path, bytes: &[u8]) -> Result<(String, TreeId), StoreError> {
    let damaged = || StoreError::DamagedRef { path: path.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    let version = text.strip_prefix("zagi ref ").and_then(|rest| rest.split('\n').next());
    match version.and_then(|version| version.parse::<u32>().ok()) {
        Some(found) if found > VERSION => {
            return Err(StoreError::Newer { path: path.to_owned(), found: found.to_string() });
        }
        _ => {}
    }
    let mut lines = text.lines().skip(1);
    let mut field = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
    let name = field("name").ok_or_else(damaged)?;
    let tree = field("tree").and_then(|id| id.parse().ok()).ok_or_else(damaged)?;
    match encode(name, &tree) == text {
        true => Ok((name.to_owned(), tree)),
        false => Err(damaged()),
    }
}

impl Refs<'_> {
    /// The refs of the store `root`.
    pub fn new<'s>(root: &Path, storage: &'s dyn Storage, scratch: &'s Scratch) -> Refs<'s> {
        Refs { directory: root.join("refs"), storage, scratch }
    }

    /// Makes `name` mean `tree`, durably.
    pub fn set(&self, name: &str, tree: &TreeId) -> Result<(), StoreError> {
        let path = self.directory.join(file_name(name)?);
        let bytes = encode(name, tree);
        storage::write(self.storage, &self.scratch.fresh(), &path, bytes.as_bytes())
            .map_err(StoreError::write(&path))?;
        self.sync()
    }

    /// What `name` means.
    pub fn get(&self, name: &str) -> Result<Option<TreeId>, StoreError> {
        let path = self.directory.join(file_name(name)?);
        match storage::read(self.storage, &path) {
            Ok(bytes) => match decode(&path, &bytes)? {
                (found, tree) if found == name => Ok(Some(tree)),
                _ => Err(StoreError::DamagedRef { path }),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::read(&path)(e)),
        }
    }

    /// All refs whose names begin with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<(String, TreeId)>, StoreError> {
        let failed = |e| StoreError::read(&self.directory)(e);
        let begins = if prefix.is_empty() { String::new() } else { file_name(prefix)? };
        let mut refs = Vec::new();
        for file in self.storage.list(&self.directory).map_err(failed)? {
            if !file.as_bytes().starts_with(begins.as_bytes()) {
                continue;
            }
            let path = self.directory.join(file);
            match storage::read(self.storage, &path) {
                Ok(bytes) => refs.push(decode(&path, &bytes)?),
                // Removed since the directory was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::read(&path)(e)),
            }
        }
        refs.sort_unstable();
        Ok(refs)
    }

    /// Forgets `name`. Says whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.directory.join(file_name(name)?);
        match self.storage.remove(&path) {
            Ok(()) => self.sync().map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::write(&path)(e)),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.storage.sync_directory(&self.directory).map_err(StoreError::write(&self.directory))
    }
}
