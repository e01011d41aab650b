//! One document for all versions and files, without dates
//! (<https://go.dev/dl/?mode=json&include=all>). A file beside it is answered with a redirection
//! to where the files are.
//!
//! ```text
//! ?mode=json&include=all       [{"version":"go1.22.3","stable":true,"files":[{"filename":…,
//!     "os":"linux","arch":"amd64","version":"go1.22.3","sha256":…,"size":…,"kind":"archive"},…]},…]
//! go1.22.3.linux-amd64.tar.gz  go/bin/go, …
//! ```

use serde::Deserialize;

use super::{Archive, File, Release, UpstreamError, sha256};

#[derive(Deserialize)]
struct Said {
    version: String,
    #[serde(default)]
    files: Vec<Published>,
}

#[derive(Deserialize)]
struct Published {
    filename: String,
    os: String,
    arch: String,
    kind: String,
    #[serde(default)]
    sha256: String,
}

pub(super) fn releases(archive: Archive<'_>) -> Result<Vec<Release>, UpstreamError> {
    let said: Vec<Said> = archive.json("?mode=json&include=all")?;
    Ok(said.iter().filter_map(|said| release(archive.base, archive.target, said)).collect())
}

fn release(base: &str, target: &str, said: &Said) -> Option<Release> {
    let fits = |file: &&Published| {
        file.kind == "archive" && format!("{}-{}", file.os, file.arch) == target
    };
    let file = said.files.iter().find(fits)?;
    let url = format!("{base}/{}", file.filename);
    // The oldest files have none.
    let sha256 = sha256(&file.sha256)?;
    Some(Release {
        version: said.version.strip_prefix("go")?.to_owned(),
        published: None,
        file: Some(File { name: "go".into(), url, mirrors: Vec::new(), sha256, strip: 1 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest::Digest;

    #[test]
    fn a_list_of_releases() {
        let sum = Digest::sha256(b"abc");
        let text = format!(
            r#"[{{"version":"go1.22.3","stable":true,"files":[
                {{"filename":"go1.22.3.src.tar.gz","os":"","arch":"","version":"go1.22.3",
                  "sha256":"80648ef34f903193d72a59c0dff019f5f98ae0c9aa13ade0b0ecbff991a76f68",
                  "size":27552410,"kind":"source"}},
                {{"filename":"go1.22.3.linux-amd64.tar.gz","os":"linux","arch":"amd64",
                  "version":"go1.22.3","sha256":"{0}","size":68958123,"kind":"archive"}}]}},
               {{"version":"go1.22rc1","stable":false,"files":[
                {{"filename":"go1.22rc1.linux-amd64.tar.gz","os":"linux","arch":"amd64",
                  "version":"go1.22rc1","sha256":"{0}","size":1,"kind":"archive"}}]}},
               {{"version":"go1.2.2","stable":true,"files":[
                {{"filename":"go1.2.2.linux-amd64.tar.gz","os":"linux","arch":"amd64",
                  "version":"go1.2.2","sha256":"","size":1,"kind":"archive"}}]}}]"#,
            sum.hex()
        );
        let said: Vec<Said> = serde_json::from_str(&text).expect("it is one");
        let read: Vec<Release> =
            said.iter().filter_map(|said| release("https://m/go", "linux-amd64", said)).collect();
        let versions: Vec<&str> = read.iter().map(|r| r.version.as_str()).collect();
        assert_eq!(versions, ["1.22.3", "1.22rc1"], "nothing that cannot be verified");
        let file = read[0].file.as_ref().expect("the index names it");
        assert_eq!(file.url, "https://m/go/go1.22.3.linux-amd64.tar.gz");
        assert_eq!(file.sha256, sum);
        assert_eq!(release("", "linux-arm64", &said[0]), None);
    }
}
