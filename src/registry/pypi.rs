//! The Python package index, in each of the three ways that indexes and their mirrors speak:
//!
//! 1. the JSON API, `/pypi/NAME/json` (<https://docs.pypi.org/api/json/>), with dates;
//! 2. the simple API as JSON (PEP 691), with dates where the index knows PEP 700;
//! 3. the simple API as HTML (PEP 503), which all of them have.
//!
//! A file that the index gives no SHA-256 of is left out: it could not be verified.

mod names;
mod simple;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use self::names::normalise;
use super::digest::Digest;
use super::http::{Client, HttpError};
use super::text::{escape, join, seconds};

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// As published (PEP 440).
    pub version: String,
    /// When its first file was uploaded, in seconds since the epoch.
    pub published: Option<i64>,
    /// Its files.
    pub files: Vec<File>,
}

impl Release {
    /// Whether every file of it was taken back.
    pub fn yanked(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.yanked)
    }

    /// Its source distribution.
    pub fn sdist(&self) -> Option<&File> {
        self.files.iter().find(|file| file.kind == Kind::Sdist)
    }
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// `jinja2-3.1.6.tar.gz`
    pub filename: String,
    /// Its address.
    pub url: String,
    /// What it hashes to.
    pub sha256: Digest,
    /// What it is.
    pub kind: Kind,
    /// It was taken back (PEP 592).
    pub yanked: bool,
    /// When it was uploaded, in seconds since the epoch.
    pub published: Option<i64>,
    /// The interpreters it is for, as its maker says (PEP 440).
    pub requires_python: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The source.
    Sdist,
    /// Built (PEP 427).
    Wheel {
        /// Every combination it is for: `cp311-cp311-manylinux_2_17_x86_64`.
        tags: Vec<String>,
    },
}

/// Why nothing is known about a package.
#[derive(Debug, thiserror::Error)]
pub enum PypiError {
    /// The index was not reached.
    #[error("cannot ask the Python package index about `{name}`: {source}")]
    Http {
        /// The package.
        name: String,
        /// How the request ended.
        source: HttpError,
    },
    /// The index has no such package.
    #[error("the Python package index has no package `{name}`")]
    NoPackage {
        /// The package.
        name: String,
    },
    /// What the index says is neither JSON nor a page of links.
    #[error("what the Python package index says about `{name}` cannot be read: {source}")]
    Parse {
        /// The package.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// Every version of the package `name` that has a file, in no order that means anything.
pub fn releases(client: &Client, base: &str, name: &str) -> Result<Vec<Release>, PypiError> {
    let project = normalise(name);
    let api = format!("{base}/pypi/{}/json", escape(&project));
    match client.get(&api, Some("application/json")) {
        // A mirror may answer with a page of its own; then it has no such API.
        Ok(document) => {
            if let Ok(releases) = parse(&document, &api) {
                return Ok(releases);
            }
        }
        Err(HttpError::NotFound { .. } | HttpError::Status { .. }) => {}
        // Never asked for before, where the network may not be used: perhaps the other was.
        Err(HttpError::Offline { .. }) => {}
        Err(source) => return Err(PypiError::Http { name: name.to_owned(), source }),
    }
    let page = format!("{base}/simple/{}/", escape(&project));
    match client.get(&page, Some(simple::ACCEPT)) {
        Ok(document) => simple::parse(&document, &page, &project)
            .map_err(|source| PypiError::Parse { name: name.to_owned(), source }),
        Err(HttpError::NotFound { .. }) => Err(PypiError::NoPackage { name: name.to_owned() }),
        Err(source) => Err(PypiError::Http { name: name.to_owned(), source }),
    }
}

/// Reads a document of the JSON API. Mirrors may give addresses relative to its own, `page`.
pub fn parse(document: &[u8], page: &str) -> Result<Vec<Release>, serde_json::Error> {
    let document: Document = serde_json::from_slice(document)?;
    let file = |said: Said| {
        let kind = match said.packagetype.as_str() {
            "sdist" => Kind::Sdist,
            "bdist_wheel" => Kind::Wheel { tags: names::wheel(&said.filename)?.tags },
            // Eggs and installers of old.
            _ => return None,
        };
        Some(File {
            kind,
            sha256: Digest::from_hex(said.digests.get("sha256")?).ok()?,
            filename: said.filename,
            url: join(page, &said.url),
            yanked: said.yanked,
            published: said.upload_time_iso_8601.as_deref().and_then(seconds),
            requires_python: said.requires_python,
        })
    };
    let release = |(version, files): (String, Vec<Said>)| {
        release(version, files.into_iter().filter_map(file).collect())
    };
    Ok(document.releases.into_iter().filter_map(release).collect())
}

/// A version of these files, unless there are none.
fn release(version: String, files: Vec<File>) -> Option<Release> {
    let published = files.iter().filter_map(|file| file.published).min();
    (!files.is_empty()).then_some(Release { version, published, files })
}

#[derive(Deserialize)]
struct Document {
    releases: BTreeMap<String, Vec<Said>>,
}

#[derive(Deserialize)]
struct Said {
    filename: String,
    url: String,
    packagetype: String,
    digests: BTreeMap<String, String>,
    #[serde(default)]
    yanked: bool,
    upload_time_iso_8601: Option<String>,
    requires_python: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document() {
        let sum = Digest::sha256(b"abc").hex();
        let file = |kind: &str, name: &str, time: &str, yanked: bool| {
            format!(
                r#"{{"filename": "{name}", "url": "https://f/{name}", "packagetype": "{kind}",
                "digests": {{"md5": "00", "sha256": "{sum}"}}, "yanked": {yanked},
                "upload_time_iso_8601": "2025-03-05T20:05:{time}Z", "requires_python": ">=3.7"}}"#
            )
        };
        let document = format!(
            r#"{{"info": {{}}, "releases": {{"1.0": [{}, {}, {}], "0.9": [{}], "0.1": []}}}}"#,
            file("sdist", "x-1.0.tar.gz", "02.4", false),
            file("bdist_wheel", "x-1.0-py2.py3-none-any.whl", "00", true),
            file("bdist_egg", "x-1.0-py2.7.egg", "01", false),
            file("sdist", "x-0.9.zip", "03", true),
        );
        let releases = parse(document.as_bytes(), "https://h/pypi/x/json").expect("it is one");
        let [old, new] = releases.as_slice() else { panic!("{releases:?}") };
        assert_eq!((new.version.as_str(), new.files.len()), ("1.0", 2));
        assert_eq!(new.published, Some(1_741_205_100));
        assert_eq!(new.sdist().expect("it has one").published, Some(1_741_205_102));
        let tags = vec!["py2-none-any".to_owned(), "py3-none-any".to_owned()];
        assert_eq!(new.files[1].kind, Kind::Wheel { tags });
        assert!(!new.yanked() && old.yanked());
        assert!(parse(b"<html>", "https://h/").is_err());
    }
}
