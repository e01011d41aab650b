//! Values that nobody else has, and finding them again, however they were written.

use std::io;

/// How many random letters a canary has.
const LENGTH: usize = 32;
/// As many of them, in a row, are no accident.
const WINDOW: usize = 12;

/// What is written where nothing may be.
pub const PLANTED: &str = "planted-by-an-attack";

/// One value, of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    id: String,
    random: String,
}

/// How a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it is, or a part of it.
    Plain,
    /// Letter by letter, or in lines.
    Split,
    /// From its end to its beginning.
    Reversed,
    /// As hexadecimal digits.
    Hex,
    /// As base64 has it, wherever it begins.
    Base64,
}

impl Canary {
    /// A new one.
    pub fn new(id: &str) -> io::Result<Canary> {
        let mut bytes = [0; LENGTH / 2];
        let mut done = 0;
        while done < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            done += rustix::rand::getrandom(&mut bytes[done..], flags)?;
        }
        Ok(Canary { id: id.to_owned(), random: hex(&bytes) })
    }

    /// What is planted.
    pub fn text(&self) -> String {
        format!("{}{}", prefix(&self.id), self.random)
    }

    /// Whether it is in there, and how.
    pub fn found_in(&self, bytes: &[u8]) -> Option<Form> {
        let has = |needle: &str| {
            let finder = |part: &[u8]| memchr::memmem::find(bytes, part).is_some();
            needle.as_bytes().windows(WINDOW.min(needle.len())).any(finder)
        };
        let reversed: String = self.random.chars().rev().collect();
        let digits = hex(self.random.as_bytes());
        // Whichever of three places of a group it begins at.
        let coded = (0..3).any(|skip| {
            let whole = &self.random.as_bytes()[skip..];
            has(&base64(&whole[..whole.len() / 3 * 3]))
        });
        let letters: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
        let split = |text: &str| {
            text.as_bytes()
                .windows(WINDOW)
                .any(|part| memchr::memmem::find(&letters, part).is_some())
        };
        Some(match () {
            () if has(&self.random) => Form::Plain,
            () if has(&reversed) => Form::Reversed,
            () if has(&digits) || has(&digits.to_uppercase()) => Form::Hex,
            () if coded => Form::Base64,
            () if split(&self.random) => Form::Split,
            () if split(&reversed) => Form::Reversed,
            () if split(&digits) => Form::Hex,
            () => return None,
        })
    }
}

/// What stands before a value's random part: what an attacker looks for.
pub fn prefix(id: &str) -> String {
    format!("canary:{id}:")
}

/// The values that begin with the prefix of `id`, and what follows.
pub fn hunt(bytes: &[u8], id: &str) -> io::Result<Vec<u8>> {
    let prefix = prefix(id);
    let after = |at: usize| {
        let end = bytes.len().min(at + prefix.len() + LENGTH);
        bytes[at..end].to_vec()
    };
    // The prefix alone may be in the searcher's own memory.
    let found: Vec<Vec<u8>> = memchr::memmem::find_iter(bytes, &prefix)
        .map(after)
        .filter(|found| found[prefix.len()..].iter().all(u8::is_ascii_hexdigit))
        .collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is not in there"));
    }
    Ok(found.join(&b'\n'))
}

/// A set of them, by the attempts that look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canaries(Vec<Canary>);

impl Canaries {
    /// New ones for these ids.
    pub fn new<'a>(ids: impl IntoIterator<Item = &'a str>) -> io::Result<Canaries> {
        ids.into_iter().map(Canary::new).collect::<io::Result<_>>().map(Canaries)
    }

    /// That of an attempt.
    pub fn of(&self, id: &str) -> Option<&Canary> {
        self.0.iter().find(|canary| canary.id == id)
    }

    /// All of them, in one line.
    pub fn line(&self) -> String {
        self.0.iter().map(Canary::text).collect::<Vec<_>>().join(" ")
    }

    /// Out of a line.
    pub fn read(line: &str) -> Canaries {
        let one = |text: &str| {
            let (id, random) = text.strip_prefix("canary:")?.split_once(':')?;
            Some(Canary { id: id.to_owned(), random: random.to_owned() })
        };
        Canaries(line.split_whitespace().filter_map(one).collect())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of whole groups of three.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        let letter = |shift: u32| char::from(LETTERS[(bits >> shift & 63) as usize]);
        out.extend([18, 12, 6, 0].map(letter));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_however_it_was_written() {
        let canary = Canary { id: "x".into(), random: "3f1c9a7e5b2d806417f0c8a6e4b29d53".into() };
        let random = canary.random.clone();
        let lines = |text: &str| text.chars().map(|c| format!("{c}\n")).collect::<String>();
        let reversed: String = random.chars().rev().collect();
        for (written, form) in [
            (format!("key={random};"), Form::Plain),
            (random[5..25].to_owned(), Form::Plain),
            (lines(&random), Form::Split),
            (format!("{} {}", &random[..10], &random[10..20]), Form::Split),
            (reversed.clone(), Form::Reversed),
            (lines(&reversed), Form::Reversed),
            (hex(random.as_bytes()), Form::Hex),
            (hex(random.as_bytes()).to_uppercase(), Form::Hex),
            (lines(&hex(random.as_bytes())), Form::Hex),
        ] {
            assert_eq!(canary.found_in(written.as_bytes()), Some(form), "{written}");
        }
        for before in ["", "a", "ab"] {
            let mut whole = format!("{before}{random}");
            whole.truncate(whole.len() / 3 * 3);
            let coded = base64(whole.as_bytes());
            assert_eq!(canary.found_in(coded.as_bytes()), Some(Form::Base64), "{coded}");
        }
        assert_eq!(base64(b"Many hands"), "TWFueSBoYW5k");
        let other = Canary::new("x").unwrap();
        assert_eq!(other.found_in(canary.text().as_bytes()), None);
        assert_eq!(canary.found_in(b"canary:x:3f1c9a7e5b2"), None, "too little to tell");
    }

    #[test]
    fn they_are_read_and_hunted_as_they_were_planted() {
        let all = Canaries::new(["a", "b"]).unwrap();
        assert_eq!(Canaries::read(&all.line()), all);
        let b = all.of("b").unwrap();
        let memory = format!("\0PATH=/bin\0X={}\0", all.line());
        assert_eq!(hunt(memory.as_bytes(), "b").unwrap(), b.text().as_bytes());
        assert!(hunt(b"canary:b: is what to look for", "b").is_err());
    }
}
