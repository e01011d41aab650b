//! The launcher: executes a plain [`Plan`] in namespaces of its own.
//!
//! The program that wants something confined fills a plan, a plain value, and hands it to
//! [`spawn`], or with its own streams and terminal to [`launch`]. This crate starts the same
//! program again as `helper __sandbox`, which is single-threaded and starts with an empty
//! environment, reads the plan from its standard input, and becomes three processes:
//!
//! ```text
//! caller ── socket ──▶ supervisor   outside; pins, and kills the tree when the caller goes away
//!                        └─ init    process 1 of the new pid namespace: builds the root,
//!                             │     drops everything, reaps
//!                             └─ program   what the plan asked for
//! ```
//!
//! What holds for the program, as root and as an ordinary user, and is checked before it
//! starts (see [`Enforced`]):
//!
//! - own user, mount, pid, ipc, uts and cgroup namespaces; an empty network namespace unless
//!   the plan gives the network, in which the caller may serve a few ports ([`Plan::listen`]) and
//!   reach those of the program ([`Plan::publish`]);
//! - a root made from nothing: the host's system directories read-only, a few named files
//!   of `/etc`, its own `/proc`, `/dev`, `/tmp` and home, and the plan's binds. No other
//!   path of the host exists: no home directory, `/run`, `/var/run`, `/sys`. What is pinned
//!   inside a writable bind ([`Plan::pins`]) can be neither changed, replaced nor made;
//! - the same said once more by Landlock, whose scopes also keep signals and connections to
//!   abstract unix sockets inside;
//! - only the plan's variables, no file descriptor but 0 to 2, no terminal but one of its own,
//!   no keyring of the caller's; no core dump;
//! - no capability in any set, no way to a new one: `no_new_privs`, no further user
//!   namespace, nothing setuid, no device but the harmless ones;
//! - no system call that reaches out of the sandbox or into the kernel's frailest parts: a table
//!   with reasons, `filter/table.rs`.
//!
//! What is executed inside can be told to the caller ([`Plan::watch`]): a record, no boundary.
//!
//! The profiles differ in what they may do without ([`Plan::new`]) and in one group of that
//! table: a service debugs nobody. All else is the plan's.
//!
//! Beside that, [`show`] is no sandbox: it lets a process see one directory at a place where
//! the host has none, and nothing else changes for it. And [`Pages`] is memory that is in no
//! swap and no core dump. [`without`] is for whoever looks at what others name, and has something to
//! keep from them; [`Plan::hidden`] keeps it from what is shown. [`attempt`] is for whoever tries what a sandbox is to stop.
//!
//! # What it is not
//!
//! - No boundary against a kernel exploit: the system call filter closes what is named and
//!   leaves the rest open.
//! - No protection *of* the program from outside: an unconfined process of the same user reads
//!   its memory and files. Confine who is not to.
//! - With the network given, services of this machine that listen on TCP can be reached,
//!   and so can whatever answers on its network without a password (a cloud's metadata
//!   service).
//! - A pinned path is held by a mount, which the kernel takes away when somebody *outside*
//!   exchanges the file below it by renaming (`git config` does). It is pinned again at once,
//!   not in the same instant: who waits inside for just that may get a write in. Pin
//!   directories where there is a choice. A second name of a pinned file (a hard link) is another
//!   path.
//! - What the program writes to its terminal is shown on the caller's: escape sequences are the
//!   caller's terminal's affair, and so is what it answers to them.
//! - An ordinary user's supplementary groups stay (the kernel lets nobody unprivileged drop
//!   them); files that only a group may read are protected by not being bound.
//! - 32-bit programs are killed; a program that needs user namespaces of its own (a browser's
//!   sandbox, containers) must do without.
//! - Without [`Plan::limits`] it may use all of the machine; with them a plan needs a cgroup of
//!   version 2 that this user may make, or says ([`Weaker::Limits`]) that less will do.
//!
//! It fails closed: where the machine cannot do one of these there is an error that names
//! the step, and no program. What a plan says that it can do without ([`Plan::weaker`]) and is
//! not there is said in [`Enforced::missing`].
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![deny(unsafe_code)]

mod apart;
mod attend;
mod error;
mod fence;
mod filter;
mod helper;
mod init;
mod limits;
mod pages;
mod pins;
mod plan;
mod ports;
mod private;
mod privileges;
mod probe;
mod program;
mod pty;
mod report;
mod root;
mod runs;
mod spawn;
mod sys;
mod verify;
mod view;
mod wire;

pub use apart::without;
pub use attend::{Console, Filter};
pub use error::{SandboxError, Step};
pub use helper::main_if_asked;
pub use pages::{Kept, Pages};
pub use plan::{Bind, Hidden, Identity, Limits, Pin, Plan, Profile, Weaker};
pub use ports::Ports;
pub use private::{Private, SECRETS};
pub use probe::{Probe, probe};
pub use report::{Enforced, Keeper, Limit};
pub use runs::{Ran, Runs};
pub use spawn::{Child, Exit, Killer, Status, launch, spawn, spawn_on};
pub use sys::attempt;
pub use view::show;

/// The first argument by which [`spawn`] asks the program to be its helper.
pub const HELPER_ARGUMENT: &str = "__sandbox";
