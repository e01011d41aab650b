//! What the helper tells its caller over the control socket: one JSON object a line.

use std::io;

use serde::{Deserialize, Serialize};

use crate::error::Step;
use crate::plan::Weaker;

/// What was enforced on the program, as seen from inside after it was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The namespaces that differ from the caller's: `user`, `mnt`, `pid`, `ipc`, `uts`,
    /// `cgroup`, and `net` where the plan gives no network.
    pub namespaces: Vec<String>,
    /// Mounts that were checked to be what the plan says, one by one.
    pub mounts: usize,
    /// The supplementary groups were dropped (only root can).
    pub groups_dropped: bool,
    /// The Landlock scopes hold: abstract unix sockets and signals do not reach out of the
    /// sandbox. Needs Landlock ABI 6 (Linux 6.12). Without the network the empty network
    /// namespace closes abstract sockets all the same.
    pub abstract_sockets_closed: bool,
    /// The version of Landlock's rules that hold; none: no Landlock.
    pub landlock: Option<u32>,
    /// System calls that are closed, always or for some arguments.
    pub calls_closed: usize,
    /// Paths of the plan that were pinned, one by one.
    pub pins: usize,
    /// Limits of the plan, and what keeps each.
    pub limits: Vec<(Limit, Keeper)>,
    /// What the plan could do without, and is not there.
    pub missing: Vec<Weaker>,
}

/// A limit that a plan may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// [`crate::Limits::processes`].
    Processes,
    /// [`crate::Limits::memory`].
    Memory,
    /// [`crate::Limits::cpu`].
    Cpu,
}

/// What keeps a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeper {
    /// A cgroup: all processes together.
    Cgroup,
    /// setrlimit(2): memory for each process by itself, processes of this user in the sandbox.
    Process,
    /// Nothing does.
    Nobody,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// Brings what asks before anything is executed; the program has not been yet.
    Watched,
    /// The program runs (or, for an empty plan, could).
    Running(Enforced),
    /// A step failed.
    Failed(Failure),
    /// The program ended by itself.
    Exited(i32),
    /// The program died of a signal.
    Signalled(i32),
    /// The program was stopped by a signal, and waits to be continued.
    Stopped(i32),
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub step: Step,
    pub path: Option<String>,
    pub errno: i32,
    /// Said instead of the errno's text, where the kernel did not speak.
    pub said: Option<String>,
}

impl Failure {
    pub fn new(step: Step, errno: impl Into<io::Error>) -> Failure {
        let error = errno.into();
        let errno = error.raw_os_error();
        Failure {
            step,
            path: None,
            errno: errno.unwrap_or(0),
            said: errno.is_none().then(|| error.to_string()),
        }
    }

    pub fn at(step: Step, path: impl Into<String>, errno: impl Into<io::Error>) -> Failure {
        Failure { path: Some(path.into()), ..Failure::new(step, errno) }
    }

    pub fn said(step: Step, what: impl Into<String>) -> Failure {
        Failure { step, path: None, errno: 0, said: Some(what.into()) }
    }

    pub fn into_io(self) -> io::Error {
        match self.said {
            Some(said) => io::Error::other(said),
            None => io::Error::from_raw_os_error(self.errno),
        }
    }
}
