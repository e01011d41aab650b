//! Why a delta cannot be opened or read.

use std::io;
use std::path::{Path, PathBuf};

use super::codec::DecodeError;
use super::format::VERSION;
use super::index::ApplyError;

/// Why a delta cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The operating system refused.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("`{}` is in use by another process", path.display())]
    Locked {
        /// The delta.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{}` is not the log of a delta", path.display())]
    NotADelta {
        /// The log.
        path: PathBuf,
    },
    /// A newer program made it.
    #[error("`{}` has version {version}, this program knows {}", path.display(), VERSION)]
    Version {
        /// The log.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Bytes changed on the disk.
    #[error("`{}` is damaged at byte {offset}: {reason}", path.display())]
    Corrupt {
        /// The log.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A record is whole but not in the format.
    #[error("`{}` is damaged at byte {offset}", path.display())]
    Undecodable {
        /// The log.
        path: PathBuf,
        /// Where its frame begins.
        offset: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// A record does not fit those before it.
    #[error("`{}` contradicts itself at byte {offset}", path.display())]
    Contradiction {
        /// The log.
        path: PathBuf,
        /// Where its frame begins.
        offset: u64,
        /// What is wrong.
        source: ApplyError,
    },
}

/// Wraps what the operating system said to `operation` on `path`.
pub(super) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DeltaError {
    move |source| DeltaError::Io { operation, path: path.into(), source }
}
