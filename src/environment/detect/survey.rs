//! What a detector reads with, and where it puts what it finds.
//!
//! Reading is bounded: a file's first 4 MB, known names in known directories, and no more
//! than [`MOST_MEMBERS`] directories of a workspace. So the cost does not grow with the
//! repository, and a hostile file costs a [`Note`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value as Json;
use toml_edit::{Document, Item};

pub(super) use super::place::{Place, join};

use super::claims::Claims;
use super::commands::Commands;
use super::jsonc;
use super::types::{Evidence, Note, Project, Strength};
use super::yaml::{self, Yaml};
use crate::context::Platform;
use crate::environment::files::Files;
use crate::environment::version::Constraint;

/// A manifest of more bytes is not read.
const LARGEST: usize = 4 << 20;
/// What is read of a file of which only the beginning matters.
const HEAD: usize = 64 << 10;
/// How many directories of a workspace are looked into.
pub(super) const MOST_MEMBERS: usize = 512;

/// The state of one detection.
pub(super) struct Survey<'a> {
    files: &'a dyn Files,
    pub date: i64,
    pub platform: &'a Platform,
    /// What was said of tools.
    pub claims: Claims,
    /// What was said of services, by the names of the catalogue.
    pub services: Claims,
    /// The tools that the catalogue has.
    pub known: &'a BTreeSet<String>,
    /// System packages, each with where it is asked for.
    pub system: BTreeMap<String, Vec<Evidence>>,
    /// Services that a library of the project talks to, each with that library.
    pub clients: BTreeMap<&'static str, Evidence>,
    /// Variables, each with its value and where that stands.
    pub env: BTreeMap<String, (String, Vec<Evidence>)>,
    pub projects: Vec<Project>,
    pub commands: Commands,
    pub notes: Vec<Note>,
    members_left: usize,
}

/// `path` as seen from `dir`, with `.` and `..` resolved; `None` where that leaves the
/// repository.
pub(super) fn resolve(dir: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A file's text.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub path: String,
    pub text: String,
}

impl Text {
    /// The line of a byte offset, from 1.
    pub fn line_at(&self, offset: usize) -> u32 {
        let end = offset.min(self.text.len());
        let before = self.text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count();
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    /// The line of the first occurrence of `needle`; 1 where there is none.
    pub fn line_of(&self, needle: &str) -> u32 {
        self.text.find(needle).map_or(1, |at| self.line_at(at))
    }

    /// The line of a JSON key: each of `keys` is looked for after the one before.
    pub fn line_of_key(&self, keys: &[&str]) -> u32 {
        let mut at = 0;
        for key in keys {
            let quoted = format!("\"{key}\"");
            let is_key =
                |from: usize| self.text[from + quoted.len()..].trim_start().starts_with(':');
            let found = self.text[at..]
                .match_indices(&quoted)
                .map(|(i, _)| at + i)
                .find(|from| is_key(*from));
            match found {
                Some(from) => at = from + 1,
                None => break,
            }
        }
        self.line_at(at)
    }

    pub fn evidence(&self, line: u32, text: impl Into<String>, strength: Strength) -> Evidence {
        Evidence { file: self.path.clone(), line, text: shorten(&text.into()), strength }
    }

    /// Its lines, with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (u32, &str)> {
        (1u32..).zip(self.text.lines())
    }
}

/// One line of at most 160 characters.
pub(super) fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A TOML file that could be read.
pub(super) struct Toml {
    pub text: Text,
    document: Document<String>,
}

impl Toml {
    /// The item at a path of keys.
    pub fn get(&self, keys: &[&str]) -> Option<&Item> {
        let mut item = self.document.as_item();
        for key in keys {
            item = item.get(key)?;
        }
        Some(item)
    }

    pub fn str(&self, keys: &[&str]) -> Option<&str> {
        self.get(keys)?.as_str()
    }

    pub fn has(&self, keys: &[&str]) -> bool {
        self.get(keys).is_some()
    }

    /// The strings of the array at `keys`; what is no string is left out.
    pub fn strings(&self, keys: &[&str]) -> Vec<String> {
        self.get(keys).map(strings).unwrap_or_default()
    }

    /// The keys of the table at `keys`.
    pub fn keys(&self, keys: &[&str]) -> Vec<String> {
        let table = self.get(keys).and_then(Item::as_table_like);
        table.map(|t| t.iter().map(|(key, _)| key.to_owned()).collect()).unwrap_or_default()
    }

    /// The line of the item at `keys`, or of the nearest table around it.
    pub fn line(&self, keys: &[&str]) -> u32 {
        for end in (1..=keys.len()).rev() {
            let span: Option<Range<usize>> = self.get(&keys[..end]).and_then(Item::span);
            if let Some(span) = span {
                return self.text.line_at(span.start);
            }
        }
        1
    }

    pub fn evidence(&self, keys: &[&str], text: impl Into<String>, s: Strength) -> Evidence {
        self.text.evidence(self.line(keys), text, s)
    }
}

/// The strings of an array.
pub(super) fn strings(item: &Item) -> Vec<String> {
    let array = item.as_array();
    array
        .map(|a| a.iter().filter_map(|v| Some(v.as_str()?.to_owned())).collect())
        .unwrap_or_default()
}

impl<'a> Survey<'a> {
    pub fn new(
        files: &'a dyn Files,
        date: i64,
        platform: &'a Platform,
        known: &'a BTreeSet<String>,
    ) -> Survey<'a> {
        Survey {
            files,
            date,
            platform,
            known,
            claims: Claims::default(),
            services: Claims::default(),
            system: BTreeMap::new(),
            clients: BTreeMap::new(),
            env: BTreeMap::new(),
            projects: Vec::new(),
            commands: Commands::default(),
            notes: Vec::new(),
            members_left: MOST_MEMBERS,
        }
    }

    /// The names in `dir`.
    pub fn place(&self, dir: &str) -> Place {
        let (directories, files): (Vec<_>, Vec<_>) =
            self.files.list(dir).into_iter().partition(|entry| entry.directory);
        Place {
            root: dir.to_owned(),
            files: files.into_iter().map(|entry| entry.name).collect(),
            directories: directories.into_iter().map(|entry| entry.name).collect(),
        }
    }

    pub fn exists(&self, path: &str) -> bool {
        self.files.exists(path)
    }

    /// The file's text. Not there: nothing. Too large, not UTF-8: a note.
    pub fn text(&mut self, path: &str) -> Option<Text> {
        let bytes = self.files.read_start(path, LARGEST + 1)?;
        if bytes.len() > LARGEST {
            self.remark(path, "is larger than 4 MB and was not read");
            return None;
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                self.remark(path, "is not UTF-8; what cannot be read is left out");
                String::from_utf8_lossy(e.as_bytes()).into_owned()
            }
        };
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Some(Text { path: path.to_owned(), text })
    }

    /// The beginning of a file that may be large.
    pub fn head(&self, path: &str) -> Option<Text> {
        let bytes = self.files.read_start(path, HEAD)?;
        Some(Text { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// The file as JSON.
    pub fn json(&mut self, path: &str) -> Option<(Text, Json)> {
        let text = self.text(path)?;
        self.parsed(path, text, str::to_owned)
    }

    /// The file as JSON with comments and commas before closing brackets.
    pub fn json_with_comments(&mut self, path: &str) -> Option<(Text, Json)> {
        let text = self.text(path)?;
        self.parsed(path, text, jsonc::plain)
    }

    fn parsed(
        &mut self,
        path: &str,
        text: Text,
        plain: impl Fn(&str) -> String,
    ) -> Option<(Text, Json)> {
        match serde_json::from_str(&plain(&text.text)) {
            Ok(json) => Some((text, json)),
            Err(e) => {
                let line = u32::try_from(e.line()).unwrap_or(u32::MAX);
                let evidence = text.evidence(line, e.to_string(), Strength::Manifest);
                self.note(format!("`{path}` is not valid JSON and was not used"), vec![evidence]);
                None
            }
        }
    }

    /// The file as TOML.
    pub fn toml(&mut self, path: &str) -> Option<Toml> {
        let text = self.text(path)?;
        match Document::parse(text.text.clone()) {
            Ok(document) => Some(Toml { text, document }),
            Err(e) => {
                let line = text.line_at(e.span().map_or(0, |span| span.start));
                let evidence = text.evidence(line, e.message(), Strength::Manifest);
                self.note(format!("`{path}` is not valid TOML and was not used"), vec![evidence]);
                None
            }
        }
    }

    /// The file as YAML.
    pub fn yaml(&mut self, path: &str) -> Option<(Text, Yaml)> {
        let text = self.text(path)?;
        match yaml::parse(&text.text) {
            Ok(yaml) => Some((text, yaml)),
            Err(bad) => {
                let evidence = text.evidence(bad.line, bad.problem, Strength::Manifest);
                self.note(format!("`{path}` is not valid YAML and was not used"), vec![evidence]);
                None
            }
        }
    }

    fn remark(&mut self, path: &str, what: &str) {
        let evidence = Evidence {
            file: path.to_owned(),
            line: 1,
            text: String::new(),
            strength: Strength::Default,
        };
        self.note(format!("`{path}` {what}"), vec![evidence]);
    }

    pub fn note(&mut self, text: impl Into<String>, evidence: Vec<Evidence>) {
        let note = Note { text: text.into(), evidence };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Takes a statement about a tool's versions; one that cannot be read becomes a note.
    pub fn constrain<E>(&mut self, tool: &str, read: Result<Constraint, E>, evidence: Evidence) {
        match read {
            Ok(constraint) => self.claims.claim(tool, constraint, evidence),
            Err(_) => self.note(
                format!("`{}` does not say which versions of {tool} will do", evidence.text),
                vec![evidence],
            ),
        }
    }

    /// The directories below `root` that a workspace's `pattern` names (`packages/*`,
    /// `apps/web`, `libs/**`) and that hold `manifest`.
    pub fn members(&mut self, root: &str, pattern: &str, manifest: &str) -> Vec<String> {
        let Some(pattern) = resolve("", pattern) else { return Vec::new() };
        let mut found = vec![root.to_owned()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let mut next = Vec::new();
            for dir in &found {
                if !part.contains('*') {
                    next.push(join(dir, part));
                    continue;
                }
                let below = self.below(dir, part);
                if part == "**" {
                    // Two floors: deeper ones are fixtures more often than members.
                    next.extend(below.iter().flat_map(|dir| self.below(dir, "*")));
                }
                next.extend(below);
            }
            found = next;
            found.truncate(self.members_left);
        }
        self.members_left -= found.len().min(self.members_left);
        found.retain(|dir| dir != root && self.exists(&join(dir, manifest)));
        found.sort();
        found.dedup();
        found
    }

    fn below(&self, dir: &str, part: &str) -> Vec<String> {
        let (before, after) = part.split_once('*').unwrap_or((part, ""));
        let after = after.trim_start_matches('*');
        let place = self.place(dir);
        let names = place.directories.iter().filter(|name| {
            !name.starts_with('.')
                && *name != "node_modules"
                && name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
        });
        names.take(MOST_MEMBERS).map(|name| join(dir, name)).collect()
    }
}

/// What several manifests say in one way: `key` and a map or list of strings, as JSON.
pub(super) fn json_strings(json: &Json) -> BTreeMap<String, String> {
    let map = json.as_object();
    map.map(|m| m.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_do_not_leave_the_repository() {
        assert_eq!(resolve("a", "../b/./c").as_deref(), Some("b/c"));
        assert_eq!(resolve("", "../x"), None);
        assert_eq!(resolve("a", "/etc"), None);
    }

    #[test]
    fn lines_of_json_keys() {
        let text = "{\n\"name\": \"engines\",\n\"engines\": {\n\"node\": \">=18\"}}".to_owned();
        let text = Text { path: "package.json".into(), text };
        assert_eq!(text.line_of_key(&["engines"]), 3);
        assert_eq!(text.line_of_key(&["engines", "node"]), 4);
        assert_eq!(text.line_of_key(&["volta"]), 1);
    }
}
