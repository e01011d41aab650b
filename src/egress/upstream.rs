//! The user's own proxy, through which ours goes on where there is one.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::address;
use super::rule::Target;
use crate::proxy::Named;

/// How long it may take to open a tunnel.
const PATIENCE: Duration = Duration::from_secs(60);
/// The head of its answer is not longer, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// See the module. No text of it is shown: it may hold a password.
pub(super) struct Upstream {
    at: Target,
    variable: String,
    /// What it wants to be told, for a user that it knows.
    authorization: Option<String>,
}

impl Upstream {
    /// The proxy of a variable.
    pub fn of(named: &Named) -> io::Result<Upstream> {
        let Named { variable, address } = named;
        let wrong = || {
            let said = format!(
                "the variable {variable} holds no proxy that can be used: say `http://host:port`"
            );
            io::Error::other(said)
        };
        let rest = match address.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(wrong()),
            None => address,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut both = plain(name);
            both.push(b':');
            both.extend(plain(password));
            format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(both))
        });
        let at = Target::parse(host, Some(80)).ok_or_else(wrong)?;
        Ok(Upstream { at, variable: variable.clone(), authorization })
    }

    /// A connection to it: it is the user's, so it may be of this machine.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let failed = |e| self.said(&format!("is not reached: {e}"));
        address::connect(&self.at, true).map_err(failed)
    }

    /// The field by which it knows the user, with its end; or nothing.
    pub fn authorization(&self) -> &str {
        self.authorization.as_deref().unwrap_or_default()
    }

    /// Has it lead a connection to `target`.
    pub fn tunnel(&self, stream: &mut TcpStream, target: &Target) -> io::Result<()> {
        let own = self.authorization();
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{own}\r\n");
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        // What follows the head is the target's.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if head.len() >= LONGEST_HEAD || stream.read(&mut byte)? == 0 {
                return Err(self.said("gave no answer"));
            }
            head.push(byte[0]);
        }
        stream.set_read_timeout(None)?;
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = line.escape_ascii().to_string();
        let status = line.split(' ').nth(1).unwrap_or_default();
        match line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
            true => Ok(()),
            false => Err(self.said(&format!("answers: {line}"))),
        }
    }

    fn said(&self, what: &str) -> io::Error {
        io::Error::other(format!("the proxy {} of {} {what}", self.at, self.variable))
    }
}

/// Percent-encoded text as it is meant (RFC 3986, 2.1).
fn plain(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(meant) => {
                out.push(meant);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}
