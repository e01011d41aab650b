//! What a verification finds, as types. Lists are bounded; counts are not.

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::store::format::{FileId, PackId, RecordId};

/// Findings that are kept; more are only counted.
const KEPT: usize = 1_000;
/// Damaged paths that are kept; more are only counted.
pub const KEPT_PATHS: usize = 10_000;

/// Something in the store that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The index knows a pack whose file is gone.
    PackMissing {
        /// The pack.
        pack: PackId,
    },
    /// A pack's file cannot be opened or read.
    PackUnreadable {
        /// The pack.
        pack: PackId,
    },
    /// A pack that is sound in itself, but another one than its name says.
    PackName {
        /// What it is called.
        pack: PackId,
    },
    /// The first bytes of a pack.
    PackHeader {
        /// The pack.
        pack: PackId,
    },
    /// Frames of a pack, with all the records in them.
    PackFrames {
        /// The pack.
        pack: PackId,
        /// Where the first of them begins.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A record in a sound frame.
    PackRecord {
        /// The pack.
        pack: PackId,
        /// The record.
        record: RecordId,
    },
    /// A pack's footer or trailer.
    PackFooter {
        /// The pack.
        pack: PackId,
    },
    /// The copy of a pack's footer and trailer that stands beside it.
    PackTail {
        /// The pack.
        pack: PackId,
    },
    /// A file among the packs that is called as no pack is.
    StrayPack {
        /// The file.
        path: PathBuf,
    },
    /// The index as a database.
    Index,
    /// The index's rows of a pack.
    IndexRows {
        /// The pack.
        pack: PackId,
        /// Records that the index does not know.
        missing: u64,
        /// Rows that point elsewhere than the record is.
        wrong: u64,
        /// Rows of what is not there.
        extra: u64,
    },
    /// The number that is raised before anything is removed.
    Generation,
    /// A ref or a lease.
    Root {
        /// Its file.
        path: PathBuf,
    },
    /// A record that a root needs and no pack has.
    Missing {
        /// The record.
        record: RecordId,
    },
    /// A file whose parts are there and do not add up to it.
    Content {
        /// The file.
        file: FileId,
    },
    /// A file of the farm.
    FarmFile {
        /// Its path.
        path: PathBuf,
    },
    /// A file in a tree of the farm.
    FarmTree {
        /// Its path.
        path: PathBuf,
    },
    /// A file outside of the store that is one with a changed file of the farm.
    Place {
        /// Its path.
        path: PathBuf,
    },
}

impl Damage {
    /// One word for the kind, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Damage::PackMissing { .. } => "pack-missing",
            Damage::PackUnreadable { .. } => "pack-unreadable",
            Damage::PackName { .. } => "pack-name",
            Damage::PackHeader { .. } => "pack-header",
            Damage::PackFrames { .. } => "pack-frames",
            Damage::PackRecord { .. } => "pack-record",
            Damage::PackFooter { .. } => "pack-footer",
            Damage::PackTail { .. } => "pack-tail",
            Damage::StrayPack { .. } => "stray-pack",
            Damage::Index => "index",
            Damage::IndexRows { .. } => "index-rows",
            Damage::Generation => "generation",
            Damage::Root { .. } => "root",
            Damage::Missing { .. } => "missing",
            Damage::Content { .. } => "content",
            Damage::FarmFile { .. } => "farm-file",
            Damage::FarmTree { .. } => "farm-tree",
            Damage::Place { .. } => "place",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::PackMissing { pack } => write!(f, "pack {pack}"),
            Damage::PackUnreadable { pack } => write!(f, "pack {pack}"),
            Damage::PackName { pack } => write!(f, "the name of pack {pack}"),
            Damage::PackHeader { pack } => write!(f, "the header of pack {pack}"),
            Damage::PackFrames { pack, first, count: 1 } => {
                write!(f, "the frame at byte {first} of pack {pack}")
            }
            Damage::PackFrames { pack, first, count } => {
                write!(f, "{count} frames of pack {pack}, the first at byte {first}")
            }
            Damage::PackRecord { pack, record } => write!(f, "{record} in pack {pack}"),
            Damage::PackFooter { pack } => write!(f, "the footer of pack {pack}"),
            Damage::PackTail { pack } => write!(f, "the copy beside pack {pack}"),
            Damage::StrayPack { path } => write!(f, "`{}`", path.display()),
            Damage::Index => f.write_str("the index"),
            Damage::IndexRows { pack, missing, wrong, extra } => write!(
                f,
                "the index of pack {pack}, {missing} rows missing, {wrong} wrong, {extra} too many"
            ),
            Damage::Generation => f.write_str("the generation"),
            Damage::Root { path } => write!(f, "`{}`", path.display()),
            Damage::Missing { record } => write!(f, "{record}"),
            Damage::Content { file } => write!(f, "content {file}"),
            Damage::FarmFile { path } | Damage::FarmTree { path } | Damage::Place { path } => {
                write!(f, "`{}`", path.display())
            }
        }
    }
}

/// A damage, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is damaged.
    pub damage: Damage,
    /// In what way.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.damage, self.why)
    }
}

/// A path that cannot be restored as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPath {
    /// The ref or lease, by its name.
    pub root: String,
    /// The path in its tree; empty for the tree itself. Need not be UTF-8.
    pub path: Vec<u8>,
    /// A directory, with all that is in it.
    pub directory: bool,
}

impl fmt::Display for DamagedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.directory { "/" } else { "" };
        write!(f, "{}: {}{slash}", self.root, String::from_utf8_lossy(&self.path))
    }
}

/// A list of which all is counted and the first are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted<T> {
    /// The first.
    pub first: Vec<T>,
    /// How many there are.
    pub count: u64,
}

impl<T> Default for Counted<T> {
    fn default() -> Counted<T> {
        Counted { first: Vec::new(), count: 0 }
    }
}

/// Where findings are put down. Used by several threads.
#[derive(Default)]
pub struct Findings(Mutex<Counted<Finding>>);

impl Findings {
    /// Puts one down.
    pub fn add(&self, damage: Damage, why: impl fmt::Display) {
        let mut findings = self.0.lock().expect("nothing panics with it held");
        findings.count += 1;
        if findings.first.len() < KEPT {
            findings.first.push(Finding { damage, why: why.to_string() });
        }
    }

    /// All of them.
    pub fn into_inner(self) -> Counted<Finding> {
        self.0.into_inner().expect("nothing panics with it held")
    }
}
