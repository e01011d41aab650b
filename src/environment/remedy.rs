//! What failing builds and tests say, what they lack by that, and what may bring it.
//!
//! `remedies.toml`, version 1, is data:
//!
//! ```toml
//! [[failure]]
//! says = "fatal error: {header}: No such file or directory"
//! [[failure]]
//! says = "requires rustc {version}"
//! tool = "rust"
//! versions = "least"               # how they are written: least, npm, pep440
//! [[failure]]
//! says = "feature `edition2024` is required"
//! tool = "rust"
//! wants = ">=1.85"                 # a constraint of `version`
//! [[failure]]
//! says = "async def functions are not natively supported"
//! python = "pytest-asyncio"        # nothing to read: this package, or this `command`
//! [names.python]                   # what brings it, where it is not named so itself
//! yaml = "PyYAML"
//! ```
//!
//! `says` is found within a line, at the line's beginning after a `^`, as it stands there; `{…}` is one
//! word, and says what is lacking: `python` (a module), `fixture` and `option` (of pytest),
//! `header`, `library` (`pq` for `-lpq`), `pkg-config`, `cmake` (a package of find_package()), `command`,
//! `version`; `_` is any word. A version may hold spaces, up to what follows it.
//!
//! # What holds
//!
//! - A pure function of the text: the same output gives the same failures, those that were said
//!   last first, since what stops a program is what it says last.
//! - A remedy is a guess, to be tried: whoever tries it looks whether the failure is gone.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::catalog::Catalog;
use super::system;
use super::version::{Constraint, Version};

/// The version of the format above.
const VERSION: u32 = 1;
/// No name that is lacking is longer.
const LONGEST: usize = 80;

const BUILT_IN: &str = include_str!("remedies.toml");

/// The table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remedies {
    version: u32,
    failure: Vec<Entry>,
    names: BTreeMap<String, BTreeMap<String, String>>,
}

/// One thing that may be said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    says: Pattern,
    tool: Option<String>,
    versions: Option<Written>,
    wants: Option<Constraint>,
    python: Option<String>,
    command: Option<String>,
}

/// How versions are written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    /// One version: it or newer.
    Least,
    /// A range of npm's.
    Npm,
    /// Specifiers of Python's.
    Pep440,
}

/// What something failed for want of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A module of Python, dotted.
    Module(String),
    /// A package of Python's, by its own name.
    Package(String),
    /// A fixture of pytest.
    Fixture(String),
    /// An option of pytest.
    Option(String),
    /// A header, as it is included.
    Header(String),
    /// A library, as it is linked with.
    Library(String),
    /// A module of pkg-config.
    PkgConfig(String),
    /// A package of CMake's find_package().
    Cmake(String),
    /// A program.
    Command(String),
    /// Another version of a tool.
    Version(String, Constraint),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Module(name) => write!(f, "the module {name} was missing"),
            Lack::Package(name) => write!(f, "{name} was missing"),
            Lack::Fixture(name) => write!(f, "the fixture {name} was missing"),
            Lack::Option(name) => write!(f, "the option {name} was not known"),
            Lack::Header(name) => write!(f, "{name} was missing"),
            Lack::Library(name) => write!(f, "-l{name} was missing"),
            Lack::PkgConfig(name) => write!(f, "{name}.pc was missing"),
            Lack::Cmake(name) => write!(f, "CMake did not find {name}"),
            Lack::Command(name) => write!(f, "the command {name} was missing"),
            Lack::Version(tool, wanted) => write!(f, "{tool} {wanted} was asked for"),
        }
    }
}

/// What may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// A tool of the catalogue's, in these versions.
    Tool(String, Constraint),
    /// A system package.
    System(String),
    /// A package of Python's, beside what the project asks for. The second is whether that name is
    /// known to bring it, and not only the name of what is lacking.
    Python(String, bool),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Tool(name, wanted) if wanted.is_any() => f.write_str(name),
            Remedy::Tool(name, wanted) => write!(f, "{name} {wanted}"),
            Remedy::System(name) | Remedy::Python(name, _) => f.write_str(name),
        }
    }
}

impl Remedies {
    /// The table that is built in.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn built_in() -> Remedies {
        let table: Remedies = toml_edit::de::from_str(BUILT_IN).expect("the table is valid");
        assert!(table.version == VERSION, "the table is this program's own");
        table
    }

    /// What `said`, the output of something that failed, shows to be lacking; what was said last
    /// first, each thing once.
    pub fn read(&self, said: &str) -> Vec<Lack> {
        let mut lacks: Vec<Lack> = Vec::new();
        for line in said.lines().rev() {
            for lack in self.failure.iter().filter_map(|entry| entry.lack(line)) {
                if !lacks.contains(&lack) {
                    lacks.push(lack);
                }
            }
        }
        lacks
    }

    /// What may bring what is lacking, the likeliest first.
    pub fn remedies(&self, lack: &Lack, catalog: &Catalog, table: &system::Table) -> Vec<Remedy> {
        let named = |kind: &str, name: &str| self.names.get(kind)?.get(name).cloned();
        let system = |known: Option<&str>, guesses: &[String]| {
            let known = known.map(str::to_owned).into_iter();
            known.chain(guesses.iter().cloned()).map(Remedy::System).collect()
        };
        match lack {
            Lack::Module(module) => self.module(module).into_iter().collect(),
            Lack::Package(package) => vec![Remedy::Python(package.clone(), true)],
            Lack::Fixture(name) => known(named("fixture", name)),
            Lack::Option(name) => known(named("option", name)),
            Lack::Header(header) => system(table.by_header(header), &of_header(header)),
            Lack::Library(name) => system(table.by_library(name), &[prefixed(name)]),
            Lack::PkgConfig(name) => {
                let other = table.by_library(name).or_else(|| table.canonical(name));
                system(table.by_module(name).or(other), &[prefixed(name), name.clone()])
            }
            Lack::Cmake(name) => {
                let lower = name.to_lowercase();
                let own = named("cmake", name);
                let other = table.canonical(&lower).or_else(|| table.by_module(&lower));
                system(own.as_deref().or(other), &[prefixed(&lower)])
            }
            Lack::Command(name) => {
                let tools = brings(catalog, name).into_iter();
                let mut all: Vec<Remedy> =
                    tools.map(|tool| Remedy::Tool(tool, Constraint::any())).collect();
                all.extend(table.by_program(name).map(|name| Remedy::System(name.to_owned())));
                all.extend(known(named("python-command", name)));
                // Debian's packages are often called what their one program is.
                all.extend((name.len() > 1).then(|| Remedy::System(name.clone())));
                all
            }
            Lack::Version(tool, wanted) => vec![Remedy::Tool(tool.clone(), wanted.clone())],
        }
    }

    /// The package that brings a module: the longest part of its name that is known counts.
    fn module(&self, module: &str) -> Option<Remedy> {
        let names = self.names.get("python")?;
        let mut part = module;
        loop {
            if let Some(package) = names.get(part) {
                return Some(Remedy::Python(package.clone(), true));
            }
            match part.rsplit_once('.') {
                Some((before, _)) => part = before,
                // A private name is nobody's package.
                None if part.starts_with('_') => return None,
                None => return Some(Remedy::Python(part.replace('_', "-"), false)),
            }
        }
    }
}

fn known(package: Option<String>) -> Vec<Remedy> {
    package.map(|package| Remedy::Python(package, true)).into_iter().collect()
}

/// As Debian calls libraries.
fn prefixed(name: &str) -> String {
    if name.starts_with("lib") { name.to_owned() } else { format!("lib{name}") }
}

/// How the library of a header may be called: as its directory, or as itself.
fn of_header(header: &str) -> Vec<String> {
    let first = header.split('/').next().unwrap_or(header);
    let stem = first.rsplit_once('.').map_or(first, |(stem, _)| stem);
    vec![prefixed(&stem.to_lowercase())]
}

/// The tools of the catalogue that have a program; the one that is called so first.
fn brings(catalog: &Catalog, program: &str) -> Vec<String> {
    let has = |tool: &super::catalog::Tool| {
        let sources = tool.source.iter().any(|source| source.bins.contains_key(program));
        sources || tool.common.bins.contains_key(program)
    };
    let tools = catalog.tool.iter().filter(|(_, tool)| has(tool)).map(|(name, _)| name.clone());
    let mut tools: Vec<String> = tools.collect();
    tools.sort_by_key(|name| name != program);
    tools
}

impl Entry {
    fn lack(&self, line: &str) -> Option<Lack> {
        let found = self.says.find(line)?;
        let word = || found.map(str::to_owned);
        if let Some(package) = &self.python {
            return Some(Lack::Package(package.clone()));
        }
        if let Some(command) = &self.command {
            return Some(Lack::Command(command.clone()));
        }
        if let Some(tool) = &self.tool {
            let wanted = match &self.wants {
                Some(wanted) => wanted.clone(),
                None => self.versions?.read(found?)?,
            };
            return Some(Lack::Version(tool.clone(), wanted));
        }
        let kind = self.says.kind.as_deref()?;
        // Nothing that is asked for by name begins as an option does.
        if kind != "option" && found?.starts_with(['-', '=', '.']) {
            return None;
        }
        Some(match kind {
            "python" => Lack::Module(word()?.trim_end_matches('.').to_owned()),
            "fixture" => Lack::Fixture(word()?),
            "option" => Lack::Option(word()?.split('=').next()?.to_owned()),
            "header" => Lack::Header(word()?),
            "library" => Lack::Library(word()?),
            "pkg-config" => Lack::PkgConfig(word()?),
            "cmake" => Lack::Cmake(word()?),
            "command" => {
                // A path is nobody's; the number of a line is no name.
                let names = |name: &String| !name.contains('/') && !is_number(name);
                Lack::Command(word().filter(names)?)
            }
            _ => return None,
        })
    }
}

impl Written {
    fn read(self, text: &str) -> Option<Constraint> {
        let text = text.trim().trim_end_matches(['.', ',', ';']);
        let constraint = match self {
            Written::Least => {
                let version = text.trim_start_matches(['v', '>', '=', ' ']);
                Version::parse(version).ok().map(|version| Constraint::at_least(&version))
            }
            Written::Npm => Constraint::from_npm(text).ok(),
            Written::Pep440 => Constraint::from_pep440(text).ok(),
        };
        constraint.filter(|c| !c.is_any() && !c.is_none())
    }
}

/// A text with words in it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pattern {
    parts: Vec<Part>,
    /// Only at a line's beginning.
    first: bool,
    /// What the word is that counts.
    kind: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A word, and whether it counts.
    Word(bool),
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        let (first, mut rest) = match text.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let (mut parts, mut kind) = (Vec::new(), None);
        while let Some(open) = rest.find('{') {
            let name = rest[open + 1..].split_once('}').map(|(name, _)| name).unwrap_or_default();
            let is_name = |c: char| c.is_ascii_lowercase() || c == '-' || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                // `{ node: '…' }` is text.
                let next = rest[open + 1..].find('{').map_or(rest.len(), |i| open + 1 + i);
                parts.push(Part::Text(rest[..next].to_owned()));
                rest = &rest[next..];
                continue;
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            if matches!(parts.last(), Some(Part::Word(_))) {
                return Err(format!("`{text}` has two words beside each other"));
            }
            parts.push(Part::Word(name != "_"));
            if name != "_" && kind.replace(name.to_owned()).is_some() {
                return Err(format!("`{text}` has two words that count"));
            }
            rest = &rest[open + name.len() + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        match parts.iter().any(|part| matches!(part, Part::Text(_))) {
            true => Ok(Pattern { parts, first, kind }),
            false => Err(format!("`{text}` would be found everywhere")),
        }
    }
}

impl Pattern {
    /// The word that counts, if `line` says this and has one; none where none counts.
    fn find<'a>(&self, line: &'a str) -> Option<Option<&'a str>> {
        let line = line.trim();
        let spaces = self.kind.as_deref() == Some("version");
        match self.parts.as_slice() {
            [Part::Word(counts), Part::Text(text), rest @ ..] => {
                line.match_indices(text.as_str()).find_map(|(at, _)| {
                    let before = &line[..at];
                    let begin = before
                        .rfind(|c| !is_word(c))
                        .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
                    let word = checked(&before[begin..], false)?;
                    if self.first && begin != 0 {
                        return None;
                    }
                    let found = follow(rest, &line[at + text.len()..], spaces)?;
                    Some(counts.then_some(word).or(found))
                })
            }
            [Part::Text(text), rest @ ..] => {
                let mut places = line.match_indices(text.as_str());
                places.find_map(|(at, _)| {
                    (at == 0 || !self.first)
                        .then(|| follow(rest, &line[at + text.len()..], spaces))?
                })
            }
            _ => None,
        }
    }
}

/// The word that counts among `parts`, which `text` must begin with.
fn follow<'a>(parts: &[Part], text: &'a str, spaces: bool) -> Option<Option<&'a str>> {
    match parts {
        [] => Some(None),
        [Part::Text(expected), rest @ ..] => {
            follow(rest, text.strip_prefix(expected.as_str())?, spaces)
        }
        [Part::Word(counts), rest @ ..] => {
            let wide = spaces && *counts;
            let end = match rest.first() {
                Some(Part::Text(next)) => text.find(next.as_str())?,
                _ if wide => text.find(|c: char| c.is_whitespace()).unwrap_or(text.len()),
                _ => text.find(|c| !is_word(c)).unwrap_or(text.len()),
            };
            let word = match wide {
                true => checked(&text[..end], true)?,
                // What it ends with may be part of a name: `python:`.
                false => checked(text[..end].trim_end_matches([':', '.']), false)?,
            };
            let found = follow(rest, &text[end..], spaces)?;
            Some(counts.then_some(word).or(found))
        }
    }
}

fn is_number(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_digit())
}

/// What names are made of.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.+/=".contains(c)
}

fn checked(word: &str, spaces: bool) -> Option<&str> {
    let fits = |c: char| is_word(c) || (spaces && " <>=~^|*,!".contains(c));
    let ok = !word.is_empty() && word.len() <= LONGEST && word.chars().all(fits);
    ok.then_some(word)
}

#[cfg(test)]
mod tests;
