//! The daemon: one a home, started on demand, holding all mounts.
//!
//! Two processes of the same program. The **supervisor** owns the lock, the listening
//! socket and a duplicate of every `/dev/fuse` descriptor; it does nothing else, so it has
//! nothing to die of. The **worker** accepts the connections, makes the mounts and answers
//! the kernel. When the worker dies the supervisor starts another on the same socket.
//! With it come the descriptors of the mounts: the new worker takes each mount over, and the
//! kernel sends it again what the old one had not answered. A program in the mount notices no
//! more than a pause. What cannot be taken over (its supervisor died too) is mounted again.
//! What is presented through NFS has a listening socket in the place of that descriptor, so that
//! clients wait at it, and nobody else can take its port.
//!
//! A worker whose program on the disk was replaced ends when a command of the new version comes:
//! the supervisor starts the new one, to which the same happens.
//!
//! # Protocol
//!
//! One connection a request, one line of JSON each way ([`Request`], [`Response`]; more
//! follows where they say so), on a stream socket in a directory that only its user can enter. A request says which version of
//! the program asks; another version is answered with an error, never guessed at.

pub mod client;
pub mod supervisor;
pub mod worker;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zagi_fuse::{delta, overlay};

use crate::context::Context;

/// What a client sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The program's version, so that a daemon of yesterday is noticed.
    pub program: String,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Mount the workspace with this id where its description says.
    Mount {
        /// The workspace.
        id: String,
    },
    /// Unmount it; the delta is synced and stays.
    Unmount {
        /// The workspace.
        id: String,
        /// Detach it although it is in use.
        force: bool,
    },
    /// What changed in a mounted workspace.
    Changes {
        /// The workspace.
        id: String,
    },
    /// What changed, for git, which asks with `token`.
    Git {
        /// The workspace.
        id: String,
        /// What it was told before.
        token: String,
        /// The device number and the inode of the directory that it asks of.
        root: String,
    },
    /// Tell what changes from now on, until there is nobody to tell or nothing to tell of.
    Events {
        /// The workspace.
        id: String,
    },
    /// How the daemon is.
    Status,
    /// Unmount everything and end.
    Stop {
        /// Detach also what is in use.
        force: bool,
    },
}

/// What comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done,
    /// The workspace is in use and was left mounted.
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// Answer to [`Ask::Changes`].
    Changes(Vec<Change>),
    /// Answer to [`Ask::Git`]: what git is to be told follows.
    Git {
        /// So many bytes.
        length: usize,
        /// Whether some of it are directories.
        directories: bool,
    },
    /// Answer to [`Ask::Events`]: one line with none when it begins, then one as often as
    /// something changed, and [`Response::Done`] when the mount is gone.
    Events(Vec<PathEvent>),
    /// Answer to [`Ask::Status`].
    Status(Status),
    /// It failed, and why; the daemon's own words.
    Failed {
        /// The whole chain of causes, in one line.
        message: String,
    },
}

/// One path that differs from the layers below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Relative to the workspace; not always UTF-8, then with the replacement character.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Bytes that would be lost with it.
    pub bytes: u64,
}

/// The ways a path can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is not below.
    Created,
    /// Content, kind, mode or attributes differ.
    Modified,
    /// It is below and not here.
    Deleted,
}

impl From<delta::Change> for Change {
    fn from(change: delta::Change) -> Change {
        let kind = match change.kind {
            delta::ChangeKind::Created | delta::ChangeKind::Renamed { .. } => ChangeKind::Created,
            delta::ChangeKind::Modified | delta::ChangeKind::Metadata => ChangeKind::Modified,
            delta::ChangeKind::Deleted => ChangeKind::Deleted,
        };
        Change { path: change.path.to_string_lossy().into_owned(), kind, bytes: change.bytes }
    }
}

/// Something that happened to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathEvent {
    /// What.
    pub kind: EventKind,
    /// Relative to the workspace; empty for its root.
    pub path: PathName,
    /// A directory is there, or was until it went.
    pub directory: bool,
}

/// The ways a path can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It is there, and was not, or was something else.
    Created,
    /// Its content is another.
    Changed,
    /// Mode, owner, times or extended attributes are others.
    Attributes,
    /// It is gone.
    Removed,
    /// More changed than is known one by one.
    Everything,
}

/// A path, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathName {
    /// It is.
    Text(String),
    /// It is not.
    Bytes(Vec<u8>),
}

impl PathName {
    /// As the file system has it.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            PathName::Text(text) => text.as_bytes(),
            PathName::Bytes(bytes) => bytes,
        }
    }
}

impl PathEvent {
    fn everything() -> PathEvent {
        let (kind, path) = (EventKind::Everything, PathName::Text(String::new()));
        PathEvent { kind, path, directory: true }
    }
}

impl From<overlay::Event> for PathEvent {
    fn from(event: overlay::Event) -> PathEvent {
        let kind = match event.kind {
            overlay::EventKind::Created => EventKind::Created,
            overlay::EventKind::Changed => EventKind::Changed,
            overlay::EventKind::Attributes => EventKind::Attributes,
            overlay::EventKind::Removed => EventKind::Removed,
        };
        let path = String::from_utf8(event.path)
            .map_or_else(|e| PathName::Bytes(e.into_bytes()), PathName::Text);
        PathEvent { kind, path, directory: event.directory }
    }
}

/// How the daemon is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The process that keeps the descriptors.
    pub supervisor_pid: u32,
    /// The process that answers the kernel.
    pub worker_pid: u32,
    /// How often a worker had to be started.
    pub starts: u32,
    /// Resident memory of the worker, in bytes.
    pub memory: u64,
    /// What is mounted, by path.
    pub mounts: Vec<MountStatus>,
}

/// One mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountStatus {
    /// The workspace's id.
    pub id: String,
    /// Where.
    pub path: PathBuf,
}

/// Why the daemon could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It could not be started.
    #[error("cannot start the daemon: {0}")]
    Start(std::io::Error),
    /// It was started and did not answer in time.
    #[error("the daemon does not answer on `{socket}`; its log is `{log}`")]
    Silent {
        /// Where it should listen.
        socket: PathBuf,
        /// Where it says why not.
        log: PathBuf,
    },
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Broken(std::io::Error),
    /// It answered something that is no answer.
    #[error("the daemon answered `{0}`")]
    Answer(String),
    /// It said why it failed.
    #[error("{0}")]
    Failed(String),
    /// The workspace is in use.
    #[error("`{path}` is in use")]
    Busy {
        /// Where.
        path: PathBuf,
    },
}

/// The directory of the socket, and the socket: in the user's runtime directory where there
/// is one, named by a hash of the home; else in the home; in a short directory of the
/// user's own where that would exceed the 108 bytes of `sockaddr_un`.
pub(super) fn socket(ctx: &Context) -> (PathBuf, PathBuf) {
    let hash = blake3::hash(ctx.home.root().as_os_str().as_bytes()).to_hex();
    let name = format!("zagi-{}.sock", &hash[..16]);
    let own = ctx.var("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|d| {
        // A variable inherited through `su` or `sudo` names another user's directory.
        use std::os::unix::fs::MetadataExt;
        let mine = nix::unistd::geteuid().as_raw();
        d.is_absolute() && std::fs::metadata(d).is_ok_and(|m| m.is_dir() && m.uid() == mine)
    });
    let mut dir = own.unwrap_or_else(|| ctx.home.root().join("run"));
    if dir.join(&name).as_os_str().len() > 100 {
        dir = PathBuf::from(format!("/tmp/zagi-{}", nix::unistd::geteuid()));
    }
    let socket = dir.join(name);
    (dir, socket)
}

/// Where the daemon writes what it cannot tell anybody.
fn log(ctx: &Context) -> PathBuf {
    ctx.home.root().join("daemon.log")
}
