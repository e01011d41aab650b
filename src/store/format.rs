//! The on-disk format of the store. This module and its children *are* the specification;
//! everything else in the room goes through them.
//!
//! All integers are little-endian. Readers take bytes, check every length against what is
//! there before they allocate, and never panic.
//!
//! # Versions
//!
//! Every structure carries a version: [`VERSION`], but where it says otherwise. A reader
//! refuses a version that it does not know, by name ([`FormatError::Newer`]); it never
//! guesses, and never takes what is newer for damaged. A structure that changes gets a new
//! number, and so does a structure that begins to hold what older readers cannot make sense
//! of: a pack with a record of a new kind says so in its trailer
//! ([`pack::VERSION_OF_DELTAS`]), since one that knows the pack but not the kind would take
//! the whole footer for damaged, leave the pack out when it makes the index anew, and miss
//! its records. The store as a whole has [`STORE_VERSION`], so that an older program stops
//! at the door and is not left to find out in the middle of something.
//!
//! | store | since then |
//! |---|---|
//! | 1 | |
//! | 2 | packs may hold deltas; a store of version 1 becomes one of version 2 when it is opened |
//!
//! # Identifiers
//!
//! | id | is |
//! |---|---|
//! | [`FileId`] | BLAKE3 of a content, the whole file as a reader would see it (`b3sum` prints the same) |
//! | [`TreeId`] | BLAKE3 in key-derivation mode, context [`tree::CONTEXT`], of a directory's canonical encoding ([`tree`]) |
//! | [`PackId`] | BLAKE3 of all bytes of a pack file |
//!
//! Neither a file's id nor a tree's depends on how contents are cut into chunks, compressed
//! or packed, nor on times, owners or the order in which a directory was read.
//!
//! # Records
//!
//! What the store holds are records, named by ([`RecordKind`], 32 bytes):
//!
//! | kind | name | payload |
//! |---|---|---|
//! | [`RecordKind::Data`] | `FileId` of the payload | a whole file, or one chunk of a larger one |
//! | [`RecordKind::Recipe`] | `FileId` of a file of several chunks | their list ([`content::Recipe`]) |
//! | [`RecordKind::Tree`] | `TreeId` | one directory ([`tree`]) |
//! | [`RecordKind::Links`] | `TreeId` of a captured root | which of its files were one inode ([`content::Links`]) |
//! | [`RecordKind::Delta`] | `FileId` of a file | how to make it from another ([`delta::Delta`]) |
//!
//! A content is looked for in the order `Data`, `Recipe`, `Delta`. A file below [`content::WHOLE_BELOW`] is one `Data` record; a larger one is cut
//! ([`content::Parameters`]), and is one `Data` record still where the cut gave one chunk.
//! The empty file has no record at all.
//!
//! # Files
//!
//! ```text
//! format            "zagi store 2\n"; a newer number is refused
//! packs/<id>.pack   records, immutable                                  ([`pack`])
//! packs/<id>.index  the pack's footer and trailer once more
//! index.db          SQLite; where each record is; can be made anew from the packs
//! refs/<name>       trees kept for ever: small synced files              ([`root`])
//! leases/<name>     trees kept until some time: the same                 ([`root`])
//! collect.lock      held shared by whoever relies on what is there       (`hold.rs`)
//! generation        a number, raised before anything is removed
//! known/<hash>      what was seen of a directory's files; a cache        (`known.rs`)
//! places/<hash>     a directory that was made of links into the farm     (`places.rs`)
//! farm/files/<aa>/<id>[x]   whole files, extracted once, evictable      (`farm.rs`)
//! farm/trees/<key>  whole trees made of them
//! farm/aside/       farm files that somebody had changed
//! tmp/<name>/       half-made things; garbage once nobody holds the directory's flock
//! ```

pub mod content;
pub mod delta;
pub mod pack;
pub mod root;
#[cfg(test)]
mod tests;
pub mod tree;

use std::fmt;
use std::str::FromStr;

/// The version of every structure that does not say otherwise.
pub const VERSION: u32 = 1;

/// The version of a store.
pub const STORE_VERSION: u32 = 2;

/// What the file `format` at the top of a store says.
pub const STORE_MAGIC: &str = "zagi store ";

/// No record, and no frame once decoded, is longer than this many bytes.
pub const MAX_RECORD: usize = 64 << 20;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end before the structure does.
    #[error("{what} ends early")]
    Truncated {
        /// The structure.
        what: &'static str,
    },
    /// The magic number is not there.
    #[error("{what} does not carry its magic number")]
    Magic {
        /// The structure.
        what: &'static str,
    },
    /// A newer zagi wrote it.
    #[error("{what} has version {found}, which is newer than this zagi; update zagi")]
    Newer {
        /// The structure.
        what: &'static str,
        /// Its version.
        found: u32,
    },
    /// A length is over what the format allows.
    #[error("{what} is {found} long, the limit is {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The content is not what its hash says.
    #[error("{what} does not match its hash")]
    Hash {
        /// The structure.
        what: &'static str,
    },
    /// A rule of the structure is broken.
    #[error("{what}: {why}")]
    Invalid {
        /// The structure.
        what: &'static str,
        /// The rule.
        why: &'static str,
    },
}

/// A 32-byte id is 64 hexadecimal digits; this text was something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: 64 hexadecimal digits are expected")]
pub struct ParseIdError {
    text: String,
}

fn parse_hex(text: &str) -> Result<[u8; 32], ParseIdError> {
    let error = || ParseIdError { text: text.chars().take(80).collect() };
    blake3::Hash::from_hex(text).map(|hash| *hash.as_bytes()).map_err(|_| error())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> $name {
                $name(bytes)
            }
            /// Its 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                parse_hex(text).map($name)
            }
        }
    };
}

id! {
    /// The BLAKE3 hash of a content: a whole file, or a chunk of one.
    FileId
}
id! {
    /// The id of a directory and of everything below it.
    TreeId
}
id! {
    /// The BLAKE3 hash of a pack file, which is its name.
    PackId
}

impl FileId {
    /// The id of `content`.
    pub fn of(content: &[u8]) -> FileId {
        FileId(*blake3::hash(content).as_bytes())
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// A content.
    Data = 1,
    /// The chunks of a content.
    Recipe = 2,
    /// A directory.
    Tree = 3,
    /// The hard links within a captured tree.
    Links = 4,
    /// How a content is made from another.
    Delta = 5,
}

impl RecordKind {
    /// The kind with this number.
    pub fn from_u8(n: u8) -> Option<RecordKind> {
        match n {
            1 => Some(RecordKind::Data),
            2 => Some(RecordKind::Recipe),
            3 => Some(RecordKind::Tree),
            4 => Some(RecordKind::Links),
            5 => Some(RecordKind::Delta),
            _ => None,
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordKind::Data => "content",
            RecordKind::Recipe => "chunk list",
            RecordKind::Tree => "tree",
            RecordKind::Links => "hard links",
            RecordKind::Delta => "delta",
        })
    }
}

/// What a record is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// What it is.
    pub kind: RecordKind,
    /// The id, of the type that belongs to the kind.
    pub id: [u8; 32],
}

impl RecordId {
    /// The `Data` record of a content.
    pub fn data(id: &FileId) -> RecordId {
        RecordId { kind: RecordKind::Data, id: id.0 }
    }
    /// The chunk list of a content.
    pub fn recipe(id: &FileId) -> RecordId {
        RecordId { kind: RecordKind::Recipe, id: id.0 }
    }
    /// The delta that makes a content.
    pub fn delta(id: &FileId) -> RecordId {
        RecordId { kind: RecordKind::Delta, id: id.0 }
    }
    /// The record of a directory.
    pub fn tree(id: &TreeId) -> RecordId {
        RecordId { kind: RecordKind::Tree, id: id.0 }
    }
    /// The hard links of a captured root.
    pub fn links(id: &TreeId) -> RecordId {
        RecordId { kind: RecordKind::Links, id: id.0 }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, blake3::Hash::from_bytes(self.id).to_hex())
    }
}

/// Reads integers and slices off the front of `bytes`, in order, or says what ended early.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; errors name `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, what }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let (head, tail) =
            self.bytes.split_at_checked(n).ok_or(FormatError::Truncated { what: self.what })?;
        self.bytes = tail;
        Ok(head)
    }

    /// The next `n` items of `size` bytes each.
    pub fn items(&mut self, n: usize, size: usize) -> Result<&'a [u8], FormatError> {
        let length = n.checked_mul(size).ok_or(FormatError::Truncated { what: self.what })?;
        self.take(length)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as were asked for"))
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }
    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }
    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }
    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A version, which must not be newer than [`VERSION`].
    pub fn version(&mut self) -> Result<(), FormatError> {
        self.version_to(VERSION).map(drop)
    }

    /// A version, which must not be newer than `known`.
    pub fn version_to(&mut self, known: u32) -> Result<u32, FormatError> {
        match self.u32()? {
            0 => Err(FormatError::Invalid { what: self.what, why: "it has version 0" }),
            found if found > known => Err(FormatError::Newer { what: self.what, found }),
            found => Ok(found),
        }
    }

    /// A count of things that take at least `least` bytes each in what is left. So no
    /// count makes a reader allocate more than the bytes it was given.
    pub fn count(&mut self, least: usize) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.bytes.len()) {
            return Err(FormatError::Truncated { what: self.what });
        }
        Ok(count)
    }

    /// Everything must have been read.
    pub fn finish(self) -> Result<(), FormatError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Invalid { what: self.what, why: "bytes follow its end" })
        }
    }
}

/// Refuses a record that is over [`MAX_RECORD`].
pub(crate) fn bounded(what: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, FormatError> {
    if bytes.len() > MAX_RECORD {
        let (found, limit) = (bytes.len() as u64, MAX_RECORD as u64);
        return Err(FormatError::TooLong { what, found, limit });
    }
    Ok(bytes)
}
