//! What can go wrong with a workspace.

use std::io;
use std::path::{Path, PathBuf};

use zagi_sandbox::SandboxError;

use super::agent::grants::GrantsError;
use super::daemon::DaemonError;
use super::description::DescriptionError;
use super::layers::LayersError;
use crate::dependencies::DependenciesError;
use crate::dependencies::relocate::RelocateError;
use crate::egress::BrokerError;
use crate::environment::catalog::CatalogError;
use crate::environment::catalog::perhaps;
use crate::environment::detect::Evidence;
use crate::environment::lock::LockError;
use crate::environment::realise::RealiseError;
use crate::environment::resolve::ResolveError;
use crate::environment::spec::SpecError;
use crate::secrets::SecretsError;
use crate::services::ServiceError;
use crate::source::{AddressError, SourceError};
use crate::store::StoreError;

/// Why a workspace could not be made, shown, found or taken away.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum WorkspaceError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Realise(#[from] RealiseError),
    #[error(transparent)]
    Dependencies(#[from] DependenciesError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Layers(#[from] LayersError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("`{file}` says that {tool} brings a program `{program}`, which it does not")]
    ForeignProgram { file: &'static str, tool: String, program: String },
    #[error(transparent)]
    Grants(#[from] GrantsError),
    #[error("it cannot be confined: {source}")]
    Agent { source: SandboxError },
    #[error("`{0}` is not one of the remotes that the repository had when the agent started")]
    NoSuchRemote(String),
    #[error("more than {most} pushes of one agent cannot wait")]
    TooManyPushes { most: usize },
    #[error("no push {number} waits any more, or its agent asked for something else meanwhile")]
    NoSuchPush { number: u64 },
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Relocate(#[from] RelocateError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Delta(#[from] zagi_fuse::delta::DeltaError),
    #[error("cannot mount `{0}`: the directory is not empty")]
    NotEmpty(PathBuf),
    #[error("`{path}` is the workspace of `{by}`")]
    Taken { path: PathBuf, by: String },
    #[error("`{0}` is there already")]
    AlreadyThere(PathBuf),
    #[error("`{0}` is there already, and was left as it is")]
    Exists(PathBuf),
    #[error("`{0}` was materialised and is gone")]
    Gone(PathBuf),
    #[error("`{0}` is not in a workspace")]
    NotAWorkspace(PathBuf),
    #[error("`{0}` has `{1}` in it, which no sandbox is shown")]
    Encloses(PathBuf, PathBuf),
    #[error("`{0}` is not mounted")]
    NotMounted(PathBuf),
    #[error("there is no tool and no system package `{name}`{}", perhaps(.nearest))]
    UnknownName { name: String, nearest: Vec<String> },
    #[error(
        "`{0}` is a system package, which is had in one version only; leave out what is after `@`"
    )]
    NoVersions(String),
    #[error("{tool} is not asked for in .zagi/env.toml{}", read_in(.evidence))]
    NotAsked { tool: String, evidence: Option<Evidence> },
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("the workspace asks for no service `{name}`{}", there_are(.asked))]
    NoSuchService { name: String, asked: Vec<String> },
    #[error("{0} is not locked as it is asked for now")]
    ServiceNotLocked(String),
    #[error("nobody says how `{0}` is built or tested")]
    NothingToRun(PathBuf),
    #[error("there is no Python project in `{0}` to install a package into")]
    NoPython(PathBuf),
    #[error("the module {0} is the project's own")]
    OwnModule(String),
    #[error("`{0}` is a symbolic link, which nothing is written through")]
    Linked(PathBuf),
    #[error("`{0}` consists of real files: there is nothing to unmount")]
    Materialised(PathBuf),
    #[error("`{0}` lets other users in, which a mount through NFS cannot")]
    NfsIsPrivate(PathBuf),
    #[error("`{0}` consists of real files, which nobody follows")]
    NotFollowed(PathBuf),
    #[error("cannot access `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("git failed in `{path}`: {message}")]
    Git { path: PathBuf, message: String },
}

fn there_are(services: &[String]) -> String {
    match services {
        [] => ", nor any other".into(),
        services => format!("; its services are {}", services.join(", ")),
    }
}

fn read_in(evidence: &Option<Evidence>) -> String {
    evidence.as_ref().map_or_else(String::new, |e| format!(", but read in {}:{}", e.file, e.line))
}

/// Wraps an error of the file system at `path`.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> WorkspaceError {
    let path = path.to_owned();
    move |source| WorkspaceError::Io { path, source }
}
