//! What a caller may ask for: a plain value, sent to the helper as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which of the launcher's rule sets applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A package manager at work on a stranger's repository: it may write to the plan's
    /// writable binds and to its own empty `/tmp` and home, and see no process or file of
    /// the user's.
    Install,
    /// A database or the like at work for one workspace: it may write to its own data, to the
    /// directory of its socket, and to its own empty `/tmp` and home.
    Service,
}

/// A directory or file of the host that the program sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Where it is on the host. What is mounted below it comes along.
    pub source: PathBuf,
    /// Where the program sees it: absolute, without `..`; missing parents are made. It need
    /// not exist on the host.
    pub target: PathBuf,
    /// Whether the program may write there.
    pub writable: bool,
}

/// Who the program is, as far as it can see. On the host it stays the caller's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The user id inside. Not 0: tools take 0 for the right to change owners.
    pub uid: u32,
    /// The group id inside.
    pub gid: u32,
    /// The name that `/etc/passwd` gives it.
    pub name: String,
    /// Its home directory: an empty one, gone when the program ends.
    pub home: PathBuf,
}

impl Default for Identity {
    fn default() -> Self {
        Identity { uid: 1000, gid: 1000, name: "zagi".into(), home: "/zagi/home".into() }
    }
}

/// One program, and everything it may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The rule set.
    pub profile: Profile,
    /// The program and its arguments. A name without `/` is looked for in the `PATH` of
    /// [`Plan::env`]. Empty: everything is set up and checked, and nothing started.
    pub argv: Vec<String>,
    /// Where it starts, inside.
    pub cwd: PathBuf,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// What it sees of the host besides the system's directories; later ones cover
    /// earlier ones.
    pub binds: Vec<Bind>,
    /// Whether it has the host's network, or none at all.
    pub network: bool,
    /// What `uname` says.
    pub hostname: String,
    /// Who it is.
    pub identity: Identity,
}

impl Plan {
    /// A plan that sees nothing but the system's directories and has no network.
    pub fn new(profile: Profile, argv: Vec<String>) -> Plan {
        Plan {
            profile,
            argv,
            cwd: "/".into(),
            env: BTreeMap::new(),
            binds: Vec::new(),
            network: false,
            hostname: "zagi".into(),
            identity: Identity::default(),
        }
    }

    /// Adds a bind.
    pub fn bind(
        mut self,
        source: impl Into<PathBuf>,
        target: impl Into<PathBuf>,
        writable: bool,
    ) -> Plan {
        self.binds.push(Bind { source: source.into(), target: target.into(), writable });
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Plan {
        self.env.insert(name.into(), value.into());
        self
    }
}
