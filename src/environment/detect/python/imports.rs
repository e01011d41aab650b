//! What the project is built with and uses when it runs, too: its own modules or its tests import
//! a requirement of its build, which no manifest need say, since environments used to bring it.

use super::super::survey::{Place, Survey};
use super::super::types::{Evidence, Strength};
use super::wanted::package_name;
use super::{Python, tests_found};

/// How many modules of a directory are looked into.
const MOST_FILES: usize = 24;
/// How many directories beside each other are looked into.
const MOST_DIRECTORIES: usize = 24;

/// Has installed what is imported.
pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    let declared = python.build_requires.clone();
    let mut left: Vec<String> =
        declared.into_iter().filter(|r| !python.has_package(&package_name(r))).collect();
    if left.is_empty() {
        return;
    }
    for place in directories(survey, python.place) {
        for name in place.files.iter().filter(|name| name.ends_with(".py")).take(MOST_FILES) {
            if left.is_empty() {
                return;
            }
            let Some(text) = survey.head(&place.path(name)) else { continue };
            left.retain(|requirement| {
                let module = package_name(requirement).replace('-', "_");
                let found = text.lines().find(|(_, line)| imports(line, &module));
                if let Some((line, said)) = found {
                    let evidence: Evidence = text.evidence(line, said.trim(), Strength::Manifest);
                    tests_found::assume(python, requirement, &evidence);
                }
                found.is_none()
            });
        }
    }
}

/// The project's packages, and its tests.
fn directories(survey: &mut Survey<'_>, root: &Place) -> Vec<Place> {
    let mut found = Vec::new();
    for parent in ["", "src", "lib", "python"] {
        let parent = match parent {
            "" => root.clone(),
            name if root.directories.contains(name) => survey.place(&root.path(name)),
            _ => continue,
        };
        let plain = parent.directories.iter().filter(|name| !name.starts_with(['.', '_']));
        for name in plain.take(MOST_DIRECTORIES) {
            let place = survey.place(&parent.path(name));
            let is_tests = ["test", "tests", "testing", "unittests"].contains(&name.as_str());
            if is_tests || place.has("__init__.py") {
                found.push(place);
            }
        }
    }
    found
}

/// Whether a line of Python imports `module`, or something in it.
fn imports(line: &str, module: &str) -> bool {
    let line = line.trim_start();
    let is = |said: &str| {
        let name = said.trim().split([' ', '.']).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        // It brings these, the first since Python no longer does.
        let brings = ["distutils", "pkg_resources"].contains(&name.as_str());
        name == module || (module == "setuptools" && brings)
    };
    match line.split_once(' ') {
        Some(("import", names)) => names.split(',').any(is),
        Some(("from", name)) => is(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_of_python() {
        for (line, expected) in [
            ("import setuptools", true),
            ("    from setuptools.command import build_ext", true),
            ("import os, setuptools as s", true),
            ("from distutils import log", true),
            ("import pkg_resources", true),
            ("import setuptools_scm", false),
            ("# import setuptools", false),
            ("from . import setuptools", false),
        ] {
            assert_eq!(imports(line, "setuptools"), expected, "{line}");
        }
        assert!(imports("import Cython", "cython"));
    }
}
