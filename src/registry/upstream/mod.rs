//! The archives of those who make a tool, each in the layout that its makers publish: which
//! versions there are, and of a version the files with their checksums.
//!
//! | index | what is read |
//! |---|---|
//! | [`Index::Nodejs`] | `index.json`, and `SHASUMS256.txt` beside the files of a version |
//! | [`Index::Go`] | the list of releases as JSON, a checksum for each file |
//! | [`Index::Zig`] | `index.json`, a checksum for each file |
//! | [`Index::RustChannels`] | `manifests.txt`, and of a version its channel manifest |
//! | [`Index::PythonBuilds`] | one line of JSON for each build |
//! | [`Index::Adoptium`] | an API that answers with pages of releases |
//!
//! What such an index says is only as good as the connection that it came over: the checksum
//! goes into the lock, and from then on nothing else will do. A file without one is left out.

mod adoptium;
mod go;
mod nodejs;
mod python;
mod rust;
mod zig;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::digest::Digest;
use super::http::{Client, HttpError};
use super::text::seconds;

/// The layouts that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Index {
    /// <https://nodejs.org/dist/>
    Nodejs,
    /// <https://go.dev/dl/?mode=json&include=all>
    Go,
    /// <https://ziglang.org/download/index.json>
    Zig,
    /// <https://static.rust-lang.org/manifests.txt>
    RustChannels,
    /// <https://github.com/astral-sh/versions>
    PythonBuilds,
    /// <https://api.adoptium.net/q/swagger-ui/>
    Adoptium,
}

/// An archive that is asked.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    /// The network.
    pub client: &'a Client,
    /// Its layout.
    pub index: Index,
    /// Where it is, without a trailing slash.
    pub base: &'a str,
    /// The platform, as its makers write it.
    pub target: &'a str,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// As its makers count.
    pub version: String,
    /// When it was published, in seconds since the epoch.
    pub published: Option<i64>,
    /// Its file, where the index of all versions names it; else [`files`] has to ask.
    pub file: Option<File>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Where else it is.
    pub mirrors: Vec<String>,
    /// What it hashes to.
    pub sha256: Digest,
    /// Directories around what is in it.
    pub strip: usize,
}

/// Why nothing is known about a tool or a version of it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The archive was not reached, or has no such file.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What it says is not in its layout.
    #[error("what `{url}` says cannot be read: {reason}")]
    Parse {
        /// The address.
        url: String,
        /// Where and why.
        reason: String,
    },
    /// A manifest is not the one whose checksum was published.
    #[error("`{url}` has digest {found}, and the checksum beside it is {expected}")]
    Checksum {
        /// The manifest.
        url: String,
        /// What was published.
        expected: Box<Digest>,
        /// What it has.
        found: Box<Digest>,
    },
    /// The version has nothing for this platform.
    #[error("`{url}` names no {name} for {target}")]
    NoFile {
        /// What was read.
        url: String,
        /// What was looked for.
        name: String,
        /// The platform.
        target: String,
    },
}

/// Every version that there is for the platform.
pub fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    match archive.index {
        Index::Nodejs => nodejs::releases(archive),
        Index::Go => go::releases(archive),
        Index::Zig => zig::releases(archive),
        Index::RustChannels => rust::releases(archive),
        Index::PythonBuilds => python::releases(archive),
        Index::Adoptium => adoptium::releases(archive),
    }
}

/// The files of one version; `components` are those that are wanted of a version that is
/// made of several.
pub fn files(
    archive: Archive<'_>,
    release: &Release,
    components: &[String],
) -> Result<Vec<File>, UpstreamError> {
    match (&release.file, archive.index) {
        (Some(file), _) => Ok(vec![file.clone()]),
        (None, Index::RustChannels) => rust::files(archive, &release.version, components),
        (None, _) => nodejs::files(archive, &release.version),
    }
}

impl Archive<'_> {
    fn get(&self, path: &str) -> Result<(String, Vec<u8>), UpstreamError> {
        let url = format!("{}/{path}", self.base);
        let body = self.client.get(&url, None)?;
        Ok((url, body))
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, UpstreamError> {
        let (url, body) = self.get(path)?;
        serde_json::from_slice(&body)
            .map_err(|e| UpstreamError::Parse { url, reason: e.to_string() })
    }
}

/// `url` on the archive at `base`, where its index names the makers' own host.
fn rebase(base: &str, url: &str, official: &str) -> String {
    match url.strip_prefix(official) {
        Some(path) => format!("{base}{path}"),
        None => url.to_owned(),
    }
}

/// The checksum of `name` in a list as `sha256sum` writes it.
fn listed(sums: &[u8], name: &str) -> Option<Digest> {
    let sums = String::from_utf8_lossy(sums);
    sums.lines().find_map(|line| {
        let (sum, file) = line.split_once(char::is_whitespace)?;
        // A star stands for a file that was read as it is, not as a text.
        let file = file.trim_start().trim_start_matches('*').trim_end();
        (file == name).then(|| sha256(sum)).flatten()
    })
}

fn sha256(hex: &str) -> Option<Digest> {
    Digest::from_hex(hex).ok().filter(|digest| matches!(digest, Digest::Sha256(_)))
}

/// Seconds since the epoch of `2024-05-02`, or of a whole time.
fn day(text: &str) -> Option<i64> {
    match text.len() {
        10 => seconds(&format!("{text}T00:00:00Z")),
        _ => seconds(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_checksums() {
        let sum = Digest::sha256(b"abc");
        let text = format!(
            "{}  node-v1.0.0.tar.gz.asc\n{}  node-v1.0.0.tar.gz\nnonsense *y\n{} *x\n\n",
            Digest::sha256(b"other").hex(),
            sum.hex(),
            sum.hex()
        );
        assert_eq!(listed(text.as_bytes(), "node-v1.0.0.tar.gz"), Some(sum));
        assert_eq!(listed(text.as_bytes(), "x"), Some(sum));
        assert_eq!(listed(text.as_bytes(), "y"), None);
        assert_eq!(listed(text.as_bytes(), "z"), None);
    }

    #[test]
    fn days() {
        assert_eq!(day("2024-05-02"), Some(1_714_608_000));
        assert_eq!(day("2024-05-02T00:00:01Z"), Some(1_714_608_001));
        assert_eq!(day("2024-05-0x"), None);
    }
}
