//! What agents are granted, by name: `agents.toml`, version 1.
//!
//! ```toml
//! version = 1
//! [agent.claude]                        # the name: that of the program, or `--name`
//! hosts = ["api.example.com", "*.example.net", "db.example.org:5432", "localhost:11434"]
//! home = [".config/tool/login.json"]    # copied from the user's home, once
//! arguments = ["--flag"]                # of the program that is called so, before those that are given
//! push = ["claude/*"]                   # branches that it pushes without being asked about; `*` at the end only
//! [agent.claude.limits]
//! processes = 512
//! memory-mb = 8192
//! cpu-percent = 200
//! ```
//!
//! A name that leads to this machine or its network is refused; what is granted there is granted by
//! address, or as `localhost`, and is at that address inside, too.
//!
//! There are three, and what they grant adds up; of limits the last one counts:
//!
//! - the one that is built in: what well-known agents cannot work without, by the name of the program,
//!   also where the agent is given another;
//! - `$ZAGI_HOME/agents.toml`, the user's;
//! - `.zagi/agents.toml` of the repository, which is a stranger: it counts when the user has
//!   approved exactly this text, and grants nothing of the user's home and no arguments.
//!
//! An agent can write to none of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::context::Context;
use crate::egress::Rule;
use crate::ordinary;

/// Where a repository has its own.
pub const PATH: &str = ".zagi/agents.toml";
/// Under `$ZAGI_HOME`.
pub const FILE: &str = "agents.toml";

const BUILT_IN: &str = include_str!("agents.toml");
const VERSION: u32 = 1;
/// A file of more bytes is none.
const LARGEST: u64 = 1 << 20;

/// What one agent is granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Hosts that it may reach, beside the registries.
    pub hosts: Vec<String>,
    /// Files of the user's home that its own home begins with, relative.
    pub home: Vec<PathBuf>,
    /// What the program of this name is started with, before what is given: that it is confined
    /// already, say.
    pub arguments: Vec<String>,
    /// Branches that it may push to any of the repository's remotes: a name, or the beginning of
    /// names and `*`.
    pub push: Vec<String>,
    /// How much it may use.
    pub limits: Limits,
}

/// How much an agent may use, with all that it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Memory, in units of 1024² bytes.
    pub memory_mb: Option<u64>,
    /// Time of processors, in percent of one.
    pub cpu_percent: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    version: u32,
    agent: BTreeMap<String, Grants>,
}

/// Why an `agents.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// It cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("`{path}`: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where that is known.
        problem: String,
    },
}

/// One `agents.toml`.
#[derive(Debug)]
pub struct Granted {
    /// By name.
    agents: BTreeMap<String, Grants>,
    /// Its text.
    pub text: String,
}

/// The two that are read whatever the repository is.
#[derive(Debug)]
pub struct Files {
    built_in: Granted,
    user: Option<Granted>,
}

impl Files {
    /// Reads them.
    pub fn read(ctx: &Context) -> Result<Files, GrantsError> {
        let user = Granted::read(&ctx.home.root().join(FILE))?;
        Ok(Files { built_in: Granted::built_in(), user })
    }

    /// What they grant the agent `name`, which runs `program`.
    pub fn grant(&self, name: &str, program: &str) -> Grants {
        let of = |name| [Some(&self.built_in), self.user.as_ref()].map(|file| file?.to(name));
        let needed = self.built_in.to(program).filter(|_| name != program);
        let mut all = needed.cloned().unwrap_or_default();
        of(name).into_iter().flatten().for_each(|grants| all.add(grants));
        let arguments = of(program).into_iter().flatten().flat_map(|grants| &grants.arguments);
        all.arguments = arguments.cloned().collect();
        all
    }
}

impl Granted {
    /// The file at `path`, or nothing if there is none.
    pub fn read(path: &Path) -> Result<Option<Granted>, GrantsError> {
        let read = ordinary::read(path, LARGEST).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text"))
        });
        match read {
            // So it stands while something runs that may not make it.
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => Granted::parse(path, text).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(GrantsError::Read { path: path.to_owned(), source }),
        }
    }

    /// The one that is built in.
    ///
    /// # Panics
    /// Never: a test reads it.
    pub fn built_in() -> Granted {
        Granted::parse(Path::new(FILE), BUILT_IN.to_owned()).expect("a test reads it")
    }

    fn parse(path: &Path, text: String) -> Result<Granted, GrantsError> {
        let invalid = |problem: String| GrantsError::Invalid { path: path.to_owned(), problem };
        let file: File = toml_edit::de::from_str(&text).map_err(|e| {
            // Its first line repeats the position alone.
            let at = e.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let at = at.map(|line| format!("line {line}: ")).unwrap_or_default();
            invalid(format!("{at}{}", e.message()))
        })?;
        if file.version != VERSION {
            return Err(invalid(format!(
                "its version is {}, and this zagi reads {VERSION}: it begins with `version = {VERSION}`",
                file.version
            )));
        }
        for (name, grants) in &file.agent {
            if !is_name(name) {
                return Err(invalid(format!("`{name}` is no name: letters, digits, `-` and `_`")));
            }
            for host in &grants.hosts {
                host.parse::<Rule>().map_err(|e| invalid(format!("[agent.{name}] {e}")))?;
            }
            if let Some(branch) = grants.push.iter().find(|branch| !is_branches(branch)) {
                return Err(invalid(format!(
                    "[agent.{name}] `{branch}` names no branches: a name, or how names begin and `*`"
                )));
            }
            let leaves = |path: &&PathBuf| {
                path.components().any(|part| !matches!(part, std::path::Component::Normal(_)))
            };
            if let Some(path) = grants.home.iter().find(leaves) {
                let path = path.display();
                return Err(invalid(format!(
                    "[agent.{name}] `{path}` is not below the home directory"
                )));
            }
        }
        Ok(Granted { agents: file.agent, text })
    }

    /// What it grants `name`.
    pub fn to(&self, name: &str) -> Option<&Grants> {
        self.agents.get(name)
    }
}

impl Grants {
    /// Adds what another file grants; arguments are the program's and not granted.
    pub fn add(&mut self, other: &Grants) {
        self.hosts.extend(other.hosts.iter().cloned());
        self.home.extend(other.home.iter().cloned());
        self.push.extend(other.push.iter().cloned());
        let (own, other) = (&mut self.limits, other.limits);
        own.processes = other.processes.or(own.processes);
        own.memory_mb = other.memory_mb.or(own.memory_mb);
        own.cpu_percent = other.cpu_percent.or(own.cpu_percent);
    }

    /// Whether it may push `branch` (`main`) without being asked about.
    pub fn may_push(&self, branch: &str) -> bool {
        self.push.iter().any(|granted| match granted.strip_suffix('*') {
            Some(begins) => branch.starts_with(begins),
            None => branch == granted,
        })
    }
}

fn is_branches(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && !name.contains(|c: char| c.is_control() || " *?[\\~^:".contains(c))
}

/// Whether an agent may be called that: it becomes a directory's name.
pub fn is_name(name: &str) -> bool {
    let shaped = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(shaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Granted, String> {
        Granted::parse(Path::new("agents.toml"), text.to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_built_in_is_valid() {
        assert!(Granted::built_in().to("claude").is_some_and(|grants| !grants.hosts.is_empty()));
    }

    #[test]
    fn grants_add_up_and_the_last_limit_counts() {
        let text = "version = 1\n[agent.a]\nhosts = [\"x.example.com\"]\n[agent.a.limits]\nprocesses = 9\ncpu-percent = 50\n";
        let mut grants = parse(text).expect("valid").to("a").expect("there").clone();
        let other = "version = 1\n[agent.a]\nhosts = [\"y.example.com\"]\n[agent.a.limits]\nprocesses = 7\n";
        grants.add(parse(other).expect("valid").to("a").expect("there"));
        assert_eq!(grants.hosts, ["x.example.com", "y.example.com"]);
        assert_eq!(
            grants.limits,
            Limits { processes: Some(7), memory_mb: None, cpu_percent: Some(50) }
        );
    }

    #[test]
    fn arguments_are_the_programs_and_what_it_cannot_do_without_too() {
        let text = "version = 1\n[agent.a]\nhosts = [\"a.example.com\"]\narguments = [\"-a\"]\n\
                    [agent.claude]\nhosts = [\"c.example.com\"]\narguments = [\"-c\"]\n";
        let files = Files { built_in: Granted::built_in(), user: parse(text).ok() };
        let (own, other) = (files.grant("claude", "claude"), files.grant("a", "claude"));
        let theirs = |grants: &Grants| grants.hosts.iter().any(|host| host == "api.anthropic.com");
        assert!(theirs(&own) && theirs(&other));
        assert_eq!(own.arguments, other.arguments);
        assert_eq!(own.arguments.last().map(String::as_str), Some("-c"));
        assert!(own.hosts.contains(&"c.example.com".into()));
        assert!(other.hosts.contains(&"a.example.com".into()));
        assert!(!other.hosts.contains(&"c.example.com".into()));
        // Another program by that name is told nothing, and reaches what the name is granted.
        let shell = files.grant("claude", "sh");
        assert!(theirs(&shell) && shell.arguments.is_empty());
        assert_eq!(files.grant("x", "sh"), Grants::default());
    }

    #[test]
    fn branches_are_granted_by_name_or_beginning() {
        let text = "version = 1\n[agent.a]\npush = [\"fix\", \"a/*\"]\n";
        let grants = parse(text).expect("valid").to("a").expect("there").clone();
        let all = ["fix", "fixes", "a/x", "a/x/y", "a", "main", "b/a/x"];
        let may: Vec<&str> = all.into_iter().filter(|branch| grants.may_push(branch)).collect();
        assert_eq!(may, ["fix", "a/x", "a/x/y"]);
    }

    #[test]
    fn what_is_wrong_is_said_and_grants_nothing() {
        for (text, said) in [
            ("[agent.a]\n", "`agents.toml`: its version is 0"),
            ("version = 2\n", "`agents.toml`: its version is 2"),
            ("version = 1\n[agent.a]\nsecrets = [\"*\"]\n", "line 3: unknown field `secrets`"),
            ("version = 1\n[agent.a]\nhosts = [\"*\"]\n", "[agent.a] `*` is no host"),
            ("version = 1\n[agent.\"../x\"]\n", "`../x` is no name"),
            ("version = 1\n[agent.a]\nhome = [\"../b/.ssh\"]\n", "is not below the home"),
            ("version = 1\n[agent.a]\nhome = [\"/etc/shadow\"]\n", "is not below the home"),
            ("version = 1\n[agent.a]\npush = [\"a*b\"]\n", "`a*b` names no branches"),
            ("version = 1\n[agent.a]\npush = [\"\"]\n", "`` names no branches"),
            ("version = \n", "line 1: "),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
