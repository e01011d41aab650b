//! What a program asks for, and what it is answered where it may not have it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Fields that are between a program and a proxy, or would make the connection carry something else
/// (RFC 9110, 7.6.1).
const BETWEEN: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Whether a field, by its name in small letters, does not go on.
pub(super) fn is_between(name: &str) -> bool {
    BETWEEN.contains(&name)
}

/// A request line and its fields are not longer, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// How many fields a request has at most.
const MOST_FIELDS: usize = 128;

/// What a program wanted from the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Seen {
    /// It is being reached.
    Reached {
        /// Host and port.
        target: String,
    },
    /// No rule names it.
    NotListed {
        /// Host and port.
        target: String,
    },
    /// It was asked for in a way that is not allowed, or could not be reached.
    Refused {
        /// Host and port, as far as they could be read.
        target: String,
        /// Why.
        why: String,
        /// A rule names it, and it leads to this machine or its network.
        near: bool,
    },
}

/// Told of everything that is seen, from several threads.
pub type Tell = Arc<dyn Fn(Seen) + Send + Sync>;

/// A request that is not served: what the program is answered.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Of HTTP.
    pub status: u16,
    pub target: String,
    pub why: String,
    /// Only because no rule names the target.
    pub unlisted: bool,
    /// Only because it leads to this machine or its network.
    pub near: bool,
}

impl Refusal {
    pub fn new(status: u16, target: impl ToString, why: impl ToString) -> Refusal {
        let (target, why) = (target.to_string(), why.to_string());
        Refusal { status, target, why, unlisted: false, near: false }
    }
}

/// A request without its body.
#[derive(Debug)]
pub(super) struct Head {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, Vec<u8>)>,
    /// Whether it is of HTTP/1.0.
    pub old: bool,
}

impl Head {
    /// The values of a field, by its name in small letters.
    pub fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        let is = move |(n, _): &&(String, Vec<u8>)| n == name;
        self.fields.iter().filter(is).map(|(_, value)| value.as_slice())
    }
}

impl Head {
    /// Whether no other request follows.
    pub fn closes(&self) -> bool {
        self.old || self.all("connection").any(|value| names(value, "close"))
    }
}

/// The next request of a connection; none, where it ended before one began. What was read beyond a
/// head is in `read`, before and afterwards.
pub(super) fn read_head(from: &mut impl Read, read: &mut Vec<u8>) -> Result<Option<Head>, Refusal> {
    let bad = |why: String| Refusal::new(400, "?", why);
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(read) {
            Ok(httparse::Status::Complete(end)) => {
                let field =
                    |f: &httparse::Header<'_>| (f.name.to_ascii_lowercase(), f.value.to_vec());
                let head = Head {
                    method: request.method.unwrap_or_default().to_owned(),
                    target: request.path.unwrap_or_default().to_owned(),
                    fields: request.headers.iter().map(field).collect(),
                    old: request.version == Some(0),
                };
                read.drain(..end);
                return Ok(Some(head));
            }
            Ok(httparse::Status::Partial) if read.len() < LONGEST_HEAD => {}
            Ok(httparse::Status::Partial) => return Err(bad("its head is too long".into())),
            Err(e) => return Err(bad(format!("it is no request to a proxy: {e}"))),
        }
        let mut buffer = [0; 4096];
        match from.read(&mut buffer) {
            Ok(0) if read.is_empty() => return Ok(None),
            Ok(0) => return Err(bad("it ended before its head did".into())),
            Ok(n) => read.extend_from_slice(&buffer[..n]),
            // A connection that breaks between two requests is one that ended.
            Err(_) if read.is_empty() => return Ok(None),
            Err(e) => return Err(bad(e.to_string())),
        }
    }
}

/// Whether a list of a field's has that word in it.
pub(super) fn names(list: &[u8], word: &str) -> bool {
    list.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Copies everything that comes, then says that nothing more will.
pub(super) fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    // An error ends this direction as the end does.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Answers what is not served.
pub(super) fn answer(client: &mut impl Write, refusal: &Refusal) {
    let Refusal { status, target, why, .. } = refusal;
    let reason = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        _ => "Service Unavailable",
    };
    let body = format!("zagi: {target}: {why}\n");
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Who hangs up meanwhile gets no answer.
    let _ = client.write_all(text.as_bytes());
    let _ = client.flush();
}
