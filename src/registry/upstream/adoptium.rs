//! The API of Eclipse Adoptium, version 3 (<https://api.adoptium.net/q/swagger-ui/>). It answers
//! in pages, the newest first; behind the last there is nothing.
//!
//! ```text
//! v3/assets/version/[1.0,100.0]?…&page=0
//!     [{"release_name":"jdk-21.0.5+11","timestamp":"2024-10-17T22:28:58Z",
//!       "binaries":[{"package":{"name":…,"link":"https://github.com/adoptium/…","checksum":…},…}],
//!       "version_data":{"major":21,"minor":0,"security":5,"build":11,…},…},…]
//! OpenJDK21U-jdk_x64_linux_hotspot_21.0.5_11.tar.gz   jdk-21.0.5+11/bin/java, …
//! ```

use serde::Deserialize;

use super::{Archive, File, Release, UpstreamError, sha256};
use crate::registry::http::HttpError;
use crate::registry::text::seconds;

/// As many as the API gives at most.
const PAGE: usize = 20;

/// It has some ten of them.
const MOST_PAGES: usize = 100;

#[derive(Deserialize)]
struct Said {
    timestamp: Option<String>,
    #[serde(default)]
    binaries: Vec<Binary>,
    version_data: Version,
}

#[derive(Deserialize)]
struct Binary {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    link: String,
    #[serde(default)]
    checksum: String,
}

#[derive(Deserialize)]
struct Version {
    major: u32,
    #[serde(default)]
    minor: u32,
    #[serde(default)]
    security: u32,
    patch: Option<u32>,
}

pub(super) fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    let mut all = Vec::new();
    for page in 0..MOST_PAGES {
        let path = format!(
            "v3/assets/version/%5B1.0,100.0%5D?project=jdk&vendor=eclipse&image_type=jdk\
             &release_type=ga&jvm_impl=hotspot&heap_size=normal&os=linux&architecture={}\
             &sort_method=DEFAULT&sort_order=DESC&page_size={PAGE}&page={page}",
            archive.target
        );
        let said: Vec<Said> = match archive.json(&path) {
            Ok(said) => said,
            Err(UpstreamError::Http(HttpError::NotFound { .. })) if page > 0 => break,
            Err(e) => return Err(e),
        };
        let last = said.len() < PAGE;
        all.extend(said.iter().filter_map(release));
        if last {
            break;
        }
    }
    Ok(all)
}

fn release(said: &Said) -> Option<Release> {
    let packages = said.binaries.iter().map(|binary| &binary.package);
    let package = packages.into_iter().find(|package| package.name.ends_with(".tar.gz"))?;
    let Version { major, minor, security, patch } = said.version_data;
    let patch = patch.filter(|patch| *patch > 0).map(|patch| format!(".{patch}"));
    Some(Release {
        version: format!("{major}.{minor}.{security}{}", patch.unwrap_or_default()),
        published: said.timestamp.as_deref().and_then(seconds),
        file: Some(File {
            name: "jdk".into(),
            url: package.link.clone(),
            mirrors: Vec::new(),
            sha256: sha256(&package.checksum)?,
            strip: 1,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest::Digest;

    #[test]
    fn releases_of_the_api() {
        let sum = Digest::sha256(b"abc");
        let read = |version: &str, checksum: &str| {
            let text = format!(
                r#"{{"id":"x","release_name":"jdk","release_type":"ga","vendor":"eclipse",
                "timestamp":"2024-10-17T22:28:58Z","updated_at":"2024-10-18T00:00:00Z",
                "binaries":[{{"architecture":"x64","image_type":"jdk","os":"linux","package":
                  {{"name":"OpenJDK21U-jdk_x64_linux_hotspot_21.0.5_11.tar.gz",
                    "link":"https://github.com/adoptium/x.tar.gz","size":1,
                    "checksum":"{checksum}"}}}}],
                "version_data":{version}}}"#
            );
            release(&serde_json::from_str(&text).expect("it is one"))
        };
        let text = r#"{"major":21,"minor":0,"security":5,"build":11,"optional":"LTS",
            "openjdk_version":"21.0.5+11-LTS","semver":"21.0.5+11.0.LTS"}"#;
        let found = read(text, &sum.hex()).expect("it is whole");
        assert_eq!(found.version, "21.0.5");
        assert_eq!(found.published, Some(1_729_204_138));
        let file = found.file.expect("the answer names it");
        assert_eq!((file.url.as_str(), file.sha256), ("https://github.com/adoptium/x.tar.gz", sum));
        let patched = r#"{"major":11,"minor":0,"security":9,"patch":1,"build":1}"#;
        assert_eq!(read(patched, &sum.hex()).expect("it is whole").version, "11.0.9.1");
        assert_eq!(read(text, ""), None, "it could not be verified");
    }
}
