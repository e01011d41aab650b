//! How git inside asks for a push: at a port of the agent's own network namespace, to which the
//! kernel lets nobody else connect. Version 1.
//!
//! A question is a line of JSON, `{"version":1,"ask":{"references":{"remote":"origin"}}}` or
//! `{"version":1,"ask":{"push":{"remote":"origin","updates":[…]}}}`; after the second comes a pack
//! of what the remote has not, to the end of what is sent. The answer is one line, an [`Answer`].

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
        /// As (object, name).
        all: Vec<(String, String)>,
        /// The objects that need not be sent.
        known: Vec<String>,
    },
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

/// Asks from inside. `pack` writes what goes with it.
pub fn ask(
    question: Question,
    pack: impl FnOnce(&mut TcpStream) -> io::Result<()>,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(ADDRESS)?;
    let mut line = serde_json::to_vec(&Framed { version: VERSION, ask: question })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    pack(&mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(serde_json::from_reader(BufReader::new(stream))?)
}

/// Answers one who asks. `answer` reads the pack.
pub fn answer(
    stream: &TcpStream,
    answer: impl FnOnce(Question, &mut dyn Read) -> Answer,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.by_ref().take(LONGEST).read_line(&mut line)?;
    let answer = match serde_json::from_str::<Framed<Question>>(&line) {
        Ok(Framed { version: VERSION, ask }) => answer(ask, &mut reader),
        Ok(Framed { version, .. }) => Answer::Refused(format!("version {version} is not known")),
        Err(e) => Answer::Refused(e.to_string()),
    };
    let mut writer = stream;
    writer.write_all(&serde_json::to_vec(&answer)?)
}
