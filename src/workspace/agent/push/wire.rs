//! How git inside asks for a remote: at a port of the agent's own network namespace, to which the
//! kernel lets nobody else connect. Version 1.
//!
//! A question is a line of JSON, `{"version":1,"ask":{"push":{"remote":"origin","updates":[…]}}}`, and
//! so is the answer, an [`Answer`]. What is pushed follows its question, and what is fetched its
//! answer, as a pack, to the end of what is sent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};

use serde::{Deserialize, Serialize};

/// Where an agent's git asks.
pub const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3130);

const VERSION: u32 = 1;
/// A question is not longer, in bytes.
const LONGEST: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Framed<T> {
    version: u32,
    ask: T,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// What a remote has.
    References {
        /// Its name.
        remote: String,
        /// Whether something is to be pushed there.
        push: bool,
    },
    /// To fetch.
    Fetch {
        /// From this remote.
        remote: String,
        /// These objects, and what they need.
        wanted: Vec<String>,
        /// What need not be sent, nor what it needs.
        had: Vec<String>,
        /// Without the content of files, unless that is wanted: who asks fetches it when it is looked at.
        partial: bool,
    },
    /// To push.
    Push {
        /// To this remote.
        remote: String,
        /// This.
        updates: Vec<Wanted>,
    },
}

/// A reference, and what it is to be. Objects are forty hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `refs/heads/main`.
    pub name: String,
    /// What the remote has.
    pub old: Option<String>,
    /// What it is to have; nothing deletes it.
    pub new: Option<String>,
    /// Whether what it has may be lost.
    pub force: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What the remote has.
    References {
        /// The name of the one that its HEAD is.
        head: Option<String>,
        /// As (object, name).
        all: Vec<(String, String)>,
        /// The objects that need not be sent.
        known: Vec<String>,
    },
    /// A pack follows.
    Fetched,
    /// What became of each update.
    Pushed(Vec<Outcome>),
    /// Why nothing was done.
    Refused(String),
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The reference.
    pub name: String,
    /// Why it is not pushed.
    pub error: Option<String>,
    /// What the remote said.
    pub said: Vec<String>,
}

/// Asks from inside. `send` writes what goes with the question; what follows the answer can be read.
pub fn ask(
    question: Question,
    send: impl FnOnce(&mut TcpStream) -> io::Result<()>,
) -> io::Result<(Answer, impl Read)> {
    let mut stream = TcpStream::connect(ADDRESS)?;
    let mut line = serde_json::to_vec(&Framed { version: VERSION, ask: question })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    send(&mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok((serde_json::from_str(&line)?, reader))
}

/// Answers one who asks. `answer` reads what goes with the question, and gives what is to follow.
pub fn answer(
    stream: &TcpStream,
    answer: impl FnOnce(Question, &mut dyn Read) -> (Answer, Option<File>),
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.by_ref().take(LONGEST).read_line(&mut line)?;
    let (answer, pack) = match serde_json::from_str::<Framed<Question>>(&line) {
        Ok(Framed { version: VERSION, ask }) => answer(ask, &mut reader),
        Ok(Framed { version, .. }) => {
            (Answer::Refused(format!("version {version} is not known")), None)
        }
        Err(e) => (Answer::Refused(e.to_string()), None),
    };
    let mut writer = stream;
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    writer.write_all(&line)?;
    if let Some(mut pack) = pack {
        io::copy(&mut pack, &mut writer)?;
    }
    Ok(())
}
