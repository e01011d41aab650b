//! `.zagi/env.toml`: what a repository asks for. Small, written by people or by `zagi init`.
//!
//! ```toml
//! version = 1                      # optional
//! [tools]
//! node = "22"                      # any constraint of `version`
//! [system]
//! packages = ["libpq", "vips"]
//! [dependencies]                   # installed beside what the project's own manifests ask for
//! python = ["pytest-mock"]         # as PEP 508 has them
//! [services]                       # run by `zagi up`
//! postgres = "16"
//! redis = { version = "7", port = 6380 }   # listens at a TCP port of this machine too
//! [env]
//! LOG_LEVEL = "debug"
//! [secrets]                        # what the app needs; how it gets them is what their holder signs
//! STRIPE_KEY = { host = "api.stripe.com", header = "Authorization", format = "Bearer {}" }
//! SESSION_KEY = { raw = true }
//! [run]
//! test = "pnpm test"
//! build = "pnpm build"
//! start = "pnpm start"
//! ```
//!
//! Every key is optional; one that is not in this list is refused, with its line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml_edit::{Document, Item, Key, TableLike, Value};

use super::version::{Constraint, ConstraintError};

mod wishes;

/// Where the file stands in a repository.
pub const PATH: &str = ".zagi/env.toml";
/// The version of the format above.
pub const VERSION: i64 = 1;
/// The column at which comments begin, where the entry is short enough.
const COMMENT_COLUMN: usize = 33;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Tools by name, each with the versions that will do.
    pub tools: BTreeMap<String, Constraint>,
    /// System packages, by the catalogue's names.
    pub system: Vec<String>,
    /// Packages of the languages' own registries.
    #[serde(default)]
    pub dependencies: Dependencies,
    /// Services by name: databases and the like, which `zagi up` runs.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// Variables of every process of the environment.
    pub env: BTreeMap<String, String>,
    /// Secrets that its app needs, by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, Wish>,
    /// How it is tested, built and started.
    pub run: Run,
}

/// How a project wants its app to get a secret: fields of the secrets file's policies, each with what
/// it holds. It is a wish: nobody gets anything by it.
pub type Wish = BTreeMap<String, Vec<String>>;

/// Packages that are installed beside what the project's manifests ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependencies {
    /// Into the first Python project, the root's if it is one; as PEP 508 has them.
    pub python: Vec<String>,
}

/// A service, and how it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The versions that will do.
    pub version: Constraint,
    /// The port of 127.0.0.1 that it is to listen at, for programs that know no sockets.
    pub port: Option<u16>,
}

/// Commands for a shell, from the workspace's root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Runs the project's own tests.
    pub test: Option<String>,
    /// Builds it.
    pub build: Option<String>,
    /// Starts it.
    pub start: Option<String>,
}

impl Run {
    /// The commands that there are, with their keys.
    pub fn commands(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("test", &self.test), ("build", &self.build), ("start", &self.start)]
            .into_iter()
            .filter_map(|(key, command)| Some((key, command.as_deref()?)))
    }
}

/// Why a specification cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct SpecError {
    /// The file, as it was named to [`Spec::parse`].
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with one line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that this version does not know.
    #[error("unknown key `{key}` in {table}; allowed here: {allowed}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        table: &'static str,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The value is of another kind.
    #[error("`{key}` must be {expected}")]
    Kind {
        /// The key, dotted.
        key: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A name that no tool, package or variable can have.
    #[error("`{name}` cannot be the name of {what}")]
    Name {
        /// The name.
        name: String,
        /// What it would name.
        what: &'static str,
    },
    /// The versions of a tool or service cannot be read.
    #[error("`{key}`: {source}; write it as `22`, `>=20 <23`, `^18 || >=20`, `=1.2.3` or `*`")]
    Constraint {
        /// The key, dotted.
        key: String,
        /// What is wrong with the text.
        source: ConstraintError,
    },
    /// The file was written for a newer program.
    #[error("version {found} is not known; this program reads version {VERSION}")]
    Newer {
        /// What the file says.
        found: i64,
    },
}

impl Spec {
    /// Reads `text`; `file` is its name in errors.
    pub fn parse(file: &str, text: &str) -> Result<Spec, SpecError> {
        Reader { file, text }.read()
    }

    /// The line of each of `text`'s keys (`tools.node`, `run.test`), from 1.
    pub fn lines(text: &str) -> BTreeMap<String, u32> {
        let mut lines = BTreeMap::new();
        let Ok(document) = Document::parse(text) else { return lines };
        for (table, item) in document.iter() {
            let Some(entries) = item.as_table_like() else { continue };
            for (name, _) in entries.iter() {
                let line = line_of(text, entries.key(name).and_then(Key::span));
                lines.insert(format!("{table}.{name}"), line);
            }
        }
        lines
    }

    /// The file's text. `comments` are by key, as [`Spec::lines`] names them.
    pub fn render(&self, comments: &BTreeMap<String, String>) -> String {
        let mut out = String::new();
        let tools = self.tools.iter().map(|(name, c)| (name.as_str(), quoted(&c.to_string())));
        section(&mut out, "tools", tools, comments);
        if !self.system.is_empty() {
            out.push_str(&packages(&self.system, comments));
        }
        if !self.dependencies.python.is_empty() {
            let packages: toml_edit::Array = self.dependencies.python.iter().collect();
            let packages = [("python", packages.to_string())];
            section(&mut out, "dependencies", packages.into_iter(), comments);
        }
        let services =
            self.services.iter().map(|(name, service)| (name.as_str(), service.render()));
        section(&mut out, "services", services, comments);
        let env = self.env.iter().map(|(name, value)| (name.as_str(), quoted(value)));
        section(&mut out, "env", env, comments);
        let secrets = self.secrets.iter().map(|(name, wish)| (name.as_str(), wishes::render(wish)));
        section(&mut out, "secrets", secrets, comments);
        let run = self.run.commands().map(|(key, command)| (key, quoted(command)));
        section(&mut out, "run", run, comments);
        out
    }
}

impl Service {
    fn render(&self) -> String {
        let version = quoted(&self.version.to_string());
        match self.port {
            None => version,
            Some(port) => format!("{{ version = {version}, port = {port} }}"),
        }
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// `[system]`: in one line, or a line for each package where there is something to say.
fn packages(names: &[String], comments: &BTreeMap<String, String>) -> String {
    let said = |name: &String| comments.get(&format!("system.{name}"));
    if !names.iter().any(|name| said(name).is_some()) {
        let names: toml_edit::Array = names.iter().collect();
        return format!("[system]\npackages = {names}\n");
    }
    let lines: String =
        names.iter().map(|name| commented(&format!("    {},", quoted(name)), said(name))).collect();
    format!("[system]\npackages = [\n{lines}]\n")
}

/// One line, with a comment at its end.
fn commented(entry: &str, comment: Option<&String>) -> String {
    let Some(comment) = comment else { return format!("{entry}\n") };
    // A comment ends with its line, and control characters are not TOML.
    let comment: String = comment.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{entry:<0$}# {comment}\n", COMMENT_COLUMN.max(entry.len() + 1))
}

fn section<'a>(
    out: &mut String,
    name: &str,
    entries: impl Iterator<Item = (&'a str, String)>,
    comments: &BTreeMap<String, String>,
) {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return;
    }
    out.push_str(&format!("[{name}]\n"));
    for (key, value) in entries {
        let entry = format!("{} = {value}", Key::new(key));
        out.push_str(&commented(&entry, comments.get(&format!("{name}.{key}"))));
    }
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> u32 {
    let end = span.map_or(0, |s| s.start).min(text.len());
    let before = text.as_bytes()[..end].iter().filter(|b| **b == b'\n').count();
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, span: Option<std::ops::Range<usize>>, problem: Problem) -> SpecError {
        SpecError { file: self.file.to_owned(), line: line_of(self.text, span), problem }
    }

    fn read(&self) -> Result<Spec, SpecError> {
        let document = Document::parse(self.text)
            .map_err(|e| self.error(e.span(), Problem::Syntax(e.message().to_owned())))?;
        let mut spec = Spec::default();
        for (name, item) in document.iter() {
            let span = document.key(name).and_then(Key::span);
            match name {
                "version" => self.version(item)?,
                "tools" => self.tools(self.table(name, item)?, &mut spec)?,
                "system" => self.system(self.table(name, item)?, &mut spec)?,
                "dependencies" => self.dependencies(self.table(name, item)?, &mut spec)?,
                "services" => self.services(self.table(name, item)?, &mut spec)?,
                "env" => self.env(self.table(name, item)?, &mut spec)?,
                "secrets" => self.secrets(self.table(name, item)?, &mut spec)?,
                "run" => self.run(self.table(name, item)?, &mut spec)?,
                _ => {
                    return Err(self.unknown(
                        name,
                        span,
                        "the file",
                        "version, [tools], [system], [dependencies], [services], [env], [secrets], [run]",
                    ));
                }
            }
        }
        Ok(spec)
    }

    fn unknown(
        &self,
        key: &str,
        span: Option<std::ops::Range<usize>>,
        table: &'static str,
        allowed: &'static str,
    ) -> SpecError {
        self.error(span, Problem::UnknownKey { key: key.to_owned(), table, allowed })
    }

    fn kind(&self, key: String, item: &Item, expected: &'static str) -> SpecError {
        self.error(item.span(), Problem::Kind { key, expected })
    }

    fn version(&self, item: &Item) -> Result<(), SpecError> {
        match item.as_integer() {
            Some(VERSION) => Ok(()),
            Some(found) => Err(self.error(item.span(), Problem::Newer { found })),
            None => Err(self.kind("version".into(), item, "a whole number")),
        }
    }

    fn table<'i>(&self, name: &str, item: &'i Item) -> Result<&'i dyn TableLike, SpecError> {
        item.as_table_like().ok_or_else(|| self.kind(name.to_owned(), item, "a table"))
    }

    fn text(&self, table: &str, name: &str, item: &Item) -> Result<String, SpecError> {
        item.as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.kind(format!("{table}.{name}"), item, "a string"))
    }

    fn name(
        &self,
        table: &dyn TableLike,
        name: &str,
        fits: bool,
        what: &'static str,
    ) -> Result<(), SpecError> {
        let span = table.key(name).and_then(Key::span);
        let name = name.chars().take(60).collect();
        if fits { Ok(()) } else { Err(self.error(span, Problem::Name { name, what })) }
    }

    fn tools(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        for (tool, item) in table.iter() {
            self.name(table, tool, is_package(tool), "a tool")?;
            spec.tools.insert(tool.to_owned(), self.constraint("tools", tool, item)?);
        }
        Ok(())
    }

    fn constraint(&self, table: &str, name: &str, item: &Item) -> Result<Constraint, SpecError> {
        let text = self.text(table, name, item)?;
        Constraint::parse(&text).map_err(|source| {
            let key = format!("{table}.{name}");
            self.error(item.span(), Problem::Constraint { key, source })
        })
    }

    fn services(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        for (name, item) in table.iter() {
            self.name(table, name, is_package(name), "a service")?;
            let mut service = Service { version: Constraint::any(), port: None };
            match item.as_table_like() {
                None => service.version = self.constraint("services", name, item)?,
                Some(entries) => self.service(name, entries, &mut service)?,
            }
            spec.services.insert(name.to_owned(), service);
        }
        Ok(())
    }

    fn service(
        &self,
        name: &str,
        entries: &dyn TableLike,
        service: &mut Service,
    ) -> Result<(), SpecError> {
        let table = format!("services.{name}");
        for (key, item) in entries.iter() {
            match key {
                "version" => service.version = self.constraint(&table, key, item)?,
                "port" => {
                    let port = item.as_integer().and_then(|n| u16::try_from(n).ok());
                    let port = port.filter(|port| *port != 0).ok_or_else(|| {
                        self.kind(format!("{table}.port"), item, "a number from 1 to 65535")
                    })?;
                    service.port = Some(port);
                }
                _ => {
                    let span = entries.key(key).and_then(Key::span);
                    return Err(self.unknown(key, span, "a service", "version, port"));
                }
            }
        }
        Ok(())
    }

    fn system(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        let expected = "an array of package names";
        spec.system = self.packages(table, ("system", "packages"), expected, is_package)?;
        Ok(())
    }

    fn dependencies(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        let expected = "an array of requirements, as PEP 508 has them";
        let python = self.packages(table, ("dependencies", "python"), expected, is_requirement)?;
        spec.dependencies = Dependencies { python };
        Ok(())
    }

    /// The texts of the one array that a table may have.
    fn packages(
        &self,
        table: &dyn TableLike,
        (name, allowed): (&'static str, &'static str),
        expected: &'static str,
        fits: fn(&str) -> bool,
    ) -> Result<Vec<String>, SpecError> {
        let mut packages = Vec::new();
        for (key, item) in table.iter() {
            if key != allowed {
                let span = table.key(key).and_then(Key::span);
                let table = if name == "system" { "[system]" } else { "[dependencies]" };
                return Err(self.unknown(key, span, table, allowed));
            }
            let key = format!("{name}.{key}");
            let array = item.as_array().ok_or_else(|| self.kind(key.clone(), item, expected))?;
            for value in array {
                match value.as_str() {
                    Some(package) if fits(package) => packages.push(package.to_owned()),
                    _ => return Err(self.error(value.span(), Problem::Kind { key, expected })),
                }
            }
        }
        Ok(packages)
    }

    fn env(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        for (name, item) in table.iter() {
            self.name(table, name, is_variable(name), "a variable")?;
            spec.env.insert(name.to_owned(), self.text("env", name, item)?);
        }
        Ok(())
    }

    fn run(&self, table: &dyn TableLike, spec: &mut Spec) -> Result<(), SpecError> {
        for (name, item) in table.iter() {
            let slot = match name {
                "test" => &mut spec.run.test,
                "build" => &mut spec.run.build,
                "start" => &mut spec.run.start,
                _ => {
                    let span = table.key(name).and_then(Key::span);
                    return Err(self.unknown(name, span, "[run]", "test, build, start"));
                }
            };
            *slot = Some(self.text("run", name, item)?);
        }
        Ok(())
    }
}

/// What names a package of Python's, and is no option of its installer.
fn is_requirement(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.chars().any(char::is_control)
}

/// What catalogues call things: `node`, `libpq`, `g++`, `python3.11`.
fn is_package(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests;
