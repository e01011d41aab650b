//! Roots: what a ref's and a lease's file say.
//!
//! ```text
//! zagi ref 1                         zagi lease 1
//! name <the name>                    name <the name>
//! tree <64 hexadecimal digits>       tree <64 hexadecimal digits>
//!                                    until <seconds since the epoch>
//! hash <BLAKE3 of the lines above>   hash <BLAKE3 of the lines above>
//! ```
//!
//! Each line ends with a line feed. There is one way to write a root; anything else is
//! damaged.

use super::{FormatError, TreeId, VERSION};

/// No root's file is longer.
pub const MAX_ROOT: usize = 1024;

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
    /// Its name, which has no line breaks.
    pub name: String,
    /// What must stay.
    pub tree: TreeId,
    /// Until when, in seconds since the epoch; a lease has it, a ref has not.
    pub until: Option<i64>,
}

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Sort::Ref => "ref",
            Sort::Lease => "lease",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Sort::Ref => "a ref",
            Sort::Lease => "a lease",
        }
    }

    /// The file of `root`.
    pub fn encode(self, root: &Root) -> String {
        let (word, Root { name, tree, until }) = (self.word(), root);
        let until = until.map_or(String::new(), |until| format!("until {until}\n"));
        let body = format!("zagi {word} {VERSION}\nname {name}\ntree {tree}\n{until}");
        let hash = blake3::hash(body.as_bytes()).to_hex();
        format!("{body}hash {hash}\n")
    }

    /// The root in a file.
    pub fn decode(self, bytes: &[u8]) -> Result<Root, FormatError> {
        let what = self.what();
        let invalid = |why| FormatError::Invalid { what, why };
        if bytes.len() > MAX_ROOT {
            let (found, limit) = (bytes.len() as u64, MAX_ROOT as u64);
            return Err(FormatError::TooLong { what, found, limit });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))?;
        let magic = format!("zagi {} ", self.word());
        let rest = text.strip_prefix(&magic).ok_or(FormatError::Magic { what })?;
        let version = rest.split('\n').next().and_then(|version| version.parse::<u32>().ok());
        if let Some(found) = version.filter(|version| *version > VERSION) {
            return Err(FormatError::Newer { what, found });
        }
        // Not `lines`, which would take a carriage return off a name.
        let mut lines = rest.split('\n').skip(1);
        let mut field = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let name = field("name").ok_or(invalid("it has no name"))?.to_owned();
        let tree = field("tree").and_then(|id| id.parse().ok());
        let tree = tree.ok_or(invalid("it names no tree"))?;
        let until = match self {
            Sort::Ref => None,
            Sort::Lease => {
                let until = field("until").and_then(|time| time.parse().ok());
                Some(until.ok_or(invalid("it has no end"))?)
            }
        };
        let root = Root { name, tree, until };
        match self.encode(&root) == text {
            true => Ok(root),
            false => Err(FormatError::Hash { what }),
        }
    }
}
