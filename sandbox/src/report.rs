//! What the helper tells its caller over the control socket: one JSON object a line.

use std::io;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::error::Step;

/// What was enforced on the program, as seen from inside after it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The namespaces that differ from the caller's: `user`, `mnt`, `pid`, `ipc`, `uts`,
    /// and `net` where the plan gives no network.
    pub namespaces: Vec<String>,
    /// Mounts that were checked to be what the plan says, one by one.
    pub mounts: usize,
    /// The supplementary groups were dropped (only root can).
    pub groups_dropped: bool,
    /// The Landlock scopes hold: abstract unix sockets and signals do not reach out of the
    /// sandbox. Needs Landlock ABI 6 (Linux 6.12). Without the network the empty network
    /// namespace closes abstract sockets all the same.
    pub abstract_sockets_closed: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The program runs (or, for an empty plan, could).
    Running(Enforced),
    /// A step failed.
    Failed(Failure),
    /// The program ended by itself.
    Exited(i32),
    /// The program died of a signal.
    Signalled(i32),
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

/// Sends one message. A caller that went away is noticed by the supervisor, not here.
pub(crate) fn send(mut control: &UnixStream, report: &Report) {
    let mut line = serde_json::to_vec(report).expect("a report has only plain fields");
    line.push(b'\n');
    let _ = io::Write::write_all(&mut control, &line);
}
