//! What may be reached, and what is put in on the way.

use std::io;
use std::net::TcpStream;

use super::broker::Broker;
use super::request::{Head, Refusal, Seen, Tell};
use super::rule::{Rules, Target};
use super::upstream::Upstream;
use super::{address, inject};
use crate::proxy::Proxies;

/// What all connections have in common.
pub struct Way {
    /// The hosts that may be reached.
    pub rules: Rules,
    /// The user's own proxies, through which it goes on.
    pub proxies: Proxies,
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

    /// Reaches the target, if a rule names it, for whatever is said there.
    pub(super) fn reach(&self, target: &Target) -> Result<TcpStream, Refusal> {
        self.listed(target)?;
        self.open(target, self.rules.may_be_near(target))
    }

    /// Reaches the target, if a rule names it, for plain HTTP; or a proxy that takes that for it.
    pub(super) fn reach_plain(
        &self,
        target: &Target,
    ) -> Result<(TcpStream, Option<Upstream>), Refusal> {
        self.listed(target)?;
        self.begin(target, "http", self.rules.may_be_near(target))
    }

    fn listed(&self, target: &Target) -> Result<(), Refusal> {
        if self.rules.name(target) {
            return Ok(());
        }
        let why = "it is not among the hosts that may be reached";
        Err(Refusal { unlisted: true, ..Refusal::new(403, target, why) })
    }

    /// A connection to the target: where `near`, wherever it leads.
    pub(super) fn open(&self, target: &Target, near: bool) -> Result<TcpStream, Refusal> {
        // What is tunnelled to the port of plain HTTP is that.
        let scheme = if target.port == 80 { "http" } else { "https" };
        let (mut stream, upstream) = self.begin(target, scheme, near)?;
        if let Some(upstream) = upstream {
            upstream.tunnel(&mut stream, target).map_err(|e| Refusal::new(502, target, e))?;
        }
        Ok(stream)
    }

    /// A connection to the target, or to the proxy that is to go on from there.
    fn begin(
        &self,
        target: &Target,
        scheme: &str,
        near: bool,
    ) -> Result<(TcpStream, Option<Upstream>), Refusal> {
        let failed = |e: io::Error| {
            let near = address::is_refusal(&e);
            Refusal { near, ..Refusal::new(502, target, e) }
        };
        let Some(named) = self.proxies.to(scheme, &target.host) else {
            return Ok((address::connect(target, near).map_err(failed)?, None));
        };
        let upstream = Upstream::of(named).map_err(failed)?;
        if !near {
            address::refuse_near(target).map_err(failed)?;
        }
        Ok((upstream.connect().map_err(failed)?, Some(upstream)))
    }

    pub(super) fn reached(&self, target: &Target) {
        (self.tell)(Seen::Reached { target: target.to_string() });
    }
}
