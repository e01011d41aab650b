//! Directories: their canonical encoding, which makes their id, and their record.
//!
//! # The id
//!
//! BLAKE3 in key-derivation mode with context [`CONTEXT`], over
//!
//! ```text
//! u32 number of entries, then for each entry, in the order of the names' bytes:
//!   u8  kind: 1 file, 2 executable file, 3 directory, 4 symbolic link
//!   u16 length of the name, the name
//!   32  FileId of a file, TreeId of a directory; of a link: u32 length, the target
//! ```
//!
//! A name is 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`; names are
//! strictly ascending. A link's target is 1 to 4,095 bytes without NUL.
//!
//! # The record
//!
//! The same in columns, which compress better, and with the files' sizes beside:
//!
//! ```text
//! u32 version  u32 n
//! n × u8  kinds
//! n × u8  lengths of names
//! names, one after the other
//! u64 × files        sizes
//! 32  × files, dirs  ids
//! u16 × links        lengths of targets
//! targets
//! ```

use super::{FileId, FormatError, Reader, TreeId, VERSION, bounded};

/// The key-derivation context of tree ids.
pub const CONTEXT: &str = "zagi store tree v1";
/// The longest name.
pub const MAX_NAME: usize = 255;
/// The longest target of a symbolic link.
pub const MAX_TARGET: usize = 4095;

const WHAT: &str = "a tree";

/// A name in a directory of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// One path component; need not be UTF-8.
    pub name: Box<[u8]>,
    /// What stands there.
    pub kind: Kind,
}

/// What stands at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its owner may execute it.
        exec: bool,
        /// Its content.
        id: FileId,
        /// The content's length in bytes.
        size: u64,
    },
    /// A directory.
    Directory(TreeId),
    /// A symbolic link, and its target.
    Symlink(Box<[u8]>),
}

impl Kind {
    fn code(&self) -> u8 {
        match self {
            Kind::File { exec: false, .. } => 1,
            Kind::File { exec: true, .. } => 2,
            Kind::Directory(_) => 3,
            Kind::Symlink(_) => 4,
        }
    }
}

/// Whether `name` may stand in a directory.
pub fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= MAX_NAME
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

fn check(entries: &[Entry]) -> Result<(), FormatError> {
    let invalid = |why| Err(FormatError::Invalid { what: WHAT, why });
    for entry in entries {
        if !is_name(&entry.name) {
            return invalid("a name is empty, too long, `.`, `..`, or holds `/` or NUL");
        }
        if let Kind::Symlink(target) = &entry.kind
            && (target.is_empty() || target.len() > MAX_TARGET || target.contains(&0))
        {
            return invalid("a link's target is empty, too long, or holds NUL");
        }
    }
    if !entries.is_sorted_by(|a, b| a.name < b.name) {
        return invalid("its names are not in order");
    }
    Ok(())
}

fn hash(entries: &[Entry]) -> TreeId {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        hasher.update(&[entry.kind.code()]);
        hasher.update(&(entry.name.len() as u16).to_le_bytes());
        hasher.update(&entry.name);
        match &entry.kind {
            Kind::File { id, .. } => hasher.update(id.as_bytes()),
            Kind::Directory(id) => hasher.update(id.as_bytes()),
            Kind::Symlink(target) => {
                hasher.update(&(target.len() as u32).to_le_bytes()).update(target)
            }
        };
    }
    TreeId::from_bytes(*hasher.finalize().as_bytes())
}

/// The id and the record of a directory. `entries` must be in order.
pub fn encode(entries: &[Entry]) -> Result<(TreeId, Vec<u8>), FormatError> {
    check(entries)?;
    let mut bytes = Vec::with_capacity(8 + entries.len() * 64);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((entries.len() as u32).to_le_bytes());
    bytes.extend(entries.iter().map(|entry| entry.kind.code()));
    bytes.extend(entries.iter().map(|entry| entry.name.len() as u8));
    for entry in entries {
        bytes.extend(&entry.name);
    }
    for entry in entries {
        if let Kind::File { size, .. } = entry.kind {
            bytes.extend(size.to_le_bytes());
        }
    }
    for entry in entries {
        match &entry.kind {
            Kind::File { id, .. } => bytes.extend(id.as_bytes()),
            Kind::Directory(id) => bytes.extend(id.as_bytes()),
            Kind::Symlink(_) => {}
        }
    }
    let targets = || {
        entries.iter().filter_map(|entry| match &entry.kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        })
    };
    for target in targets() {
        bytes.extend((target.len() as u16).to_le_bytes());
    }
    for target in targets() {
        bytes.extend(target);
    }
    Ok((hash(entries), bounded(WHAT, bytes)?))
}

/// The entries in a directory's record, which must be the one called `id`.
pub fn decode(id: &TreeId, bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    let mut reader = Reader::new(WHAT, bytes);
    reader.version()?;
    let count = reader.count(2)?;
    let kinds = reader.take(count)?;
    let lengths = reader.take(count)?;
    let names: Vec<&[u8]> =
        lengths.iter().map(|&n| reader.take(n.into())).collect::<Result<_, _>>()?;

    let number = |code: &[u8]| kinds.iter().filter(|kind| code.contains(kind)).count();
    let mut sizes = reader.items(number(&[1, 2]), 8)?.chunks_exact(8);
    let mut ids = reader.items(number(&[1, 2, 3]), 32)?.chunks_exact(32);
    let target_lengths: Vec<u16> =
        (0..number(&[4])).map(|_| reader.u16()).collect::<Result<_, _>>()?;
    let targets: Vec<&[u8]> =
        target_lengths.iter().map(|&n| reader.take(n.into())).collect::<Result<_, _>>()?;
    let mut targets = targets.into_iter();
    reader.finish()?;

    let columns = "each column was counted by the kinds";
    let mut next_id = || -> [u8; 32] {
        ids.next().expect(columns).try_into().expect("chunks_exact gives 32 bytes")
    };
    let mut entries = Vec::with_capacity(count);
    for (&kind, name) in kinds.iter().zip(names) {
        let kind = match kind {
            1 | 2 => {
                let size = sizes.next().expect(columns);
                let size = u64::from_le_bytes(size.try_into().expect("chunks_exact gives 8 bytes"));
                Kind::File { exec: kind == 2, id: FileId::from_bytes(next_id()), size }
            }
            3 => Kind::Directory(TreeId::from_bytes(next_id())),
            4 => Kind::Symlink(targets.next().expect(columns).into()),
            _ => {
                return Err(FormatError::Invalid { what: WHAT, why: "an entry's kind is unknown" });
            }
        };
        entries.push(Entry { name: name.into(), kind });
    }
    check(&entries)?;
    if hash(&entries) != *id {
        return Err(FormatError::Hash { what: WHAT });
    }
    Ok(entries)
}
