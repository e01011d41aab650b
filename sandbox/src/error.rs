//! Why a plan could not be executed.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The helper's steps, in their order. A failure names the one it happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Reading the plan and checking that it makes sense.
    Plan,
    /// Leaving the caller's descriptors, session, groups and keyring behind.
    Detach,
    /// Making the namespaces.
    Namespaces,
    /// Mapping the user into the new user namespace.
    Identity,
    /// Starting the processes inside.
    Fork,
    /// Opening what a bind names on the host.
    Source,
    /// Making the new root.
    Root,
    /// Putting a bind in its place.
    Bind,
    /// Mounting `/proc`.
    Proc,
    /// Making `/dev`.
    Devices,
    /// Changing to the new root.
    Pivot,
    /// Host name, loopback.
    Host,
    /// Pinning what stays as it is.
    Pin,
    /// Making a terminal for the program, or showing it on the caller's.
    Terminal,
    /// Making sockets that the caller is to serve.
    Listen,
    /// Setting limits.
    Limits,
    /// Closing system calls.
    Filter,
    /// Landlock.
    Landlock,
    /// Dropping privileges.
    Privileges,
    /// Checking that all of it took effect.
    Verify,
    /// Entering the plan's working directory.
    Directory,
    /// Executing the program.
    Exec,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Plan => "understand the plan",
            Step::Detach => "leave the caller's session",
            Step::Namespaces => "make namespaces",
            Step::Identity => "map the user",
            Step::Fork => "start a process inside",
            Step::Source => "open",
            Step::Root => "make the new root",
            Step::Bind => "bind",
            Step::Proc => "mount /proc",
            Step::Devices => "make /dev",
            Step::Pivot => "change to the new root",
            Step::Host => "name the host",
            Step::Pin => "pin",
            Step::Terminal => "make a terminal",
            Step::Listen => "listen inside",
            Step::Limits => "set limits",
            Step::Filter => "close system calls",
            Step::Landlock => "enforce Landlock rules",
            Step::Privileges => "drop privileges",
            Step::Verify => "verify what is enforced",
            Step::Directory => "enter",
            Step::Exec => "execute",
        })
    }
}

/// Why [`crate::spawn`] or [`crate::Child`] failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The helper could not be started.
    #[error("cannot start the sandbox helper `{helper}`: {source}")]
    Helper {
        /// The program that was to be the helper.
        helper: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The helper ended or spoke nonsense: it is not a program that calls
    /// [`crate::main_if_asked`], or it was killed.
    #[error("the sandbox helper `{helper}` went away ({status})")]
    Lost {
        /// The helper.
        helper: PathBuf,
        /// How it ended.
        status: String,
    },
    /// A step failed inside; no program was started.
    #[error("sandbox: cannot {step}{}: {source}", on(.path))]
    Setup {
        /// The step.
        step: Step,
        /// What it was at, where that is a path or a name.
        path: Option<String>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory cannot be shown elsewhere: see [`crate::show`].
    #[error("cannot show `{directory}` at `{target}`: cannot {step}{}: {source}", on(.path))]
    Show {
        /// The directory.
        directory: PathBuf,
        /// Where it was to be seen.
        target: PathBuf,
        /// The step.
        step: Step,
        /// What it was at.
        path: Option<String>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program is not there or cannot be executed; nothing ran.
    #[error("cannot execute `{program}` in the sandbox: {source}")]
    Exec {
        /// The program as the plan named it.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn on(path: &Option<String>) -> String {
    path.as_ref().map(|p| format!(" `{p}`")).unwrap_or_default()
}

impl SandboxError {
    /// What the user can do about it, where something is known.
    pub fn hint(&self) -> Option<String> {
        let (SandboxError::Setup { step, source, .. } | SandboxError::Show { step, source, .. }) =
            self
        else {
            return None;
        };
        let refused = matches!(
            source.raw_os_error(),
            Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EINVAL | libc::ENOSYS)
        );
        if !refused {
            return None;
        }
        match step {
            Step::Namespaces | Step::Identity | Step::Root => Some(crate::probe::why_not()),
            Step::Proc => Some(
                "inside a container `/proc` must be mounted without masks for this \
                 (docker run --security-opt systempaths=unconfined)"
                    .into(),
            ),
            _ => None,
        }
    }
}
