//! What the project's own package manager installs: planned, installed once in the
//! sandbox, captured, attached.
//!
//! | file | what is in it |
//! |---|---|
//! | `plan.rs`, `plan/` | which commands install a project, and the key over all that they read |
//! | `install.rs` | look up by key, or install: one installer a key, nothing half-made |
//! | `confine.rs` | what an installation may see |
//! | `attempt.rs` | what runs in a workspace that is there: its tests, packages besides |
//! | `network.rs` | where on the network it may go, and what was refused |
//! | `run.rs` | one command: its log, its progress, what its refusal means |
//! | `capture.rs` | what it left behind, made ready for the store |
//! | `record.rs` | the format of what is stored of an installation |
//! | `relocate.rs` | paths in captured files, for the place where they are attached |
//! | `cargo.rs` | cargo's downloads, shared between installations |
//!
//! # What holds
//!
//! - A key that is in the store is looked up: no process, no lock, no network.
//! - An installation runs a stranger's code (build back ends, `postinstall`). It sees its
//!   own copy of the source, the tools, its manager's download cache, and of the network
//!   the registries and what else is allowed, unless that is off; it writes to the first and
//!   the third. When it is over, what it left is handled as a stranger's: no link of it is
//!   followed.
//! - The download caches are shared by all installations of one home. The managers check
//!   what they take from there against the hashes of a lock file, where it has some; what
//!   was built or resolved without a lock is trusted as far as the projects that share the
//!   home are.
//! - The ref is set last. Whoever is killed before leaves a scratch directory that the next
//!   process sweeps, and the downloads, from which the next attempt goes on.

mod attempt;
mod capture;
mod cargo;
mod confine;
mod install;
mod network;
pub mod plan;
mod record;
pub mod relocate;
mod run;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

pub use attempt::{Attempt, Place};
pub use confine::{CERTIFICATES, Tools, certificates, show, withhold};
pub use install::{Provided, lookup, provide};
pub use network::allowing;
pub use plan::{Ids, Plan, hosts, plan};
pub use record::{Need, REFS, RecordError, name as ref_name};
pub use relocate::Relocations;

use crate::egress::RuleError;
use crate::store::StoreError;

/// Where every project is installed, in the sandbox.
pub const WORKSPACE: &str = "/zagi/workspace";

/// What programs say that look for the network themselves.
const UNREACHED: [&str; 5] = [
    "EAI_AGAIN",
    "ENETUNREACH",
    "Could not resolve host",
    "Temporary failure in name resolution",
    "Network is unreachable",
];

/// Why dependencies cannot be provided.
#[derive(Debug, thiserror::Error)]
pub enum DependenciesError {
    /// The sandbox refused; no command was run.
    #[error("cannot install dependencies: {source}")]
    Sandbox {
        /// What it cannot do.
        source: zagi_sandbox::SandboxError,
    },
    /// The source could not be written to the place of installation.
    #[error("cannot check the source out to install its dependencies: {source}")]
    Checkout {
        /// The kernel's or git's answer.
        source: io::Error,
    },
    /// The lock file does not fit the manifest, and the manager refuses it.
    #[error("`{lock}` does not fit the project's manifest:\n{tail}")]
    LockDisagrees {
        /// The lock file's path in the repository.
        lock: String,
        /// The command that brings it up to date.
        update: String,
        /// The manager's own words.
        tail: String,
    },
    /// Something is not in the caches, and the network may not be used.
    #[error("`{command}` needs what was never downloaded, and the network is off:\n{missing}")]
    Offline {
        /// The command.
        command: String,
        /// The manager's words on what is missing.
        missing: String,
    },
    /// The manager failed.
    #[error("`{command}` failed ({exit}):\n{tail}")]
    Install {
        /// The command.
        command: String,
        /// How it ended.
        exit: zagi_sandbox::Exit,
        /// Its last lines.
        tail: String,
        /// All that it said.
        log: PathBuf,
        /// Hosts that it was not let to.
        refused: BTreeSet<String>,
    },
    /// What installations may reach cannot be understood.
    #[error("`[install] hosts` in `$ZAGI_HOME/config.toml`: {source}")]
    Hosts {
        /// Which, and how it should be.
        source: RuleError,
    },
    /// A file of the installation cannot be read, moved or written.
    #[error("cannot handle `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The record of an installation cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store cannot keep it or give it back.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DependenciesError {
    fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> DependenciesError + '_ {
        move |source| DependenciesError::File { path: path.to_owned(), source }
    }

    /// What the user can do about it, where something is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            DependenciesError::Sandbox { source } => source.hint(),
            DependenciesError::LockDisagrees { update, lock, .. } => {
                Some(format!("run `{update}` and commit `{lock}`, or mount with `--no-deps`"))
            }
            DependenciesError::Offline { .. } => {
                Some("run it once without `--offline`, or mount with `--no-deps`".into())
            }
            DependenciesError::Install { log, refused, tail, .. } => {
                let unheard = || {
                    let said = UNREACHED.iter().any(|words| tail.contains(words));
                    let why = "the network is reached by the proxy in `https_proxy` alone";
                    said.then(|| why.to_owned())
                };
                let network = allowing(refused).or_else(unheard);
                let network = network.map(|text| format!("{text}; ")).unwrap_or_default();
                Some(format!(
                    "{network}the whole log is in `{}`; `--no-deps` mounts without dependencies",
                    log.display()
                ))
            }
            _ => None,
        }
    }
}
