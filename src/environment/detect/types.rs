//! What detection answers: tools, projects, commands, and the evidence for each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::environment::spec::{Run, Spec};
use crate::environment::version::Constraint;

/// Everything that was found out. Kept as JSON, by git tree and platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// What `zagi init` would write; what is in the tree's `env.toml` is part of it.
    pub spec: Spec,
    /// The tools, by name.
    pub tools: Vec<Requirement>,
    /// The services, by name: each [`Requirement::tool`] is a service of the catalogue's, or
    /// one that it does not have.
    pub services: Vec<Requirement>,
    /// What has dependencies to install, the root first.
    pub projects: Vec<Project>,
    /// How it is tested, built and started.
    pub run: Run,
    /// Where each command of `run` was read, by its key (`test`, `build`, `start`).
    pub run_evidence: BTreeMap<String, Vec<Evidence>>,
    /// Where each package of `spec.system` is asked for.
    #[serde(default)]
    pub system_evidence: BTreeMap<String, Vec<Evidence>>,
    /// Where each variable of `spec.env` that was found stands.
    #[serde(default)]
    pub env_evidence: BTreeMap<String, Vec<Evidence>>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// The root's `flake.nix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flake: Option<Flake>,
}

impl Detected {
    /// Tools and services, each with the table of `env.toml` that names it.
    pub fn asked(&self) -> impl Iterator<Item = (&'static str, &Requirement)> {
        let tools = self.tools.iter().map(|tool| ("tools", tool));
        tools.chain(self.services.iter().map(|service| ("services", service)))
    }

    /// Whether the system package `name` is only supposed to be needed: no `env.toml` asks.
    pub fn is_guessed(&self, name: &str) -> bool {
        let evidence = self.system_evidence.get(name).map_or(&[][..], Vec::as_slice);
        !evidence.is_empty() && evidence.iter().all(|e| e.strength < Strength::Spec)
    }

    /// The text of the `env.toml` that says the same, each entry with where it was read.
    pub fn env_toml(&self) -> String {
        let comment = |evidence: &Evidence| format!("{}: {}", evidence.file, evidence.text);
        let entries = self.asked().filter_map(|(table, asked)| {
            Some((format!("{table}.{}", asked.tool), comment(asked.evidence.first()?)))
        });
        let run = self.run_evidence.iter().filter_map(|(key, evidence)| {
            let evidence = evidence.first()?;
            Some((format!("run.{key}"), format!("{}:{}", evidence.file, evidence.line)))
        });
        let system = self.system_evidence.iter().filter_map(|(name, evidence)| {
            Some((format!("system.{name}"), comment(evidence.first()?)))
        });
        let env = self.env_evidence.iter().filter_map(|(name, evidence)| {
            let evidence = evidence.first()?;
            Some((format!("env.{name}"), format!("{}:{}", evidence.file, evidence.line)))
        });
        self.spec.render(&entries.chain(run).chain(system).chain(env).collect())
    }
}

/// A tool, and the versions of it that will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The catalogue's name: `node`, `npm`, `pnpm`, `python`, `uv`, `rust`, `go`, `zig`,
    /// `cc`, `make`.
    pub tool: String,
    /// Everything that was asked for, intersected.
    pub constraint: Constraint,
    /// What must hold: without what was merely tested or supposed. Where nothing that can
    /// be had is in `constraint`, a version of this set will do, if it is said aloud.
    pub firm: Constraint,
    /// It was pinned (a pin file, a lock, `env.toml`): where nothing in the set had been
    /// released by the commit's date, the date yields.
    pub pinned: bool,
    /// Where all this was read, strongest first.
    pub evidence: Vec<Evidence>,
}

impl Requirement {
    /// Any version, and nobody asked.
    pub fn any(tool: &str) -> Requirement {
        Requirement {
            tool: tool.to_owned(),
            constraint: Constraint::any(),
            firm: Constraint::any(),
            pinned: false,
            evidence: Vec::new(),
        }
    }
}

/// A `flake.nix` in the root, not evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flake {
    /// Of the files that usually decide what it gives.
    pub digest: String,
    /// An input that its lock names and that is a file of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
    /// Where it was read.
    pub evidence: Vec<Evidence>,
}

/// One statement of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Evidence {
    /// The file's path in the repository.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// What it says: `engines.node ">=22 <23"`.
    pub text: String,
    /// How much it counts.
    pub strength: Strength,
}

/// Kinds of evidence, the weakest first, so that they compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Nothing was asked for; a file shows that the tool is needed.
    Default,
    /// What the project is tested with: CI, a Dockerfile, classifiers.
    Tested,
    /// What a lock file was made with.
    Lock,
    /// What a manifest allows.
    Manifest,
    /// What a pin file names.
    Pin,
    /// What `env.toml` says.
    Spec,
}

/// Something the user should know, and that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// One sentence.
    pub text: String,
    /// What it is about; may be empty.
    pub evidence: Vec<Evidence>,
}

/// What a project's dependencies are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// `package.json`.
    Node,
    /// `pyproject.toml`, `setup.py`, `setup.cfg`, `requirements.txt`.
    Python,
    /// `Cargo.toml`.
    Rust,
    /// `go.mod`.
    Go,
    /// `build.zig`.
    Zig,
    /// `Gemfile`, a gemspec.
    Ruby,
    /// `pom.xml`, `build.gradle`, `build.sbt`.
    Java,
    /// `composer.json`.
    Php,
    /// `Makefile.PL`, `Build.PL`, `cpanfile`.
    Perl,
    /// `mix.exs`.
    Elixir,
    /// `*.csproj` and its like, a solution.
    Dotnet,
    /// `deno.json`.
    Deno,
    /// C and C++: `CMakeLists.txt`, `meson.build`, `configure.ac`.
    C,
}

/// One directory with a manifest, whose dependencies are installed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The language.
    pub ecosystem: Ecosystem,
    /// The directory, `""` for the repository's root.
    pub root: String,
    /// Who installs: `npm`, `pnpm`, `yarn`, `bun`; `uv`, `poetry`, `pdm`, `pipenv` (there is
    /// a lock file of theirs), `pip` (there is none); `cargo`, `go`, `zig`. `None` where
    /// nobody that can be had does.
    pub manager: Option<String>,
    /// The lock file's path in the repository.
    pub lock: Option<String>,
    /// Every file that is an input to the installation, sorted; paths in the repository.
    pub manifests: Vec<String>,
    /// Python: optional dependencies to install with it, for the tests.
    pub extras: Vec<String>,
    /// Python: dependency groups to install.
    pub groups: Vec<String>,
    /// Python: requirements files to install, paths in the repository.
    pub requirements_files: Vec<String>,
    /// Python: packages to install besides, as PEP 508 has them: from tox.ini and the
    /// like, or assumed (`pytest`).
    pub packages: Vec<String>,
    /// Python: there is a build back end, so that the project itself is installed.
    pub installable: bool,
    /// Installing compiles something.
    pub builds_native: bool,
    /// The version is read from git's tags.
    pub version_from_git: bool,
    /// The commit's date, seconds since the epoch: what resolvers without a lock file may
    /// not look beyond.
    pub date: i64,
}

impl Project {
    /// A project of which nothing is known but where it is.
    pub fn new(ecosystem: Ecosystem, root: &str, date: i64) -> Project {
        Project {
            ecosystem,
            root: root.to_owned(),
            manager: None,
            lock: None,
            manifests: Vec::new(),
            extras: Vec::new(),
            groups: Vec::new(),
            requirements_files: Vec::new(),
            packages: Vec::new(),
            installable: false,
            builds_native: false,
            version_from_git: false,
            date,
        }
    }
}
