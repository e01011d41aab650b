//! What runs the tests, and what it installs for them: tox, nox, pytest's configuration.

use toml_edit::{Item, Value};

use super::super::survey::{Survey, Text, Toml, resolve};
use super::super::variables;
use super::super::{Evidence, Strength};
use super::groups::group_requirements;
use super::ini::Ini;
use super::literal::{bracketed, literal};
use super::wanted::{Tier, What, is_requirement};
use super::{Python, python_name, requirements};
use crate::environment::version::{Constraint, Version};

/// References of an INI file to itself go no deeper.
const DEEPEST_REFERENCE: usize = 4;

/// The files of their own.
pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    for (name, section) in [
        ("pytest.ini", "pytest"),
        (".pytest.ini", "pytest"),
        ("tox.ini", "pytest"),
        ("setup.cfg", "tool:pytest"),
    ] {
        let Some(text) = read(survey, python, name) else { continue };
        pytest(python, &text, &Ini::parse(&text.text, 1), section, name.ends_with("pytest.ini"));
    }
    for name in ["tox.ini", "setup.cfg"] {
        if let Some(text) = read(survey, python, name) {
            tox_ini(survey, python, &text, &Ini::parse(&text.text, 1));
        }
    }
    if python.place.has("tox.toml")
        && let Some(toml) = survey.toml(&python.place.path("tox.toml"))
    {
        tox_toml(survey, python, &toml, &[]);
    }
    if let Some(text) = read(survey, python, "noxfile.py") {
        nox(survey, python, &text);
    }
}

fn read(survey: &mut Survey<'_>, python: &Python<'_>, name: &str) -> Option<Text> {
    python.place.has(name).then(|| survey.text(&python.place.path(name))).flatten()
}

/// The tables of `pyproject.toml`, whether it is a project's manifest or not.
pub(super) fn pyproject(survey: &mut Survey<'_>, python: &mut Python<'_>, toml: &Toml) {
    for keys in [&["tool", "pytest", "ini_options"][..], &["tool", "pytest"]] {
        let Some(item) = toml.get(keys) else { continue };
        let evidence = toml.evidence(keys, "tool.pytest", Strength::Manifest);
        python.pytest.get_or_insert(evidence);
        python.pytest_options.push_str(&item.to_string());
    }
    let legacy = ["tool", "tox", "legacy_tox_ini"];
    if let Some(ini) = toml.str(&legacy) {
        let ini = Ini::parse(ini, toml.line(&legacy));
        tox_ini(survey, python, &toml.text, &ini);
    }
    if toml.has(&["tool", "tox"]) {
        tox_toml(survey, python, toml, &["tool", "tox"]);
    }
}

fn pytest(python: &mut Python<'_>, text: &Text, ini: &Ini, section: &str, always: bool) {
    if !ini.has(section) && !always {
        return;
    }
    let evidence =
        text.evidence(text.line_of(&format!("[{section}]")), section, Strength::Manifest);
    python.pytest.get_or_insert(evidence);
    for key in ini.keys(section) {
        for (_, line) in ini.lines(section, key) {
            python.pytest_options.push_str(&format!("{key} = {line}\n"));
        }
    }
}

/// `[testenv]`, and what its environments for tests add.
fn tox_ini(survey: &mut Survey<'_>, python: &mut Python<'_>, text: &Text, ini: &Ini) {
    for key in ["envlist", "env_list"] {
        for (line, said) in ini.lines("tox", key) {
            pythons(survey, text, line, &said);
        }
    }
    // An environment for tests of one kind (`docs-tests`, `min-tests`) has needs of its own,
    // which may contradict the others'.
    let is_tests = |name: &&str| {
        name.strip_prefix("testenv:").is_some_and(|name| Tier::of(name) == Some(Tier::Test))
    };
    let base = ini.has("testenv").then_some("testenv");
    let sections: Vec<String> =
        base.into_iter().chain(ini.sections().filter(is_tests)).map(str::to_owned).collect();
    // What is set for every environment counts for building, too.
    for (line, said) in ["setenv", "set_env"].iter().flat_map(|k| referenced(ini, "testenv", k, 0))
    {
        let Some((name, value)) = unconditional(&said).and_then(|said| said.split_once('=')) else {
            continue;
        };
        let evidence = text.evidence(line, format!("[testenv] {name}"), Strength::Tested);
        set(survey, name.trim(), value.trim(), evidence);
    }
    for section in &sections {
        for (line, said) in referenced(ini, section, "deps", 0) {
            let evidence = text.evidence(line, format!("[{section}] {said}"), Strength::Manifest);
            if let Some(said) = unconditional(&said) {
                dependency(survey, python, said, evidence);
            }
        }
        for (key, is_group) in [("extras", false), ("dependency_groups", true)] {
            for (line, said) in referenced(ini, section, key, 0) {
                let names = unconditional(&said).unwrap_or("");
                for name in names.split([',', ' ']).filter(|name| is_requirement(name)) {
                    let shown = format!("[{section}] {key} {name}");
                    let evidence = text.evidence(line, shown, Strength::Manifest);
                    named_set(survey, python, name, is_group, evidence);
                }
            }
        }
        for (line, said) in referenced(ini, section, "commands", 0) {
            if let Some(said) = unconditional(&said) {
                let evidence =
                    text.evidence(line, format!("[{section}] {said}"), Strength::Manifest);
                python.commands.push((said.to_owned(), evidence));
            }
        }
    }
}

/// A variable that tox sets, if it is one that holds outside of tox.
fn set(survey: &mut Survey<'_>, name: &str, value: &str, evidence: Evidence) {
    if !value.contains(['{', '}']) {
        variables::set(survey, name, value, evidence);
    }
}

/// A value's lines, with `{[section]key}` replaced by what it refers to.
fn referenced(ini: &Ini, section: &str, key: &str, depth: usize) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for (line, said) in ini.lines(section, key) {
        let reference = said
            .trim()
            .strip_prefix("{[")
            .and_then(|rest| rest.strip_suffix('}'))
            .and_then(|rest| rest.split_once(']'));
        match reference {
            Some((section, key)) if depth < DEEPEST_REFERENCE => {
                found.extend(referenced(ini, section, key, depth + 1));
            }
            _ => found.push((line, said)),
        }
    }
    found
}

/// A line without the factors that it holds for. One that holds for some environments only
/// is left out, unless they are those of tests, or all but some.
fn unconditional(line: &str) -> Option<&str> {
    let Some((factors, rest)) = line.split_once(": ") else { return Some(line.trim()) };
    let is_factor = |c: char| c.is_ascii_alphanumeric() || "-_,!.{} ".contains(c);
    if !factors.chars().all(is_factor) {
        return Some(line.trim());
    }
    // What is in braces are alternatives for one factor: none of them holds always.
    let holds = |factor: &str| {
        factor.starts_with('!') || factor == "py" || Tier::of(factor) == Some(Tier::Test)
    };
    let mut groups = factors.split(',').map(str::trim);
    groups.any(|group| group.split('-').all(holds)).then(|| rest.trim())
}

/// One line of tox's `deps`.
fn dependency(survey: &mut Survey<'_>, python: &mut Python<'_>, said: &str, evidence: Evidence) {
    let said = ["{toxinidir}/", "{tox_root}/", "{toxinidir}", "{tox_root}"]
        .iter()
        .fold(said.to_owned(), |said, root| said.replace(root, ""));
    let said = said.trim();
    if said.starts_with("-c") || said.starts_with("--constraint") {
        return;
    }
    if let Some(file) = requirements::included(said) {
        if let Some(path) = resolve(&python.place.root, file).filter(|path| survey.exists(path)) {
            requirements::add(survey, python, Tier::Test, &path);
        }
        return;
    }
    let local = said.trim_start_matches("-e").trim_start();
    if let Some(extras) = local.strip_prefix(".[").and_then(|rest| rest.split(']').next()) {
        for name in extras.split(',') {
            named_set(survey, python, name.trim(), false, evidence.clone());
        }
    } else if is_requirement(said) {
        python.wanted.add(Tier::Test, What::Packages, vec![said.to_owned()], evidence);
    }
}

/// An extra or a group that a runner names. What is in it was read before if the name told;
/// if not, it is read now.
fn named_set(
    survey: &mut Survey<'_>,
    python: &mut Python<'_>,
    name: &str,
    is_group: bool,
    evidence: Evidence,
) {
    let path = python.place.path("pyproject.toml");
    let toml = python.place.has("pyproject.toml").then(|| survey.toml(&path)).flatten();
    let (what, listed) = match (is_group, toml) {
        (true, Some(toml)) => (What::Group(name.to_owned()), group_requirements(&toml, name, 0)),
        (true, None) => return,
        (false, toml) => {
            let keys = ["project", "optional-dependencies", name];
            let listed = toml.map(|toml| toml.strings(&keys)).unwrap_or_default();
            (What::Extra(name.to_owned()), listed)
        }
    };
    python.wanted.add(Tier::Test, what, listed, evidence);
}

/// `py38, py{39,310}-django, 3.13`: what the project is tested with.
fn pythons(survey: &mut Survey<'_>, text: &Text, line: u32, said: &str) {
    for minor in minors(said) {
        let constraint = Constraint::prefix(&Version::from_numbers(&[3, minor]));
        let evidence = text.evidence(line, format!("py3{minor}"), Strength::Tested);
        survey.claims.claim("python", constraint, evidence);
    }
}

/// The minor versions of Python 3 that a list of environments names.
fn minors(said: &str) -> Vec<u64> {
    let mut found = Vec::new();
    // What stands before a brace belongs to every alternative in it.
    let mut before = String::new();
    let mut word = String::new();
    let mut take = |before: &str, word: &str| {
        let factor = format!("{before}{word}");
        let digits = factor.strip_prefix("py").map(|d| d.trim_start_matches('-'));
        let minor = match digits {
            Some(digits) => digits.strip_prefix("3.").or_else(|| digits.strip_prefix('3')),
            None => factor.strip_prefix("3."),
        };
        found.extend(minor.and_then(|minor| minor.trim_end_matches('t').parse::<u64>().ok()));
    };
    for c in said.chars().chain([' ']) {
        match c {
            '{' => before = std::mem::take(&mut word),
            '}' | ',' | '-' | ' ' | '\t' => {
                take(&before, &word);
                word.clear();
                if c != ',' && c != '-' {
                    before.clear();
                }
            }
            c => word.push(c),
        }
    }
    found
}

/// The TOML form of tox's configuration, below `root`.
fn tox_toml(survey: &mut Survey<'_>, python: &mut Python<'_>, toml: &Toml, root: &[&str]) {
    let at = |keys: &[&str]| root.iter().chain(keys).map(|k| (*k).to_owned()).collect::<Vec<_>>();
    let list = at(&["env_list"]);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    for env in toml.strings(&list) {
        pythons(survey, &toml.text, toml.line(&list), &env);
    }
    let envs = at(&["env"]);
    let envs: Vec<&str> = envs.iter().map(String::as_str).collect();
    let mut tables = vec![at(&["env_run_base"])];
    for env in toml.keys(&envs) {
        if Tier::of(&env) == Some(Tier::Test) {
            tables.push(at(&["env", &env]));
        }
    }
    let set_env = at(&["env_run_base", "set_env"]);
    let set_env: Vec<&str> = set_env.iter().map(String::as_str).collect();
    for name in toml.keys(&set_env) {
        let keys = [&set_env[..], &[&name]].concat();
        if let Some(value) = toml.str(&keys) {
            set(
                survey,
                &name,
                value,
                toml.evidence(&keys, format!("tox {name}"), Strength::Tested),
            );
        }
    }
    for table in tables {
        let key = |name: &str| -> Vec<String> {
            table.iter().cloned().chain([name.to_owned()]).collect()
        };
        for (name, is_group) in [("extras", false), ("dependency_groups", true)] {
            let key = key(name);
            let key: Vec<&str> = key.iter().map(String::as_str).collect();
            for said in toml.strings(&key) {
                let evidence =
                    toml.evidence(&key, format!("tox {name} {said}"), Strength::Manifest);
                named_set(survey, python, &said, is_group, evidence);
            }
        }
        let key_deps = key("deps");
        let key_deps: Vec<&str> = key_deps.iter().map(String::as_str).collect();
        for said in toml.strings(&key_deps) {
            let evidence = toml.evidence(&key_deps, format!("tox {said}"), Strength::Manifest);
            dependency(survey, python, &said, evidence);
        }
        let key_commands = key("commands");
        let key_commands: Vec<&str> = key_commands.iter().map(String::as_str).collect();
        for words in commands(toml.get(&key_commands)) {
            let said = words.join(" ");
            let evidence = toml.evidence(&key_commands, format!("tox {said}"), Strength::Manifest);
            python.commands.push((said, evidence));
        }
    }
}

/// An array of arrays of words; substitutions, which are tables, are left out.
fn commands(item: Option<&Item>) -> Vec<Vec<String>> {
    let Some(array) = item.and_then(Item::as_array) else { return Vec::new() };
    array
        .iter()
        .filter_map(Value::as_array)
        .map(|words| words.iter().filter_map(|w| Some(w.as_str()?.to_owned())).collect())
        .collect()
}

/// Sessions of nox that run tests: the literals of `session.install(…)` in them.
fn nox(survey: &mut Survey<'_>, python: &mut Python<'_>, text: &Text) {
    let code = text.text.as_str();
    let mut offset = 0;
    let mut decorators = String::new();
    for block in code.split_inclusive("\ndef ") {
        let begin = offset;
        offset += block.len();
        let name: String =
            block.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let runs_tests =
            begin > 0 && decorators.contains("session") && Tier::of(&name) == Some(Tier::Test);
        if runs_tests {
            let line = text.line_at(begin);
            for said in decorators.split(['"', '\'']).filter(|said| said.starts_with("3.")) {
                if let Some(constraint) = python_name(said) {
                    let evidence =
                        text.evidence(line, format!("session {name} on {said}"), Strength::Tested);
                    survey.claims.claim("python", constraint, evidence);
                }
            }
            session(survey, python, text, begin, block);
        }
        // The decorators of the next function are at the end of this block.
        let last = block.rfind("\n@").map_or("", |at| &block[at..]);
        decorators = last.to_owned();
    }
}

fn session(
    survey: &mut Survey<'_>,
    python: &mut Python<'_>,
    text: &Text,
    begin: usize,
    body: &str,
) {
    for (at, call) in body.match_indices("session.install(") {
        let arguments = bracketed(&body[at + call.len() - 1..]).unwrap_or("");
        let line = text.line_at(begin + at);
        // `session.install(*nox.project.dependency_groups(pyproject, "tests"))`
        for (at, call) in arguments.match_indices("dependency_groups(") {
            let named = bracketed(&arguments[at + call.len() - 1..]).unwrap_or("");
            for group in super::literal::strings(named) {
                let shown = format!("session.install group {group}");
                let evidence = text.evidence(line, shown, Strength::Manifest);
                named_set(survey, python, &group, true, evidence);
            }
        }
        let words = super::literal::outer_strings(arguments);
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let shown = format!("session.install {word}");
            let evidence = text.evidence(line, shown, Strength::Manifest);
            match word {
                "-r" | "--requirement" => {
                    let file = format!("-r {}", words.next().unwrap_or(""));
                    dependency(survey, python, &file, evidence);
                }
                "--group" => {
                    if let Some(group) = words.next() {
                        named_set(survey, python, group, true, evidence);
                    }
                }
                "-c" | "--constraint" | "-e" | "." => {}
                word => dependency(survey, python, word, evidence),
            }
        }
    }
    for (at, call) in body.match_indices("session.run(") {
        let arguments = &body[at + call.len()..];
        if let Some(program) = literal(arguments) {
            let evidence =
                text.evidence(text.line_at(begin + at), "session.run", Strength::Manifest);
            // Only the program: what follows is as often code as it is literal.
            if program == "pytest" || program == "py.test" {
                python.commands.push((program, evidence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_of_tox() {
        assert_eq!(minors("py38, py{39,310}-django{4,5}, py3{11,12}, style"), [8, 9, 10, 11, 12]);
        assert_eq!(minors("{py39,py310}-x 3.13 py-3.14 pypy3 py27 py3.14t"), [9, 10, 13, 14, 14]);
    }

    #[test]
    fn conditions_of_tox() {
        for (line, expected) in [
            ("pytest>=6", Some("pytest>=6")),
            ("py38: importlib-metadata", None),
            ("!docs: pytest", Some("pytest")),
            ("tests: pytest", Some("pytest")),
            ("docs, !tests: pytest", Some("pytest")),
            ("py{38,39}-sqlite_file: x", None),
            ("pkg @ https://example.org/x: y", Some("pkg @ https://example.org/x: y")),
        ] {
            assert_eq!(unconditional(line), expected, "{line}");
        }
    }
}
