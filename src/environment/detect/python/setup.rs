//! `setup.py` and `setup.cfg`, as text.

use super::super::Strength;
use super::super::survey::Survey;
use super::literal::{assigned, bracketed, dictionary, literal, strings};
use super::wanted::{Tier, What, is_requirement, package_name};
use super::{Python, classifiers, ini::Ini};
use crate::environment::version::Constraint;

/// Words in a `setup.py` that compile.
const COMPILES: [&str; 8] = [
    "ext_modules",
    "Extension(",
    "cythonize",
    "cffi_modules",
    "RustExtension",
    "rust_extensions",
    "CMakeExtension",
    "mypycify",
];

/// Words that read the version from git.
const VERSION_FROM_GIT: [&str; 5] =
    ["use_scm_version", "setuptools_scm", "versioneer", "pbr=", "setuptools_git_versioning"];

pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    setup_cfg(survey, python);
    setup_py(survey, python);
}

fn setup_py(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    if !python.place.has("setup.py") {
        return;
    }
    let Some(text) = survey.text(&python.place.path("setup.py")) else { return };
    python.project.installable = true;
    if python.build_requires.is_empty() {
        // What builds where nothing is said (PEP 517).
        python.build_requires.push("setuptools".to_owned());
    }
    classifiers(survey, &text);
    let code = text.text.as_str();
    // Extensions have names too; those are modules, which the tables do not know.
    for (at, value) in assigned(code, "name").chain(assigned(code, "NAME")) {
        let Some(name) = literal(value) else { continue };
        let evidence = text.evidence(text.line_at(at), format!("is {name}"), Strength::Manifest);
        python.names.push((package_name(&name), evidence));
    }
    if let Some((at, said)) =
        assigned(code, "python_requires").find_map(|(at, value)| Some((at, literal(value)?)))
    {
        let shown = format!("python_requires {said:?}");
        let evidence = text.evidence(text.line_at(at), shown, Strength::Manifest);
        survey.constrain("python", Constraint::from_pep440(&said), evidence);
    }
    if let Some(word) = COMPILES.iter().find(|word| code.contains(**word)) {
        let evidence = text.evidence(text.line_of(word), *word, Strength::Default);
        if word.starts_with("Rust") || word.starts_with("rust") {
            survey.claims.need("rust", evidence.clone());
        }
        python.compiles(survey, evidence);
    }
    if VERSION_FROM_GIT.iter().any(|word| code.contains(word)) {
        python.project.version_from_git = true;
    }
    python.reads_requirements = code.contains("requirements") || code.contains(".txt");
    for (_, value) in assigned(code, "install_requires") {
        python.declared.extend(bracketed(value).map(strings).unwrap_or_default());
    }
    for (at, value) in assigned(code, "extras_require") {
        for (extra, listed) in bracketed(value).map(dictionary).unwrap_or_default() {
            if let Some(tier) = Tier::of(&extra) {
                let line = text.line_at(at);
                let evidence = text.evidence(line, format!("extra {extra}"), Strength::Manifest);
                python.wanted.add(tier, What::Extra(extra), listed, evidence);
            }
        }
    }
    for name in ["tests_require", "test_requires", "TESTS_REQUIRE", "test_requirements"] {
        for (at, value) in assigned(code, name) {
            let listed: Vec<String> = bracketed(value)
                .map(strings)
                .or_else(|| literal(value).map(|one| vec![one]))
                .unwrap_or_default()
                .into_iter()
                .filter(|requirement| is_requirement(requirement))
                .collect();
            if !listed.is_empty() {
                let evidence = text.evidence(text.line_at(at), name, Strength::Manifest);
                python.wanted.add(Tier::Test, What::Packages, listed, evidence);
            }
        }
    }
}

fn setup_cfg(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    if !python.place.has("setup.cfg") {
        return;
    }
    let Some(text) = survey.text(&python.place.path("setup.cfg")) else { return };
    let ini = Ini::parse(&text.text, 1);
    if ini.has("metadata") && !python.place.has("setup.py") && !python.place.has("pyproject.toml") {
        python.project.installable = true;
    }
    classifiers(survey, &text);
    if let Some((line, name)) = ini.value("metadata", "name") {
        let evidence = text.evidence(line, format!("is {name}"), Strength::Manifest);
        python.names.push((package_name(&name), evidence));
    }
    if let Some((line, said)) = ini.value("options", "python_requires") {
        let evidence = text.evidence(line, format!("python_requires {said:?}"), Strength::Manifest);
        survey.constrain("python", Constraint::from_pep440(&said), evidence);
    }
    let plain = |lines: Vec<(u32, String)>| -> Vec<String> {
        lines.into_iter().map(|(_, line)| line).filter(|line| is_requirement(line)).collect()
    };
    python.declared.extend(plain(ini.lines("options", "install_requires")));
    let extras: Vec<String> = ini.keys("options.extras_require").map(str::to_owned).collect();
    for extra in extras {
        let lines = ini.lines("options.extras_require", &extra);
        if let (Some(tier), Some((line, _))) = (Tier::of(&extra), lines.first()) {
            let evidence = text.evidence(*line, format!("extra {extra}"), Strength::Manifest);
            python.wanted.add(tier, What::Extra(extra), plain(lines), evidence);
        }
    }
    let tests = ini.lines("options", "tests_require");
    if let Some((line, _)) = tests.first() {
        let evidence = text.evidence(*line, "tests_require", Strength::Manifest);
        python.wanted.add(Tier::Test, What::Packages, plain(tests), evidence);
    }
    if ini.has("versioneer") || ini.has("pbr") {
        python.project.version_from_git = true;
    }
}
