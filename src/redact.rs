//! Values taken out of what goes by, as far as they can be recognised: each byte of one becomes a
//! `*`, so that lengths stay.
//!
//! Recognised are the value as it is, reversed, in base64 (plain and for addresses, wherever it begins),
//! in hexadecimal, percent-encoded, and as it stands in JSON; and the lines of one that has
//! several. It is best effort: who holds a value can always write it in a way that nobody knows.
//!
//! - What is shorter than [`SHORTEST`] bytes is found in everything, and so not looked for.
//! - Of what is longer than [`LONGEST`] bytes the beginning is looked for.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use zagi_sandbox::{Filter, Pages};
use zeroize::Zeroizing;

/// In bytes.
pub const SHORTEST: usize = 6;
/// In bytes.
pub const LONGEST: usize = 512;
/// A line of a value is one of many, and says nothing if it is shorter.
const SHORTEST_LINE: usize = 20;

/// What is looked for.
#[derive(Default)]
pub struct Needles(Vec<Pages>);

impl Needles {
    /// The forms of one more value.
    pub fn add(&mut self, value: &[u8]) -> io::Result<()> {
        let value = value.trim_ascii();
        let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let lines = lines.filter(|line| *line != value && line.len() >= SHORTEST_LINE);
        for part in [value].into_iter().chain(lines) {
            if part.len() < SHORTEST {
                continue;
            }
            for form in forms(&part[..part.len().min(LONGEST)]) {
                let known = self.0.iter().any(|needle| needle.bytes() == form.as_slice());
                // What of base64 is only this value's can be shorter than it.
                if form.len() >= SHORTEST && !known {
                    self.0.push(Pages::of(&form)?);
                }
            }
        }
        Ok(())
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Blanks all that is found; whether something was.
    fn blank(&self, bytes: &mut [u8]) -> bool {
        let mut found = false;
        for needle in &self.0 {
            let mut from = 0;
            while let Some(at) = memmem::find(&bytes[from..], needle.bytes()) {
                let end = from + at + needle.bytes().len();
                bytes[from + at..end].fill(b'*');
                (from, found) = (end, true);
            }
        }
        found
    }

    /// How many bytes at the end may be the beginning of something.
    fn begun(&self, bytes: &[u8]) -> usize {
        let longest = |needle: &Pages| {
            let needle = needle.bytes();
            let tail = &bytes[bytes.len().saturating_sub(needle.len() - 1)..];
            let mut starts = memchr::memchr_iter(needle[0], tail);
            starts.find(|at| needle.starts_with(&tail[*at..])).map_or(0, |at| tail.len() - at)
        };
        self.0.iter().map(longest).max().unwrap_or(0)
    }
}

/// A value in the ways in which it may be written.
fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![value.to_vec(), value.iter().rev().copied().collect()];
    let hex = |upper: bool| -> Vec<u8> {
        let digit = |n: u8| {
            if upper { b"0123456789ABCDEF"[n as usize] } else { b"0123456789abcdef"[n as usize] }
        };
        value.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    };
    forms.extend([hex(false), hex(true)]);
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3_usize {
            let padded = Zeroizing::new([&[0; 3][..before], value].concat());
            let text = Zeroizing::new(engine.encode(&*padded).into_bytes());
            // Without the characters that stand for something before or after, too.
            let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            forms.push(text[first.min(last)..last].to_vec());
        }
    }
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let percent = |byte: &u8| match unreserved(*byte) {
        true => vec![*byte],
        false => format!("%{byte:02X}").into_bytes(),
    };
    forms.push(value.iter().flat_map(percent).collect());
    if let Ok(text) = std::str::from_utf8(value)
        && let Ok(mut json) = serde_json::to_vec(text)
    {
        json.pop();
        forms.push(json.split_off(1));
    }
    forms.into_iter().map(Zeroizing::new).collect()
}

/// Takes [`Needles`] out of one stream.
pub struct Redactor {
    needles: Arc<Needles>,
    held: Zeroizing<Vec<u8>>,
    /// Whether something was taken out.
    pub found: bool,
}

impl Redactor {
    /// For one stream.
    pub fn new(needles: Arc<Needles>) -> Redactor {
        Redactor { needles, held: Zeroizing::default(), found: false }
    }
}

impl Filter for Redactor {
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut all = Zeroizing::new([self.held.as_slice(), bytes].concat());
        self.found |= self.needles.blank(&mut all);
        let kept = self.needles.begun(&all);
        let held = all.len() - kept;
        self.held = Zeroizing::new(all.split_off(held));
        out.extend_from_slice(&all);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&std::mem::take(&mut self.held));
    }

    fn holds(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(values: &[&str]) -> Arc<Needles> {
        let mut needles = Needles::default();
        for value in values {
            needles.add(value.as_bytes()).unwrap();
        }
        Arc::new(needles)
    }

    fn passed(needles: &Arc<Needles>, parts: &[&[u8]]) -> String {
        let (mut redactor, mut out) = (Redactor::new(needles.clone()), Vec::new());
        for part in parts {
            redactor.pass(part, &mut out);
        }
        redactor.flush(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_way_to_write_it() {
        let value = "sk_live+4eC39HqL/yjWDar\"jtT1";
        let needles = needles(&[value]);
        let url = "sk_live%2B4eC39HqL%2FyjWDar%22jtT1";
        let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
        let json = serde_json::to_string(value).unwrap();
        let reversed: String = value.chars().rev().collect();
        for said in [value.to_owned(), url.into(), hex.to_uppercase(), hex, json, reversed] {
            let text = format!("before {said} after");
            let out = passed(&needles, &[text.as_bytes()]);
            assert_eq!(out.len(), text.len());
            assert!(out.contains("******") && out.ends_with(" after"), "{out}");
            assert!(
                !out.contains("4eC39") && !out.contains("Tt1jt") && !out.contains("3465433339")
            );
        }
        for before in ["", "a", "ab", "abc"] {
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let text = engine.encode(format!("{before}{value}:"));
                let out = passed(&needles, &[text.as_bytes()]);
                let left = out.chars().filter(|c| *c != '*').count();
                assert!(left <= 8, "{before}: {text} {out}");
            }
        }
    }

    #[test]
    fn however_it_comes_in_pieces() {
        let needles = needles(&["correct horse battery", "horseradish"]);
        let text = b"a correct horse battery, a correct horseradish; a correct hors";
        let whole = passed(&needles, &[text]);
        assert_eq!(whole, "a *********************, a correct ***********; a correct hors");
        for size in 1..text.len() {
            let parts: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(passed(&needles, &parts), whole, "{size}");
        }
    }

    #[test]
    fn what_begins_nothing_goes_on_at_once() {
        let needles = needles(&["correct horse"]);
        let (mut redactor, mut out) = (Redactor::new(needles), Vec::new());
        redactor.pass(b"$ ", &mut out);
        assert_eq!((out.as_slice(), redactor.holds()), (&b"$ "[..], false));
        redactor.pass(b"cor", &mut out);
        assert_eq!((out.as_slice(), redactor.holds()), (&b"$ "[..], true));
        redactor.flush(&mut out);
        assert_eq!(out, b"$ cor");
    }

    #[test]
    fn lines_of_a_key_and_short_values() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n";
        let needles = needles(&[key, "abc"]);
        let text = "x\r\nAQEFAASCBKcwggSjAgEAAoIB\r\nabc";
        assert_eq!(passed(&needles, &[text.as_bytes()]), "x\r\n************************\r\nabc");
        assert!(super::tests::needles(&["abc"]).is_empty());
    }
}
