//! Lock files of poetry, pdm and pipenv, read here and installed by uv: exactly what they
//! pin, every file checked against the hashes that they hold, with nothing resolved anew.
//!
//! Their own managers would install the same more slowly, and each with habits of its own:
//! environments in a home directory, metadata from addresses that mirrors do not have.
//! The manager itself is installed beside what it manages, in `.zagi/tools`, for whoever
//! calls it again (`poetry run pytest` in a Makefile); it finds the project's environment
//! by `VIRTUAL_ENV`.
//!
//! What is installed is what each manager would: the project's dependencies and every group
//! for development that is not optional, and what was chosen besides.
//!
//! - `poetry.rs`: `poetry.lock`. Since 2.1 a lock says of each package in which groups and
//!   under which marker it is wanted; before, that is found by walking from the manifest.
//! - `pdm.rs`: `pdm.lock`, which says the same where it inherits metadata (the default).
//! - `pipenv.rs`: `Pipfile.lock`, which says it always.

mod graph;
mod marker;
mod pdm;
mod pipenv;
mod poetry;

use std::collections::BTreeSet;

use toml_edit::{DocumentMut, Item, TableLike};

use super::join;
use crate::environment::detect::Project;
use crate::environment::files::Files;
use marker::Marker;

/// Files of a requirement that is not checked by hash: a commit names its content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    /// A package index, by name and version.
    Index,
    /// An address as PEP 508 has it (`git+https://…@…`), or a path in the project.
    Direct(String),
    /// A path in the project that is installed as it stands.
    Editable(String),
}

/// One package that is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pin {
    /// Normalised.
    name: String,
    version: String,
    /// `sha256:…`.
    hashes: Vec<String>,
    marker: Marker,
    from: From,
}

/// What is chosen of a lock file, by normalised names.
struct Chosen {
    extras: BTreeSet<String>,
    groups: BTreeSet<String>,
}

/// Everything that a lock file pins, for the installer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Locked {
    /// Requirements with their hashes.
    pub hashed: String,
    /// Requirements that have none.
    pub unhashed: String,
    /// Normalised names of all of them.
    pub names: BTreeSet<String>,
    /// Other package indexes that the lock names.
    pub indexes: Vec<String>,
    /// The version of the manager that wrote it, where it says so.
    pub by: Option<String>,
    /// Why the lock cannot be followed.
    pub disagrees: Option<String>,
}

/// What a reader found.
#[derive(Default)]
struct Read {
    pins: Vec<Pin>,
    indexes: Vec<String>,
    /// Normalised names that the manifest asks for, wherever they are needed.
    asked: Vec<String>,
    by: Option<String>,
}

/// Reads the lock file of `project` as `manager` would.
pub(super) fn read(project: &Project, manager: &str, source: &dyn Files) -> Locked {
    let path = project.lock.clone().unwrap_or_default();
    let text =
        |path: &str| String::from_utf8_lossy(&source.read(path).unwrap_or_default()).into_owned();
    let (lock, manifest) = (text(&path), text(&join(&project.root, "pyproject.toml")));
    // A manifest that cannot be read is refused by whoever builds the project.
    let manifest: DocumentMut = manifest.parse().unwrap_or_default();
    let names = |all: &[String]| all.iter().map(|name| normal_name(name)).collect();
    let chosen = Chosen { extras: names(&project.extras), groups: names(&project.groups) };
    let read = match manager {
        "poetry" => poetry::read(&lock, &manifest, &chosen),
        "pdm" => pdm::read(&lock, &manifest, &chosen),
        _ => pipenv::read(&lock, &text(&join(&project.root, "Pipfile"))),
    };
    match read {
        Ok(read) => written(read),
        Err(why) => Locked { disagrees: Some(why), ..Locked::default() },
    }
}

fn written(read: Read) -> Locked {
    let mut locked = Locked { indexes: read.indexes, by: read.by, ..Locked::default() };
    for pin in &read.pins {
        locked.names.insert(pin.name.clone());
        if pin.marker == Marker::Known(false) {
            continue;
        }
        let marker = pin.marker.text().map_or(String::new(), |text| format!(" ; {text}"));
        let hashes: String = pin.hashes.iter().map(|hash| format!(" --hash={hash}")).collect();
        let line = match &pin.from {
            From::Index => format!("{}=={}{marker}{hashes}\n", pin.name, pin.version),
            From::Direct(at) if at.starts_with('.') => format!("{at}{marker}\n"),
            From::Direct(at) => format!("{} @ {at}{marker}\n", pin.name),
            From::Editable(at) => format!("-e {at}{marker}\n"),
        };
        match (&pin.from, hashes.is_empty()) {
            (From::Index, false) => locked.hashed.push_str(&line),
            _ => locked.unhashed.push_str(&line),
        }
    }
    let missing: Vec<&str> = read
        .asked
        .iter()
        .filter(|name| !locked.names.contains(*name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        locked.disagrees = Some(format!("not in the lock file: {}", missing.join(", ")));
    }
    locked
}

/// A package's name as indexes compare it (PEP 503).
pub(super) fn normal_name(name: &str) -> String {
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
    let mut normal = String::new();
    for c in name[..end.unwrap_or(name.len())].to_ascii_lowercase().chars() {
        let c = if matches!(c, '_' | '.') { '-' } else { c };
        if c != '-' || !normal.ends_with('-') {
            normal.push(c);
        }
    }
    normal
}

/// What stands in a table of `document`, at `keys`.
fn table<'a>(document: &'a DocumentMut, keys: &[&str]) -> Option<&'a dyn TableLike> {
    let mut item = document.as_item();
    for key in keys {
        item = item.get(key)?;
    }
    item.as_table_like()
}

fn text_of<'a>(table: &'a dyn TableLike, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Item::as_str)
}

/// The strings of an array.
fn strings_of(item: Option<&Item>) -> Vec<String> {
    let array = item.and_then(Item::as_array);
    array
        .map(|all| all.iter().filter_map(|v| Some(v.as_str()?.to_owned())).collect())
        .unwrap_or_default()
}

/// The hashes of an array of `{ file = …, hash = … }`.
fn hashes_of(item: Option<&Item>) -> Vec<String> {
    let array = item.and_then(Item::as_array);
    let hash = |v: &toml_edit::Value| Some(v.as_inline_table()?.get("hash")?.as_str()?.to_owned());
    array.map(|all| all.iter().filter_map(hash).collect()).unwrap_or_default()
}

/// The tables of the array `package` of a lock file.
fn packages(lock: &str) -> Result<(DocumentMut, Vec<toml_edit::Table>), String> {
    let document: DocumentMut = lock.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let packages = document.get("package").and_then(Item::as_array_of_tables);
    let packages = packages.map(|all| all.iter().cloned().collect()).unwrap_or_default();
    Ok((document, packages))
}

/// A path as a requirements file has it, which takes a bare name for a package's.
fn path_of(path: &str) -> String {
    if path.starts_with(['.', '/']) { path.to_owned() } else { format!("./{path}") }
}

#[cfg(test)]
mod tests;
