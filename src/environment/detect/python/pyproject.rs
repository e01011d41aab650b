//! `pyproject.toml`: PEP 621, dependency groups (PEP 735), and the tables of uv, poetry,
//! pdm, hatch and others.

use toml_edit::Item;

use super::super::survey::{Survey, Toml, join, resolve, strings};
use super::super::{Evidence, Strength};
use super::groups::group_requirements;
use super::wanted::{Tier, What, is_requirement, package_name};
use super::{Python, classifiers, requirements, runners};
use crate::environment::version::Constraint;

/// Tables that make the file a project's manifest.
const PROJECT: [&[&str]; 6] = [
    &["project"],
    &["build-system"],
    &["dependency-groups"],
    &["tool", "poetry"],
    &["tool", "uv"],
    &["tool", "pdm"],
];

/// Reads the file; whether it is a project's manifest.
pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) -> bool {
    if !python.place.has("pyproject.toml") {
        return false;
    }
    let Some(toml) = survey.toml(&python.place.path("pyproject.toml")) else { return false };
    runners::pyproject(survey, python, &toml);
    if !PROJECT.iter().any(|keys| toml.has(keys)) {
        return false;
    }
    classifiers(survey, &toml.text);
    project(survey, python, &toml);
    build_system(survey, python, &toml);
    if !python.project.installable && !python.is_locked() {
        // An application: nobody else tells the installer, when it is not installed itself.
        python.project.packages.extend(toml.strings(&["project", "dependencies"]));
    }
    groups(python, &toml);
    poetry(survey, python, &toml);
    uv(survey, python, &toml);
    hatch(python, &toml, &toml, &["tool", "hatch", "envs"]);
    if python.place.has("hatch.toml")
        && let Some(own) = survey.toml(&python.place.path("hatch.toml"))
    {
        hatch(python, &own, &toml, &["envs"]);
    }
    true
}

fn project(survey: &mut Survey<'_>, python: &mut Python<'_>, toml: &Toml) {
    for keys in [&["project", "name"][..], &["tool", "poetry", "name"]] {
        if let Some(name) = toml.str(keys) {
            let evidence = toml.evidence(keys, format!("is {name}"), Strength::Manifest);
            python.names.push((package_name(name), evidence));
        }
    }
    let keys = ["project", "requires-python"];
    if let Some(said) = toml.str(&keys) {
        let evidence =
            toml.evidence(&keys, format!("requires-python {said:?}"), Strength::Manifest);
        survey.constrain("python", Constraint::from_pep440(said), evidence);
    }
    python.declared.extend(toml.strings(&["project", "dependencies"]));
    let mut extras = toml.keys(&["project", "optional-dependencies"]);
    let dynamic = ["tool", "setuptools", "dynamic", "optional-dependencies"];
    extras.extend(toml.keys(&dynamic));
    for extra in extras {
        let Some(tier) = Tier::of(&extra) else { continue };
        let keys = ["project", "optional-dependencies", &extra];
        let mut listed = toml.strings(&keys);
        let [a, b, c, d] = dynamic;
        for file in files(toml, &[a, b, c, d, &extra, "file"]) {
            listed.extend(in_place(survey, python, &file));
        }
        let evidence = toml.evidence(&keys, format!("extra {extra}"), Strength::Manifest);
        python.wanted.add(tier, What::Extra(extra), listed, evidence);
    }
    for key in ["dependencies", "version"] {
        for file in files(toml, &["tool", "setuptools", "dynamic", key, "file"]) {
            let listed = in_place(survey, python, &file);
            if key == "dependencies" {
                python.declared.extend(listed);
            }
        }
    }
}

/// A string or an array of strings.
fn files(toml: &Toml, keys: &[&str]) -> Vec<String> {
    match toml.str(keys) {
        Some(file) => vec![file.to_owned()],
        None => toml.strings(keys),
    }
}

fn in_place(survey: &mut Survey<'_>, python: &mut Python<'_>, file: &str) -> Vec<String> {
    match resolve(&python.place.root, file) {
        Some(path) => requirements::read(survey, python, &path),
        None => Vec::new(),
    }
}

fn build_system(survey: &mut Survey<'_>, python: &mut Python<'_>, toml: &Toml) {
    let package = toml.get(&["tool", "uv", "package"]).and_then(Item::as_bool);
    let poetry = toml.get(&["tool", "poetry", "package-mode"]).and_then(Item::as_bool);
    let declared = toml.has(&["build-system"]);
    python.project.installable = package.or(poetry).unwrap_or(declared);
    let keys = ["build-system", "requires"];
    let evidence = toml.evidence(&keys, "build-system.requires", Strength::Default);
    let requires = toml.strings(&keys);
    // A library that is compiled only on demand names its compiler among other things; mypyc
    // is the one that hides behind another package's name.
    let requires: Vec<String> =
        requires.into_iter().filter(|r| package_name(r) != "mypy" || r.contains("mypyc")).collect();
    python.builds_with(survey, &requires, &evidence);
    let extension = ["tool", "setuptools", "ext-modules"];
    if toml.has(&extension) {
        let evidence = toml.evidence(&extension, "ext-modules", Strength::Default);
        python.compiles(survey, evidence);
    }
    let pdm_scm = toml.str(&["tool", "pdm", "version", "source"]) == Some("scm");
    let flags =
        [&["tool", "setuptools_scm"][..], &["tool", "versioneer"], &["tool", "versioningit"]];
    if pdm_scm || flags.iter().any(|keys| toml.has(keys)) {
        python.project.version_from_git = true;
    }
    if let Some(path) = toml.str(&["tool", "hatch", "version", "path"]) {
        python.inputs.extend(resolve(&python.place.root, path));
    }
}

fn groups(python: &mut Python<'_>, toml: &Toml) {
    for group in toml.keys(&["dependency-groups"]) {
        let Some(tier) = Tier::of(&group) else { continue };
        let listed = group_requirements(toml, &group, 0);
        let keys = ["dependency-groups", &group];
        let evidence = toml.evidence(&keys, format!("group {group}"), Strength::Manifest);
        python.wanted.add(tier, What::Group(group), listed, evidence);
    }
    let pdm = ["tool", "pdm", "dev-dependencies"];
    for group in toml.keys(&pdm) {
        let [a, b, c] = pdm;
        let keys = [a, b, c, &group];
        let tier = Tier::of(&group).unwrap_or(Tier::Development);
        let listed = requirements_of(toml.strings(&keys));
        let evidence = toml.evidence(&keys, format!("pdm group {group}"), Strength::Manifest);
        python.wanted.add(tier, What::Packages, listed, evidence);
    }
    let script = ["tool", "pdm", "scripts", "test"];
    let command = [&script[..], &["tool", "pdm", "scripts", "test", "cmd"]]
        .into_iter()
        .find_map(|keys| toml.str(keys));
    if let Some(command) = command {
        let shown = format!("pdm script {command:?}");
        let evidence = toml.evidence(&script, shown, Strength::Manifest);
        python.commands.push((command.to_owned(), evidence));
    }
    let ci = ["tool", "cibuildwheel", "test-requires"];
    let listed = requirements_of(match toml.str(&ci) {
        Some(one) => one.split_whitespace().map(str::to_owned).collect(),
        None => toml.strings(&ci),
    });
    if !listed.is_empty() {
        let evidence = toml.evidence(&ci, "cibuildwheel test-requires", Strength::Tested);
        python.wanted.add(Tier::Test, What::Packages, listed, evidence);
    }
}

fn requirements_of(listed: Vec<String>) -> Vec<String> {
    listed.into_iter().filter(|requirement| is_requirement(requirement)).collect()
}

/// Poetry's own tables, for manifests that are not (only) PEP 621.
fn poetry(survey: &mut Survey<'_>, python: &mut Python<'_>, toml: &Toml) {
    let keys = ["tool", "poetry", "dependencies", "python"];
    if let Some(said) = toml.str(&keys) {
        let evidence = toml.evidence(&keys, format!("poetry python {said:?}"), Strength::Manifest);
        survey.constrain("python", Constraint::parse(said), evidence);
    }
    let locked = python.place.has("poetry.lock") && !python.place.has("uv.lock");
    let main = poetry_requirements(survey, toml, &["tool", "poetry", "dependencies"], locked);
    python.declared.extend(main.iter().cloned());
    if !python.project.installable {
        // Nobody else tells the installer, when the project itself is not installed.
        python.project.packages.extend(main);
    }
    for extra in toml.keys(&["tool", "poetry", "extras"]) {
        if let Some(tier) = Tier::of(&extra) {
            let keys = ["tool", "poetry", "extras", &extra];
            let evidence = toml.evidence(&keys, format!("extra {extra}"), Strength::Manifest);
            let listed = toml.strings(&keys);
            python.wanted.add(tier, What::Extra(extra), listed, evidence);
        }
    }
    let old = ["tool", "poetry", "dev-dependencies"];
    if toml.has(&old) {
        let listed = poetry_requirements(survey, toml, &old, locked);
        let evidence = toml.evidence(&old, "poetry dev-dependencies", Strength::Manifest);
        python.wanted.add(Tier::Development, What::Packages, listed, evidence);
    }
    for group in toml.keys(&["tool", "poetry", "group"]) {
        let Some(tier) = Tier::of(&group) else { continue };
        let keys = ["tool", "poetry", "group", &group, "dependencies"];
        let listed = poetry_requirements(survey, toml, &keys, locked);
        let evidence = toml.evidence(&keys, format!("poetry group {group}"), Strength::Manifest);
        // A lock file knows them by their group.
        let what = if locked { What::Group(group) } else { What::Packages };
        python.wanted.add(tier, what, listed, evidence);
    }
}

/// A table of poetry as requirements; what has no version (paths, git) becomes a note, where
/// no lock file has it.
fn poetry_requirements(
    survey: &mut Survey<'_>,
    toml: &Toml,
    keys: &[&str],
    locked: bool,
) -> Vec<String> {
    let mut listed = Vec::new();
    for name in toml.keys(keys) {
        if name == "python" || !is_requirement(&name) {
            continue;
        }
        let at: Vec<&str> = keys.iter().copied().chain([name.as_str()]).collect();
        let Some(item) = toml.get(&at) else { continue };
        if item.get("optional").and_then(Item::as_bool) == Some(true) {
            continue;
        }
        let version = item.as_str().or_else(|| item.get("version").and_then(Item::as_str));
        let Some(version) = version.and_then(poetry_version) else {
            if locked {
                continue;
            }
            let evidence = toml.evidence(&at, name.clone(), Strength::Manifest);
            survey.note(
                format!("poetry's dependency {name} has no plain version and is left out"),
                vec![evidence],
            );
            continue;
        };
        let extras = item.get("extras").map(strings).unwrap_or_default();
        let extras =
            if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
        let marker = item.get("markers").and_then(Item::as_str);
        let marker = marker.map_or(String::new(), |m| format!(" ; {m}"));
        listed.push(format!("{name}{extras}{version}{marker}"));
    }
    listed
}

/// `^1.2` → `>=1.2,<2`; what PEP 440 says already stays.
fn poetry_version(said: &str) -> Option<String> {
    let said = said.trim();
    if said == "*" {
        return Some(String::new());
    }
    if said.contains("||") {
        return None;
    }
    let plain = |c: char| c.is_ascii_digit() || ".*<>=!~, abcr".contains(c);
    if !said.starts_with(['^', '~']) || said.starts_with("~=") {
        let exact = said.starts_with(|c: char| c.is_ascii_digit());
        let wild = if exact { "==" } else { "" };
        return said.chars().all(plain).then(|| format!("{wild}{said}"));
    }
    let range = Constraint::parse(said).ok()?;
    let text = range.to_string();
    // A prefix is written as one, everything else as two bounds.
    Some(match text.split_once(' ') {
        Some((low, high)) => format!("{low},{high}"),
        None => format!("=={text}.*"),
    })
}

fn uv(survey: &mut Survey<'_>, python: &mut Python<'_>, toml: &Toml) {
    let keys = ["tool", "uv", "required-version"];
    if let Some(said) = toml.str(&keys) {
        let evidence =
            toml.evidence(&keys, format!("required-version {said:?}"), Strength::Manifest);
        survey.constrain("uv", Constraint::from_pep440(said), evidence);
    }
    let keys = ["tool", "uv", "dev-dependencies"];
    if toml.has(&keys) {
        let evidence = toml.evidence(&keys, "uv dev-dependencies", Strength::Manifest);
        let listed = requirements_of(toml.strings(&keys));
        python.wanted.add(Tier::Development, What::Packages, listed, evidence);
    }
    for pattern in toml.strings(&["tool", "uv", "workspace", "members"]) {
        for dir in survey.members(&python.place.root, &pattern, "pyproject.toml") {
            let path = join(&dir, "pyproject.toml");
            // They are installed together, so what builds one of them is needed.
            if let Some(member) = survey.toml(&path) {
                let keys = ["build-system", "requires"];
                let evidence = member.evidence(&keys, "build-system.requires", Strength::Default);
                python.builds_with(survey, &member.strings(&keys), &evidence);
            }
            python.inputs.insert(path);
        }
    }
    for name in toml.keys(&["tool", "uv", "sources"]) {
        let path = toml.str(&["tool", "uv", "sources", &name, "path"]);
        if let Some(dir) = path.and_then(|path| resolve(&python.place.root, path)) {
            let manifest = join(&dir, "pyproject.toml");
            python.inputs.extend(Some(manifest).filter(|path| survey.exists(path)));
        }
    }
}

/// Environments of hatch that run tests: those below `root` in `toml`, which name extras and
/// groups of the `manifest`.
fn hatch(python: &mut Python<'_>, toml: &Toml, manifest: &Toml, root: &[&str]) {
    for env in toml.keys(root) {
        let tier = match env.as_str() {
            "default" => Tier::Development,
            env => match Tier::of(env) {
                Some(tier) => tier,
                None => continue,
            },
        };
        let at = |key| root.iter().copied().chain([env.as_str(), key]).collect::<Vec<&str>>();
        let listed = ["dependencies", "extra-dependencies"]
            .iter()
            .flat_map(|key| requirements_of(toml.strings(&at(key))))
            .collect::<Vec<_>>();
        let evidence = |key| -> Evidence {
            toml.evidence(&at(key), format!("hatch environment {env}"), Strength::Manifest)
        };
        if !listed.is_empty() {
            python.wanted.add(tier, What::Packages, listed, evidence("dependencies"));
        }
        for extra in toml.strings(&at("features")) {
            let listed = manifest.strings(&["project", "optional-dependencies", &extra]);
            python.wanted.add(tier, What::Extra(extra), listed, evidence("features"));
        }
        for group in toml.strings(&at("dependency-groups")) {
            let listed = group_requirements(manifest, &group, 0);
            python.wanted.add(tier, What::Group(group), listed, evidence("dependency-groups"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_poetry() {
        for (said, expected) in [
            ("^1.2", Some(">=1.2,<2")),
            ("^7", Some("==7.*")),
            ("~1.2", Some("==1.2.*")),
            ("^0.3.1", Some(">=0.3.1,<0.4")),
            (">=1,<3", Some(">=1,<3")),
            ("1.4.0", Some("==1.4.0")),
            ("1.4.*", Some("==1.4.*")),
            ("*", Some("")),
            ("^1 || ^2", None),
        ] {
            assert_eq!(poetry_version(said).as_deref(), expected, "{said}");
        }
    }
}
