//! Services: how a tool that serves is made ready, started, asked and stopped.
//!
//! ```toml
//! [service.postgres]
//! about = "PostgreSQL"
//! tool = "postgres"
//! port = 5432
//! socket = "{run}/.s.PGSQL.{port}"
//! start = ["postgres", "-D", "{data}", "-k", "{run}", "-p", "{port}", "-c", "listen_addresses="]
//! listen = ["-c", "listen_addresses=127.0.0.1"]
//! stop = "INT"
//! env = { PGHOST = "{run}" }
//! [[service.postgres.make]]
//! run = ["initdb", "-D", "{data}"]
//! [service.postgres.check]
//! send = 'PING\r\n'
//! expect = '+PONG'
//! ```
//!
//! Texts may hold `{data}` (the directory of its data), `{run}` (a directory for its socket),
//! `{socket}`, `{port}` (the one that was asked for, or else the usual one), `{root}` (the
//! tool's tree), and `{run-url}` and `{socket-url}`, as they stand in an address. A program
//! without `/` is one of the environment's.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Service {
    /// One line for people.
    pub about: String,
    /// The tool that brings its programs.
    pub tool: String,
    /// The port by which it is usually known.
    pub port: u16,
    /// The path of its socket.
    pub socket: String,
    /// A newer line of releases takes over the data of an older one by itself.
    #[serde(default)]
    pub upgrades: bool,
    /// What makes its data, once.
    #[serde(default)]
    pub make: Vec<Make>,
    /// What starts it, in the foreground, listening at its socket and nowhere else.
    pub start: Vec<String>,
    /// Arguments added where it is to listen at a port of 127.0.0.1 too.
    pub listen: Vec<String>,
    /// The signal by which it stops in good order: `INT`, `TERM`, …
    pub stop: String,
    /// How it shows that it is ready.
    pub check: Check,
    /// Variables by which programs find it.
    pub env: BTreeMap<String, String>,
    /// Those that are others where it listens at a port.
    #[serde(default)]
    pub env_listening: BTreeMap<String, String>,
}

/// One command that makes the data.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Make {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// What it reads.
    #[serde(default)]
    pub input: String,
}

/// What is said to a service over its socket, and what must be in its answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Bytes; `\r`, `\n`, `\\` and `\xHH` stand for what they do elsewhere.
    #[serde(default)]
    pub send: String,
    /// Likewise.
    pub expect: String,
}

impl Check {
    /// The bytes of one of its texts; `None` where it is not well formed.
    pub fn bytes(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.extend(&rest.as_bytes()[..at]);
            let (byte, length) = match rest[at + 1..].chars().next()? {
                'r' => (b'\r', 1),
                'n' => (b'\n', 1),
                '\\' => (b'\\', 1),
                'x' => (u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?, 3),
                _ => return None,
            };
            out.push(byte);
            rest = &rest[at + 1 + length..];
        }
        out.extend(rest.as_bytes());
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_elsewhere() {
        assert_eq!(Check::bytes(r"a\r\n\\\x00\xffé").unwrap(), b"a\r\n\\\0\xff\xc3\xa9");
        for wrong in [r"\", r"\q", r"\x0", r"\xgg"] {
            assert_eq!(Check::bytes(wrong), None, "{wrong}");
        }
    }
}
