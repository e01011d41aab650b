//! What may be reached, and what is put in on the way.

use std::net::TcpStream;

use super::broker::Broker;
use super::request::{Head, Refusal, Seen, Tell};
use super::rule::{Rules, Target};
use super::{address, inject};

/// What all connections have in common.
pub struct Way {
    /// The hosts that may be reached.
    pub rules: Rules,
    /// Who puts in values, where there are any.
    pub broker: Option<Broker>,
    /// Who is told.
    pub tell: Tell,
}

impl Way {
    /// Refuses a request to a host that no value goes to, if it holds a placeholder.
    pub(super) fn keeps_placeholders(&self, target: &Target, head: &Head) -> Result<(), Refusal> {
        for credential in self.broker.iter().flat_map(|broker| &broker.credentials) {
            let has = |bytes: &[u8]| {
                memchr::memmem::find(bytes, credential.placeholder().as_bytes()).is_some()
            };
            if has(head.target.as_bytes()) || head.fields.iter().any(|(_, value)| has(value)) {
                return Err(inject::misplaced(&**credential, target, "the request"));
            }
        }
        Ok(())
    }

    /// Reaches the target, if a rule names it.
    pub(super) fn reach(&self, target: &Target) -> Result<TcpStream, Refusal> {
        if !self.rules.name(target) {
            let why = "it is not among the hosts that may be reached";
            return Err(Refusal { unlisted: true, ..Refusal::new(403, target, why) });
        }
        // A rule named the address itself: it is meant.
        let meant = self.rules.names_address(target);
        address::connect(target, meant).map_err(|e| Refusal::new(502, target, e))
    }

    pub(super) fn reached(&self, target: &Target) {
        (self.tell)(Seen::Reached { target: target.to_string() });
    }
}
