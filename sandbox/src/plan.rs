//! What a caller may ask for: a plain value, sent to the helper as JSON.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

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
    /// Somebody's agent at work on a workspace: it may write there, but to nothing pinned
    /// ([`Plan::pins`]), and knows no secret.
    Agent,
    /// The app of a workspace, which may hold secrets that its agent may not see.
    App,
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

/// A directory of the host that is not shown, wherever the source of a bind leads: by a link, a name
/// that somebody exchanges meanwhile, or one that they made up. Whoever makes a plan of what others name has
/// something to keep from them.
///
/// While sources are opened it is empty; a source that it is below of is refused, and so is what is
/// of a `/proc` of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    /// Which: absolute, without links.
    pub path: PathBuf,
    /// Sources of binds that are shown all the same, and opened before it is hidden: nobody else can change what is on
    /// the way there.
    pub but: Vec<PathBuf>,
    /// Of other sources, device and inode when they were looked at: where it is another by now, it
    /// is refused.
    pub only: BTreeMap<PathBuf, (u64, u64)>,
}

/// A path below a writable bind that stays as it is: the program can neither change nor
/// replace it, nor rename a directory that it is in.
///
/// What does not exist yet cannot be made: an empty file or directory stands there while the
/// program runs, also on the host, and is taken away afterwards if it is still empty.
/// A path that leads through a link is refused: where it leads is not ours to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Where the program sees it: absolute, below a [`Bind::target`].
    pub path: PathBuf,
    /// Whether it cannot even be read: a directory is empty, a file cannot be opened.
    pub hidden: bool,
    /// Whether it would be a directory, where it does not exist.
    pub directory: bool,
    /// What the file says that stands there meanwhile, where it does not exist: for one that is
    /// read by its being there. It is taken away afterwards if it says so still.
    #[serde(default)]
    pub meanwhile: String,
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

/// How much the program and all that it starts may use together. None: as much as the
/// caller's user may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processes and threads at one time.
    pub processes: Option<u32>,
    /// Bytes of memory; what is on the program's own `/tmp`, `/dev/shm` and home counts.
    pub memory: Option<u64>,
    /// Time of processors, in percent of one.
    pub cpu: Option<u32>,
}

/// What a plan may do without, where the machine does not have it. What was missing is said in
/// [`crate::Enforced::missing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weaker {
    /// Landlock: the whole of it, or the newer part that is needed. The mounts and namespaces
    /// hold what it would hold besides; with the network given, abstract unix sockets of the
    /// host can be reached.
    Landlock,
    /// A limit for all processes together (a cgroup). What a process may have by itself is
    /// limited then (setrlimit(2)), where there is such a limit.
    Limits,
    /// Telling what is executed ([`Plan::watch`]): the kernel tells one process alone, and a
    /// container's manager may be the one already.
    Watch,
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
    /// What is kept from the program whatever the binds say.
    #[serde(default)]
    pub hidden: Option<Hidden>,
    /// What of the binds stays as it is although it lies in a writable bind.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Whether it has the host's network, or none at all.
    pub network: bool,
    /// Loopback addresses inside that somebody outside serves: a proxy. The caller
    /// gets the listening sockets ([`crate::Child::listeners`]) and accepts on them, so nothing
    /// inside forwards anything, and no path or port of the host is reachable. Only without
    /// the network.
    #[serde(default)]
    pub listen: Vec<SocketAddrV4>,
    /// Names of hosts, and the addresses that they have inside, whatever they are elsewhere. Only
    /// without the network.
    #[serde(default)]
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// Whether the caller can reach what the program listens on ([`crate::Child::ports`]). Only
    /// without the network.
    #[serde(default)]
    pub publish: bool,
    /// Whether the caller is told what is executed inside ([`crate::Child::runs`]).
    /// A record, no boundary: words can be exchanged after the look. Nothing inside can then have
    /// itself asked about system calls (`EBUSY`).
    #[serde(default)]
    pub watch: bool,
    /// How much it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What may be missing.
    #[serde(default)]
    pub weaker: Vec<Weaker>,
    /// What `uname` says.
    pub hostname: String,
    /// Who it is.
    pub identity: Identity,
}

impl Plan {
    /// A plan that sees nothing but the system's directories and has no network. An agent or app
    /// can do without nothing; the others do without Landlock where the kernel is too old.
    pub fn new(profile: Profile, argv: Vec<String>) -> Plan {
        Plan {
            profile,
            argv,
            cwd: "/".into(),
            env: BTreeMap::new(),
            binds: Vec::new(),
            hidden: None,
            pins: Vec::new(),
            network: false,
            listen: Vec::new(),
            hosts: BTreeMap::new(),
            publish: false,
            watch: false,
            limits: Limits::default(),
            weaker: match profile {
                // What these run is not to be secret from anybody, and older kernels have
                // projects too.
                Profile::Install | Profile::Service => vec![Weaker::Landlock],
                Profile::Agent | Profile::App => Vec::new(),
            },
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

    /// Pins a path that may be read; see [`Pin`].
    pub fn pin(mut self, path: impl Into<PathBuf>, directory: bool) -> Plan {
        let (path, hidden, meanwhile) = (path.into(), false, String::new());
        self.pins.push(Pin { path, hidden, directory, meanwhile });
        self
    }

    /// Where the bind that a path lies in is seen: the innermost that has it.
    pub(crate) fn base(&self, path: &Path) -> Option<&Path> {
        let targets = self.binds.iter().map(|bind| bind.target.as_path());
        targets
            .filter(|target| path.starts_with(target) && *target != path)
            .max_by_key(|target| target.components().count())
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Plan {
        self.env.insert(name.into(), value.into());
        self
    }
}
