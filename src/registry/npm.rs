//! npm's registry: one JSON document a package
//! (<https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md>). The
//! full document is asked for: the abbreviated one has no dates.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest::Digest;
use super::http::{Client, HttpError};
use super::text::{escape, seconds};

/// The registry that documents name their tarballs on, whichever mirror serves them.
const OFFICIAL: &str = "https://registry.npmjs.org";

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// As published: a semantic version.
    pub version: String,
    /// When, in seconds since the epoch.
    pub published: Option<i64>,
    /// The address of the tarball.
    pub tarball: String,
    /// What the tarball hashes to.
    pub integrity: Digest,
    /// Its maker advises against it.
    pub deprecated: bool,
}

/// What the registry says about a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Every version, in the document's order.
    pub releases: Vec<Release>,
    /// Names for versions; `latest` is what is installed unless another is asked for.
    pub tags: BTreeMap<String, String>,
}

/// Why nothing is known about a package.
#[derive(Debug, thiserror::Error)]
pub enum NpmError {
    /// The registry was not reached.
    #[error("cannot ask npm's registry about `{name}`: {source}")]
    Http {
        /// The package.
        name: String,
        /// How the request ended.
        source: HttpError,
    },
    /// The registry has no such package.
    #[error("npm's registry has no package `{name}`")]
    NoPackage {
        /// The package.
        name: String,
    },
    /// The document is not what this module describes.
    #[error("what npm's registry says about `{name}` cannot be read: {source}")]
    Parse {
        /// The package.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Every version of the package `name`, and the names they are known by.
pub fn package(client: &Client, base: &str, name: &str) -> Result<Package, NpmError> {
    let document = match client.get(&format!("{base}/{}", escape(name)), None) {
        Ok(document) => document,
        Err(HttpError::NotFound { .. }) => {
            return Err(NpmError::NoPackage { name: name.to_owned() });
        }
        Err(source) => return Err(NpmError::Http { name: name.to_owned(), source }),
    };
    parse(&document, base).map_err(|source| NpmError::Parse { name: name.to_owned(), source })
}

/// Every version of the package `name`.
pub fn versions(client: &Client, base: &str, name: &str) -> Result<Vec<Release>, NpmError> {
    Ok(package(client, base, name)?.releases)
}

/// Reads a package's document. Versions without a digest are left out: nothing of them
/// could be verified.
pub fn parse(document: &[u8], base: &str) -> Result<Package, serde_json::Error> {
    let document: Document = serde_json::from_slice(document)?;
    let release = |(version, said): (String, Version)| {
        let dist = said.dist?;
        let integrity = (dist.integrity.as_deref().and_then(|t| Digest::from_sri(t).ok()))
            .or_else(|| Digest::from_hex(dist.shasum.as_deref()?).ok())?;
        let tarball = match dist.tarball.strip_prefix(OFFICIAL) {
            // A mirror serves the files too, and may be all that can be reached.
            Some(path) => format!("{base}{path}"),
            None => dist.tarball,
        };
        let published = document.time.get(&version).and_then(|t| seconds(t.as_str()?));
        // Some old documents hold `false` here, or an empty text to take it back.
        let deprecated = match said.deprecated {
            Some(serde_json::Value::String(why)) => !why.is_empty(),
            Some(serde_json::Value::Bool(deprecated)) => deprecated,
            _ => false,
        };
        Some(Release { version, published, tarball, integrity, deprecated })
    };
    let releases = document.versions.into_iter().filter_map(release).collect();
    Ok(Package { releases, tags: document.tags })
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, rename = "dist-tags")]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    versions: BTreeMap<String, Version>,
    /// Version to time; an unpublished package has an object among them.
    #[serde(default)]
    time: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Version {
    dist: Option<Dist>,
    deprecated: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
    shasum: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{
        "name": "x", "dist-tags": {"latest": "1.0.0", "next": "2.0.0-rc.1"},
        "versions": {
            "1.0.0": {"dist": {"tarball": "https://registry.npmjs.org/x/-/x-1.0.0.tgz",
                "integrity": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="}},
            "0.9.0": {"deprecated": "use 1.0.0",
                "dist": {"tarball": "https://elsewhere.example/x-0.9.0.tgz",
                "shasum": "a9993e364706816aba3e25717850c26c9cd0d89d"}},
            "0.8.0": {"deprecated": "",
                "dist": {"tarball": "https://elsewhere.example/x-0.8.0.tgz"}}
        },
        "time": {"created": "2018-01-01T00:00:00.000Z", "1.0.0": "2018-04-09T01:10:45.796Z"}
    }"#;

    #[test]
    fn a_document() {
        let package = parse(DOCUMENT.as_bytes(), "https://mirror.example/npm").expect("it is one");
        assert_eq!(package.tags["latest"], "1.0.0");
        let [old, new] = package.releases.as_slice() else { panic!("{:?}", package.releases) };
        assert_eq!(new.tarball, "https://mirror.example/npm/x/-/x-1.0.0.tgz");
        assert_eq!(new.integrity, Digest::sha256(b"abc"));
        assert_eq!((new.published, new.deprecated), (Some(1_523_236_245), false));
        assert_eq!(old.tarball, "https://elsewhere.example/x-0.9.0.tgz");
        assert_eq!(old.integrity.of_same_kind(b"abc"), old.integrity);
        assert_eq!((old.published, old.deprecated), (None, true));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in ["", "<html>", "7", r#"{"versions": {"1.0.0": 7}}"#] {
            assert!(parse(text.as_bytes(), "").is_err(), "{text}");
        }
        let empty = parse(br#"{"versions": {"1.0.0": {}}}"#, "").expect("it says nothing");
        assert_eq!(empty.releases, []);
    }
}
