//! Channel manifests, by version. `manifests.txt` lists every manifest that there ever was, with
//! its day; a manifest names the file of each component and target, and a checksum is beside it
//! (<https://forge.rust-lang.org/infra/channel-layout.html>).
//!
//! ```text
//! manifests.txt                          static.rust-lang.org/dist/2023-11-16/channel-rust-1.74.0.toml
//! dist/channel-rust-1.74.0.toml          [pkg.rustc.target.x86_64-unknown-linux-gnu]
//!                                        available = true
//!                                        xz_url = "https://static.rust-lang.org/dist/2023-11-16/rustc-…"
//!                                        xz_hash = "…"
//! dist/channel-rust-1.74.0.toml.sha256   <sha256>  channel-rust-1.74.0.toml
//! ```
//!
//! A component's archive holds a directory with its own name and version, and in that one with
//! the component's name: `rustc-1.74.0-x86_64-unknown-linux-gnu/rustc/bin/rustc`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Archive, File, Release, UpstreamError, day, rebase, sha256};
use crate::registry::digest::Digest;

/// How the addresses in a manifest begin, whichever mirror serves it.
const OFFICIAL: &str = "https://static.rust-lang.org";

#[derive(Deserialize)]
struct Manifest {
    pkg: BTreeMap<String, Package>,
    #[serde(default)]
    renames: BTreeMap<String, Rename>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    target: BTreeMap<String, Target>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    available: bool,
    url: Option<String>,
    hash: Option<String>,
    xz_url: Option<String>,
    xz_hash: Option<String>,
}

#[derive(Deserialize)]
struct Rename {
    to: String,
}

pub(super) fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    let (url, body) = archive.get("manifests.txt")?;
    let releases = versions(&String::from_utf8_lossy(&body));
    match releases.is_empty() {
        true => Err(UpstreamError::Parse { url, reason: "it lists no manifest".into() }),
        false => Ok(releases),
    }
}

/// The stable versions of a list of manifests: `…/dist/<day>/channel-rust-<version>.toml`.
fn versions(list: &str) -> Vec<Release> {
    let release = |line: &str| {
        let (directory, name) = line.trim().rsplit_once('/')?;
        let version = name.strip_prefix("channel-rust-")?.strip_suffix(".toml")?;
        // `1.74` is the last of the line, and listed itself; `stable` is one of them.
        let numbers: Vec<&str> = version.split('.').collect();
        let is_number = |n: &&str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        if numbers.len() != 3 || !numbers.iter().all(is_number) {
            return None;
        }
        let published = directory.rsplit('/').next().and_then(day);
        Some((version.to_owned(), published))
    };
    // Republished ones stand there twice: the first day counts.
    let mut known: BTreeMap<String, Option<i64>> = BTreeMap::new();
    for (version, published) in list.lines().filter_map(release) {
        let first = known.entry(version).or_insert(published);
        *first = (*first).min(published).or(*first);
    }
    let release = |(version, published)| Release { version, published, file: None };
    known.into_iter().map(release).collect()
}

pub(super) fn files(
    archive: Archive<'_>,
    version: &str,
    components: &[String],
) -> Result<Vec<File>, UpstreamError> {
    let path = format!("dist/channel-rust-{version}.toml");
    let (_, sum) = archive.get(&format!("{path}.sha256"))?;
    let (url, body) = archive.get(&path)?;
    let parse = |reason: String| UpstreamError::Parse { url: url.clone(), reason };
    let sum = String::from_utf8_lossy(&sum);
    let expected = sum.split_whitespace().next().and_then(sha256);
    let expected = expected.ok_or_else(|| parse("the checksum beside it is none".into()))?;
    let found = Digest::sha256(&body);
    if found != expected {
        let (expected, found) = (Box::new(expected), Box::new(found));
        return Err(UpstreamError::Checksum { url, expected, found });
    }
    let manifest: Manifest =
        toml_edit::de::from_slice(&body).map_err(|e| parse(e.message().to_owned()))?;
    let missing = |name: &String| UpstreamError::NoFile {
        url: url.clone(),
        name: name.clone(),
        target: archive.target.to_owned(),
    };
    components
        .iter()
        .map(|name| {
            let file = manifest.file(archive.base, archive.target, name);
            file.ok_or_else(|| missing(name))
        })
        .collect()
}

impl Manifest {
    /// The archive of a component for the platform.
    fn file(&self, base: &str, target: &str, name: &str) -> Option<File> {
        // A component's name may have changed: `rustfmt` was, and became, `rustfmt-preview`.
        let package = self.pkg.get(name).or_else(|| {
            let renamed = &self.renames.get(name)?.to;
            self.pkg.get(renamed)
        })?;
        let target = package.target.get(target).filter(|target| target.available)?;
        let xz = target.xz_url.as_deref().zip(target.xz_hash.as_deref());
        let (url, hash) = xz.or(target.url.as_deref().zip(target.hash.as_deref()))?;
        Some(File {
            name: name.to_owned(),
            url: rebase(base, url, OFFICIAL),
            mirrors: Vec::new(),
            sha256: sha256(hash)?,
            strip: 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_manifests() {
        let list = "static.rust-lang.org/dist/2023-11-15/channel-rust-nightly.toml\n\
            static.rust-lang.org/dist/2023-11-16/channel-rust-1.74.0.toml\n\
            static.rust-lang.org/dist/2023-11-16/channel-rust-1.74.toml\n\
            static.rust-lang.org/dist/2023-11-16/channel-rust-stable.toml\n\
            static.rust-lang.org/dist/2023-11-20/channel-rust-1.74.0.toml\n\
            static.rust-lang.org/dist/2023-12-07/channel-rust-1.74.1.toml\n\
            static.rust-lang.org/dist/channel-rust-1.2.3-beta.toml\n";
        let read = versions(list);
        let found: Vec<(&str, Option<i64>)> =
            read.iter().map(|r| (r.version.as_str(), r.published)).collect();
        assert_eq!(found, [("1.74.0", day("2023-11-16")), ("1.74.1", day("2023-12-07"))]);
        assert!(day("2023-11-16").is_some());
    }

    #[test]
    fn a_manifest() {
        let sum = Digest::sha256(b"abc");
        let text = format!(
            r#"manifest-version = "2"
date = "2023-11-16"
[pkg.cargo]
version = "0.75.0 (ecb9851af 2023-10-18)"
[pkg.cargo.target.x86_64-unknown-linux-gnu]
available = true
url = "https://static.rust-lang.org/dist/2023-11-16/cargo-1.74.0-x86_64-unknown-linux-gnu.tar.gz"
hash = "00"
xz_url = "https://static.rust-lang.org/dist/2023-11-16/cargo-1.74.0-x86_64-unknown-linux-gnu.tar.xz"
xz_hash = "{0}"
[pkg.rustfmt-preview]
version = "1.6.0 (79e9716c 2023-11-13)"
[pkg.rustfmt-preview.target.x86_64-unknown-linux-gnu]
available = true
url = "https://static.rust-lang.org/dist/2023-11-16/rustfmt-1.74.0-x86_64-unknown-linux-gnu.tar.gz"
hash = "{0}"
[pkg.rust-std.target.wasm64-unknown-unknown]
available = false
[renames.rustfmt]
to = "rustfmt-preview"
[profiles]
minimal = ["rustc", "cargo", "rust-std"]
"#,
            sum.hex()
        );
        let manifest: Manifest = toml_edit::de::from_str(&text).expect("it is one");
        let file = |name: &str, target: &str| manifest.file("https://m", target, name);
        let linux = "x86_64-unknown-linux-gnu";
        let cargo = file("cargo", linux).expect("it is there");
        let name = "cargo-1.74.0-x86_64-unknown-linux-gnu.tar.xz";
        assert_eq!(cargo.url, format!("https://m/dist/2023-11-16/{name}"));
        assert_eq!((cargo.sha256, cargo.strip), (sum, 2));
        let rustfmt = file("rustfmt", linux).expect("under its newer name");
        assert!(rustfmt.url.ends_with(".tar.gz"), "{}", rustfmt.url);
        assert_eq!(file("rust-std", "wasm64-unknown-unknown"), None);
        assert_eq!(file("cargo", "aarch64-unknown-linux-gnu"), None);
    }
}
