//! The way out of a sandbox: a forward proxy that reaches the hosts of a list and nothing else.
//!
//! A confined program has a network of its own with nothing in it but a loopback port
//! ([`zagi_sandbox::Plan::listen`]); what connects there is accepted outside and served here, in
//! what every tool speaks to a proxy: `CONNECT host:port` (RFC 9110, 9.3.6), and requests in
//! absolute form for plain HTTP (RFC 9112, 3.2.2).
//!
//! # What holds
//!
//! - Only what a [`Rule`] names is reached: a host and a port. Names are ASCII, compared without
//!   case; whatever else stands in a request's place for a host is refused.
//! - A name is resolved here, once, and the addresses that came of it are the ones that are reached.
//!   Those of this machine and of its own network (loopback, private, link local: also where clouds
//!   tell passwords) are refused, unless a rule names that very address, or may be near
//!   ([`Rules::and_near`]): a mirror of the user's own configuration, `localhost` that was granted.
//! - Where the user's variables name a proxy for a host ([`crate::proxy`]), it is reached through
//!   that one. The password in its address stays here.
//! - A tunnel to port 443 begins with TLS that asks for the host of the tunnel: a front that serves
//!   many names leads to no other of them.
//! - A plain request is passed on in origin form with one `Host` field, the target's; its
//!   connection carries no second one.
//! - Whatever was reached or refused is told to the caller ([`Seen`]) before a byte of it passes.
//!
//! # Values
//!
//! A program that has a placeholder of a secret ([`Credential`]) gets its value put in here
//! ([`Broker`]): what it sends to the secret's host is decrypted, by a certificate that is trusted
//! inside alone, and goes on to the host itself, whose certificate is checked. See `inject` for
//! where a value goes, `intercept` for what comes back. A placeholder in the head of any other
//! request that can be read is refused, and told.
//!
//! # What it is not
//!
//! - It does not look into TLS with other hosts: what a listed host is sent is between the program
//!   and that host.
//! - It does not search bodies for placeholders: they are worth nothing elsewhere.
//! - Behind a proxy of the user's it is that one which looks names up. What is known here to be near is
//!   refused all the same; a name that only the other proxy knows is not.

mod address;
mod authority;
mod body;
mod broker;
mod hello;
mod inject;
mod inside;
mod intercept;
mod plain;
mod registries;
mod request;
mod rule;
mod serve;
mod tunnel;
mod upstream;
mod way;

pub use broker::{Broker, BrokerError, Credential, Elsewhere, Wanted};
pub use inside::{PROXY, Serving, listens, near, serve_all, serve_near, variables};
pub use registries::registries;
pub use request::{Seen, Tell};
pub use rule::{Rule, RuleError, Rules};
pub use serve::{serve, serve_hosts, serve_taken};
pub use way::Way;

#[cfg(test)]
mod tests;
