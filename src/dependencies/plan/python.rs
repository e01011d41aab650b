//! uv, for projects with and without a `uv.lock`, and for lock files that it does not read.

use std::collections::BTreeSet;

use super::{CACHE, Draft, Otherwise, Step, end_of_day, join, locked, strings};
use crate::config::Addresses;
use crate::dependencies::WORKSPACE;
use crate::environment::detect::Project;
use crate::environment::files::Files;

/// Files that decide how a Python project is built and installed.
const MANIFESTS: [&str; 10] = [
    "Pipfile",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "MANIFEST.in",
    "uv.toml",
    "uv.lock",
    "constraints.txt",
    "pip.conf",
    ".python-version",
];

/// Makes the project's own environment, of the Python that is first on the path: uv's choice would
/// be what the strictest of the dependency groups asks for. Scripts that find their interpreter
/// beside themselves need no rewriting.
pub const VENV: [&str; 7] =
    ["uv", "venv", "--no-project", "--python", "python3", "--relocatable", ".venv"];
/// That environment's interpreter.
pub const PYTHON: &str = ".venv/bin/python";

pub(super) fn draft(
    project: &Project,
    manager: &str,
    source: &dyn Files,
    addresses: &Addresses,
) -> Option<Draft> {
    let mut draft = Draft {
        directories: vec![join(&project.root, ".venv")],
        caches: vec!["uv".into()],
        // Compiled modules, `*.egg-info`, a `_version.py` that the build writes.
        outputs: true,
        ..Draft::default()
    };
    for dir in ["", project.root.as_str()] {
        draft.inputs.extend(MANIFESTS.map(|name| join(dir, name)));
    }
    let mut seen = BTreeSet::new();
    for file in &project.requirements_files {
        requirements(file, source, &mut seen);
    }
    draft.inputs.extend(seen);
    for (name, value) in [
        ("UV_CACHE_DIR", format!("{CACHE}/uv")),
        ("UV_DEFAULT_INDEX", format!("{}/simple", addresses.pypi)),
        // The cache is another mount, and captured files are to be nobody else's.
        ("UV_LINK_MODE", "copy".into()),
        ("UV_PYTHON_DOWNLOADS", "never".into()),
        ("UV_NO_PROGRESS", "1".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        // The same wheel from the same source.
        ("SOURCE_DATE_EPOCH", "315532800".into()),
    ] {
        draft.env(name, value);
    }
    // `uv pip install` by hand goes into the project's own environment.
    draft.vars.insert("VIRTUAL_ENV".into(), join("{workspace}", &join(&project.root, ".venv")));
    draft.steps.push(Step::new(VENV));
    match manager {
        "uv" => synced(project, source, &mut draft),
        "pip" => unlocked(project, &mut draft),
        "poetry" | "pdm" | "pipenv" => pinned(project, manager, source, &mut draft),
        _ => return None,
    }
    (draft.steps.len() > 1 || draft.disagrees.is_some()).then_some(draft)
}

fn synced(project: &Project, source: &dyn Files, draft: &mut Draft) {
    // Refuses a lock that disagrees with the manifest.
    let mut argv = strings(["uv", "sync", "--locked"]);
    let manifest = source.read(&join(&project.root, "pyproject.toml")).unwrap_or_default();
    if String::from_utf8_lossy(&manifest).contains("[tool.uv.workspace]") {
        argv.push("--all-packages".into());
    }
    // Where the project says which groups its tests need, those and not what else a
    // developer has (checkers, documentation).
    if !project.groups.is_empty() {
        argv.push("--no-default-groups".into());
    }
    for (flag, names) in [("--extra", &project.extras), ("--group", &project.groups)] {
        argv.extend(names.iter().flat_map(|name| strings([flag, name])));
    }
    draft.steps.push(Step { argv, otherwise: Vec::new() });
    if !project.packages.is_empty() {
        let packages: Vec<&str> = project.packages.iter().map(String::as_str).collect();
        draft.steps.push(dated(project, &packages));
    }
}

/// Where the manager itself is, and what it is started by.
const TOOLS: &str = ".zagi/tools";

/// What a lock file pins that another manager wrote; then the project, what nobody pinned,
/// and that manager.
fn pinned(project: &Project, manager: &str, source: &dyn Files, draft: &mut Draft) {
    let found = locked::read(project, manager, source);
    draft.inputs.extend(project.lock.clone());
    draft.disagrees = found.disagrees;
    let at = |name: &str| join(&project.root, name);
    let install = ["uv", "pip", "install", "--python", ".venv/bin/python", "--no-deps"];
    for (name, text, checked) in
        [("hashed.txt", found.hashed, true), ("unhashed.txt", found.unhashed, false)]
    {
        if text.is_empty() {
            continue;
        }
        let mut argv = strings(install);
        argv.extend(checked.then(|| "--require-hashes".to_owned()));
        for index in &found.indexes {
            argv.push(format!("--extra-index-url={index}"));
        }
        // Which of them has a file is of no consequence: the hash says what it is.
        if !found.indexes.is_empty() {
            argv.push("--index-strategy=unsafe-best-match".into());
        }
        // Beside the manifest, since paths in it are relative to it.
        let file = format!(".zagi-{manager}-{name}");
        argv.extend(strings(["-r", &file]));
        draft.files.insert(at(&file), text);
        draft.steps.push(Step { argv, otherwise: Vec::new() });
    }
    if project.installable {
        draft.steps.push(dated(project, &["--no-deps", "-e", "."]));
    }
    let is_new = |package: &&String| !found.names.contains(&locked::normal_name(package));
    let more: Vec<&str> = project.packages.iter().filter(is_new).map(String::as_str).collect();
    if !more.is_empty() {
        draft.steps.push(dated(project, &more));
    }
    draft.directories.push(at(TOOLS));
    draft.env("UV_TOOL_DIR", join(WORKSPACE, &at(TOOLS)));
    draft.env("UV_TOOL_BIN_DIR", join(WORKSPACE, &at(".venv/bin")));
    for (name, value) in [
        ("PDM_CHECK_UPDATE", "0"),
        // That an environment is active already is how it is meant.
        ("PIPENV_VERBOSITY", "-1"),
    ] {
        if name.to_ascii_lowercase().starts_with(manager) {
            draft.vars.insert(name.into(), value.into());
        }
    }
    let itself = match found.by {
        Some(version) => format!("{manager}=={version}"),
        None => manager.to_owned(),
    };
    let tool = ["uv", "tool", "install", "--python", ".venv/bin/python"];
    draft.steps.push(as_of(project, &tool, &[&itself]));
}

fn unlocked(project: &Project, draft: &mut Draft) {
    let mut what = Vec::new();
    for file in &project.requirements_files {
        let below = file.strip_prefix(&format!("{}/", project.root));
        let path = match (project.root.is_empty(), below) {
            (true, _) => file.clone(),
            (false, Some(below)) => below.to_owned(),
            (false, None) => format!("{WORKSPACE}/{file}"),
        };
        what.extend(strings(["-r", path.as_str()]));
    }
    if project.installable {
        let extras = match project.extras.as_slice() {
            [] => String::new(),
            extras => format!("[{}]", extras.join(",")),
        };
        // Editable: what is edited in the workspace counts.
        what.extend(strings(["-e", &format!(".{extras}")]));
    }
    what.extend(project.groups.iter().flat_map(|group| strings(["--group", group])));
    what.extend(project.packages.iter().cloned());
    if !what.is_empty() {
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        draft.steps.push(dated(project, &what));
    }
}

/// When setuptools learned to make editable installs by PEP 660 (64, August 2022), the only ones
/// that uv makes; an older project is built with what it was then.
const EDITABLE: (&str, &str) = ("2022-09-01", "setuptools=2022-09-01T00:00:00Z");

/// `uv pip install` as of the commit's date.
pub fn dated(project: &Project, what: &[&str]) -> Step {
    as_of(project, &["uv", "pip", "install", "--python", PYTHON], what)
}

/// A command of uv's as of the commit's date; without, where not everything is that old.
fn as_of(project: &Project, install: &[&str], what: &[&str]) -> Step {
    let date = end_of_day(project.date);
    let mut until = vec!["--exclude-newer", date.as_str()];
    if date.as_str() < EDITABLE.0 && what.contains(&"-e") {
        until.extend(["--exclude-newer-package", EDITABLE.1]);
    }
    Step {
        argv: strings(install.iter().chain(&until).chain(what)),
        otherwise: vec![Otherwise {
            when: strings(["No solution found", "missing an upload date", "exclude-newer"]),
            argv: strings(install.iter().chain(what)),
            warning: "not every Python package can be had as of the commit's date (the index \
                      may not tell dates): today's versions were taken"
                .into(),
        }],
    }
}

/// The requirements file at `path` and those that it includes (pip's `-r` and `-c`), with
/// the manifests of directories that it installs.
fn requirements(path: &str, source: &dyn Files, seen: &mut BTreeSet<String>) {
    if !seen.insert(path.to_owned()) {
        return;
    }
    let text = source.read(path).unwrap_or_default();
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    for line in String::from_utf8_lossy(&text).lines().map(str::trim) {
        if let Some(file) = option(line, &["-r", "--requirement", "-c", "--constraint"]) {
            requirements(&normal(dir, file), source, seen);
        } else {
            let local = option(line, &["-e", "--editable"]).unwrap_or(line);
            let local = local.split(['[', ';', ' ']).next().unwrap_or_default();
            if local.starts_with('.') {
                let below = normal(dir, local);
                seen.extend(["pyproject.toml", "setup.py", "setup.cfg"].map(|n| join(&below, n)));
            }
        }
    }
}

/// The value of one of `names` at the beginning of `line`, in any of pip's spellings.
fn option<'a>(line: &'a str, names: &[&str]) -> Option<&'a str> {
    let rest = names.iter().find_map(|name| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with([' ', '=', '\t']) || (!name.starts_with("--") && !rest.is_empty()))
            .then_some(rest)
    })?;
    let rest = rest.trim_start_matches(['=', ' ', '\t']);
    Some(rest.split(" #").next().unwrap_or(rest).trim())
}

/// `path`, said in the directory `dir`, as a path of the repository.
fn normal(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|p| !p.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}
