//! What the store keeps of one installation.
//!
//! The ref `dependencies/<key>` names a tree of two entries:
//!
//! ```text
//! record.json   this module's format
//! tree/         what is attached, rooted at the workspace
//! ```
//!
//! So the record and what it describes are one thing: there is no time at which one is
//! there without the other, and they travel together. `record.json`:
//!
//! ```json
//! {
//!   "version": 1,
//!   "manager": "npm",
//!   "packages": 12, "files": 340, "bytes": 81233,
//!   "prefix": "/zagi/workspace",
//!   "texts": {"<file id>": [2, 1]},          // occurrences: plain, after `file://`
//!   "binaries": {"<file id>": true},         // whether more than debug information
//!   "live_binaries": [".venv/lib/x.so"],
//!   "paths": [".venv", "src/_speedups.so"],  // what was captured, as it was taken
//!   "needs": [{"tool": "rust", "version": "1.86", "by": "criterion 0.8.2"}],
//!   "warnings": ["…"]
//! }
//! ```
//!
//! Unknown fields and a newer version are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::relocate::{Holds, Relocations};
use crate::store::{FileId, Kind, Store, StoreError, TreeId};

/// The version of the format above.
pub const VERSION: u32 = 1;
/// How the names of the refs begin.
pub const REFS: &str = "dependencies/";
/// The entry with the record.
pub(super) const RECORD: &str = "record.json";
/// The entry with what is attached.
pub(super) const TREE: &str = "tree";

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It was written by a newer program.
    #[error(
        "the dependencies `{key}` were recorded in version {found}, this zagi knows up to {VERSION}"
    )]
    Newer {
        /// The key.
        key: String,
        /// What it says.
        found: u32,
    },
    /// It is not what this module describes.
    #[error("the record of the dependencies `{key}` is not valid: {why}")]
    Invalid {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The least version of a tool that some dependency can be used with; nobody can know it
/// before it has been fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The tool, as the catalogue calls it.
    pub tool: String,
    /// Its least version.
    pub version: String,
    /// The dependency and its version.
    pub by: String,
}

/// What is known of one installation besides its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub manager: String,
    pub packages: u64,
    pub files: u64,
    pub bytes: u64,
    pub relocations: Relocations,
    pub paths: Vec<String>,
    pub needs: Vec<Need>,
    pub warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    version: u32,
    manager: String,
    packages: u64,
    files: u64,
    bytes: u64,
    prefix: String,
    texts: BTreeMap<String, (u64, u64)>,
    binaries: BTreeMap<String, bool>,
    live_binaries: Vec<String>,
    paths: Vec<String>,
    needs: Vec<Need>,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let (mut texts, mut binaries) = (BTreeMap::new(), BTreeMap::new());
        for (id, holds) in &self.relocations.files {
            match *holds {
                Holds::Text { plain, urls } => drop(texts.insert(id.to_string(), (plain, urls))),
                Holds::Binary { live } => drop(binaries.insert(id.to_string(), live)),
            }
        }
        let format = Format {
            version: VERSION,
            manager: self.manager.clone(),
            packages: self.packages,
            files: self.files,
            bytes: self.bytes,
            prefix: self.relocations.prefix.clone(),
            texts,
            binaries,
            live_binaries: self.relocations.live_binaries.clone(),
            paths: self.paths.clone(),
            needs: self.needs.clone(),
            warnings: self.warnings.clone(),
        };
        serde_json::to_vec(&format).expect("plain fields with text for keys")
    }

    pub fn decode(key: &str, bytes: &[u8]) -> Result<Record, RecordError> {
        let invalid = |why: String| RecordError::Invalid { key: key.to_owned(), why };
        let Version { version } =
            serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        if version > VERSION {
            return Err(RecordError::Newer { key: key.to_owned(), found: version });
        }
        let format: Format = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        let mut files = BTreeMap::new();
        let id = |text: &str| text.parse::<FileId>().map_err(|e| invalid(e.to_string()));
        for (text, (plain, urls)) in &format.texts {
            files.insert(id(text)?, Holds::Text { plain: *plain, urls: *urls });
        }
        for (text, live) in &format.binaries {
            files.insert(id(text)?, Holds::Binary { live: *live });
        }
        let relocations =
            Relocations { prefix: format.prefix, files, live_binaries: format.live_binaries };
        Ok(Record {
            manager: format.manager,
            packages: format.packages,
            files: format.files,
            bytes: format.bytes,
            relocations,
            paths: format.paths,
            needs: format.needs,
            warnings: format.warnings,
        })
    }
}

/// The name of the ref.
pub fn name(key: &str) -> String {
    format!("{REFS}{key}")
}

/// Reads the record behind the tree that the ref names, and the tree that it describes.
pub(super) fn read(store: &Store, key: &str, both: &TreeId) -> Result<(TreeId, Record), ReadError> {
    let entries = store.tree(both)?;
    let kinds = [TREE, RECORD].map(|name| entries.get(name.as_bytes()).map(|e| e.kind.clone()));
    let [Some(Kind::Directory(tree)), Some(Kind::File { id, .. })] = kinds else {
        let why = "it is not a tree beside a record".to_owned();
        return Err(RecordError::Invalid { key: key.to_owned(), why }.into());
    };
    let record = Record::decode(key, &store.read_file(&id)?)?;
    Ok((tree, record))
}

/// Why [`read`] failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<ReadError> for super::DependenciesError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(e) => e.into(),
            ReadError::Record(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let files = [
            (FileId::of(b"a"), Holds::Text { plain: 2, urls: 1 }),
            (FileId::of(b"b"), Holds::Binary { live: true }),
        ];
        Record {
            manager: "npm".into(),
            packages: 1,
            files: 2,
            bytes: 3,
            relocations: Relocations {
                prefix: "/zagi/workspace".into(),
                files: files.into(),
                live_binaries: vec!["b".into()],
            },
            paths: vec!["node_modules".into()],
            needs: vec![Need { tool: "rust".into(), version: "1.86".into(), by: "c 1.0.0".into() }],
            warnings: vec!["w".into()],
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let bytes = record().encode();
        assert_eq!(Record::decode("k", &bytes).expect("valid"), record());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let text = String::from_utf8(record().encode()).expect("JSON");
        let newer = text.replace("\"version\":1", "\"version\":2,\"more\":0");
        let error = Record::decode("k", newer.as_bytes()).expect_err("newer");
        assert_eq!(
            error.to_string(),
            "the dependencies `k` were recorded in version 2, this zagi knows up to 1"
        );
        for broken in [
            text.replace("\"packages\"", "\"pakets\""),
            text.replace(&FileId::of(b"a").to_string(), "zz"),
            text[..text.len() / 2].to_owned(),
        ] {
            let result = Record::decode("k", broken.as_bytes());
            assert!(matches!(result, Err(RecordError::Invalid { .. })), "{broken}");
        }
    }
}
