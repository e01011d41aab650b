//! zagi: `git clone`, but it runs.
//!
//! A repository is a directory that runs: source, dependencies, tools and history are
//! seen as one tree. What somebody else built is shared, read-only and addressed by its
//! content; what you change is yours, cheap, and kept.
//!
//! # Code map
//!
//! Floors, from the top. A room imports only from floors below its own, and rooms on one
//! floor know nothing of each other (`tests/tidy.rs` enforces it).
//!
//! | floor | room | what is in it |
//! |---|---|---|
//! | 6 | `main` | returns an exit code, nothing else |
//! | 5 | [`cli`] | one file a command; the only room that prints, prompts or reads argv |
//! | 4 | [`workspace`] | create, mount, materialise, list, discard; the daemon; implements `Layer` over git trees and store trees |
//! | 3 | [`source`] | what REPO may be → a shared bare clone and a revision |
//! | 3 | [`dependencies`] | plan, install once, capture, relocate |
//! | 3 | [`services`] | databases and the like: made, started, asked, stopped |
//! | 3 | [`system`] | values and apps under another user: the broker that is asked for them |
//! | 2 | [`environment`] | spec, lock, `detect/`, catalogue, `provider/`, realise, activate |
//! | 2 | [`secrets`] | values encrypted in the tree, signed; who may read them; the record of each use |
//! | 1 | [`registry`] | one HTTP client; npm, PyPI, Debian, crates and Nix caches as protocols; archives |
//! | 1 | [`store`] | packs, trees, refs, farm |
//! | 1 | [`egress`] | the way out of a sandbox: a proxy that reaches the hosts of a list |
//! | 1 | [`redteam`] | what a sandbox is to stop, tried for real |
//! | 1 | `zagi-fuse` (`fuse/`) | the overlay and the kernel adapter that presents it |
//! | 1 | `zagi-sandbox` (`sandbox/`) | executes a plain plan: namespaces, mounts, capabilities |
//! | 0 | [`context`], [`home`], [`config`], [`event`], [`nearest`], [`ordinary`], [`proxy`], [`redact`] | what is passed in: paths, addresses, clock, progress; what somebody may have meant; files that others may exchange; the user's proxies; values taken out of a text |
//!
//! # Architecture invariants
//!
//! - Only `cli` prints, prompts, or reads the terminal. The library reports progress
//!   through [`event::Events`].
//! - The library reads no global state: home, clock, environment and network addresses
//!   arrive in [`context::Context`]. So every test is hermetic and every registry can be
//!   another (a mirror, a test server).
//! - Where a tool comes from is catalogue data (`environment/catalog.toml`), never code:
//!   detection names tools, providers do not.
//! - What is in the store is never changed; what is not verified is never used.
//! - The daemon never touches its own mounts by path.
//! - A secret's value is in memory that is in no swap and no core dump, and leaves it only with
//!   the receipt of an audit row that is on disk; no type that holds one can be printed.
//! - `unsafe` stands in `fuse/src/sys.rs` and `sandbox/src/sys.rs` (with `sys/`) only, and in `sandbox/tests/sys.rs`,
//!   which attacks.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[cfg(test)]
mod chance;
pub mod cli;
pub mod config;
pub mod context;
pub mod dependencies;
pub mod egress;
pub mod environment;
pub mod event;
pub mod home;
pub mod nearest;
pub mod ordinary;
#[cfg(test)]
#[path = "../tests/support/program.rs"]
mod program;
pub mod proxy;
pub mod redact;
pub mod redteam;
pub mod registry;
pub mod secrets;
pub mod services;
pub mod source;
pub mod store;
pub mod system;
pub mod workspace;
