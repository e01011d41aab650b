//! One answer in the metadata cache, as a file.
//!
//! ```text
//! zagi-http 1\n
//! {"url":…,"etag":…,"modified":…,"fresh":600,"digest":"sha256:…"}\n
//! <body>
//! ```
//!
//! The file's modification time is when the answer was last known to be true, so that
//! revalidating it writes nothing. A file that is anything else is not an error but a miss:
//! the cache may be deleted at any time.

use serde::{Deserialize, Serialize};

use crate::registry::digest::Digest;

const MAGIC: &[u8] = b"zagi-http 1\n";

/// How long an answer is taken as fresh that does not say so itself (RFC 9111, 4.2.2), in
/// seconds: what npm's registry says of its own documents.
pub(super) const FRESH_BY_DEFAULT: i64 = 300;

/// What is known about an answer besides its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub url: String,
    pub etag: Option<String>,
    pub modified: Option<String>,
    /// Seconds for which it needs no asking.
    pub fresh: i64,
    pub digest: Digest,
}

impl Entry {
    pub fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        serde_json::to_writer(&mut bytes, self).expect("strings and numbers are valid JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        bytes
    }

    /// The entry for `url` and its body, unless `bytes` is something else or was damaged.
    pub fn decode(mut bytes: Vec<u8>, url: &str) -> Option<(Entry, Vec<u8>)> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let line = rest.iter().position(|&c| c == b'\n')?;
        let entry: Entry = serde_json::from_slice(&rest[..line]).ok()?;
        bytes.drain(..MAGIC.len() + line + 1);
        let whole = entry.url == url && entry.digest == entry.digest.of_same_kind(&bytes);
        whole.then_some((entry, bytes))
    }
}

/// For how many seconds an answer needs no asking; `None` where it may not be kept.
pub(super) fn freshness(cache_control: Option<&str>, age: Option<&str>) -> Option<i64> {
    let Some(text) = cache_control else { return Some(FRESH_BY_DEFAULT) };
    let (mut fresh, mut always_ask) = (None, false);
    for directive in text.split(',').map(|d| d.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            None if directive == "no-store" => return None,
            None if directive == "no-cache" => always_ask = true,
            Some(("max-age", seconds)) => {
                fresh = Some(seconds.trim_matches('"').parse::<u32>().map_or(0, i64::from));
            }
            _ => {}
        }
    }
    if always_ask {
        return Some(0);
    }
    // A shared cache on the way may have held it for a while already.
    let age = age.and_then(|a| a.trim().parse::<u32>().ok()).map_or(0, i64::from);
    Some(fresh.map_or(FRESH_BY_DEFAULT, |fresh| (fresh - age).max(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_and_a_damaged_one_is_a_miss() {
        let entry = Entry {
            url: "https://h/x".into(),
            etag: Some("\"a\n\"".into()),
            modified: None,
            fresh: 600,
            digest: Digest::sha256(b"body\nof two lines"),
        };
        let bytes = entry.encode(b"body\nof two lines");
        let (read, body) = Entry::decode(bytes.clone(), "https://h/x").expect("just written");
        assert_eq!((read, body.as_slice()), (entry, b"body\nof two lines".as_slice()));
        assert_eq!(Entry::decode(bytes.clone(), "https://h/y"), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let read = Entry::decode(damaged, "https://h/x");
            assert!(read.is_none_or(|(_, body)| body == b"body\nof two lines"), "byte {at}");
            assert_eq!(Entry::decode(bytes[..at].to_vec(), "https://h/x"), None);
        }
    }

    #[test]
    fn freshness_by_rfc_9111() {
        assert_eq!(freshness(None, None), Some(FRESH_BY_DEFAULT));
        assert_eq!(freshness(Some("public, max-age=600"), None), Some(600));
        assert_eq!(freshness(Some("max-age=600"), Some("450")), Some(150));
        assert_eq!(freshness(Some("max-age=600"), Some("601")), Some(0));
        assert_eq!(freshness(Some("Max-Age=60, no-cache"), None), Some(0));
        assert_eq!(freshness(Some("no-store"), None), None);
        assert_eq!(freshness(Some("max-age=nonsense"), None), Some(0));
    }
}
