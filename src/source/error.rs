//! Why there is no source.

use std::path::PathBuf;

use super::address::Registry;
use crate::registry::archive::ArchiveError;
use crate::registry::crates::CratesError;
use crate::registry::http::HttpError;
use crate::registry::npm::NpmError;
use crate::registry::pypi::PypiError;

/// Why there is no source. `address` is always shown without a password.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no git program on the PATH that was given.
    #[error("the program `git` was not found on PATH")]
    NoGit,
    /// The git program cannot do what is asked of it here.
    #[error("`{program}` is version {found}, at least {needed} is needed")]
    OldGit {
        /// The program.
        program: PathBuf,
        /// What it says it is.
        found: String,
        /// What would do.
        needed: &'static str,
    },
    /// The git program could not be started, or it was killed.
    #[error("cannot run `{program}`: {source}")]
    RunGit {
        /// The program.
        program: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The git program failed in a way that has no name of its own.
    #[error("`git {command}` failed for `{address}`: {reason}")]
    Git {
        /// The repository.
        address: String,
        /// `fetch`, `clone`, …
        command: String,
        /// The last lines that it wrote.
        reason: String,
    },
    /// The server knows no such repository.
    #[error("there is no repository `{address}`: {reason}")]
    NoRepository {
        /// The repository.
        address: String,
        /// What the server said.
        reason: String,
    },
    /// The server wants credentials that git does not have. Some servers say so of what
    /// does not exist.
    #[error("`{address}` does not exist, or access to it is denied: {reason}")]
    Denied {
        /// The repository.
        address: String,
        /// What the server said.
        reason: String,
    },
    /// The server was not reached, or it did not answer in time.
    #[error("cannot reach `{address}`: {reason}")]
    Unreachable {
        /// The repository.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// The network may not be used, and something was never fetched.
    #[error("{missing} of `{address}` was never fetched, and the network may not be used")]
    Offline {
        /// The repository.
        address: String,
        /// What is missing.
        missing: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("`{address}` has no branch, tag or commit `{revision}`")]
    NoRevision {
        /// The repository.
        address: String,
        /// What was asked for.
        revision: String,
        /// Branches and tags with similar names, the most similar first.
        nearest: Vec<String>,
    },
    /// The repository has no commit yet.
    #[error("the repository `{address}` has no commits")]
    Empty {
        /// The repository.
        address: String,
    },
    /// Objects that the revision needs did not come.
    #[error("`{address}` did not deliver {count} files of the revision")]
    Incomplete {
        /// The repository.
        address: String,
        /// How many are missing.
        count: usize,
    },
    /// The revision holds what git itself refuses to check out, or what no disk could hold.
    #[error("`{address}` cannot be shown: `{path}` in it {why}")]
    Refused {
        /// The repository.
        address: String,
        /// Where in its tree, harmless to print.
        path: String,
        /// What is wrong there.
        why: &'static str,
    },
    /// The revision stands for more paths than can be, however small it is itself.
    #[error("`{address}` cannot be shown: it has {paths} paths or more, too many for git")]
    TooLarge {
        /// The repository.
        address: String,
        /// How many were counted.
        paths: u64,
    },
    /// A repository's data cannot be read or written by gix.
    #[error("cannot read the repository `{path}`: {source}")]
    Repository {
        /// The repository.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file or directory could not be used.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Something that is to become a commit holds another repository's files.
    #[error("`{path}` cannot be part of a repository")]
    GitInside {
        /// Where, seen from the root.
        path: String,
    },
    /// Nothing is to become a commit.
    #[error("there are no files in `{path}`")]
    NoFiles {
        /// The directory or archive.
        path: PathBuf,
    },
    /// npm's registry.
    #[error(transparent)]
    Npm(#[from] NpmError),
    /// The Python package index.
    #[error(transparent)]
    Pypi(#[from] PypiError),
    /// The index of crates.
    #[error(transparent)]
    Crates(#[from] CratesError),
    /// A package's archive was not fetched.
    #[error("cannot fetch the source of {package}: {source}")]
    Fetch {
        /// Name and version.
        package: String,
        /// How the request ended.
        source: HttpError,
    },
    /// A package's archive was not unpacked.
    #[error("cannot unpack the source of {package}: {source}")]
    Unpack {
        /// Name and version.
        package: String,
        /// Why.
        source: ArchiveError,
    },
    /// The package has no such version.
    #[error("{}:{name} has no version `{version}`", registry.prefix())]
    NoVersion {
        /// Where it is published.
        registry: Registry,
        /// The package.
        name: String,
        /// What was asked for.
        version: String,
        /// Versions near it, the nearest first.
        nearest: Vec<String>,
    },
    /// The package has no version that one would take without being asked for it.
    #[error("{}:{name} has no released version", registry.prefix())]
    NoRelease {
        /// Where it is published.
        registry: Registry,
        /// The package.
        name: String,
        /// Pre-releases and those that were taken back, newest first.
        others: Vec<String>,
    },
    /// The version was published without its source.
    #[error("{name} {version} was published without a source distribution")]
    NoSource {
        /// The package.
        name: String,
        /// The version.
        version: String,
        /// The files there are instead.
        files: Vec<String>,
        /// The newest version with its source.
        with_source: Option<String>,
    },
    /// The version's source is packed in a way that is not known here.
    #[error("the source of {name} {version} is `{file}`, which cannot be unpacked")]
    UnknownArchive {
        /// The package.
        name: String,
        /// The version.
        version: String,
        /// The file.
        file: String,
    },
}

impl SourceError {
    /// Wraps what gix says about the repository at `path`.
    pub(super) fn repository(
        path: &std::path::Path,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> SourceError + use<> {
        let path = path.to_owned();
        move |source| SourceError::Repository { path, source }
    }

    /// Wraps what the kernel says about `path`.
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> SourceError + use<> {
        let path = path.to_owned();
        move |source| SourceError::Io { path, source }
    }

    /// Whether what was fetched before may stand in.
    pub fn is_unreachable(&self) -> bool {
        match self {
            SourceError::Unreachable { .. } => true,
            SourceError::Fetch { source, .. } => source.is_unreachable(),
            SourceError::Npm(NpmError::Http { source, .. })
            | SourceError::Pypi(PypiError::Http { source, .. })
            | SourceError::Crates(CratesError::Http { source, .. }) => source.is_unreachable(),
            _ => false,
        }
    }
}
