//! Which libraries of the system the requirements are built against or open.

use std::collections::BTreeMap;

use super::super::services;
use super::super::survey::{Survey, Text};
use super::super::system::{self, Packages};
use super::super::types::{Evidence, Strength};
use super::Python;
use super::wanted::package_name;

/// Lock files that say which files each package has.
const LOCKS: [&str; 3] = ["uv.lock", "poetry.lock", "pdm.lock"];

/// Takes what the project itself, its requirements and its lock file ask for.
pub(super) fn survey(survey: &mut Survey<'_>, python: &Python<'_>) {
    // Here it is built from source, whatever its users get.
    for (name, evidence) in &python.names {
        system::package(survey, Packages::Python, name, evidence);
        system::package(survey, Packages::PythonSource, name, evidence);
    }
    let mut left: BTreeMap<String, Evidence> = BTreeMap::new();
    let chosen = python.wanted.chosen();
    let wanted = chosen.iter().flat_map(|candidate| &candidate.requirements);
    let mut files = python.place.present(&["pyproject.toml", "setup.cfg", "setup.py", "Pipfile"]);
    files.extend(python.inputs.iter().cloned());
    for requirement in python.declared.iter().chain(wanted) {
        let name = package_name(requirement);
        services::client(
            survey,
            &name,
            &Evidence {
                file: files.first().cloned().unwrap_or_default(),
                line: 1,
                text: requirement.clone(),
                strength: Strength::Manifest,
            },
        );
        let extras = extras(requirement);
        let with = extras.iter().map(|extra| format!("{name}[{extra}]"));
        let Some(known) = with.chain([name.clone()]).find(|n| system::knows(Packages::Python, n))
        else {
            continue;
        };
        left.insert(
            known,
            Evidence {
                file: String::new(),
                line: 1,
                text: requirement.clone(),
                strength: Strength::Manifest,
            },
        );
    }
    // Where each stands; what no file names came from several at once.
    for path in &files {
        if left.is_empty() {
            break;
        }
        let Some(text) = survey.text(path) else { continue };
        for (line, said) in text.lines() {
            let said = said.trim().trim_matches(['"', '\'', ',', '-', ' ']);
            let name = package_name(said);
            let is = |known: &str| known.split('[').next() == Some(name.as_str());
            let Some(known) = left.keys().find(|known| is(known)).cloned() else { continue };
            left.remove(&known);
            let evidence = text.evidence(line, said, Strength::Manifest);
            system::package(survey, Packages::Python, &known, &evidence);
        }
    }
    for (known, evidence) in left {
        let file = python.place.path("pyproject.toml");
        system::package(survey, Packages::Python, &known, &Evidence { file, ..evidence });
    }
    for name in LOCKS {
        if python.place.has(name)
            && let Some(text) = survey.text(&python.place.path(name))
        {
            locked(survey, &text);
        }
    }
}

/// `psycopg[binary,pool]>=3`: what stands in brackets.
fn extras(requirement: &str) -> Vec<String> {
    let inside = requirement.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let all = inside.map_or("", |(inside, _)| inside).split(',');
    all.map(|extra| extra.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).collect()
}

/// What a lock file has of a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wheel {
    None,
    /// Of Python alone: what it opens when it runs is not in it.
    Pure,
    /// With what it needs.
    Whole,
}

/// Takes the packages of a lock file for which it has no wheel that brings everything.
fn locked(survey: &mut Survey<'_>, text: &Text) {
    let machine = survey.platform.arch.clone();
    let mut all: Vec<(u32, &str, Wheel)> = Vec::new();
    for (line, said) in text.lines() {
        if let Some(name) = said.strip_prefix("name = \"") {
            all.push((line, name.trim_end_matches('"'), Wheel::None));
        }
        let whole = said.contains(".whl") && said.contains("linux") && said.contains(&machine);
        if let Some((_, _, wheel)) = all.last_mut() {
            match whole {
                true => *wheel = Wheel::Whole,
                false if *wheel == Wheel::None && said.contains("-any.whl") => *wheel = Wheel::Pure,
                false => {}
            }
        }
    }
    // Poetry before 1.1 lists files elsewhere: a lock without any wheel says nothing.
    if all.iter().all(|(.., wheel)| *wheel == Wheel::None) {
        return;
    }
    let has = |wanted: &str| all.iter().any(|(_, name, _)| *name == wanted);
    for (line, name, wheel) in all.iter().filter(|(.., wheel)| *wheel != Wheel::Whole) {
        // `psycopg` loads what `psycopg-binary` brings.
        if has(&format!("{name}-binary")) {
            continue;
        }
        let name = package_name(name);
        let evidence = text.evidence(*line, name.clone(), Strength::Lock);
        system::package(survey, Packages::Python, &name, &evidence);
        if *wheel == Wheel::None {
            let said = format!("{name}: no wheel in the lock fits");
            let evidence = text.evidence(*line, said, Strength::Lock);
            system::package(survey, Packages::PythonSource, &name, &evidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extras_of_requirements() {
        assert_eq!(extras("psycopg[binary, pool]>=3"), ["binary", "pool"]);
        assert!(extras("psycopg2").is_empty());
    }
}
