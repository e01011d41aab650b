//! Which tests there are, what runs them, and which of its plugins nobody declared.

use super::super::commands::Purpose;
use super::super::survey::{Place, Survey, resolve};
use super::super::{Evidence, Strength};
use super::Python;
use super::wanted::{Tier, What, package_name};

/// How many test files are looked into.
const MOST_FILES: usize = 12;
/// How many packages are looked into for tests of their own.
const MOST_PACKAGES: usize = 24;

/// What in pytest's configuration needs which plugin.
const PLUGINS: [(&str, &str); 14] = [
    ("--cov", "pytest-cov"),
    ("asyncio_mode", "pytest-asyncio"),
    ("asyncio_default", "pytest-asyncio"),
    ("-n auto", "pytest-xdist"),
    ("-nauto", "pytest-xdist"),
    ("--numprocesses", "pytest-xdist"),
    ("--dist", "pytest-xdist"),
    ("--benchmark", "pytest-benchmark"),
    ("--timeout", "pytest-timeout"),
    ("timeout =", "pytest-timeout"),
    ("DJANGO_SETTINGS_MODULE", "pytest-django"),
    ("--reruns", "pytest-rerunfailures"),
    ("--mypy", "pytest-mypy"),
    ("--randomly", "pytest-randomly"),
];

/// What test files show.
#[derive(Default)]
struct Tests {
    /// A file that imports pytest, or a `conftest.py`.
    pytest: Option<Evidence>,
    /// A file of tests.
    any: Option<Evidence>,
    /// Where unittest begins, as its arguments.
    discover: Option<String>,
}

pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    let mut tests = look(survey, python.place);
    if tests.any.is_none() {
        tests.any = configured(survey, python);
    }
    let command = python.commands.iter().find(|(command, _)| runs_pytest(command)).cloned();
    let paths = command.as_ref().map(|(command, _)| paths(survey, python.place, command));
    let pytest = python
        .pytest
        .clone()
        .or(command.map(|(_, evidence)| evidence))
        .or(tests.pytest)
        .or_else(|| declares_pytest(python));
    if let Some(evidence) = pytest.filter(|_| tests.any.is_some()) {
        assume(python, "pytest", &evidence);
        for (option, plugin) in PLUGINS {
            if python.pytest_options.contains(option) {
                assume(python, plugin, &evidence);
            }
        }
        let command = ["pytest".to_owned()].into_iter().chain(paths.unwrap_or_default());
        let command = command.collect::<Vec<_>>().join(" ");
        survey.commands.add(Purpose::Test, python.place, &command, evidence);
    } else if let Some(path) = runner(survey, python.place) {
        let evidence = named(python.place, path);
        survey.commands.add(Purpose::Test, python.place, &format!("python {path}"), evidence);
    } else if python.place.has("manage.py") {
        let evidence = named(python.place, "manage.py");
        survey.commands.add(Purpose::Test, python.place, "python manage.py test", evidence);
    } else if let Some((command, evidence)) =
        python.commands.iter().find(|(command, _)| is_plain(unwrapped(command)))
    {
        let command = unwrapped(command);
        survey.commands.add(Purpose::Test, python.place, command, evidence.clone());
    } else if let Some(evidence) = tests.any {
        let discover = tests.discover.unwrap_or_default();
        let command = format!("python -m unittest{discover}");
        survey.commands.add(Purpose::Test, python.place, &command, evidence);
    }
    others(survey, python);
}

/// pytest's own word for where the tests are (`testpaths`), if there is something.
fn configured(survey: &Survey<'_>, python: &Python<'_>) -> Option<Evidence> {
    let (_, said) = python.pytest_options.split_once("testpaths")?;
    let said = said.trim_start_matches([' ', '=']).lines().next()?;
    let mut paths = said.split(['"', '\'', '[', ']', ',', ' ']).filter(|path| !path.is_empty());
    let exists = |path: &str| {
        let path = resolve(&python.place.root, path);
        path.is_some_and(|path| survey.exists(&path) || !survey.place(&path).files.is_empty())
    };
    paths.any(exists).then(|| python.pytest.clone()).flatten()
}

/// How it is built.
fn others(survey: &mut Survey<'_>, python: &Python<'_>) {
    let place = python.place;
    if python.project.installable {
        let name = if place.has("pyproject.toml") { "pyproject.toml" } else { "setup.py" };
        survey.commands.add(Purpose::Build, place, "uv build", named(place, name));
    }
}

fn named(place: &Place, name: &str) -> Evidence {
    Evidence {
        file: place.path(name),
        line: 1,
        text: name.to_owned(),
        strength: Strength::Manifest,
    }
}

/// A program of the project's own that runs its tests, by the name that is usual for one.
fn runner(survey: &Survey<'_>, place: &Place) -> Option<&'static str> {
    // Of that name there are modules of tests, too; those that can be started say so.
    let is_program = |name: &str| {
        let text = place.has(name).then(|| survey.head(&place.path(name))).flatten();
        text.is_some_and(|text| {
            text.text.contains("__main__") && !text.text.contains("\ndef test_")
        })
    };
    if is_program("test.py") {
        return Some("test.py");
    }
    ["runtests.py", "tests/runtests.py", "test/runtests.py"].into_iter().find(|path| {
        match path.split_once('/') {
            None => place.has(path),
            Some((dir, _)) => place.directories.contains(dir) && survey.exists(&place.path(path)),
        }
    })
}

fn runs_pytest(command: &str) -> bool {
    command.split_whitespace().any(|word| matches!(word, "pytest" | "py.test"))
}

/// Which of the project's directories and files a command of tox runs the tests of: its words after
/// `pytest` that are there. What it says otherwise is how tox reports.
fn paths(survey: &Survey<'_>, place: &Place, command: &str) -> Vec<String> {
    let words = command.split_whitespace();
    let words = words.skip_while(|word| !matches!(*word, "pytest" | "py.test")).skip(1);
    let plain = |word: &str| {
        // What the user would give instead (`{posargs:tests}`).
        let word = word.trim_start_matches("{posargs:").trim_end_matches('}');
        let is_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        (!word.starts_with('-') && word.chars().all(is_path)).then(|| word.to_owned())
    };
    let there = |word: &String| {
        resolve(&place.root, word).is_some_and(|path| {
            let below = survey.place(&path);
            survey.exists(&path) || !below.files.is_empty() || !below.directories.is_empty()
        })
    };
    words.filter_map(plain).filter(there).collect()
}

/// A command without the manager that would start it in the project's environment: every
/// command is.
fn unwrapped(command: &str) -> &str {
    let wrappers = ["poetry run ", "pdm run ", "pipenv run ", "uv run ", "hatch run "];
    let rest = wrappers.iter().find_map(|wrapper| command.strip_prefix(wrapper));
    // What begins with a dash is the manager's.
    rest.map(str::trim_start).filter(|rest| !rest.starts_with('-')).unwrap_or(command)
}

/// A command of tox that means the same outside of tox.
fn is_plain(command: &str) -> bool {
    let program = command.split_whitespace().next();
    let known = matches!(
        program,
        Some("python" | "make" | "nosetests" | "stestr" | "green" | "zope-testrunner")
    );
    known && !command.contains(['{', '\\', '$'])
}

fn declares_pytest(python: &Python<'_>) -> Option<Evidence> {
    let chosen = python.wanted.chosen();
    let set = chosen
        .into_iter()
        .find(|candidate| candidate.requirements.iter().any(|r| package_name(r) == "pytest"));
    set.map(|candidate| candidate.evidence.clone())
}

/// Adds a requirement that is evidently used, where nothing that is installed has its package.
pub(super) fn assume(python: &mut Python<'_>, requirement: &str, evidence: &Evidence) {
    if !python.has_package(&package_name(requirement)) {
        python.wanted.candidates.push(super::wanted::Candidate {
            // Beside whatever tier was chosen, not instead of it.
            tier: python.wanted.chosen().first().map_or(Tier::Test, |candidate| candidate.tier),
            what: What::Packages,
            requirements: vec![requirement.to_owned()],
            evidence: evidence.clone(),
        });
    }
}

/// Looks at the first test files of the usual places.
fn look(survey: &mut Survey<'_>, place: &Place) -> Tests {
    let mut tests = Tests::default();
    if place.has("conftest.py") {
        tests.pytest = Some(named(place, "conftest.py"));
    }
    files(survey, place, &mut tests);
    for name in ["tests", "test", "testing", "unittests"] {
        if place.directories.contains(name) {
            let below = survey.place(&place.path(name));
            let had = tests.any.is_some();
            directory(survey, &below, &mut tests);
            if !had && tests.any.is_some() && !below.has("__init__.py") {
                tests.discover.get_or_insert(format!(" discover -s {name}"));
            }
        }
    }
    if tests.any.is_none() {
        packages(survey, place, &mut tests);
    }
    tests
}

/// A directory of tests and, where it has none itself, the directories in it.
fn directory(survey: &mut Survey<'_>, place: &Place, tests: &mut Tests) {
    files(survey, place, tests);
    if tests.any.is_none() || tests.pytest.is_none() {
        for name in place.directories.iter().filter(|name| !name.starts_with(['.', '_'])).take(8) {
            let below = survey.place(&place.path(name));
            files(survey, &below, tests);
        }
    }
}

/// Tests beside and inside the packages: `py/tests`, `pkg/tests`, `src/pkg/_tests`.
fn packages(survey: &mut Survey<'_>, place: &Place, tests: &mut Tests) {
    let mut parents = vec![place.clone()];
    for name in ["src", "lib", "python", "py"] {
        if place.directories.contains(name) {
            parents.push(survey.place(&place.path(name)));
        }
    }
    let mut left = MOST_PACKAGES;
    for parent in parents {
        // In the root they were looked for before.
        for name in ["tests", "test"] {
            if parent.root != place.root && parent.directories.contains(name) {
                let below = survey.place(&parent.path(name));
                directory(survey, &below, tests);
            }
        }
        for name in &parent.directories {
            if name.starts_with('.') || left == 0 {
                continue;
            }
            left -= 1;
            let package = survey.place(&parent.path(name));
            if !package.has("__init__.py") {
                continue;
            }
            files(survey, &package, tests);
            for name in ["tests", "test", "_tests"] {
                if package.directories.contains(name) {
                    let below = survey.place(&package.path(name));
                    let had = tests.any.is_some();
                    directory(survey, &below, tests);
                    if !had && tests.any.is_some() && !parent.is_root() {
                        // From the root, unittest looks into packages only.
                        let (tested, top) = (&below.root, &parent.root);
                        tests.discover = Some(format!(" discover -s {tested} -t {top}"));
                    }
                }
            }
        }
    }
}

fn files(survey: &mut Survey<'_>, place: &Place, tests: &mut Tests) {
    if place.has("conftest.py") && !place.is_root() {
        tests.pytest.get_or_insert(named(place, "conftest.py"));
    }
    let is_test = |name: &&String| {
        name.strip_suffix(".py").is_some_and(|stem| {
            stem.starts_with("test") || stem.ends_with("_test") || stem.ends_with("_tests")
        })
    };
    for name in place.files.iter().filter(is_test).take(MOST_FILES) {
        tests.any.get_or_insert(named(place, name));
        if tests.pytest.is_some() {
            return;
        }
        let Some(text) = survey.head(&place.path(name)) else { continue };
        let import = text.lines().find(|(_, line)| {
            let line = line.trim_start();
            line.starts_with("import pytest")
                || line.starts_with("from pytest")
                || line.starts_with("from _pytest")
        });
        if let Some((line, said)) = import {
            tests.pytest = Some(text.evidence(line, said.trim(), Strength::Manifest));
        } else if !text.text.contains("unittest") && text.text.contains("\ndef test") {
            // Functions of tests are nothing to unittest.
            let line = text.line_of("\ndef test") + 1;
            tests.pytest = Some(text.evidence(line, "def test…", Strength::Manifest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_tox() {
        assert!(runs_pytest("coverage run -m pytest {posargs}"));
        assert!(!runs_pytest("python -m unittest"));
        assert!(is_plain("python -m unittest discover"));
        assert_eq!(unwrapped("poetry run python -m unittest"), "python -m unittest");
        assert_eq!(unwrapped("uv run --with x pytest"), "uv run --with x pytest");
        assert!(!is_plain("python run.py {posargs}") && !is_plain("sphinx-build docs"));
    }
}
