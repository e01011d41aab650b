//! Sets of versions, and the three ways that they are written.
//!
//! | text | `env.toml`, npm | PEP 440 |
//! |---|---|---|
//! | `3.11` | every 3.11.x | (the same, leniently) |
//! | `=3.11`, `==3.11` | every 3.11.x | 3.11.0 only |
//! | `<=3.11` | up to every 3.11.x | up to 3.11.0 |
//! | `>3` | from 4 on | from 3.0.1 on |
//! | `^1.2`, `~1.2`, `1 - 2` | as npm has them | — |
//! | `~=3.8` | from 3.8, below 4 | the same |
//!
//! A pre-release is in a set only when a bound names a pre-release of the same release,
//! which is npm's rule: `>=3.14.0rc1` takes `3.14.0rc2` and no `3.15.0a1`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Version;

/// Longer texts are an attack, not a constraint.
const LONGEST: usize = 1024;

/// A set of versions: disjoint intervals, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    low: Option<Bound>,
    high: Option<Bound>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    version: Version,
    inclusive: bool,
}

/// A text that is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// One of its versions cannot be read.
    #[error("`{text}` is not a version constraint: `{part}` is not a version")]
    Version {
        /// The whole text, cut to a readable length.
        text: String,
        /// The piece at fault.
        part: String,
    },
    /// Something stands where only an operator may.
    #[error("`{text}` is not a version constraint: unknown operator `{operator}`")]
    Operator {
        /// The whole text, cut to a readable length.
        text: String,
        /// The piece at fault.
        operator: String,
    },
    /// Nobody writes a constraint of that length.
    #[error("a version constraint of {length} bytes is too long")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Native,
    Pep440,
}

impl Constraint {
    /// Every version.
    pub fn any() -> Constraint {
        Constraint { ranges: vec![Range { low: None, high: None }] }
    }

    /// No version.
    pub fn none() -> Constraint {
        Constraint { ranges: Vec::new() }
    }

    /// `version` and everything after it.
    pub fn at_least(version: &Version) -> Constraint {
        Constraint::of(Some(including(version.clone())), None)
    }

    /// Everything before `version`.
    pub fn below(version: &Version) -> Constraint {
        Constraint::of(None, Some(excluding(version.clone())))
    }

    /// `version` and nothing else.
    pub fn exact(version: &Version) -> Constraint {
        Constraint::of(Some(including(version.clone())), Some(including(version.clone())))
    }

    /// Every version that begins with the components of `version`: what a pin file means by
    /// `22`, `3.11` or `22.11.0`. A pre-release stands for itself alone.
    pub fn prefix(version: &Version) -> Constraint {
        if version.is_prerelease() {
            return Constraint::exact(version);
        }
        let numbers = version.numbers();
        Constraint::of(
            Some(including(version.clone())),
            Some(excluding(bump(numbers, numbers.len() - 1))),
        )
    }

    /// Reads what `env.toml` may say: `22`, `3.11`, `>=20 <23`, `^18 || >=20`, `~1.2`,
    /// `=1.2.3`, `!=3.9.*`, `*`. A comma means the same as a space.
    pub fn parse(text: &str) -> Result<Constraint, ConstraintError> {
        read(text, Dialect::Native)
    }

    /// Reads npm's ranges, as `engines` has them.
    pub fn from_npm(range: &str) -> Result<Constraint, ConstraintError> {
        match range.trim() {
            "latest" | "x" | "X" => Ok(Constraint::any()),
            range => read(range, Dialect::Native),
        }
    }

    /// Reads version specifiers of PEP 440, as `requires-python` has them.
    pub fn from_pep440(specifiers: &str) -> Result<Constraint, ConstraintError> {
        read(specifiers, Dialect::Pep440)
    }

    /// Whether `version` is in the set.
    pub fn matches(&self, version: &Version) -> bool {
        self.ranges.iter().any(|range| range.contains(version))
    }

    /// The versions that are in both sets.
    pub fn intersect(&self, other: &Constraint) -> Constraint {
        let mut ranges = Vec::new();
        for a in &self.ranges {
            for b in &other.ranges {
                ranges.push(Range {
                    low: tighter(&a.low, &b.low, true),
                    high: tighter(&a.high, &b.high, false),
                });
            }
        }
        normalise(ranges)
    }

    /// The versions that are in either set.
    pub fn union(&self, other: &Constraint) -> Constraint {
        normalise(self.ranges.iter().chain(&other.ranges).cloned().collect())
    }

    /// Whether no version can match.
    pub fn is_none(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether nothing is asked for.
    pub fn is_any(&self) -> bool {
        matches!(self.ranges.as_slice(), [Range { low: None, high: None }])
    }

    /// The lowest version that a bound names, if the set is bounded below.
    pub fn lowest(&self) -> Option<&Version> {
        self.ranges.first()?.low.as_ref().map(|b| &b.version)
    }

    /// Whether it leaves no choice: one release (`22.11.0`, `=1.2.3`).
    pub fn is_single(&self) -> bool {
        let [Range { low: Some(low), high: Some(high) }] = self.ranges.as_slice() else {
            return false;
        };
        low.inclusive
            && (low.version == high.version
                || (low.version.is_full()
                    && range_prefix(&low.version, high).is_some_and(|n| n >= 3)))
    }

    fn of(low: Option<Bound>, high: Option<Bound>) -> Constraint {
        normalise(vec![Range { low, high }])
    }
}

fn including(version: Version) -> Bound {
    Bound { version, inclusive: true }
}

fn excluding(version: Version) -> Bound {
    Bound { version, inclusive: false }
}

/// The first version after every one that begins with `numbers[..=index]`.
fn bump(numbers: &[u64], index: usize) -> Version {
    let mut next: Vec<u64> = (0..=index).map(|i| numbers.get(i).copied().unwrap_or(0)).collect();
    next[index] = next[index].saturating_add(1);
    Version::from_numbers(&next)
}

impl Range {
    fn contains(&self, version: &Version) -> bool {
        let above = self.low.as_ref().is_none_or(|low| {
            if low.inclusive { *version >= low.version } else { *version > low.version }
        });
        let below = self.high.as_ref().is_none_or(|high| {
            if high.inclusive { *version <= high.version } else { *version < high.version }
        });
        let named = |bound: &Option<Bound>| {
            bound
                .as_ref()
                .is_some_and(|b| b.version.is_prerelease() && b.version.same_release(version))
        };
        above && below && (!version.is_prerelease() || named(&self.low) || named(&self.high))
    }

    fn is_empty(&self) -> bool {
        match (&self.low, &self.high) {
            (_, None) => false,
            (None, Some(high)) => !high.inclusive && high.version.numbers().iter().all(|n| *n == 0),
            (Some(low), Some(high)) => {
                low.version > high.version
                    || (low.version == high.version && !(low.inclusive && high.inclusive))
            }
        }
    }
}

/// The stricter of two bounds on one side; no bound is the laxest.
fn tighter(a: &Option<Bound>, b: &Option<Bound>, low: bool) -> Option<Bound> {
    let (Some(x), Some(y)) = (a, b) else { return a.clone().or_else(|| b.clone()) };
    let order = x.version.cmp(&y.version);
    let order = if low { order } else { order.reverse() };
    // Of two equal versions the excluding one is stricter, on either side.
    Some(if order.then((!x.inclusive).cmp(&!y.inclusive)).is_ge() { x } else { y }.clone())
}

/// Drops what is empty, sorts, joins what touches.
fn normalise(mut ranges: Vec<Range>) -> Constraint {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by(|a, b| match (&a.low, &b.low) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (Some(_), None) => std::cmp::Ordering::Greater,
        (Some(x), Some(y)) => x.version.cmp(&y.version).then(y.inclusive.cmp(&x.inclusive)),
    });
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if touches(&last.high, &range.low) => {
                last.high = laxer(&last.high, &range.high);
            }
            _ => joined.push(range),
        }
    }
    Constraint { ranges: joined }
}

fn touches(high: &Option<Bound>, low: &Option<Bound>) -> bool {
    let (Some(high), Some(low)) = (high, low) else { return true };
    high.version > low.version || (high.version == low.version && (high.inclusive || low.inclusive))
}

fn laxer(a: &Option<Bound>, b: &Option<Bound>) -> Option<Bound> {
    let (Some(x), Some(y)) = (a, b) else { return None };
    let order = x.version.cmp(&y.version).then(x.inclusive.cmp(&y.inclusive));
    Some(if order.is_ge() { x } else { y }.clone())
}

fn read(text: &str, dialect: Dialect) -> Result<Constraint, ConstraintError> {
    if text.len() > LONGEST {
        return Err(ConstraintError::TooLong { length: text.len() });
    }
    let mut all = Constraint::none();
    for alternative in text.split("||") {
        all = all.union(&read_alternative(text, alternative, dialect)?);
    }
    Ok(all)
}

/// Comparators that must all hold.
fn read_alternative(
    whole: &str,
    text: &str,
    dialect: Dialect,
) -> Result<Constraint, ConstraintError> {
    if let Some((low, high)) = text.split_once(" - ") {
        let low = comparator(whole, ">=", low.trim(), dialect)?;
        return Ok(low.intersect(&comparator(whole, "<=", high.trim(), dialect)?));
    }
    let mut all = Constraint::any();
    let mut rest = text.trim_start_matches(separator);
    while !rest.is_empty() {
        let operator = rest.bytes().take_while(|b| b"<>=!~^".contains(b)).count();
        let (operator, after) = rest.split_at(operator);
        let after = after.trim_start();
        let end = after.find(|c| separator(c) || "<>=!~^".contains(c)).unwrap_or(after.len());
        let (version, after) = after.split_at(end);
        all = all.intersect(&comparator(whole, operator, version, dialect)?);
        rest = after.trim_start_matches(separator);
    }
    Ok(all)
}

fn separator(c: char) -> bool {
    c.is_whitespace() || c == ','
}

fn comparator(
    whole: &str,
    operator: &str,
    version: &str,
    dialect: Dialect,
) -> Result<Constraint, ConstraintError> {
    let (version, wildcard) = match strip_wildcards(version) {
        Some("") => return Ok(Constraint::any()),
        Some(stripped) => (stripped, true),
        None => (version, false),
    };
    let version = Version::parse(version).ok().ok_or_else(|| ConstraintError::Version {
        text: shortened(whole),
        part: shortened(version),
    })?;
    let numbers = version.numbers();
    // What a partial version covers: npm and people mean all of 3.11 by `3.11`.
    let covers = wildcard || (dialect == Dialect::Native && !version.is_full());
    let prefix = Constraint::prefix(&version);
    let after = || bump(numbers, numbers.len() - 1);
    Ok(match operator {
        "" => prefix,
        "=" | "==" if covers => prefix,
        "=" | "==" | "===" => Constraint::exact(&version),
        "!=" if covers => Constraint::below(&version).union(&Constraint::at_least(&after())),
        "!=" => Constraint::below(&version).union(&Constraint::of(Some(excluding(version)), None)),
        ">=" | "=>" => Constraint::at_least(&version),
        "<" => Constraint::below(&version),
        ">" if covers => Constraint::at_least(&after()),
        ">" => Constraint::of(Some(excluding(version)), None),
        "<=" | "=<" if covers => Constraint::below(&after()),
        "<=" | "=<" => Constraint::of(None, Some(including(version))),
        "~" | "~>" => from_to(&version, bump(numbers, (numbers.len() - 1).min(1))),
        "~=" => from_to(&version, bump(numbers, numbers.len().saturating_sub(2))),
        "^" => {
            let first = numbers.iter().position(|n| *n != 0).unwrap_or(numbers.len() - 1);
            from_to(&version, bump(numbers, first.min(2)))
        }
        other => {
            return Err(ConstraintError::Operator {
                text: shortened(whole),
                operator: other.to_owned(),
            });
        }
    })
}

fn from_to(low: &Version, high: Version) -> Constraint {
    Constraint::of(Some(including(low.clone())), Some(excluding(high)))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// `3.9.*` → `3.9`, `22.x` → `22`, `*` → nothing; `None` where there is no wildcard.
fn strip_wildcards(version: &str) -> Option<&str> {
    let mut rest = version;
    let mut found = false;
    loop {
        match rest.strip_suffix(['*', 'x', 'X']) {
            Some("" | "v") => return Some(""),
            Some(shorter) if shorter.ends_with('.') => {
                rest = &shorter[..shorter.len() - 1];
                found = true;
            }
            _ => return found.then_some(rest),
        }
    }
}

/// How many components `low` and `high` share if together they are one prefix:
/// 2 for `>=3.11 <3.12`.
fn range_prefix(low: &Version, high: &Bound) -> Option<usize> {
    if high.inclusive || low.is_prerelease() || high.version.is_prerelease() {
        return None;
    }
    let count = high.version.numbers().iter().rposition(|n| *n != 0)? + 1;
    let fits = bump(low.numbers(), count - 1) == high.version
        && low.numbers().iter().skip(count).all(|n| *n == 0)
        && Version::from_numbers(low.numbers()) == *low;
    fits.then_some(count)
}

/// As a bound. Debian's `~` would read back as an operator, and means the same as `-`.
struct Plain<'a>(&'a Version);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string().replace('~', "-"))
    }
}

/// With three components, so that it reads back as that version alone.
struct Full<'a>(&'a Version);

impl fmt::Display for Full<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_full() {
            return write!(f, "{}", Plain(self.0));
        }
        write!(f, "{}.{}.{}", self.0.number(0), self.0.number(1), self.0.number(2))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(low), Some(high)) = (&self.low, &self.high)
            && low.inclusive
        {
            if high.inclusive && low.version == high.version {
                return write!(f, "={}", Full(&low.version));
            }
            if let Some(count) = range_prefix(&low.version, high) {
                let shown: Vec<u64> = (0..count).map(|i| low.version.number(i)).collect();
                return write!(f, "{}", Version::from_numbers(&shown));
            }
        }
        match &self.low {
            Some(Bound { version, inclusive: true }) => write!(f, ">={}", Plain(version))?,
            Some(Bound { version, inclusive: false }) => write!(f, ">{}", Full(version))?,
            None => {}
        }
        if self.low.is_some() && self.high.is_some() {
            f.write_str(" ")?;
        }
        match &self.high {
            Some(Bound { version, inclusive: true }) => write!(f, "<={}", Full(version)),
            Some(Bound { version, inclusive: false }) => write!(f, "<{}", Plain(version)),
            None if self.low.is_none() => f.write_str("*"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("<0");
        }
        for (i, range) in self.ranges.iter().enumerate() {
            let separator = if i == 0 { "" } else { " || " };
            write!(f, "{separator}{range}")?;
        }
        Ok(())
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;
    fn from_str(text: &str) -> Result<Constraint, ConstraintError> {
        Constraint::parse(text)
    }
}

impl TryFrom<String> for Constraint {
    type Error = ConstraintError;
    fn try_from(text: String) -> Result<Constraint, ConstraintError> {
        Constraint::parse(&text)
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> String {
        constraint.to_string()
    }
}

#[cfg(test)]
mod tests;
