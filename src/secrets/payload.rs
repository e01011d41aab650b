//! What is encrypted: the signing key and the values, as one text that is read where it lies.
//!
//! ```text
//! zagi secrets 1\n
//! project <32 hex digits>\n
//! revision <number>\n
//! key <64 hex digits>\n
//! NAME <length in bytes>\n<the value>\n     for each secret, sorted
//! ```
//! `age -d` shows it to whoever has an identity and no zagi. The values stay in the [`Pages`]
//! that they were decrypted into; no string of one is ever made.

use std::collections::BTreeMap;
use std::ops::Range;

use zagi_sandbox::Pages;

use super::document::is_name;
use super::sign::Key;

/// The longest payload. Bytes.
pub(super) const MOST_BYTES: usize = 4 << 20;
const MAGIC: &[u8] = b"zagi secrets 1";

/// A payload that was decrypted.
pub(super) struct Payload {
    pages: Pages,
    pub(super) project: String,
    pub(super) revision: u64,
    key: Range<usize>,
    values: BTreeMap<String, Range<usize>>,
}

impl Payload {
    /// Finds its parts; says what is wrong with it, without a word of it.
    pub(super) fn parse(pages: Pages) -> Result<Payload, &'static str> {
        let mut cursor = Cursor { bytes: pages.bytes(), at: 0 };
        if cursor.line() != Some(MAGIC) {
            return Err("it is not a payload of version 1");
        }
        let project = cursor.field("project").ok_or("it has no project")?.to_owned();
        let revision = cursor.field("revision").and_then(|text| text.parse().ok());
        let revision = revision.ok_or("it has no revision")?;
        let key = cursor.field("key").ok_or("it has no key")?.len();
        let key = cursor.at - 1 - key..cursor.at - 1;
        let mut values = BTreeMap::new();
        while cursor.at < cursor.bytes.len() {
            let (name, range) = cursor.value().ok_or("a value is not whole")?;
            if values.insert(name, range).is_some() {
                return Err("a value is there twice");
            }
        }
        Ok(Payload { project, revision, key, values, pages })
    }

    /// Its text; `values` in the order of their names.
    pub(super) fn build<'a>(
        project: &str,
        revision: u64,
        key: &Key,
        values: &BTreeMap<&'a str, &'a [u8]>,
    ) -> std::io::Result<Pages> {
        let room = 256 + values.iter().map(|(n, v)| n.len() + v.len() + 24).sum::<usize>();
        let mut pages = Pages::new(room)?;
        pages.push(MAGIC)?;
        pages.push(format!("\nproject {project}\nrevision {revision}\nkey ").as_bytes())?;
        pages.push(&*key.to_hex())?;
        pages.push(b"\n")?;
        for (name, value) in values {
            pages.push(format!("{name} {}\n", value.len()).as_bytes())?;
            pages.push(value)?;
            pages.push(b"\n")?;
        }
        Ok(pages)
    }

    /// The signing key.
    pub(super) fn key(&self) -> Option<Key> {
        Key::from_hex(&self.pages.bytes()[self.key.clone()])
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A value.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(|range| &self.pages.bytes()[range.clone()])
    }

    /// How well it is kept.
    pub(super) fn kept(&self) -> zagi_sandbox::Kept {
        self.pages.kept()
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr(b'\n', rest)?;
        self.at += length + 1;
        Some(&rest[..length])
    }

    fn field(&mut self, name: &str) -> Option<&'a str> {
        let line = self.line()?.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
        std::str::from_utf8(line).ok()
    }

    fn value(&mut self) -> Option<(String, Range<usize>)> {
        let (name, length) = std::str::from_utf8(self.line()?).ok()?.split_once(' ')?;
        let length: usize = length.parse().ok()?;
        let range = self.at..self.at.checked_add(length)?;
        self.at = range.end + 1;
        let whole = is_name(name) && self.bytes.get(range.end) == Some(&b'\n');
        whole.then(|| (name.to_owned(), range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> (Pages, Key) {
        let key = Key::generate().unwrap();
        let values =
            BTreeMap::from([("A", &b"one\ntwo\n"[..]), ("B", &b"\x00\xff"[..]), ("C", b"")]);
        (Payload::build("p", 7, &key, &values).unwrap(), key)
    }

    #[test]
    fn there_and_back() {
        let (pages, key) = built();
        let payload = Payload::parse(pages).unwrap();
        assert_eq!((payload.project.as_str(), payload.revision), ("p", 7));
        assert_eq!(payload.key().unwrap().signer(), key.signer());
        assert_eq!(payload.names().collect::<Vec<_>>(), ["A", "B", "C"]);
        assert_eq!(payload.get("A"), Some(&b"one\ntwo\n"[..]));
        assert_eq!(payload.get("B"), Some(&b"\x00\xff"[..]));
        assert_eq!(payload.get("D"), None);
    }

    #[test]
    fn what_is_cut_or_odd_is_refused() {
        let (pages, _) = built();
        let text = pages.bytes();
        let head = text.windows(2).position(|w| w == b"A ").unwrap();
        for end in 0..text.len() {
            // Between two values it ends well: age itself tells a payload that was cut.
            let parsed = Payload::parse(Pages::of(&text[..end]).unwrap());
            assert!(parsed.is_err() || (end >= head && text[end - 1] == b'\n'), "{end}");
        }
        for odd in [
            "A 99999999999999999999\nx\n",
            "A 18446744073709551615\nx\n",
            "A -1\nx\n",
            "a-b 1\nx\n",
            "A 1\nx\nA 1\ny\n",
        ] {
            let mut bytes = text[..head].to_vec();
            bytes.extend_from_slice(odd.as_bytes());
            assert!(Payload::parse(Pages::of(&bytes).unwrap()).is_err(), "{odd}");
        }
    }
}
