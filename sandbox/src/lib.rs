//! The launcher: executes a plain [`Plan`] in namespaces of its own.
//!
//! The program that wants something confined fills a plan, a plain value, and hands it to
//! [`spawn`]. This crate starts the same program again as `helper __sandbox`, which is
//! single-threaded and starts with an empty environment, reads the plan from its standard
//! input, and becomes three processes:
//!
//! ```text
//! caller ── socket ──▶ supervisor   outside; kills the tree when the caller goes away
//!                        └─ init    process 1 of the new pid namespace: builds the root,
//!                             │     drops everything, reaps
//!                             └─ program   what the plan asked for
//! ```
//!
//! What holds for the program, as root and as an ordinary user, and is checked before it
//! starts (see [`Enforced`]):
//!
//! - own user, mount, pid, ipc and uts namespaces; an empty network namespace unless the
//!   plan gives the network;
//! - a root made from nothing: the host's system directories read-only, a few named files
//!   of `/etc`, its own `/proc`, `/dev`, `/tmp` and home, and the plan's binds. No other
//!   path of the host exists: no home directory, `/run`, `/var/run`, `/sys`;
//! - only the plan's variables, no file descriptor but 0 to 2, no controlling terminal, no
//!   keyring of the caller's;
//! - no capability in any set, no way to a new one: `no_new_privs`, no further user
//!   namespace, nothing setuid, no device but the harmless ones.
//!
//! Beside that, [`show`] is no sandbox: it lets a process see one directory at a place where
//! the host has none, and nothing else changes for it.
//!
//! # What it is not
//!
//! - No boundary against a kernel exploit: there is no system call filter.
//! - With the network given, services of this machine that listen on TCP can be reached,
//!   and so can whatever answers on its network without a password (a cloud's metadata
//!   service).
//! - An ordinary user's supplementary groups stay (the kernel lets nobody unprivileged drop
//!   them); files that only a group may read are protected by not being bound.
//!
//! It fails closed: where the machine cannot do one of these there is an error that names
//! the step, and no program. The one thing that may be missing is said in
//! [`Enforced::abstract_sockets_closed`].
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![deny(unsafe_code)]

mod error;
mod helper;
mod plan;
mod privileges;
mod probe;
mod report;
mod root;
mod spawn;
mod sys;
mod verify;
mod view;

pub use error::{SandboxError, Step};
pub use helper::main_if_asked;
pub use plan::{Bind, Identity, Plan, Profile};
pub use probe::{Probe, probe};
pub use report::Enforced;
pub use spawn::{Child, Exit, Killer, spawn};
pub use view::show;

/// The first argument by which [`spawn`] asks the program to be its helper.
pub const HELPER_ARGUMENT: &str = "__sandbox";
