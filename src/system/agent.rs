//! The secrets of an agent in system mode. The agent runs in a sandbox of its user's; the values that
//! its name is granted are put in by a process of the broker's, and pass through no process of the user's
//! outside of that sandbox.
//!
//! ```text
//! zagi agent (the user's) ══socket══▶ zagi __lent … __agent NAME   the broker's
//!   └─ the sandbox: what connects to the proxy, or to a host that a value goes to, is taken by the first
//!      and handed to the second, with what it has said so far; its session port is the second's alone
//! ```
//!
//! The socket between the two is a pair that the user's process makes: one end is the standard input
//! of a command that it has the broker run (module `wire`). On it go messages as there, each way,
//! version 2 of them:
//!
//! | | |
//! |---|---|
//! | broker: [`Told::Granted`] | the first: what there is to lead to, by name, and the certificate that is to be trusted in the sandbox |
//! | user: [`Asked::Session`] | brings the listener of the session port, where commands are given what they may have |
//! | user: [`Asked::Take`] | brings a connection of the agent's to a host that a value goes to |
//! | broker: [`Told::Seen`] | what came of one, for the agent's log |
//!
//! It ends with the socket. That a process is an agent of that name is its user's word: so what is granted to
//! an agent is granted to all of the user's processes, which root does and nobody else
//! (`grant` is root's to ask).

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::wire::{self, Reply, Request};
use crate::egress::{Credential, Elsewhere, Seen, Wanted};

/// The command that a process of the broker's is for this, with the agent's name.
pub const COMMAND: &str = "__agent";

/// A secret whose value its process never has, as that process knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What it is called.
    pub name: String,
    /// Where alone it goes: `host:port`.
    pub host: String,
    /// The field that alone it goes in.
    pub header: String,
    /// What the agent has instead.
    pub placeholder: String,
}

impl Credential for Known {
    fn name(&self) -> &str {
        &self.name
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn header(&self) -> &str {
        &self.header
    }

    fn placeholder(&self) -> &str {
        &self.placeholder
    }

    fn refuses(&self, _: &Wanted<'_>) -> Option<String> {
        Some("is the broker's to put in".into())
    }

    fn release(&self, _: &Wanted<'_>, _: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        Err("it is the broker's to put in".into())
    }
}

/// What an agent is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// Of that, what is put in on the way.
    pub credentials: Vec<Known>,
    /// The certificate that hosts have inside then, as PEM.
    pub certificate: String,
}

/// What the broker's process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Told {
    /// What is granted; none, where nothing is. Nothing is served then.
    Granted(Option<Granted>),
    /// What became of a connection.
    Seen(Seen),
}

/// What the user's process says. Each brings one descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Asked {
    /// The listener of the session port.
    Session,
    /// A connection.
    Take {
        /// To whom it was made, where that was said to a proxy.
        target: Option<String>,
        /// What has been read of it.
        read: Vec<u8>,
    },
}

/// The user's end. What was begun ends with it.
#[derive(Debug)]
pub struct Link {
    /// What is granted.
    pub granted: Granted,
    channel: UnixStream,
    turn: Mutex<()>,
    /// The broker ends its process when this is closed.
    _asked: UnixStream,
}

impl Link {
    /// Asks the broker at `socket` by `request`, whose words are [`COMMAND`] and a name. `errors` is where its
    /// process says what is wrong. None, where nothing is granted.
    pub fn begin(
        socket: &Path,
        request: &Request,
        errors: BorrowedFd<'_>,
    ) -> io::Result<Option<Link>> {
        let asked = UnixStream::connect(socket)?;
        let (channel, theirs) = UnixStream::pair()?;
        let nothing = std::fs::File::options().write(true).open("/dev/null")?;
        wire::send_request(&asked, request, [theirs.as_fd(), nothing.as_fd(), errors])?;
        drop(theirs);
        match wire::receive(&channel) {
            Ok(Told::Granted(None)) => Ok(None),
            Ok(Told::Granted(Some(granted))) => {
                Ok(Some(Link { granted, channel, turn: Mutex::default(), _asked: asked }))
            }
            Ok(Told::Seen(_)) => Err(io::Error::other("the broker speaks out of turn")),
            // It has ended: the broker says how.
            Err(_) => Err(io::Error::other(match wire::receive(&asked)? {
                Reply::Refused(why) => why,
                Reply::Ended { code, .. } => format!("its process ended with {code}"),
            })),
        }
    }

    /// Has the broker's process serve the session port: this one has it no more.
    pub fn session(&self, listener: TcpListener) -> io::Result<()> {
        self.say(&Asked::Session, listener.as_fd())
    }

    /// Passes on what is seen, until the other end is gone.
    pub fn listen(&self, tell: impl Fn(Seen)) {
        while let Ok(Told::Seen(seen)) = wire::receive(&self.channel) {
            tell(seen);
        }
    }

    fn say(&self, asked: &Asked, with: BorrowedFd<'_>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send_with(&self.channel, asked, &[with])
    }
}

impl Elsewhere for Link {
    fn take(&self, client: TcpStream, read: Vec<u8>, target: Option<String>) -> io::Result<()> {
        self.say(&Asked::Take { target, read }, client.as_fd())
    }
}

/// The broker's end.
#[derive(Debug)]
pub struct Served {
    channel: UnixStream,
    turn: Mutex<()>,
}

impl Served {
    /// On standard input. Fails where that is no socket: nobody asks.
    pub fn new(input: BorrowedFd<'_>) -> io::Result<Served> {
        let channel = UnixStream::from(input.try_clone_to_owned()?);
        channel.peer_addr()?;
        Ok(Served { channel, turn: Mutex::default() })
    }

    /// Says something.
    pub fn tell(&self, told: &Told) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(&self.channel, told)
    }

    /// What comes next; an error is the end.
    pub fn next(&self) -> io::Result<(Asked, OwnedFd)> {
        let (asked, with) = wire::receive_with(&self.channel)?;
        let with = <[OwnedFd; 1]>::try_from(with);
        let [with] = with.map_err(|_| io::Error::other("one descriptor has to come along"))?;
        Ok((asked, with))
    }
}
