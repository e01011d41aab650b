//! System packages: which of them a repository's own packages, builds and images ask for.
//!
//! `native.toml` has the packages of each ecosystem that are built against libraries of the
//! system; `system.toml` the names of those libraries, their pkg-config modules, headers and
//! Debian packages. A package that brings its libraries along, as most wheels do, asks for
//! nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::survey::Survey;
use super::types::Evidence;
use crate::environment::system::Table;

static NATIVE: LazyLock<Native> = LazyLock::new(|| {
    toml_edit::de::from_str(include_str!("native.toml")).expect("a test reads what is built in")
});

/// Not more of them are found in one repository.
const MOST: usize = 128;

/// `native.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Native {
    python: BTreeMap<String, Vec<String>>,
    python_source: BTreeMap<String, Vec<String>>,
    node: BTreeMap<String, Vec<String>>,
    rust: BTreeMap<String, Crate>,
    ruby: BTreeMap<String, Vec<String>>,
    go: BTreeMap<String, Vec<String>>,
    cmake: BTreeMap<String, Vec<String>>,
    modules: BTreeMap<String, String>,
    libraries: BTreeMap<String, String>,
    debian: Apt,
    alpine: BTreeMap<String, String>,
    conda: BTreeMap<String, String>,
}

/// What a crate is built against, unless another crate that it depends on has it all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Crate {
    needs: Vec<String>,
    #[serde(default)]
    unless: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apt {
    tools: BTreeMap<String, Vec<String>>,
    programs: Vec<String>,
    ignored: Vec<String>,
}

/// An ecosystem whose packages `native.toml` has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packages {
    Python,
    /// Python's packages that have to be built from source.
    PythonSource,
    Node,
    Ruby,
    Go,
}

/// What a Debian package is to a project.
pub(super) enum Debian {
    /// Tools of the catalogue.
    Tools(&'static [String]),
    /// A system package.
    System,
    /// Nothing: every machine has it, or a tool brings it.
    Nothing,
}

/// Adds the system package `name`: a name of the table, another name of it, or Debian's.
pub(super) fn add(survey: &mut Survey<'_>, name: &str, evidence: Evidence) {
    let name = canonical(name);
    let shaped = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    if !shaped || (survey.system.len() >= MOST && !survey.system.contains_key(name)) {
        return;
    }
    let all = survey.system.entry(name.to_owned()).or_default();
    if !all.contains(&evidence) {
        all.push(evidence);
    }
}

/// The table's name for what is called `name`.
pub(super) fn canonical(name: &str) -> &str {
    called(name).unwrap_or(name)
}

fn called(name: &str) -> Option<&'static str> {
    Table::built_in().canonical(name).or_else(|| Table::built_in().by_debian(name))
}

/// Whether the table has what is called `name`.
pub(super) fn known(name: &str) -> bool {
    called(name).is_some()
}

/// Adds what `package` of an ecosystem is built against or opens when it runs; says whether
/// it is known.
pub(super) fn package(
    survey: &mut Survey<'_>,
    packages: Packages,
    package: &str,
    evidence: &Evidence,
) -> bool {
    let table = match packages {
        Packages::Python => &NATIVE.python,
        Packages::PythonSource => &NATIVE.python_source,
        Packages::Node => &NATIVE.node,
        Packages::Ruby => &NATIVE.ruby,
        Packages::Go => &NATIVE.go,
    };
    let Some(names) = table.get(package) else { return false };
    for name in names {
        add(survey, name, evidence.clone());
    }
    true
}

/// Whether some package of that name is in the table.
pub(super) fn knows(packages: Packages, package: &str) -> bool {
    match packages {
        Packages::Python => NATIVE.python.contains_key(package),
        Packages::PythonSource => NATIVE.python_source.contains_key(package),
        Packages::Node => NATIVE.node.contains_key(package),
        Packages::Ruby => NATIVE.ruby.contains_key(package),
        Packages::Go => NATIVE.go.contains_key(package),
    }
}

/// What the crate `name` needs that depends on `dependencies`; empty where it has all it
/// needs.
pub(super) fn of_crate(name: &str, dependencies: &[&str]) -> &'static [String] {
    match NATIVE.rust.get(name) {
        Some(known) if !known.unless.iter().any(|u| dependencies.contains(&u.as_str())) => {
            &known.needs
        }
        _ => &[],
    }
}

/// Adds what has the pkg-config module; says whether one is known.
pub(super) fn module(survey: &mut Survey<'_>, module: &str, evidence: Evidence) -> bool {
    let name = NATIVE
        .modules
        .get(module)
        .map(String::as_str)
        .or_else(|| Table::built_in().by_module(module));
    found(survey, name, evidence)
}

/// Adds what has the library `-l<library>`.
pub(super) fn library(survey: &mut Survey<'_>, library: &str, evidence: Evidence) -> bool {
    let name = NATIVE.libraries.get(library).map(String::as_str);
    let name = name.or_else(|| Table::built_in().by_library(library));
    found(survey, name, evidence)
}

/// Adds what has the header.
pub(super) fn header(survey: &mut Survey<'_>, header: &str, evidence: Evidence) -> bool {
    found(survey, Table::built_in().by_header(header), evidence)
}

/// Adds what CMake finds as `package`.
pub(super) fn cmake(survey: &mut Survey<'_>, package: &str, evidence: &Evidence) -> bool {
    let lower = package.to_ascii_lowercase();
    let Some(names) = NATIVE.cmake.get(&lower) else {
        // Many packages are found by their own name.
        let name = called(&lower).or_else(|| Table::built_in().by_module(&lower));
        return found(survey, name, evidence.clone());
    };
    for name in names {
        add(survey, name, evidence.clone());
    }
    true
}

fn found(survey: &mut Survey<'_>, name: Option<&str>, evidence: Evidence) -> bool {
    // An empty name is one that the C library has.
    match name {
        Some(name) if !name.is_empty() => add(survey, name, evidence),
        Some(_) => {}
        None => return false,
    }
    true
}

/// What the Debian package `name` is.
pub(super) fn debian(name: &str) -> Debian {
    if let Some(tools) = NATIVE.debian.tools.get(name) {
        return Debian::Tools(tools);
    }
    let ignored = NATIVE.debian.ignored.iter().any(|one| match one.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == one,
    });
    let asked = name.ends_with("-dev")
        || NATIVE.debian.programs.iter().any(|program| program == name)
        || known(name);
    match asked && !ignored && !name.contains([':', '*', '$', '{']) {
        true => Debian::System,
        false => Debian::Nothing,
    }
}

/// PyPI's name of a package of conda.
pub(super) fn python_of_conda(name: &str) -> Option<&'static str> {
    let (name, other) = NATIVE.conda.get_key_value(&name.to_ascii_lowercase())?;
    Some(if other.is_empty() { name } else { other })
}

/// Adds what Alpine's package is here, where that is known.
pub(super) fn alpine(survey: &mut Survey<'_>, name: &str, evidence: Evidence) {
    let plain = name.split(['=', '~', '<', '>', '@']).next().unwrap_or(name);
    if let Some(tools) = NATIVE.debian.tools.get(plain) {
        let known: Vec<&String> = tools.iter().filter(|t| survey.known.contains(*t)).collect();
        for tool in known {
            survey.claims.need_undated(tool, evidence.clone());
        }
        return;
    }
    let library = plain.strip_suffix("-dev");
    let other = NATIVE.alpine.get(plain).map(String::as_str);
    let named = other.or_else(|| called(plain)).or_else(|| called(library?));
    if let Some(name) = named {
        add(survey, name, evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_they_are_called() {
        for (called, name) in [
            ("libpq-dev", "libpq"),
            ("default-libmysqlclient-dev", "libmysqlclient"),
            ("libavcodec-dev", "ffmpeg"),
            ("libxml2-dev", "libxml2"),
            ("libnowhere-dev", "libnowhere-dev"),
        ] {
            assert_eq!(canonical(called), name);
        }
        assert!(matches!(debian("build-essential"), Debian::Tools(_)));
        assert!(matches!(debian("libnowhere-dev"), Debian::System));
        assert!(matches!(debian("python3-dev"), Debian::Tools(_)));
        for name in ["curl", "git", "libc6-dev", "linux-headers-amd64", "libx-dev:i386", "libx1"] {
            assert!(matches!(debian(name), Debian::Nothing), "{name}");
        }
    }

    #[test]
    fn every_name_in_the_data_is_one_of_the_table_or_debians() {
        let known = |name: &str| {
            super::known(name)
                || name.ends_with("-dev")
                || NATIVE.debian.programs.iter().any(|program| program == name)
        };
        let lists = [&NATIVE.python, &NATIVE.python_source, &NATIVE.node, &NATIVE.ruby];
        let lists = lists.into_iter().chain([&NATIVE.go, &NATIVE.cmake]).flat_map(|t| t.values());
        let all = lists.chain(NATIVE.rust.values().map(|one| &one.needs)).flatten();
        let all = all.chain(NATIVE.modules.values()).chain(NATIVE.libraries.values());
        for name in all.chain(NATIVE.alpine.values()).filter(|name| !name.is_empty()) {
            assert!(known(name), "{name}");
        }
    }

    #[test]
    fn a_crate_that_brings_its_library() {
        assert_eq!(of_crate("openssl-sys", &["cc", "pkg-config"]), ["openssl"]);
        assert!(of_crate("openssl-sys", &["openssl-src"]).is_empty());
        assert!(of_crate("libgit2-sys", &[]).is_empty());
    }
}
