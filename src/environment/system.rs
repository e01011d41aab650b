//! System packages: the names that `[system] packages` of an `env.toml` may hold, and the one
//! tree that they become.
//!
//! # Names
//!
//! `system.toml`, version 1, is data:
//!
//! ```toml
//! [library.libpq]
//! debian = ["libpq-dev"]           # what it is made of
//! also = ["postgresql-libs"]       # what others call it
//! modules = ["libpq"]              # pkg-config(1)
//! headers = ["libpq-fe.h"]
//! libraries = ["pq"]               # ld(1): -lpq
//! programs = { pg_config = "usr/libexec/zagi/pg_config" }
//! [[library.libpq.fixups.write]]   # as in the lock
//! ```
//!
//! Any other name is looked for in Debian's index: `libfoo-dev` and `foo-dev` for libraries, then
//! `foo` itself.
//!
//! # The tree
//!
//! All of them are one closure of Debian packages with one C library, an entry `system` of the
//! lock. It is of the oldest Debian release among the environment's tools: what is built
//! against it is loaded by them. Builds find it by the variables of the catalogue's `[system]`
//! (`PKG_CONFIG_LIBDIR`, `CPATH`, `LIBRARY_PATH`, `CMAKE_PREFIX_PATH`), and what they build by
//! the search path that the environment's linker writes into it ([`super::lock::Shared`]):
//! never by `LD_LIBRARY_PATH`, which every program would see.
//!
//! Only programs that this table names stand on the user's `PATH` in front; every other program
//! of the tree comes after the machine's own, in processes of the environment alone: a
//! stranger's repository may ask for a package that has an `ls`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::catalog::{Catalog, SystemSource, perhaps};
use super::lock::{Fixups, Tool};
use super::provider::{ProviderError, World, closure};
use super::version::Version;

/// The name of the entry in the lock.
pub const NAME: &str = "system";
/// The directory of the tree whose programs come after the machine's own.
pub const PROGRAMS: &str = "usr/bin";

const BUILT_IN: &str = include_str!("system.toml");

/// One system package.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Library {
    /// Debian's packages.
    pub debian: Vec<String>,
    /// Other names.
    pub also: Vec<String>,
    /// Modules of pkg-config.
    pub modules: Vec<String>,
    /// Headers, as they are included.
    pub headers: Vec<String>,
    /// Libraries, as they are linked with.
    pub libraries: Vec<String>,
    /// Programs, with their paths in the tree.
    pub programs: BTreeMap<String, String>,
    /// What is done to the tree besides.
    pub fixups: Fixups,
}

/// The table of names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    #[serde(rename = "version")]
    _version: u32,
    library: BTreeMap<String, Library>,
}

/// Why there is no such tree.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// Nobody has it.
    #[error("there is no system package `{name}`{}", perhaps(nearest))]
    Unknown {
        /// The name.
        name: String,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// The packages cannot be had.
    #[error("cannot bring the system packages {}: {source}", names.join(", "))]
    Provider {
        /// What was asked for.
        names: Vec<String>,
        /// What is wrong.
        source: Box<ProviderError>,
    },
    /// No release is old enough.
    #[error(
        "no release of Debian that is known has a C library as old as {libc}, which a tool of this environment has"
    )]
    TooOld {
        /// The C library's version.
        libc: Version,
    },
}

impl Table {
    /// The table that is built in, read when it is first asked for.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn built_in() -> &'static Table {
        static TABLE: LazyLock<Table> = LazyLock::new(|| {
            toml_edit::de::from_str(BUILT_IN).expect("a test reads the built-in table")
        });
        &TABLE
    }

    /// The table's own name for what is called `name` anywhere: there, elsewhere, by Debian.
    pub fn canonical(&self, name: &str) -> Option<&str> {
        if let Some((known, _)) = self.library.get_key_value(name) {
            return Some(known);
        }
        self.find(|library| {
            library.also.iter().any(|n| n == name)
                || library.debian.first().is_some_and(|n| n == name)
        })
    }

    /// The library that a Debian package is a part of.
    pub fn by_debian(&self, package: &str) -> Option<&str> {
        self.find(|library| library.debian.first().is_some_and(|n| n == package))
            .or_else(|| self.find(|library| library.debian.iter().any(|n| n == package)))
    }

    /// Who has this module of pkg-config.
    pub fn by_module(&self, module: &str) -> Option<&str> {
        self.find(|library| library.modules.iter().any(|n| n == module))
    }

    /// Who has this header.
    pub fn by_header(&self, header: &str) -> Option<&str> {
        self.find(|library| library.headers.iter().any(|n| n == header))
    }

    /// Who has this library of the linker's.
    pub fn by_library(&self, name: &str) -> Option<&str> {
        self.find(|library| library.libraries.iter().any(|n| n == name))
    }

    /// Who has this program.
    pub fn by_program(&self, program: &str) -> Option<&str> {
        self.find(|library| library.programs.contains_key(program))
    }

    fn find(&self, fits: impl Fn(&Library) -> bool) -> Option<&str> {
        self.library.iter().find(|(_, library)| fits(library)).map(|(name, _)| name.as_str())
    }
}

/// Whether `name` may stand in `[system] packages`: the table has it, or a release of Debian.
pub fn exists(world: &World<'_>, name: &str) -> Result<bool, ProviderError> {
    if Table::built_in().canonical(name).is_some() {
        return Ok(true);
    }
    let Some(source) = world.catalog.system.source.first() else { return Ok(false) };
    Ok(packages_of(world, source, &Library::default(), name)?.is_some())
}

/// `names` as the table has them, sorted; what it does not have stays.
pub fn settled(names: &[String]) -> Vec<String> {
    let table = Table::built_in();
    let own = |name: &String| table.canonical(name).unwrap_or(name).to_owned();
    names.iter().map(own).collect::<BTreeSet<String>>().into_iter().collect()
}

/// Those of `names` that a locked tree was not made for.
pub fn missing(locked: Option<&Tool>, names: &[String]) -> Vec<String> {
    let asked = locked.map(|tool| tool.asked.as_slice()).unwrap_or_default();
    settled(names).into_iter().filter(|name| !asked.contains(name)).collect()
}

/// The version of the package that a locked tree has for `name`.
pub fn version<'a>(tool: &'a Tool, name: &str) -> &'a str {
    let library = Table::built_in().library.get(name);
    let known = library.map(|library| library.debian.clone()).unwrap_or_default();
    let candidates = known.into_iter().chain(candidates(name));
    let part = |name: String| tool.parts.iter().find(|part| part.name == name);
    candidates.into_iter().find_map(part).map_or(&tool.version, |part| &part.version)
}

/// Decides the tree for `names`, which are [`settled`]; its C library is at most `libc`.
pub(super) fn decide(
    world: &World<'_>,
    names: &[String],
    libc: Option<&Version>,
) -> Result<Tool, SystemError> {
    let catalog = world.catalog;
    let failed =
        |e: ProviderError| SystemError::Provider { names: names.to_vec(), source: Box::new(e) };
    let mut chosen = None;
    for source in &catalog.system.source {
        let pool = catalog.pool(&source.pool).map_err(|e| failed(e.into()))?;
        let own = pool.libc.as_deref().and_then(|text| Version::parse(text).ok());
        if own.zip(libc).is_none_or(|(own, limit)| own <= *limit) {
            chosen = Some((source, pool));
            break;
        }
    }
    let Some((source, pool)) = chosen else {
        return Err(match libc {
            Some(libc) => SystemError::TooOld { libc: libc.clone() },
            None => SystemError::Unknown { name: names.join(", "), nearest: Vec::new() },
        });
    };
    let table = Table::built_in();
    let none = Library::default();
    let mut programs = catalog.system.programs.clone();
    let mut fixups = pool.fixups.clone();
    fixups.extend(catalog.system.fixups.clone());
    let mut roots: BTreeSet<String> = source.packages.iter().cloned().collect();
    for name in names {
        let known = table.canonical(name).and_then(|name| table.library.get(name));
        let library = known.unwrap_or(&none);
        match packages_of(world, source, library, name).map_err(failed)? {
            Some(packages) => roots.extend(packages),
            None => {
                let (name, nearest) = (name.clone(), nearest(name));
                return Err(SystemError::Unknown { name, nearest });
            }
        }
        programs.extend(library.programs.clone());
        fixups.extend(library.fixups.clone());
    }
    let exclude: BTreeSet<String> =
        pool.exclude.iter().chain(&catalog.system.exclude).cloned().collect();
    let roots: Vec<String> = roots.into_iter().collect();
    let parts = closure(world, &source.pool, &roots, &exclude).map_err(failed)?;
    let words = &world.words;
    if let Some(elf) = &mut fixups.elf {
        elf.libc = pool.libc.clone();
    }
    Ok(Tool {
        name: NAME.into(),
        version: source.version.clone(),
        platform: world.ctx.platform.to_string(),
        provider: "debian".into(),
        channel: None,
        bins: BTreeMap::new(),
        asked: names.to_vec(),
        path: Vec::new(),
        answers: Vec::new(),
        programs: words.expand_map(&programs),
        env: words.expand_map(&catalog.system.env),
        fixups: words.expand_fixups(&fixups),
        adopted: Vec::new(),
        parts,
    })
}

/// The Debian packages of one name, in the release of `source`.
fn packages_of(
    world: &World<'_>,
    source: &SystemSource,
    library: &Library,
    name: &str,
) -> Result<Option<Vec<String>>, ProviderError> {
    let has = |name: &str| super::provider::has_package(world, &source.pool, name);
    if !library.debian.is_empty() {
        return Ok(Some(library.debian.clone()));
    }
    for candidate in candidates(name) {
        if has(&candidate)? {
            return Ok(Some(vec![candidate]));
        }
    }
    Ok(None)
}

/// How Debian may call what the table does not know.
fn candidates(name: &str) -> [String; 3] {
    let plain = name.to_owned();
    // A library's own name is that of what programs load; asked for, it is for building.
    match name.starts_with("lib") && !name.ends_with("-dev") {
        true => [format!("{name}-dev"), plain, format!("lib{name}-dev")],
        false => [plain, format!("{name}-dev"), format!("lib{name}-dev")],
    }
}

/// The names in the table that are nearest to one that is not there.
pub fn nearest(name: &str) -> Vec<String> {
    let table = Table::built_in();
    let bare = |name: &str| name.trim_start_matches("lib").trim_end_matches("-dev").to_owned();
    let all = table.library.keys().map(|known| (bare(known), known.as_str()));
    super::catalog::nearest(&bare(name), all)
}

/// The first program of `tool` that nothing in the table is known to bring; what a lock that
/// comes with a repository may not say.
pub(super) fn foreign_program<'a>(catalog: &Catalog, tool: &'a Tool) -> Option<&'a str> {
    let table = Table::built_in();
    let known =
        |name: &str| table.by_program(name).is_some() || catalog.system.programs.contains_key(name);
    let foreign = tool.programs.keys().find(|name| !known(name));
    tool.bins.keys().next().or(foreign).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_whole() {
        let table = Table::built_in();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, library) in &table.library {
            assert!(!library.debian.is_empty(), "{name}");
            for module in &library.modules {
                assert_eq!(seen.insert(module, name), None, "{module} of {name}");
            }
            for path in library.programs.values() {
                assert!(path.starts_with("usr/"), "{name}: {path}");
            }
        }
    }

    #[test]
    fn a_library_has_many_names() {
        let table = Table::built_in();
        for (name, expected) in [
            ("libpq", Some("libpq")),
            ("libpq-dev", Some("libpq")),
            ("libssl", Some("openssl")),
            ("jpeg", Some("libjpeg")),
            ("no-such", None),
        ] {
            assert_eq!(table.canonical(name), expected, "{name}");
        }
        assert_eq!(table.by_module("libxml-2.0"), Some("libxml2"));
        assert_eq!(table.by_header("ffi.h"), Some("libffi"));
        assert_eq!(table.by_library("ssl"), Some("openssl"));
        assert_eq!(nearest("libgit"), ["libgit2"]);
    }
}
