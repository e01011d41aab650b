//! What a program asks for, and what it may have.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use super::address;
use super::rule::{Rules, Target};

/// What a program wanted from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl Refusal {
    pub fn new(status: u16, target: impl ToString, why: impl ToString) -> Refusal {
        Refusal { status, target: target.to_string(), why: why.to_string(), unlisted: false }
    }
}

/// What all connections have in common.
pub(super) struct Way {
    pub rules: Rules,
    pub tell: Tell,
}

/// A request without its body.
#[derive(Debug)]
pub(super) struct Head {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The values of a field, by its name in small letters.
    pub fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        let is = move |(n, _): &&(String, Vec<u8>)| n == name;
        self.fields.iter().filter(is).map(|(_, value)| value.as_slice())
    }
}

impl Way {
    /// Reaches the target, if a rule names it.
    pub fn reach(&self, target: &Target) -> Result<TcpStream, Refusal> {
        if !self.rules.name(target) {
            let why = "it is not among the hosts that may be reached";
            return Err(Refusal { unlisted: true, ..Refusal::new(403, target, why) });
        }
        address::connect(target).map_err(|e| Refusal::new(502, target, e))
    }

    pub fn reached(&self, target: &Target) {
        (self.tell)(Seen::Reached { target: target.to_string() });
    }
}

/// Copies everything that comes, then says that nothing more will.
pub(super) fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    // An error ends this direction as the end does.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
