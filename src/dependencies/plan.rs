//! Which commands install a project, what they leave behind, and the key over everything
//! that they read.
//!
//! A plan is a pure function of the repository's files, what detection found in them, the
//! environment's key, the platform, the home and the configuration. Two workspaces whose
//! plans have one key share one installation.

mod hosts;
mod locked;
mod node;
mod other;
mod python;
mod rust;
mod yarn;

pub use hosts::hosts;
pub(super) use python::{PYTHON as VENV_PYTHON, VENV, dated as besides};
pub(super) use rust::CARGO_HOME;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::WORKSPACE;
use crate::context::Context;
use crate::environment::detect::{Detected, Ecosystem, Project};
use crate::environment::files::Files;

/// Changes whenever this room installs something else from the same inputs.
const FORMAT: &str = "1";
/// The key-derivation context of [`Plan::key`].
const CONTEXT: &str = "zagi dependencies key v1";

/// Where the managers' download caches are in the sandbox: `{CACHE}/npm`.
pub(super) const CACHE: &str = "/zagi/cache";

/// The ids of what is checked out, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The source tree.
    pub tree: String,
    /// The commit; tools that read the version from git read it from here.
    pub commit: String,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What is done instead, aloud, where the first cannot be; each once.
    pub otherwise: Vec<Otherwise>,
}

/// A second way, for one reason that a manager may refuse the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otherwise {
    /// What the manager says in that case; one of these is enough.
    pub when: Vec<String>,
    /// Program and arguments; none where what was installed by then is whole.
    pub argv: Vec<String>,
    /// What the user is told.
    pub warning: String,
}

impl Step {
    /// A command without a second way.
    pub(super) fn new<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> Step {
        Step { argv: strings(argv), otherwise: Vec::new() }
    }
}

fn strings<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Vec<String> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

/// How one project is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The project.
    pub project: Project,
    /// Who installs.
    pub manager: String,
    /// The commands, in order, run in the project's directory.
    pub steps: Vec<Step>,
    /// The manager's settings, as variables; paths are those of the sandbox.
    pub env: BTreeMap<String, String>,
    /// Files written into the workspace before, by path: the manager's configuration.
    pub files: BTreeMap<String, String>,
    /// Variables that the workspace's environment needs to find what was installed:
    /// templates with `{workspace}`, as an activation has them.
    pub vars: BTreeMap<String, String>,
    /// The download caches that it uses, by kind.
    pub caches: Vec<String>,
    /// Hosts that its lock file has packages at.
    pub hosts: Vec<String>,
    /// What is captured, relative to the workspace: directories and files.
    pub directories: Vec<String>,
    /// Directories of this name are captured wherever they are (workspaces of node).
    pub nested: Option<String>,
    /// Other files that the installation makes in the source tree are captured, too. The
    /// key then holds the source tree, or what of it they are made from.
    pub outputs: bool,
    /// Why the lock file cannot be followed: nothing is installed then.
    pub disagrees: Option<String>,
    /// Digests of everything that the key is made of, by name: what to compare to learn why
    /// something is installed again.
    pub inputs: BTreeMap<String, String>,
    /// Their digest, in hex.
    pub key: String,
}

/// Plans the installation of everything that was detected. A project without dependencies
/// has no plan.
pub fn plan(
    ctx: &Context,
    detected: &Detected,
    environment: &str,
    source: &dyn Files,
    ids: &Ids,
) -> Vec<Plan> {
    let with = With { ctx, environment, vars: &detected.spec.env, source, ids };
    detected.projects.iter().filter_map(|project| with.project(project)).collect()
}

struct With<'a> {
    ctx: &'a Context,
    environment: &'a str,
    /// The project's own variables.
    vars: &'a BTreeMap<String, String>,
    source: &'a dyn Files,
    ids: &'a Ids,
}

/// What an ecosystem's file says about one project.
#[derive(Default)]
struct Draft {
    steps: Vec<Step>,
    env: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    vars: BTreeMap<String, String>,
    caches: Vec<String>,
    directories: Vec<String>,
    nested: Option<String>,
    outputs: bool,
    disagrees: Option<String>,
    /// Files that are inputs besides those that detection named.
    inputs: BTreeSet<String>,
    /// The whole source is an input.
    whole_source: bool,
}

impl Draft {
    fn env(&mut self, name: &str, value: impl Into<String>) {
        self.env.insert(name.to_owned(), value.into());
    }

    /// A variable that counts during the installation and ever after: `path` in the
    /// workspace.
    fn place(&mut self, name: &str, path: &str) {
        self.env(name, join(WORKSPACE, path));
        self.vars.insert(name.to_owned(), join("{workspace}", path));
    }
}

impl With<'_> {
    fn project(&self, project: &Project) -> Option<Plan> {
        let manager = project.manager.clone()?;
        let addresses = &self.ctx.config.addresses;
        let mut draft = match project.ecosystem {
            Ecosystem::Node => node::draft(project, &manager, self.source, addresses),
            Ecosystem::Python => python::draft(project, &manager, self.source, addresses),
            Ecosystem::Rust => rust::draft(project, self.source, addresses, &self.ctx.platform),
            Ecosystem::Go => other::go(project, self.source),
            Ecosystem::Zig => other::zig(project, self.source),
            // They have no manager, and no plan.
            _ => None,
        }?;
        if project.builds_native {
            // They steer builds (`WITH_X=1`); elsewhere another port is no reason to install anew.
            for (name, value) in self.vars {
                draft.env.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let inputs = self.inputs(project, &draft);
        let key = key(&inputs);
        let Draft { steps, env, files, vars, caches, directories, nested, outputs, .. } = draft;
        let disagrees = draft.disagrees;
        Some(Plan {
            project: project.clone(),
            manager,
            steps,
            env,
            files,
            vars,
            caches,
            hosts: hosts(project, self.source),
            directories,
            nested,
            outputs,
            disagrees,
            inputs,
            key,
        })
    }

    fn inputs(&self, project: &Project, draft: &Draft) -> BTreeMap<String, String> {
        let mut inputs = BTreeMap::new();
        let mut put = |name: String, value: &[u8]| {
            inputs.insert(name, blake3::hash(value).to_hex().to_string());
        };
        put("format".into(), FORMAT.as_bytes());
        put("platform".into(), self.ctx.platform.to_string().as_bytes());
        put("environment".into(), self.environment.as_bytes());
        // Installed files name the tools where they are: `pyvenv.cfg`, `.venv/bin/python`.
        put("home".into(), self.ctx.home.root().as_os_str().as_encoded_bytes());
        put("workspace".into(), WORKSPACE.as_bytes());
        put("root".into(), project.root.as_bytes());
        put("steps".into(), &json(&draft.steps));
        put("settings".into(), &json(&(&draft.env, &draft.files)));
        put("captured".into(), &json(&(&draft.directories, &draft.nested, draft.outputs)));
        let files: BTreeSet<&String> = project.manifests.iter().chain(&draft.inputs).collect();
        for path in files {
            // A file that is missing is another input than an empty one.
            if let Some(content) = self.source.read(path) {
                put(format!("file {path}"), &content);
            }
        }
        if project.builds_native || draft.whole_source {
            put("source tree".into(), self.ids.tree.as_bytes());
        }
        if project.version_from_git {
            put("commit".into(), self.ids.commit.as_bytes());
        }
        inputs
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain fields with text for keys")
}

/// BLAKE3 over names and values, each with its length before it, under a context that no
/// other hash of this program uses.
fn key(inputs: &BTreeMap<String, String>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&(inputs.len() as u64).to_le_bytes());
    for (name, value) in inputs {
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// `name` in the directory `dir` of the repository.
fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// The last moment of the day of `date`, as RFC 3339 has it. Whole days, so that the commits
/// of one day share an installation.
fn end_of_day(date: i64) -> String {
    const DAY: i64 = 24 * 60 * 60;
    let midnight = (date.div_euclid(DAY) + 1).saturating_mul(DAY);
    let text = jiff::Timestamp::from_second(midnight).map(|t| t.to_string());
    // Beyond the year 9999, where no package is excluded either.
    text.unwrap_or_else(|_| "9999-12-30T00:00:00Z".into())
}

/// Every file below `dir`, a few levels deep: patches and the like.
fn files_below(source: &dyn Files, dir: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in source.list(dir) {
        let path = join(dir, &entry.name);
        match entry.directory {
            true if depth > 0 => found.extend(files_below(source, &path, depth - 1)),
            true => {}
            false => found.push(path),
        }
    }
    found
}

#[cfg(test)]
mod tests;
