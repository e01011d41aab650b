//! Builds of Python that need nothing around them. One document lists them, a line of JSON for
//! each (<https://github.com/astral-sh/versions>); a mirror of its makers has the document and
//! the files under one address.
//!
//! ```text
//! versions/main/v1/python-build-standalone.ndjson
//!     {"version":"3.12.7+20241016","date":…,"artifacts":[{"platform":"x86_64-unknown-linux-gnu",
//!      "variant":"install_only_stripped","url":"https://github.com/astral-sh/…","sha256":…},…]}
//! python-build-standalone/releases/download/20241016/
//!     cpython-3.12.7+20241016-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz
//!         python/bin/python3.12, …
//! ```

use serde::Deserialize;

use super::{Archive, File, Release, UpstreamError, day, rebase, sha256};

/// How the addresses of files begin; the mirror has them under its own address.
const OFFICIAL: &str = "https://github.com/astral-sh";

/// The kinds that hold what is installed and no more, the smaller first.
const VARIANTS: [&str; 2] = ["install_only_stripped", "install_only"];

#[derive(Deserialize)]
struct Said {
    version: String,
    date: Option<String>,
    #[serde(default)]
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Artifact {
    platform: String,
    variant: String,
    url: String,
    #[serde(default)]
    sha256: String,
}

pub(super) fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    let (url, body) = archive.get("versions/main/v1/python-build-standalone.ndjson")?;
    let mut releases = Vec::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let said: Said = serde_json::from_slice(line)
            .map_err(|e| UpstreamError::Parse { url: url.clone(), reason: e.to_string() })?;
        releases.extend(release(archive.base, archive.target, &said));
    }
    Ok(releases)
}

fn release(base: &str, target: &str, said: &Said) -> Option<Release> {
    // The build's day follows the version.
    let (version, build) = said.version.split_once('+').unwrap_or((&said.version, ""));
    let fitting = |variant: &str| {
        let fits = |a: &&Artifact| a.platform == target && a.variant == variant;
        let artifact = said.artifacts.iter().find(fits)?;
        Some((artifact, sha256(&artifact.sha256)?))
    };
    let (artifact, sha256) = VARIANTS.iter().find_map(|variant| fitting(variant))?;
    let url = rebase(base, &artifact.url, OFFICIAL);
    let mirrors = (url != artifact.url).then(|| artifact.url.clone());
    let built = match build.len() == 8 && build.is_ascii() {
        true => day(&format!("{}-{}-{}", &build[..4], &build[4..6], &build[6..])),
        false => None,
    };
    Some(Release {
        version: version.to_owned(),
        published: built.or_else(|| said.date.as_deref().and_then(day)),
        file: Some(File {
            name: "cpython".into(),
            url,
            mirrors: mirrors.into_iter().collect(),
            sha256,
            strip: 1,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest::Digest;

    #[test]
    fn a_build() {
        let sum = Digest::sha256(b"abc").hex();
        let release = |text: &str| {
            let said: Said = serde_json::from_str(text).expect("it is one");
            release("https://m", "x86_64-unknown-linux-gnu", &said)
        };
        let artifact = |platform: &str, variant: &str, name: &str| {
            format!(
                r#"{{"platform":"{platform}","variant":"{variant}","archive_format":"tar.gz","url":
                   "https://github.com/astral-sh/python-build-standalone/releases/download/{name}",
                   "sha256":"{sum}"}}"#
            )
        };
        let linux = "x86_64-unknown-linux-gnu";
        let text = format!(
            r#"{{"version":"3.12.7+20241016","date":"2024-10-17T01:02:03Z","artifacts":[{},{},{}]}}"#,
            artifact("aarch64-apple-darwin", "install_only", "mac"),
            artifact(linux, "install_only", "20241016/whole.tar.gz"),
            artifact(linux, "install_only_stripped", "20241016/small.tar.gz"),
        );
        let found = release(&text).expect("it is there");
        assert_eq!((found.version.as_str(), found.published), ("3.12.7", day("2024-10-16")));
        let file = found.file.expect("the index names it");
        let path = "python-build-standalone/releases/download/20241016/small.tar.gz";
        assert_eq!(file.url, format!("https://m/{path}"));
        assert_eq!(file.mirrors, [format!("https://github.com/astral-sh/{path}")]);
        assert_eq!(release(r#"{"version":"3.12.7+20241016"}"#), None);
        let unverified = text.replace(&sum, "");
        assert_eq!(release(&unverified), None);
    }
}
