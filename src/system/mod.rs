//! System mode: values and apps under another user, so that not even the user's own processes,
//! unconfined, can look into them.
//!
//! ```text
//! zagi run ──socket──▶ zagi broker            user zagi-broker; started by the system
//!   (the user's)         └─ zagi __lent       one a request, on the caller's own streams:
//!                             └─ the app      the same command, with a home of its own
//! ```
//!
//! What the user names to it may lead anywhere, and elsewhere a moment later, so it is looked at where nothing of
//! the broker's can be read ([`zagi_sandbox::without`]) and shown where nothing of it is
//! ([`zagi_sandbox::Hidden`]).
//!
//! The broker runs `zagi run` and `zagi secrets` for whoever asks at its socket, each in a process of
//! the broker's user, whose home (`<state>/users/<uid>/home`, 0700) has that user's identity,
//! audit log, approvals, and data of services. Of the caller's it reads the workspace (which must let
//! other users in) and the environment, and writes nothing: the app runs from a copy, and a
//! secrets file that was changed is handed back for the caller to write.
//!
//! Who asks is known by the socket: the kernel's word, from when the connection was made; and they must live, in the
//! broker's own user namespace, so that nothing confined is answered whatever its user's number is (module `peer`).
//! What shows a value or gives it to others (`get`, `share`, `grant`, `set --keep`, an approval) is done
//! for root alone: the user says `sudo`, which no process of theirs can by itself. A confined agent
//! has no way to the socket; the `zagi agent` that started it asks for what its name is granted.
//!
//! | file | what |
//! |---|---|
//! | `wire` | what is asked and answered |
//! | `serve` | the broker |
//! | `peer` | who asks it |
//! | `agent` | the secrets of an agent, which runs as its user |

pub mod agent;
mod peer;
mod serve;
mod wire;

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Config;
pub use serve::serve;
pub use wire::{Reply, Request};

/// Where the broker is asked, unless the configuration says otherwise.
pub const SOCKET: &str = "/run/zagi-broker/socket";
/// By what it is started, where the setup command had systemd do that.
const UNIT: &str = "/etc/systemd/system/zagi-broker.service";
/// Where it keeps what is its users'.
pub const STATE: &str = "/var/lib/zagi-broker";
/// The first argument of the process that runs a command for somebody.
pub const ARGUMENT: &str = "__lent";

/// For whom such a process runs: its second argument, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lent {
    /// The user.
    pub user: u32,
    /// The home that the workspace is of.
    pub home: PathBuf,
    /// The project.
    pub root: PathBuf,
    /// Where the command was given.
    pub cwd: PathBuf,
    /// Where a copy of the project's secrets file is, in its place below this.
    pub place: PathBuf,
    /// Whether root asked.
    pub root_asked: bool,
}

/// Where the broker is asked, if this machine is in system mode: where the configuration says, or at
/// [`SOCKET`] where that is there or the system starts one.
pub fn broker(config: Option<&Config>) -> Option<PathBuf> {
    let named = config.and_then(|config| config.secrets.broker.clone());
    // Whether it answers is another question: nobody does without it because it is dead.
    named.or_else(|| {
        let is_there = [SOCKET, UNIT].iter().any(|path| Path::new(path).exists());
        is_there.then(|| SOCKET.into())
    })
}

/// Asks the broker to run a command on these streams, and waits for its end.
pub fn ask(socket: &Path, request: &Request, streams: [BorrowedFd<'_>; 3]) -> io::Result<Reply> {
    let stream = UnixStream::connect(socket)?;
    wire::send_request(&stream, request, streams)?;
    wire::receive(&stream)
}
