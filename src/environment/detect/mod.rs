//! What a repository needs and how it is run, read from its own files.
//!
//! No network, no clock, nothing executed: the same files, date and platform give the same
//! answer.
//!
//! # Evidence
//!
//! 1. Every statement about a tool's version becomes an [`Evidence`] with its file, line and
//!    [`Strength`].
//! 2. What must hold is intersected, strongest first. A statement that leaves nothing is put
//!    aside, and a [`Note`] names it and what it contradicts.
//! 3. What is merely tested (CI, images, classifiers) is united first, and narrows the rest
//!    only where something is left; so does what is usual as of the date.
//! 4. `env.toml`, where there is one, decides alone about what it names.
//!
//! # What is found
//!
//! | | by |
//! |---|---|
//! | tools, projects, commands | a file for each ecosystem; `any` for specifications of other programs, images and workflows; `names` for what those call tools |
//! | system packages | `system`, with `native.toml`: who is built against what |
//! | services | `services`: images, addresses, client libraries with variables |
//! | a flake | `flake`: that there is one; it decides nothing here, since it must be evaluated |
//! | variables | `variables`: plain values of `.env.example`; never a secret |
//!
//! A tool that the catalogue does not have is a note.
//!
//! # Where is looked
//!
//! Several ecosystems at once are a union. The root is read, and those directories directly
//! below it that are projects of their own: every one with a lock file of its own; if the
//! root is no project, every one with a manifest; if it is, those whose names are usual for
//! the parts of an application (`frontend/`, `server/`, …), for ecosystems that the root is
//! not of. Examples, tests, documentation and what is vendored or built are no projects.
//! Beyond that only names that some manifest gives are looked up, within bounds: the cost
//! does not grow with the repository.

mod any;
mod c;
mod claims;
mod commands;
mod deno;
mod dotnet;
mod elixir;
mod flake;
mod go;
mod java;
mod jsonc;
mod names;
mod node;
mod perl;
mod php;
mod place;
mod python;
mod ruby;
mod run;
mod rust;
mod services;
mod survey;
mod system;
mod types;
mod variables;
mod written;
mod yaml;
mod zig;

pub use types::{Detected, Ecosystem, Evidence, Flake, Note, Project, Requirement, Strength};

use std::collections::{BTreeMap, BTreeSet};

use super::catalog;
use super::files::Files;
use super::spec::{self, Service, Spec};
use crate::context::Platform;
use survey::{Place, Survey};

/// How many directories below the root are looked into.
const MOST_DIRECTORIES: usize = 48;

/// Directories that hold no project of their own, whatever is in them.
const NOT_PROJECTS: [&str; 44] = [
    "_build",
    "assets",
    "bench",
    "benchmark",
    "benchmarks",
    "build",
    "ci",
    "contrib",
    "demo",
    "demos",
    "deps",
    "dist",
    "doc",
    "docs",
    "e2e",
    "etc",
    "example",
    "examples",
    "external",
    "fixtures",
    "fuzz",
    "integration",
    "misc",
    "node_modules",
    "out",
    "public",
    "research",
    "sample",
    "samples",
    "scripts",
    "site",
    "static",
    "target",
    "template",
    "templates",
    "test",
    "testdata",
    "testing",
    "tests",
    "third_party",
    "tools",
    "vendor",
    "website",
    "zig-out",
];

/// Names of an application's parts.
const PARTS: [&str; 15] = [
    "api", "app", "backend", "client", "desktop", "frontend", "gui", "js", "mobile", "python",
    "rust", "server", "ui", "web", "webapp",
];

/// The lock file of each ecosystem, by which a directory below the root is a project though
/// the root has one too.
const OWN_LOCKS: [&str; 12] = [
    "Cargo.lock",
    "Pipfile.lock",
    "bun.lock",
    "bun.lockb",
    "go.sum",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "pdm.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "yarn.lock",
];

/// Reads what the repository says about itself. `date` is its commit's, seconds since the
/// epoch.
pub fn detect(files: &dyn Files, date: i64, platform: &Platform) -> Detected {
    detect_knowing(files, date, platform, &catalog::names())
}

/// As [`detect`], of a catalogue that has the tools `known`: what else is needed is said in
/// a note.
pub fn detect_knowing(
    files: &dyn Files,
    date: i64,
    platform: &Platform,
    known: &BTreeSet<String>,
) -> Detected {
    let mut survey = Survey::new(files, date, platform, known);
    let root = survey.place("");
    let written = env_toml(&mut survey, &root);
    any::survey(&mut survey, &root);
    let flake = flake::survey(&mut survey, &root);
    let found = projects(&mut survey, &root, |_| true);
    for name in candidates(&root) {
        let place = survey.place(&name);
        let own_lock = OWN_LOCKS.iter().any(|lock| place.has(lock));
        let part = found.is_empty() || PARTS.contains(&name.to_ascii_lowercase().as_str());
        let members = members(&survey.projects, &name);
        projects(&mut survey, &place, |ecosystem| {
            let own = own_lock && !members.contains(&ecosystem);
            own || (part && !found.contains(&ecosystem))
        });
    }
    variables::survey(&mut survey, &root);
    services::survey(&mut survey, &root);
    run::survey(&mut survey, &root);
    if let Some(written) = &written {
        besides(&mut survey, &written.spec);
    }
    Detected { flake, ..finish(survey, written) }
}

/// The ecosystems of which `place` is a project, among those that are `asked` for.
fn projects(
    survey: &mut Survey<'_>,
    place: &Place,
    asked: impl Fn(Ecosystem) -> bool,
) -> Vec<Ecosystem> {
    type Detector = fn(&mut Survey<'_>, &Place) -> bool;
    let detectors: [(Ecosystem, Detector); 13] = [
        (Ecosystem::Python, python::survey),
        (Ecosystem::Node, node::survey),
        (Ecosystem::Rust, rust::survey),
        (Ecosystem::Go, go::survey),
        (Ecosystem::Zig, zig::survey),
        (Ecosystem::Ruby, ruby::survey),
        (Ecosystem::Java, java::survey),
        (Ecosystem::Php, php::survey),
        (Ecosystem::Perl, perl::survey),
        (Ecosystem::Elixir, elixir::survey),
        (Ecosystem::Dotnet, dotnet::survey),
        (Ecosystem::Deno, deno::survey),
        (Ecosystem::C, c::survey),
    ];
    detectors
        .into_iter()
        .filter(|(ecosystem, detector)| asked(*ecosystem) && detector(survey, place))
        .map(|(ecosystem, _)| ecosystem)
        .collect()
}

/// The ecosystems in which the directory `name` is a member of the root's workspace: it is
/// installed with the root, whatever lock file of its own it has.
fn members(projects: &[Project], name: &str) -> Vec<Ecosystem> {
    let is_member = |project: &&Project| {
        let manifest = match project.ecosystem {
            Ecosystem::Node => "package.json",
            Ecosystem::Python => "pyproject.toml",
            Ecosystem::Rust => "Cargo.toml",
            Ecosystem::Go => "go.mod",
            Ecosystem::Zig => "build.zig",
            _ => return false,
        };
        project.root.is_empty() && project.manifests.contains(&format!("{name}/{manifest}"))
    };
    projects.iter().filter(is_member).map(|project| project.ecosystem).collect()
}

/// Directories below the root that may be projects.
fn candidates(root: &Place) -> Vec<String> {
    let may = |name: &&String| {
        !name.starts_with(['.', '_']) && !NOT_PROJECTS.contains(&name.to_ascii_lowercase().as_str())
    };
    root.directories.iter().filter(may).take(MOST_DIRECTORIES).cloned().collect()
}

/// What `.zagi/env.toml` says, and where it says how to run.
struct Written {
    spec: Spec,
    run: BTreeMap<String, Vec<Evidence>>,
}

fn env_toml(survey: &mut Survey<'_>, root: &Place) -> Option<Written> {
    if !root.directories.contains(".zagi") {
        return None;
    }
    let text = survey.text(spec::PATH)?;
    let spec = match Spec::parse(spec::PATH, &text.text) {
        Ok(spec) => spec,
        Err(e) => {
            let evidence = text.evidence(e.line, e.problem.to_string(), Strength::Spec);
            survey.note(format!("{e}; the file was not used"), vec![evidence]);
            return None;
        }
    };
    let lines = Spec::lines(&text.text);
    let line = |key: String| lines.get(&key).copied().unwrap_or(1);
    for (tool, constraint) in &spec.tools {
        let shown = format!("{tool} {:?}", constraint.to_string());
        let evidence = text.evidence(line(format!("tools.{tool}")), shown, Strength::Spec);
        survey.claims.claim(tool, constraint.clone(), evidence);
    }
    for name in &spec.system {
        let evidence = text.evidence(line("system.packages".into()), name, Strength::Spec);
        system::add(survey, name, evidence);
    }
    for (service, wanted) in &spec.services {
        let shown = format!("{service} {:?}", wanted.version.to_string());
        let evidence = text.evidence(line(format!("services.{service}")), shown, Strength::Spec);
        survey.services.claim(service, wanted.version.clone(), evidence);
    }
    let said = spec.run.commands().map(|(key, command)| {
        let evidence = text.evidence(line(format!("run.{key}")), command, Strength::Spec);
        (key.to_owned(), vec![evidence])
    });
    let run = said.collect();
    Some(Written { spec, run })
}

/// Has installed what `env.toml` asks for beside what the manifests say.
fn besides(survey: &mut Survey<'_>, written: &Spec) {
    let packages = &written.dependencies.python;
    if packages.is_empty() {
        return;
    }
    match survey.projects.iter_mut().find(|project| project.ecosystem == Ecosystem::Python) {
        Some(project) => project.packages.extend(packages.iter().cloned()),
        None => survey.note(
            format!("{} asks for packages of Python, and there is no Python project", spec::PATH),
            Vec::new(),
        ),
    }
}

fn finish(survey: Survey<'_>, written: Option<Written>) -> Detected {
    let Survey { claims, services, known, system, env, projects, commands, mut notes, .. } = survey;
    let (tools, unknown) = claims.settle(&mut notes).into_iter().partition(|tool| {
        // What `env.toml` names is known to the user's own catalogue, or an error there.
        known.contains(&tool.tool) || tool.evidence.iter().any(|e| e.strength == Strength::Spec)
    });
    let tools: Vec<Requirement> = tools;
    notes.extend(not_provided(unknown));
    let services = services.settle(&mut notes);
    let (found, mut run_evidence) = commands.settle();
    let mut spec = Spec::default();
    if let Some(Written { spec: written, run }) = written {
        spec = written;
        run_evidence.extend(run);
    }
    spec.run.test = spec.run.test.or(found.test);
    spec.run.build = spec.run.build.or(found.build);
    spec.run.start = spec.run.start.or(found.start);
    spec.tools = tools.iter().map(|t| (t.tool.clone(), t.constraint.clone())).collect();
    for found in &services {
        let version = found.constraint.clone();
        let port = spec.services.get(&found.tool).and_then(|service| service.port);
        spec.services.insert(found.tool.clone(), Service { version, port });
    }
    spec.system = system.keys().cloned().collect();
    let mut env_evidence = BTreeMap::new();
    for (name, (value, evidence)) in env {
        if !spec.env.contains_key(&name) {
            spec.env.insert(name.clone(), value);
            env_evidence.insert(name, evidence);
        }
    }
    let (run, system_evidence) = (spec.run.clone(), system);
    Detected {
        spec,
        tools,
        services,
        projects,
        run,
        run_evidence,
        system_evidence,
        env_evidence,
        notes,
        flake: None,
    }
}

/// A note for each tool that is needed and that the catalogue does not have.
fn not_provided(tools: Vec<Requirement>) -> Vec<Note> {
    let note = |tool: Requirement| {
        let which = match tool.constraint.is_any() {
            true => tool.tool,
            false => format!("{} {}", tool.tool, tool.constraint),
        };
        Note {
            text: format!("{which} is needed, and is not provided yet"),
            evidence: tool.evidence,
        }
    };
    tools.into_iter().map(note).collect()
}
