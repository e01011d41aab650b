//! Requirements files, with what they include.

use super::super::Strength;
use super::super::survey::{Place, Survey, join, resolve};
use super::Python;
use super::wanted::{Tier, What, is_requirement};

/// How many files one may lead to.
const MOST_FILES: usize = 64;

/// Names of what an application needs to run.
const RUNTIME: [&str; 2] = ["requirements.txt", "requirements/base.txt"];

/// The requirements files of a project: known names in the root, in `requirements/` and
/// next to the tests.
pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    let mut candidates: Vec<String> = Vec::new();
    for dir in ["", "requirements", "requirements-files", "tests", "test"] {
        if !dir.is_empty() && !python.place.directories.contains(dir) {
            continue;
        }
        let place: Place = match dir {
            "" => python.place.clone(),
            dir => survey.place(&python.place.path(dir)),
        };
        let named = |name: &&String| match dir {
            "" => name.contains("requirements") && name.ends_with(".txt"),
            "tests" | "test" => *name == "requirements.txt",
            _ => name.ends_with(".txt"),
        };
        candidates.extend(place.files.iter().filter(named).map(|name| join(dir, name)));
    }
    for name in candidates {
        let path = python.place.path(&name);
        if python.reads_requirements {
            python.inputs.insert(path.clone());
        }
        if RUNTIME.contains(&name.as_str()) {
            python.project.requirements_files.push(path.clone());
            let requirements = read(survey, python, &path);
            python.declared.extend(requirements);
        } else if let Some(tier) = tier(&name) {
            add(survey, python, tier, &path);
        }
    }
}

/// Takes the file at `path` as wanted.
pub(super) fn add(survey: &mut Survey<'_>, python: &mut Python<'_>, tier: Tier, path: &str) {
    let requirements = read(survey, python, path);
    let evidence = super::super::Evidence {
        file: path.to_owned(),
        line: 1,
        text: path.to_owned(),
        strength: Strength::Manifest,
    };
    python.wanted.add(tier, What::File(path.to_owned()), requirements, evidence);
}

/// `requirements-test.txt`, `dev-requirements.txt`, `requirements/tests.txt`, ….
fn tier(name: &str) -> Option<Tier> {
    if name.starts_with("test") && name.ends_with("/requirements.txt") {
        return Some(Tier::Test);
    }
    let base = name.rsplit('/').next()?.strip_suffix(".txt")?;
    // Any other word makes it a special case of something: `requirements-test-windows.txt`.
    let words = base.split(['-', '_', '.']).filter(|word| !word.starts_with("requirement"));
    let tiers: Option<Vec<Tier>> = words.map(Tier::of).collect();
    tiers?.first().copied()
}

/// The requirements of a file and of those that it includes, all of which become inputs.
pub(super) fn read(survey: &mut Survey<'_>, python: &mut Python<'_>, path: &str) -> Vec<String> {
    let mut requirements = Vec::new();
    let mut left = vec![path.to_owned()];
    let mut seen: Vec<String> = Vec::new();
    while let Some(path) = left.pop() {
        if seen.contains(&path) || seen.len() == MOST_FILES {
            continue;
        }
        seen.push(path.clone());
        let Some(text) = survey.text(&path) else { continue };
        python.inputs.insert(path.clone());
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (_, line) in text.lines() {
            let line = line.split(" #").next().unwrap_or(line).trim();
            match included(line) {
                Some(file) => left.extend(resolve(dir, file)),
                None if is_requirement(line) => requirements.push(line.to_owned()),
                None => {}
            }
        }
    }
    requirements
}

/// The file that `-r file`, `-rfile`, `--requirement=file`, `-c file` names.
pub(super) fn included(line: &str) -> Option<&str> {
    ["--requirement", "--constraint", "-r", "-c"]
        .iter()
        .find_map(|option| line.strip_prefix(option))
        .map(|rest| rest.trim_start_matches(['=', ' ', '\t']).trim())
        .filter(|file| !file.is_empty() && !file.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is_for() {
        for (name, expected) in [
            ("requirements-test.txt", Some(Tier::Test)),
            ("test-requirements.txt", Some(Tier::Test)),
            ("requirements_dev.txt", Some(Tier::Development)),
            ("requirements/tests.txt", Some(Tier::Test)),
            ("tests/requirements.txt", Some(Tier::Test)),
            ("requirements/docs.txt", None),
            ("requirements-docs.txt", None),
            ("requirements/emscripten_test_requirements.txt", None),
        ] {
            assert_eq!(tier(name), expected, "{name}");
        }
        assert_eq!(included("-rbase.txt"), Some("base.txt"));
        assert_eq!(included("--requirement=base.txt"), Some("base.txt"));
        assert_eq!(included("requests"), None);
    }
}
