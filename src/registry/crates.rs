//! The sparse index of crates: one file a crate, one JSON line a version
//! (<https://doc.rust-lang.org/cargo/reference/registry-index.html>).

use serde::Deserialize;

use super::digest::{Digest, DigestError};
use super::http::{Client, HttpError};
use super::text::{escape, seconds};

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The crate's name as it was published; it may be asked for with `-` for `_`.
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// It was taken back; only lock files still use it.
    pub yanked: bool,
    /// What the `.crate` file hashes to.
    pub sha256: Digest,
    /// When, in seconds since the epoch; not every index says.
    pub published: Option<i64>,
    /// The oldest compiler it declares to build with.
    pub rust_version: Option<String>,
}

impl Release {
    /// The address of the `.crate` file below `files`.
    pub fn address(&self, files: &str) -> String {
        let (name, version) = (escape(&self.name), escape(&self.version));
        format!("{files}/{name}/{name}-{version}.crate")
    }
}

/// Why nothing is known about a crate.
#[derive(Debug, thiserror::Error)]
pub enum CratesError {
    /// The index was not reached.
    #[error("cannot ask the index of crates about `{name}`: {source}")]
    Http {
        /// The crate.
        name: String,
        /// How the request ended.
        source: HttpError,
    },
    /// The index has no such crate.
    #[error("the index of crates has no crate `{name}`")]
    NoCrate {
        /// The crate.
        name: String,
    },
    /// The index's file is not what this module describes.
    #[error("what the index of crates says about `{name}` cannot be read: {source}")]
    Parse {
        /// The crate.
        name: String,
        /// Where and why.
        source: ParseError,
    },
}

/// Why a file of the index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A line is no JSON object of a version.
    #[error("line {line}: {source}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A version's checksum is none.
    #[error("line {line}: {source}")]
    Checksum {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: DigestError,
    },
}

/// Every version of the crate `name`, oldest first, as the index has them.
pub fn releases(client: &Client, base: &str, name: &str) -> Result<Vec<Release>, CratesError> {
    let valid = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(CratesError::NoCrate { name: name.to_owned() });
    }
    let mut addresses: Vec<String> =
        spellings(name).iter().map(|spelling| format!("{base}/{}", path(spelling))).collect();
    // The one that was right before, if that is known, saves asking for the others.
    addresses.sort_by_key(|address| !client.has_answer(address, None));
    for address in addresses {
        let file = match client.get(&address, None) {
            Ok(file) => file,
            Err(HttpError::NotFound { .. }) => continue,
            // What the index's files answer for a name that nobody took.
            Err(HttpError::Status { code: 403 | 451, .. }) => continue,
            Err(source) => return Err(CratesError::Http { name: name.to_owned(), source }),
        };
        return parse(&file).map_err(|source| CratesError::Parse { name: name.to_owned(), source });
    }
    Err(CratesError::NoCrate { name: name.to_owned() })
}

/// `name`, and as it may have been published: `-` and `_` are the same to cargo, not to
/// the index.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), name.replace('_', "-"), name.replace('-', "_")];
    all.dedup();
    if all.len() > 1 && all.first() == all.last() {
        all.pop();
    }
    all
}

/// Where the index keeps the crate `name`, which is ASCII.
fn path(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.len() {
        n @ (1 | 2) => format!("{n}/{name}"),
        3 => format!("3/{}/{name}", &name[..1]),
        _ => format!("{}/{}/{name}", &name[..2], &name[2..4]),
    }
}

/// Reads a crate's file.
pub fn parse(file: &[u8]) -> Result<Vec<Release>, ParseError> {
    let lines = file.split(|&c| c == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| {
            let at = at + 1;
            let said: Line = serde_json::from_slice(line)
                .map_err(|source| ParseError::Line { line: at, source })?;
            let sha256 = format!("sha256:{}", said.cksum)
                .parse()
                .map_err(|source| ParseError::Checksum { line: at, source })?;
            Ok(Release {
                name: said.name,
                version: said.vers,
                yanked: said.yanked,
                sha256,
                published: said.pubtime.as_deref().and_then(seconds),
                rust_version: said.rust_version,
            })
        })
        .collect()
}

#[derive(Deserialize)]
struct Line {
    name: String,
    vers: String,
    cksum: String,
    #[serde(default)]
    yanked: bool,
    pubtime: Option<String>,
    rust_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_index() {
        let sum = Digest::sha256(b"abc");
        let file = format!(
            "{{\"name\":\"A_b\",\"vers\":\"0.1.0+x\",\"cksum\":\"{0}\",\"yanked\":true,\"deps\":[]}}\n\
             {{\"name\":\"A_b\",\"vers\":\"0.2.0\",\"cksum\":\"{0}\",\"yanked\":false,\
             \"pubtime\":\"2026-04-04T00:25:14Z\",\"rust_version\":\"1.68\",\"v\":2}}\n",
            sum.hex()
        );
        let releases = parse(file.as_bytes()).expect("it is one");
        assert_eq!(releases.len(), 2);
        assert!(releases[0].yanked && !releases[1].yanked);
        assert_eq!(releases[0].sha256, sum);
        assert_eq!((releases[0].published, releases[1].published), (None, Some(1_775_262_314)));
        assert_eq!(releases[0].address("https://f"), "https://f/A_b/A_b-0.1.0%2Bx.crate");
    }

    #[test]
    fn what_is_no_file_of_the_index_is_refused() {
        assert!(matches!(parse(b"\n<html>"), Err(ParseError::Line { line: 2, .. })));
        let file = br#"{"name":"a","vers":"1.0.0","cksum":"abc"}"#;
        assert!(matches!(parse(file), Err(ParseError::Checksum { line: 1, .. })));
    }

    #[test]
    fn paths_and_spellings() {
        assert_eq!(path("a"), "1/a");
        assert_eq!(path("ab"), "2/ab");
        assert_eq!(path("Log"), "3/l/log");
        assert_eq!(path("semver"), "se/mv/semver");
        assert_eq!(spellings("serde-json"), ["serde-json", "serde_json"]);
        assert_eq!(spellings("serde_json"), ["serde_json", "serde-json"]);
        assert_eq!(spellings("log"), ["log"]);
        assert_eq!(spellings("a-b_c"), ["a-b_c", "a-b-c", "a_b_c"]);
    }
}
