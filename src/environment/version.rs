//! Versions and constraints on them: one language for all tools.
//!
//! A [`Version`] is read leniently, because every ecosystem writes its own: `22.19.0`,
//! `v22.19.0`, `3.13.0rc1`, `1.86.0-beta.2`, `0.14.0-dev.2+abc`, `0.13.0.post1`. A missing
//! component is zero (`3.11` equals `3.11.0`), what follows `+` does not count, and a
//! pre-release is lower than its release.
//!
//! A [`Constraint`] is a set of versions, kept as sorted intervals, so that intersecting
//! two, and seeing that nothing is left, is exact. Its text form is that of `env.toml`.

mod constraint;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use constraint::{Constraint, ConstraintError};

/// Longer texts are nobody's version.
const LONGEST: usize = 128;
/// More components are nobody's version.
const MOST_COMPONENTS: usize = 8;

/// One version of one tool, with the text that it was read from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: String,
    numbers: Vec<u64>,
    pre: Vec<Part>,
    post: Option<u64>,
}

/// A piece of a pre-release: `rc` and `1` in `rc1`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Number(u64),
    Word(String),
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version")]
pub struct VersionError {
    /// The text, cut to a readable length.
    pub text: String,
}

impl Version {
    /// Reads a version; a leading `v` is dropped.
    pub fn parse(text: &str) -> Result<Version, VersionError> {
        let trimmed = text.trim();
        let trimmed = trimmed.strip_prefix(['v', 'V']).unwrap_or(trimmed);
        if trimmed.len() > LONGEST {
            return Err(error(text));
        }
        scan(trimmed).ok_or_else(|| error(text))
    }

    /// The version with just these components.
    pub fn from_numbers(numbers: &[u64]) -> Version {
        let text = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        Version { text, numbers: numbers.to_vec(), pre: Vec::new(), post: None }
    }

    /// Whether it comes before the release that it names: `rc`, `beta`, `dev`, ….
    pub fn is_prerelease(&self) -> bool {
        !self.pre.is_empty()
    }

    /// The components as written: `[3, 11]` for `3.11`.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// One component, zero where it is not written.
    pub fn number(&self, index: usize) -> u64 {
        self.numbers.get(index).copied().unwrap_or(0)
    }

    /// Whether it names a release in full: three components, or a pre- or post-release.
    pub fn is_full(&self) -> bool {
        self.numbers.len() >= 3 || self.is_prerelease() || self.post.is_some()
    }

    /// Whether both are of one release, pre- and post-releases aside.
    pub fn same_release(&self, other: &Version) -> bool {
        compare_numbers(&self.numbers, &other.numbers) == Ordering::Equal
    }

    /// Pre-releases, then the release, then post-releases.
    fn phase(&self) -> u8 {
        match (&self.post, self.pre.is_empty()) {
            (Some(_), _) => 2,
            (None, true) => 1,
            (None, false) => 0,
        }
    }
}

fn error(text: &str) -> VersionError {
    VersionError { text: text.chars().take(60).collect() }
}

/// `N(.N)*` and then whatever the ecosystem appends. No tool has an epoch (PEP 440's `N!`), and a constraint
/// could not say it.
fn scan(text: &str) -> Option<Version> {
    let mut numbers = Vec::new();
    let mut at = 0;
    loop {
        let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || numbers.len() == MOST_COMPONENTS {
            return None;
        }
        numbers.push(text[at..at + digits].parse().ok()?);
        at += digits;
        let mut following = text[at..].bytes();
        if following.next() != Some(b'.') || !following.next().is_some_and(|b| b.is_ascii_digit()) {
            break;
        }
        at += 1;
    }
    let (tail, build) = text[at..].split_once('+').unwrap_or((&text[at..], ""));
    let consists =
        |text: &str, of: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || of.contains(&b));
    if !consists(tail, b"-._~") || !consists(build, b"-._") {
        return None;
    }
    let (mut pre, mut post) = (Vec::new(), None);
    let mut pieces = pieces(tail).into_iter().peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Part::Word(word) if matches!(word.as_str(), "post" | "rev" | "r") => {
                let number = pieces.next_if(|p| matches!(p, Part::Number(_)));
                post = Some(if let Some(Part::Number(n)) = number { n } else { 0 });
            }
            // A wildcard, as in `1.x`, is no version.
            Part::Word(word) if word == "x" => return None,
            piece => pre.push(piece),
        }
    }
    Some(Version { text: text.to_owned(), numbers, pre, post })
}

/// Splits at separators and between letters and digits; names of phases are made one.
fn pieces(tail: &str) -> Vec<Part> {
    let mut found = Vec::new();
    for run in tail.split(['-', '.', '_', '~']) {
        let mut rest = run;
        while let Some(first) = rest.bytes().next() {
            let digits = first.is_ascii_digit();
            let end = rest.bytes().take_while(|b| b.is_ascii_digit() == digits).count();
            let (piece, after) = rest.split_at(end);
            found.push(match piece.parse() {
                Ok(number) => Part::Number(number),
                Err(_) => Part::Word(phase_name(&piece.to_ascii_lowercase()).to_owned()),
            });
            rest = after;
        }
    }
    found
}

fn phase_name(word: &str) -> &str {
    match word {
        "a" => "alpha",
        "b" => "beta",
        "c" | "pre" | "preview" => "rc",
        other => other,
    }
}

fn compare_numbers(a: &[u64], b: &[u64]) -> Ordering {
    let at = |v: &[u64], i: usize| v.get(i).copied().unwrap_or(0);
    (0..a.len().max(b.len()))
        .map(|i| at(a, i).cmp(&at(b, i)))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Semantic versioning's order, except that `dev` comes before anything, the end included
/// (PEP 440: `1.0rc1.dev2` is on the way to `1.0rc1`).
fn compare_pre(a: &[Part], b: &[Part]) -> Ordering {
    fn rank(part: Option<&Part>) -> u8 {
        match part {
            Some(Part::Word(word)) if word == "dev" => 0,
            None => 1,
            Some(Part::Number(_)) => 2,
            Some(Part::Word(_)) => 3,
        }
    }
    for i in 0..a.len().max(b.len()) {
        let (x, y) = (a.get(i), b.get(i));
        let order = rank(x).cmp(&rank(y)).then_with(|| match (x, y) {
            (Some(Part::Number(x)), Some(Part::Number(y))) => x.cmp(y),
            (Some(Part::Word(x)), Some(Part::Word(y))) => x.cmp(y),
            _ => Ordering::Equal,
        });
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        compare_numbers(&self.numbers, &other.numbers)
            .then_with(|| self.phase().cmp(&other.phase()))
            .then_with(|| self.post.cmp(&other.post))
            .then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Version, VersionError> {
        Version::parse(text)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Version, VersionError> {
        Version::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn order_is_total_over_every_dialect() {
        let sorted = [
            "0.13.0",
            "0.13.0.post1",
            "0.14.0-dev.20+abc",
            "0.14.0-dev.380",
            "0.14.0",
            "1.0.dev5",
            "1.0a1",
            "1.0-beta.2",
            "1.0-beta.11",
            "1.0rc1.dev2",
            "1.0rc1",
            "1.0rc1.y",
            "1.0",
            "1.0.1",
            "1.2",
            "1.10",
            "22.9.0",
            "v22.19.0",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(v(a).cmp(&v(b)), i.cmp(&j), "{a} against {b}");
            }
        }
    }

    #[test]
    fn missing_components_are_zero_and_builds_do_not_count() {
        assert_eq!(v("3.11"), v("3.11.0"));
        assert_eq!(v("1.2.3+a"), v("1.2.3+b"));
        assert_eq!(v("1.0c1"), v("1.0-rc.1"));
        assert_eq!(v(" v22.1.0 ").to_string(), "22.1.0");
        assert!(v("3.13.0rc1").is_prerelease());
        assert!(!v("0.13.0.post1").is_prerelease());
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "v",
            "x",
            "lts/*",
            ".1",
            "1 2",
            "1.99999999999999999999999",
            "1/2",
            "é1",
            "1.x",
            "1+a^2",
            "1!2",
        ] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
        assert!(Version::parse(&"1.".repeat(90)).is_err());
        assert!(Version::parse(&"1".repeat(500)).is_err());
    }
}
