//! `index.json` names the versions with their dates and platforms; the files of a version and
//! `SHASUMS256.txt` stand in a directory of their own (<https://nodejs.org/dist/>):
//!
//! ```text
//! index.json               [{"version":"v22.1.0","date":"2024-05-02","files":["linux-x64",…],…},…]
//! v22.1.0/SHASUMS256.txt   <sha256>  node-v22.1.0-linux-x64.tar.xz
//! v22.1.0/node-v22.1.0-linux-x64.tar.xz    node-v22.1.0-linux-x64/bin/node, …
//! ```

use serde::Deserialize;

use super::{Archive, File, Release, UpstreamError, day, listed};

#[derive(Deserialize)]
struct Said {
    version: String,
    date: Option<String>,
    #[serde(default)]
    files: Vec<String>,
}

pub(super) fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    Ok(versions(archive.json("index.json")?, archive.target))
}

fn versions(said: Vec<Said>, target: &str) -> Vec<Release> {
    let fitting = said.into_iter().filter(|said| said.files.iter().any(|file| file == target));
    let release = |said: Said| Release {
        version: said.version.trim_start_matches('v').to_owned(),
        published: said.date.as_deref().and_then(day),
        file: None,
    };
    fitting.map(release).collect()
}

pub(super) fn files(archive: Archive<'_>, version: &str) -> Result<Vec<File>, UpstreamError> {
    let directory = format!("v{version}");
    let (url, sums) = archive.get(&format!("{directory}/SHASUMS256.txt"))?;
    // The smaller one first; the oldest versions do not have it.
    for ending in ["tar.xz", "tar.gz"] {
        let name = format!("node-v{version}-{}.{ending}", archive.target);
        if let Some(sha256) = listed(&sums, &name) {
            let url = format!("{}/{directory}/{name}", archive.base);
            let name = "node".to_owned();
            return Ok(vec![File { name, url, mirrors: Vec::new(), sha256, strip: 1 }]);
        }
    }
    let name = format!("node-v{version}-*.tar.xz");
    Err(UpstreamError::NoFile { url, name, target: archive.target.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index() {
        let text = r#"[
            {"version":"v22.1.0","date":"2024-05-02","files":["aix-ppc64","headers","linux-arm64",
             "linux-x64","osx-arm64-tar","src","win-x64-zip"],"npm":"10.7.0","v8":"12.4.254.14",
             "uv":"1.48.0","zlib":"1.3.0.1","openssl":"3.0.13+quic","modules":"127","lts":false,
             "security":false},
            {"version":"v20.12.2","date":"2024-04-10","files":["linux-x64","src"],"npm":"10.5.0",
             "v8":"11.3.244.8","lts":"Iron","security":true},
            {"version":"v0.1.14","date":"2011-08-26","files":["src"],"v8":"1.3.15.0","lts":false}
        ]"#;
        let read = |target| versions(serde_json::from_str(text).expect("it is one"), target);
        let x64 = read("linux-x64");
        assert_eq!(x64.len(), 2);
        assert_eq!((x64[0].version.as_str(), x64[0].published), ("22.1.0", Some(1_714_608_000)));
        assert_eq!(x64[1].version, "20.12.2");
        assert_eq!(read("linux-arm64").len(), 1);
    }
}
