//! Python: `pyproject.toml`, `setup.py` and `setup.cfg`, requirements files, lock files, and
//! what runs the tests (tox, nox, hatch, pytest, unittest).

mod conda;
mod groups;
mod imports;
mod ini;
mod literal;
mod pipfile;
mod pyproject;
mod requirements;
mod runners;
mod setup;
mod start;
mod system_packages;
mod tests_found;
mod wanted;

use std::collections::BTreeSet;

use super::survey::{Place, Survey, Text};
use super::{Ecosystem, Evidence, Project, Strength};
use crate::environment::version::{Constraint, Version};
use wanted::{Wanted, What, is_requirement, package_name};

/// What makes a directory a Python project.
const MANIFESTS: [&str; 12] = [
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "requirements.txt",
    "uv.lock",
    "Pipfile",
    "poetry.lock",
    "pdm.lock",
    "tox.ini",
    "noxfile.py",
    "environment.yml",
    "environment.yaml",
];

/// Lock files, each with the manager that wrote it, the first that is there counts.
const LOCKS: [(&str, &str); 4] =
    [("uv.lock", "uv"), ("poetry.lock", "poetry"), ("pdm.lock", "pdm"), ("Pipfile.lock", "pipenv")];

/// Build requirements that read the version from git's tags.
const VERSION_FROM_GIT: [&str; 13] = [
    "setuptools-scm",
    "hatch-vcs",
    "versioneer",
    "versioningit",
    "pbr",
    "dunamai",
    "poetry-dynamic-versioning",
    "poetry-version-plugin",
    "setuptools-git-versioning",
    "setuptools-git",
    "flit-scm",
    "vcs-versioning",
    "uv-dynamic-versioning",
];

/// Build requirements that compile; those of the second kind compile Rust.
const COMPILES: [&str; 10] = [
    "cython",
    "cffi",
    "pybind11",
    "nanobind",
    "scikit-build",
    "scikit-build-core",
    "meson-python",
    "mypy",
    "py-build-cmake",
    "numpy",
];
const COMPILES_RUST: [&str; 2] = ["maturin", "setuptools-rust"];

/// One Python project while it is read.
pub(super) struct Python<'p> {
    place: &'p Place,
    project: Project,
    /// The names that it may be published under, each with where it says so.
    names: Vec<(String, Evidence)>,
    /// What the tests need.
    wanted: Wanted,
    /// Requirements that are installed in any case.
    declared: Vec<String>,
    /// What it is built with.
    build_requires: Vec<String>,
    /// Paths of what installing depends on.
    inputs: BTreeSet<String>,
    /// `setup.py` reads requirements files, nobody can say which.
    reads_requirements: bool,
    /// A configuration of pytest was found.
    pytest: Option<Evidence>,
    /// Everything that pytest's configuration says.
    pytest_options: String,
    /// Commands of tox and the like that run the tests.
    commands: Vec<(String, Evidence)>,
}

/// Reads the Python project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    pins(survey, place);
    let Some(found) = MANIFESTS.iter().find(|name| place.has(name)) else {
        start::alone(survey, place);
        return false;
    };
    let mut python = Python {
        place,
        project: Project::new(Ecosystem::Python, &place.root, survey.date),
        names: Vec::new(),
        wanted: Wanted::default(),
        declared: Vec::new(),
        build_requires: Vec::new(),
        inputs: BTreeSet::new(),
        reads_requirements: false,
        pytest: None,
        pytest_options: String::new(),
        commands: Vec::new(),
    };
    let mut evidence = Evidence {
        file: place.path(found),
        line: 1,
        text: "a Python project".to_owned(),
        strength: Strength::Default,
    };
    let is_project = pyproject::survey(survey, &mut python);
    if !is_project {
        // A `pyproject.toml` of nothing but linters makes no project.
        let Some(other) = MANIFESTS[1..].iter().find(|name| place.has(name)) else { return false };
        evidence.file = place.path(other);
    }
    pipfile::survey(survey, &mut python);
    setup::survey(survey, &mut python);
    requirements::survey(survey, &mut python);
    conda::survey(survey, &mut python);
    runners::survey(survey, &mut python);
    survey.claims.need("python", evidence.clone());
    evidence.text = "installs Python projects".to_owned();
    survey.claims.need_undated("uv", evidence);
    lock(survey, &mut python);
    tests_found::survey(survey, &mut python);
    imports::survey(survey, &mut python);
    system_packages::survey(survey, &python);
    start::survey(survey, &python);
    finish(survey, python);
    true
}

/// `.python-version`, `runtime.txt`.
fn pins(survey: &mut Survey<'_>, place: &Place) {
    for name in [".python-version", "runtime.txt"] {
        let Some(text) = place.has(name).then(|| survey.text(&place.path(name))).flatten() else {
            continue;
        };
        let said = text.lines().find(|(_, said)| !said.trim().is_empty());
        if let Some((line, said)) = said.filter(|(_, said)| !said.trim().starts_with('#')) {
            let evidence = text.evidence(line, said.trim(), Strength::Pin);
            survey.constrain("python", python_name(said).ok_or(()), evidence);
        }
    }
}

/// What pyenv, mise and Heroku understand: `3.12`, `3.12.1`, `python-3.11.4`, `cpython@3.12`,
/// `3.13t`. Other implementations are none of it.
pub(super) fn python_name(said: &str) -> Option<Constraint> {
    let said = said.trim();
    let said = said.strip_prefix("cpython").or(said.strip_prefix("python")).unwrap_or(said);
    let said = said.trim_start_matches(['-', '@', '=']);
    if matches!(said, "latest" | "3.x" | "3") {
        return Constraint::parse("3").ok();
    }
    let said = said.strip_suffix("-dev").unwrap_or(said).trim_end_matches('t');
    match Version::parse(said) {
        Ok(version) => Some(Constraint::prefix(&version)),
        Err(_) => Constraint::from_pep440(said).ok().filter(|c| !c.is_any()),
    }
}

/// The lock file, and who installs.
fn lock(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    let place = python.place;
    let locked = LOCKS.iter().find(|(name, _)| place.has(name));
    let manager = locked.map_or("pip", |(_, manager)| manager);
    python.project.manager = Some(manager.to_owned());
    python.project.lock = locked.map(|(name, _)| place.path(name));
    if place.has("pylock.toml") && locked.is_none() {
        let evidence = Evidence {
            file: place.path("pylock.toml"),
            line: 1,
            text: "pylock.toml".to_owned(),
            strength: Strength::Lock,
        };
        let text =
            "`pylock.toml` is not read: uv installs from the manifests, as of the commit's date";
        survey.note(text, vec![evidence]);
    }
}

impl Python<'_> {
    /// Whether a lock file says what is installed.
    fn is_locked(&self) -> bool {
        LOCKS.iter().any(|(name, _)| self.place.has(name))
    }

    /// Takes the requirements of the build back end.
    fn builds_with(&mut self, survey: &mut Survey<'_>, requirements: &[String], at: &Evidence) {
        self.build_requires.extend(requirements.iter().filter(|r| is_requirement(r)).cloned());
        for requirement in requirements {
            let name = package_name(requirement);
            let named = |names: &[&str]| names.contains(&name.as_str());
            // `mypy` compiles as `mypy[mypyc]`, and only then.
            if named(&VERSION_FROM_GIT) {
                self.project.version_from_git = true;
            }
            if named(&COMPILES) || named(&COMPILES_RUST) {
                let evidence = Evidence { text: format!("builds with {name}"), ..at.clone() };
                self.compiles(survey, evidence.clone());
                if named(&COMPILES_RUST) {
                    survey.claims.need("rust", evidence);
                }
            }
        }
    }

    fn compiles(&mut self, survey: &mut Survey<'_>, evidence: Evidence) {
        self.project.builds_native = true;
        for tool in ["cc", "make"] {
            let evidence = Evidence { strength: Strength::Default, ..evidence.clone() };
            survey.claims.need_undated(tool, evidence);
        }
    }

    /// Whether `package` is among what will be installed.
    fn has_package(&self, package: &str) -> bool {
        let chosen = self.wanted.chosen();
        let wanted = chosen.iter().flat_map(|candidate| &candidate.requirements);
        self.declared.iter().chain(wanted).any(|r| package_name(r) == package)
    }
}

/// `Programming Language :: Python :: 3.12`, one minor version a line.
fn classifiers(survey: &mut Survey<'_>, text: &Text) {
    const PREFIX: &str = "Programming Language :: Python :: 3.";
    for (line, said) in text.lines() {
        let Some((_, minor)) = said.split_once(PREFIX) else { continue };
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(minor) = digits.parse() {
            let constraint = Constraint::prefix(&Version::from_numbers(&[3, minor]));
            let evidence = text.evidence(line, format!("{PREFIX}{minor}"), Strength::Tested);
            survey.claims.claim("python", constraint, evidence);
        }
    }
}

/// Puts what was chosen into the project.
fn finish(survey: &mut Survey<'_>, python: Python<'_>) {
    let Python { place, mut project, wanted, mut inputs, .. } = python;
    for candidate in wanted.chosen() {
        match &candidate.what {
            What::Extra(name) => project.extras.push(name.clone()),
            What::Group(name) => project.groups.push(name.clone()),
            What::File(path) => project.requirements_files.push(path.clone()),
            What::Packages => project.packages.extend(candidate.requirements.iter().cloned()),
        }
    }
    for list in [
        &mut project.extras,
        &mut project.groups,
        &mut project.requirements_files,
        &mut project.packages,
    ] {
        list.sort();
        list.dedup();
    }
    let configuration = ["uv.toml", "pip.conf"];
    inputs.extend(place.present(&MANIFESTS[..4]));
    inputs.extend(place.present(&configuration));
    inputs.extend(project.lock.clone());
    project.manifests = inputs.into_iter().collect();
    survey.projects.push(project);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pythons() {
        let shown = |said| python_name(said).map(|c| c.to_string());
        for (said, expected) in [
            ("3.12", Some("3.12")),
            ("3.12.1\n", Some("3.12.1")),
            ("python-3.11.4", Some("3.11.4")),
            ("cpython@3.12", Some("3.12")),
            ("3.13t", Some("3.13")),
            ("3.14-dev", Some("3.14")),
            ("3.x", Some("3")),
            (">=3.9", Some(">=3.9")),
            ("pypy3.9-7.3", None),
            ("miniconda3-4.7", None),
        ] {
            assert_eq!(shown(said).as_deref(), expected, "{said}");
        }
    }
}
