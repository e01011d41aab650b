//! What can be wrong with secrets, and what to do about it. No variant holds a value.

use std::io;
use std::path::{Path, PathBuf};

use crate::nearest::perhaps;

/// Why secrets cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file or directory could not be used.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process could not be kept from being dumped, or has no memory for values.
    #[error("cannot protect this process's memory: {0}")]
    Memory(io::Error),
    /// There is no file of secrets.
    #[error("`{0}` has no secrets")]
    None(PathBuf),
    /// There was one, and it is gone.
    #[error("`{path}` is gone; it was there at revision {revision}")]
    Gone {
        /// The file.
        path: PathBuf,
        /// The highest revision that was seen.
        revision: u64,
    },
    /// It is a link, leads out of the tree, or is no ordinary file.
    #[error("`{path}` is not used: {reason}")]
    Odd {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The file was merged by git, badly.
    #[error("`{0}` has the marks of a merge conflict in it")]
    Conflict(PathBuf),
    /// It is no file of this format.
    #[error("`{path}` is not a secrets file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// A newer zagi wrote it.
    #[error("`{path}` has version {found}, this zagi knows version 1")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A field that this version does not know.
    #[error("`{path}`: unknown field `{field}`{}", perhaps(nearest))]
    UnknownField {
        /// The file.
        path: PathBuf,
        /// Its whole name.
        field: String,
        /// Those that may have been meant.
        nearest: Vec<String>,
    },
    /// What a policy says cannot be.
    #[error("the policy of {name} cannot be: {reason}")]
    Policy {
        /// The secret.
        name: String,
        /// Why.
        reason: String,
    },
    /// The signature is not of this content.
    #[error("`{0}` is forged or damaged: its signature is not of what it says")]
    Forged(PathBuf),
    /// It is older than what was seen.
    #[error("`{path}` was rolled back: it is at revision {found}, and {seen} was seen before")]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// Its revision.
        found: u64,
        /// The highest that was seen.
        seen: u64,
    },
    /// Another content of a revision that was seen.
    #[error("`{path}` is another revision {revision} than the one that was seen before")]
    Forked {
        /// The file.
        path: PathBuf,
        /// The revision of both.
        revision: u64,
    },
    /// Signed by a key that nobody who is known vouches for.
    #[error("`{path}` is signed by {found}, and {seen} is known here and does not vouch for it")]
    OtherSigner {
        /// The file.
        path: PathBuf,
        /// The first digits of its signer.
        found: String,
        /// The first digits of the one that was seen.
        seen: String,
    },
    /// Another project's file stands where one was seen.
    #[error("`{0}` was replaced: it is not the secrets file that was seen here before")]
    Replaced(PathBuf),
    /// No identity opens it.
    #[error("none of your identities opens `{0}`")]
    NoKey(PathBuf),
    /// It is opened by one, and the content is not whole.
    #[error("`{path}` cannot be decrypted: {reason}")]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It cannot be encrypted.
    #[error("cannot encrypt to the recipients: {0}")]
    Encrypt(String),
    /// A file of identities cannot be used.
    #[error("the identity `{path}` cannot be used: {reason}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A text that is no recipient.
    #[error("`{text}` is no recipient: {reason}")]
    Recipient {
        /// The text, shortened.
        text: String,
        /// Why.
        reason: String,
    },
    /// A name that another recipient has, or one that is not there.
    #[error("{0}")]
    Recipients(String),
    /// A plugin that the project itself could have brought.
    #[error("the plugin `{program}` is not run: it is in `{tree}`, which the project can change")]
    Plugin {
        /// The program.
        program: PathBuf,
        /// The directory that it is in.
        tree: PathBuf,
    },
    /// There is no such secret.
    #[error("there is no secret {name}{}", perhaps(nearest))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Those that may have been meant.
        nearest: Vec<String>,
    },
    /// What cannot be a secret's name or value.
    #[error("{name} cannot be set: {reason}")]
    Value {
        /// The secret.
        name: String,
        /// Why.
        reason: String,
    },
    /// Somebody else wrote the file meanwhile.
    #[error("`{0}` was changed by somebody else meanwhile; nothing was written")]
    Raced(PathBuf),
    /// A row cannot be written.
    #[error("no secret is released: the audit log `{path}` cannot be written: {source}")]
    Audit {
        /// The log.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The log is not what was written.
    #[error("no secret is released: the audit log `{path}` was changed: {reason}")]
    AuditBroken {
        /// The log.
        path: PathBuf,
        /// The first row that is wrong, and how.
        reason: String,
    },
    /// A release that the row does not speak of: a fault of ours.
    #[error("{0} has no row in the audit log")]
    NotRecorded(String),
}

impl SecretsError {
    /// What to run next.
    pub fn hint(&self) -> Option<String> {
        let git = "`git log -p -- .zagi/secrets.enc` says who changed it";
        Some(match self {
            SecretsError::None(_) => "`zagi secrets set NAME` makes the first one".into(),
            SecretsError::Gone { .. } => "`git checkout -- .zagi/secrets.enc` brings it back; \
                                          `zagi secrets accept` forgets it"
                .into(),
            SecretsError::Conflict(_) => {
                "take one side whole (`git checkout --ours .zagi/secrets.enc`, or `--theirs`), then \
                 make the other side's change again with `zagi secrets set` or `share`"
                    .into()
            }
            SecretsError::Newer { .. } => "use the newer zagi".into(),
            SecretsError::Forged(_) | SecretsError::Malformed { .. } => {
                format!("{git}; `git checkout COMMIT -- .zagi/secrets.enc` takes a whole one back")
            }
            SecretsError::UnknownField { .. } => format!("use a newer zagi, or: {git}"),
            SecretsError::RolledBack { .. } => {
                "take the newer one: `git checkout BRANCH -- .zagi/secrets.enc`; if going back is \
                 what you want, `zagi secrets accept`"
                    .into()
            }
            SecretsError::Forked { .. } => {
                "two people changed it at once: keep one, and make the other's change again; \
                 `zagi secrets accept` takes this one"
                    .into()
            }
            SecretsError::OtherSigner { .. } | SecretsError::Replaced(_) => {
                format!("ask who changed it ({git}); `zagi secrets accept` takes it")
            }
            SecretsError::NoKey(_) => {
                "send what `zagi secrets share` prints to somebody who has access, who runs \
                 `zagi secrets share RECIPIENT`; `--identity FILE` names another key"
                    .into()
            }
            SecretsError::Raced(_) => "run it again".into(),
            SecretsError::Audit { .. } => "make room or mend its permissions; \
                                           `zagi secrets log --verify` reads it"
                .into(),
            SecretsError::AuditBroken { .. } => {
                "`zagi secrets log --verify` says where; keep the log for who must look at it, and \
                 move it away to begin a new one"
                    .into()
            }
            SecretsError::Plugin { .. } => {
                "install the plugin outside of the project, and leave the project's directories \
                 out of PATH"
                    .into()
            }
            SecretsError::Unknown { .. } => "`zagi secrets list` shows the names".into(),
            _ => return None,
        })
    }
}

/// For `map_err`: a failure at `path`.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> SecretsError {
    move |source| SecretsError::Io { path: path.to_owned(), source }
}

/// The same for rustix.
pub(super) fn at_os(path: &Path) -> impl Fn(rustix::io::Errno) -> SecretsError {
    move |source| SecretsError::Io { path: path.to_owned(), source: source.into() }
}
