//! One document for all versions and files (<https://ziglang.org/download/index.json>):
//!
//! ```text
//! index.json   {"master": {"version": "0.15.0-dev.1+abc", "date": …, …},
//!               "0.13.0": {"date": "2024-06-07", "docs": …, "src": {…}, "x86_64-linux":
//!                   {"tarball": "https://ziglang.org/download/0.13.0/zig-linux-x86_64-0.13.0.tar.xz",
//!                    "shasum": …, "size": "47082308"}, …}, …}
//! ```

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Archive, File, Release, UpstreamError, day, rebase, sha256};

/// How the addresses in the document begin, whichever mirror serves it.
const OFFICIAL: &str = "https://ziglang.org/download";

pub(super) fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    let said: BTreeMap<String, Value> = archive.json("index.json")?;
    Ok(said
        .iter()
        .filter_map(|(name, said)| release(archive.base, archive.target, name, said))
        .collect())
}

fn release(base: &str, target: &str, name: &str, said: &Value) -> Option<Release> {
    let file = said.get(target)?;
    let sha256 = sha256(file.get("shasum")?.as_str()?)?;
    let url = rebase(base, file.get("tarball")?.as_str()?, OFFICIAL);
    // What is under development has a name, and its version beside it.
    let version = said.get("version").and_then(Value::as_str).unwrap_or(name).to_owned();
    Some(Release {
        version,
        published: said.get("date").and_then(Value::as_str).and_then(day),
        file: Some(File { name: "zig".into(), url, mirrors: Vec::new(), sha256, strip: 1 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest::Digest;

    #[test]
    fn a_version_and_what_is_under_development() {
        let sum = Digest::sha256(b"abc");
        let text = format!(
            r#"{{"master":{{"version":"0.15.0-dev.1+abc","date":"2025-03-05","x86_64-linux":
                {{"tarball":"https://ziglang.org/builds/zig-x86_64-linux-0.15.0-dev.1+abc.tar.xz",
                  "shasum":"{0}","size":"1"}}}},
               "0.13.0":{{"date":"2024-06-07","docs":"https://ziglang.org/documentation/0.13.0/",
                "src":{{"tarball":"https://ziglang.org/download/0.13.0/zig-0.13.0.tar.xz",
                  "shasum":"{0}","size":"1"}},
                "x86_64-linux":{{"shasum":"{0}","size":"47082308","tarball":
                  "https://ziglang.org/download/0.13.0/zig-linux-x86_64-0.13.0.tar.xz"}}}}}}"#,
            sum.hex()
        );
        let said: BTreeMap<String, Value> = serde_json::from_str(&text).expect("it is one");
        let read = |name: &str, target: &str| release("https://m/z", target, name, &said[name]);
        let stable = read("0.13.0", "x86_64-linux").expect("it is there");
        assert_eq!((stable.version.as_str(), stable.published), ("0.13.0", day("2024-06-07")));
        let file = stable.file.expect("the index names it");
        assert_eq!(file.url, "https://m/z/0.13.0/zig-linux-x86_64-0.13.0.tar.xz");
        assert_eq!(file.sha256, sum);
        let master = read("master", "x86_64-linux").expect("it is there");
        assert_eq!(master.version, "0.15.0-dev.1+abc");
        let url = master.file.expect("the index names it").url;
        assert!(url.starts_with("https://ziglang.org/builds/"), "{url}");
        assert_eq!(read("0.13.0", "aarch64-linux"), None);
    }
}
