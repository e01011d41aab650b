//! `zagi run` from inside an agent: not refused, but answered with what the agent is granted.
//!
//! A confined agent has no way to the user's identity, home or other processes, so `zagi run` in
//! it asks the process that started the agent. That one listens at a port of the agent's own
//! network namespace ([`ADDRESS`]): the kernel lets nobody else connect to it, so who asks needs no
//! name, variable or password. What is granted is decided there, by the name the agent was
//! started under.
//!
//! Version 1. The question is a line of JSON, `{"version":1,"argv":["npm","start"]}`; so is the
//! answer: `{"vars":{"NAME":"value"}}`, or `{"error":"why not"}`. Of a brokered secret the value is
//! a placeholder.
//!
//! That it is inside, `zagi run` sees by a file that only a sandbox's own root can have
//! ([`MARK`]). A program may lie to it about that, and gains nothing: the answer is for it alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Where an agent's commands ask.
pub(super) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3129);
/// Is there in an agent's sandbox, and says where.
pub(super) const MARK: &str = "/run/zagi/session";

const VERSION: u32 = 1;
/// A question is not longer, in bytes.
const LONGEST: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    version: u32,
    argv: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    vars: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Whether this process is a confined agent's.
pub fn is_inside() -> bool {
    Path::new(MARK).is_file()
}

/// The variables that `argv` gets, asked for from inside an agent; or why it gets none.
pub fn ask(argv: &[String]) -> io::Result<BTreeMap<String, String>> {
    let mut mark = String::new();
    File::open(MARK)?.take(64).read_to_string(&mut mark)?;
    let address: SocketAddrV4 = mark.trim().parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let question = Question { version: VERSION, argv: argv.to_vec() };
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let answer: Answer = serde_json::from_reader(BufReader::new(stream))?;
    match answer.error {
        Some(error) => Err(io::Error::other(error)),
        None => Ok(answer.vars),
    }
}

/// Answers what the agent's commands ask, in this thread, until the process ends. `vars` says
/// what a command gets, or why nothing.
pub(super) fn serve(
    listener: &TcpListener,
    vars: impl Fn(&[String]) -> Result<BTreeMap<String, String>, String>,
) {
    for stream in listener.incoming().flatten() {
        // One at a time: each takes as long as a line in a file.
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        // Who went away meanwhile gets no answer.
        let _ = one(&stream, &vars);
    }
}

fn one(
    mut stream: &TcpStream,
    vars: &impl Fn(&[String]) -> Result<BTreeMap<String, String>, String>,
) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let asked = serde_json::from_str::<Question>(&line).map_err(|e| e.to_string());
    let asked = asked.and_then(|asked| match asked.version {
        VERSION => Ok(asked.argv),
        other => Err(format!("version {other} is not known here")),
    });
    let mut answer = match asked.and_then(|argv| vars(&argv)) {
        Ok(vars) => Answer { vars, error: None },
        Err(error) => Answer { vars: BTreeMap::new(), error: Some(error) },
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    answer.vars.values_mut().for_each(Zeroize::zeroize);
    let written = stream.write_all(&bytes);
    bytes.zeroize();
    written
}
