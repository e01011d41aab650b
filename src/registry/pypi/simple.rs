//! The simple API: a page of links (PEP 503, 592, 700) or the same as JSON (PEP 691).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::names::{sdist_version, wheel};
use super::{File, Kind, Release, release};
use crate::registry::digest::Digest;
use crate::registry::text::{join, seconds, unescape_html};

/// JSON if the index speaks it, HTML otherwise.
pub(super) const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, \
     application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// Reads what the index says about `project` (in normal form) at `page`.
pub(super) fn parse(
    document: &[u8],
    page: &str,
    project: &str,
) -> Result<Vec<Release>, serde_json::Error> {
    let links = match document.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice::<Page>(document)?.files,
        _ => links(&String::from_utf8_lossy(document)),
    };
    let mut versions: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for link in links {
        let Some((version, file)) = file(link, page, project) else { continue };
        versions.entry(version).or_default().push(file);
    }
    Ok(versions.into_iter().filter_map(|(version, files)| release(version, files)).collect())
}

fn file(link: Link, page: &str, project: &str) -> Option<(String, File)> {
    let (version, kind) = match wheel(&link.filename) {
        Some(wheel) => (wheel.version, Kind::Wheel { tags: wheel.tags }),
        None => (sdist_version(&link.filename, project)?.to_owned(), Kind::Sdist),
    };
    let file = File {
        url: join(page, &link.url),
        sha256: Digest::from_hex(link.hashes.get("sha256")?).ok()?,
        kind,
        yanked: link.yanked.is_some_and(|yanked| yanked != serde_json::Value::Bool(false)),
        published: link.upload_time.as_deref().and_then(seconds),
        requires_python: link.requires_python,
        filename: link.filename,
    };
    Some((version, file))
}

#[derive(Deserialize)]
struct Page {
    files: Vec<Link>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Link {
    filename: String,
    url: String,
    hashes: BTreeMap<String, String>,
    requires_python: Option<String>,
    /// `true`, `false`, or why.
    yanked: Option<serde_json::Value>,
    upload_time: Option<String>,
}

/// Every `<a href="…#sha256=…" data-…>name</a>` of a page.
fn links(page: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find("<a ") {
        rest = &rest[at + 3..];
        let Some((attributes, after)) = attributes(rest) else { break };
        rest = after;
        let text = rest.split('<').next().expect("split yields at least one item");
        let Some(href) = attributes.get("href") else { continue };
        let (url, fragment) = href.split_once('#').unwrap_or((href, ""));
        let hash = fragment.split('&').find_map(|item| item.split_once('='));
        links.push(Link {
            filename: unescape_html(text.trim()),
            url: url.to_owned(),
            hashes: hash.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            requires_python: attributes.get("data-requires-python").cloned(),
            // Present is enough; its value is why.
            yanked: attributes.get("data-yanked").map(|why| why.as_str().into()),
            upload_time: attributes.get("data-upload-time").cloned(),
        });
    }
    links
}

/// The attributes of a tag whose name was just read, and what follows its `>`.
fn attributes(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('>') {
            return Some((found, after));
        }
        let end = rest.find(|c: char| c == '=' || c == '>' || c.is_whitespace())?;
        let name = rest[..end].trim_end_matches('/').to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let value = match rest.strip_prefix('=').map(str::trim_start) {
            None => "",
            Some(after) => {
                let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
                let (value, after) = match quote {
                    Some(quote) => after[1..].split_once(quote)?,
                    None => after.split_at(after.find(|c: char| c == '>' || c.is_whitespace())?),
                };
                rest = after;
                value
            }
        };
        found.insert(name, unescape_html(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_page() {
        let page = format!(
            r#"<!DOCTYPE html><html><body><h1>Links for x</h1>
            <a href="../../packages/x-1.0.tar.gz#sha256={SUM}" data-requires-python="&gt;=3.7"
               data-upload-time="2025-03-05T20:05:02.478302Z">x-1.0.tar.gz</a><br/>
            <a href='/p/x-1.0-py3-none-any.whl#sha256={SUM}' data-yanked>x-1.0-py3-none-any.whl</a>
            <a href=https://f/x-0.9.tar.gz#md5=00>x-0.9.tar.gz</a>
            <a name="here">nothing</a>
            <a href="https://f/x-0.8.tar.gz#sha256={SUM}" data-yanked="bad">x-0.8.tar.gz</a>"#
        );
        let releases = parse(page.as_bytes(), "https://h/simple/x/", "x").expect("it is one");
        let [old, new] = releases.as_slice() else { panic!("{releases:?}") };
        assert_eq!((old.version.as_str(), old.yanked()), ("0.8", true));
        assert_eq!((new.version.as_str(), new.files.len(), new.yanked()), ("1.0", 2, false));
        let sdist = new.sdist().expect("it has one");
        assert_eq!(sdist.url, "https://h/packages/x-1.0.tar.gz");
        assert_eq!(sdist.requires_python.as_deref(), Some(">=3.7"));
        assert_eq!((sdist.published, new.published), (Some(1_741_205_102), Some(1_741_205_102)));
        assert_eq!(new.files[1].url, "https://h/p/x-1.0-py3-none-any.whl");
        assert!(new.files[1].yanked);
    }

    #[test]
    fn the_same_as_json() {
        let document = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "x", "files": [
            {{"filename": "x-1.0.tar.gz", "url": "../../p/x-1.0.tar.gz", "yanked": false,
              "hashes": {{"sha256": "{SUM}"}}, "upload-time": "2025-03-05T20:05:02Z"}},
            {{"filename": "x-2.0.tar.gz", "url": "y", "hashes": {{"sha256": "{SUM}"}},
              "yanked": "broken"}}]}}"#
        );
        let releases = parse(document.as_bytes(), "https://h/simple/x/", "x").expect("it is one");
        assert_eq!(releases[0].files[0].url, "https://h/p/x-1.0.tar.gz");
        assert_eq!(releases[0].published, Some(1_741_205_102));
        assert!(!releases[0].yanked() && releases[1].yanked());
    }

    #[test]
    fn a_page_cut_off_anywhere_is_no_panic() {
        let page = format!("<a href=\"x-1.0.tar.gz#sha256={SUM}\" x y='é' >x-1.0.tar.gz</a>");
        for end in (0..=page.len()).filter(|end| page.is_char_boundary(*end)) {
            parse(&page.as_bytes()[..end], "https://h/", "x").expect("HTML is never wrong");
        }
    }
}
