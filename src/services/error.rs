//! What can go wrong with a service.

use std::io;
use std::path::{Path, PathBuf};

use zagi_sandbox::SandboxError;

use crate::environment::catalog::perhaps;

/// Why a service could not be started, asked or stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ServiceError {
    #[error("no service is called `{name}`{}", perhaps(.nearest))]
    Unknown { name: String, nearest: Vec<String> },
    #[error("cannot access `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("`{path}` is not what this program wrote: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("`{0}` has a name that is not UTF-8")]
    NotUtf8(PathBuf),
    #[error("the catalogue says of {name} what cannot be: {what}")]
    Catalog { name: String, what: String },
    #[error("{name} cannot be confined: {source}")]
    Sandbox { name: String, source: SandboxError },
    #[error("the data of {name} could not be made: `{program}` ended with {end}{}", said(.log))]
    NotMade { name: String, program: String, end: String, log: Vec<String> },
    #[error(
        "the data of {name} was made by version {made}, and the environment now has {version}, which does not read it; the data is as it was"
    )]
    OtherVersion { name: String, made: String, version: String, data: PathBuf },
    #[error("port {port} of 127.0.0.1, which {name} is to listen at, is taken by {by}")]
    PortTaken { name: String, port: u16, by: String },
    #[error("{name} cannot listen at port {port} of 127.0.0.1: {source}")]
    Port { name: String, port: u16, source: io::Error },
    #[error("{name} ended as soon as it was started ({end}){}", said(.log))]
    Crashed { name: String, end: String, log: Vec<String> },
    #[error("{name} runs and does not answer after {seconds} s; it was stopped{}", said(.log))]
    Silent { name: String, seconds: u64, log: Vec<String> },
    #[error("{name} (process {pid}) does not end")]
    DoesNotEnd { name: String, pid: i32 },
}

/// The last lines of a log, below the message.
fn said(lines: &[String]) -> String {
    match lines {
        [] => "; it said nothing".into(),
        lines => format!("; its last words:\n  {}", lines.join("\n  ")),
    }
}

/// Wraps an error of the file system at `path`.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ServiceError + use<> {
    let path = path.to_owned();
    move |source| ServiceError::Io { path, source }
}
