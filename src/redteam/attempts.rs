//! What is tried, one process each, and the list of it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::canary::PLANTED;
use super::victim::{Case, own};
use super::{files, kernel, process, sockets};

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what is to outlive its session waits, and what it does then.
const LINGER: Duration = Duration::from_millis(700);
/// What counts as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hunts {
    /// A value that the user's things hold.
    Value,
    /// A door of the kernel's: it opened.
    Door,
    /// A file below the workspace, which then says [`PLANTED`].
    Workspace(&'static str),
    /// A file of the user's, below [`Case::dir`].
    Home(&'static str),
}

/// One attack.
pub struct Attempt {
    /// What the program is told.
    pub id: &'static str,
    /// Its number in the matrix.
    pub vector: u8,
    /// What somebody tries.
    pub what: &'static str,
    /// What for.
    pub hunts: Hunts,
    run: Try,
}

type Try = fn(&Case) -> io::Result<Vec<u8>>;

const fn attempt(
    vector: u8,
    id: &'static str,
    what: &'static str,
    hunts: Hunts,
    run: Try,
) -> Attempt {
    Attempt { id, vector, what, hunts, run }
}

use Hunts::{Door, Home, Value, Workspace};

/// Everything that is tried, in this order.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(16, "environ", "environment of another process", Value, process::environ),
    attempt(17, "mem", "memory of another process", Value, process::mem),
    attempt(18, "ptrace", "tracing another process", Value, process::trace),
    attempt(19, "vm-readv", "memory, by process_vm_readv", Value, process::vm_readv),
    attempt(20, "pidfd-getfd", "a descriptor taken out of a process", Value, process::take),
    attempt(21, "proc-fd", "an open file, by /proc/PID/fd", Value, process::fd),
    attempt(21, "proc-cwd", "files below /proc/PID/cwd", Value, process::cwd),
    attempt(21, "proc-root", "files below /proc/PID/root", Value, process::root),
    attempt(22, "setns", "entering a process's namespaces", Value, process::enter),
    attempt(25, "argv", "arguments of another process", Value, process::argv),
    attempt(26, "userfaultfd", "userfaultfd", Door, kernel::userfaultfd),
    attempt(26, "perf", "perf_event_open", Door, kernel::perf),
    attempt(26, "bpf", "bpf", Door, kernel::bpf),
    attempt(27, "link", "a link in the workspace that leads out", Value, files::link),
    attempt(
        28,
        "ancestor",
        "a pinned file, by its directory's name",
        Workspace(".zagi/agents.toml"),
        files::ancestor,
    ),
    attempt(
        29,
        "later",
        "a pinned file that is not there yet",
        Workspace(".zagi/secrets.enc"),
        files::later,
    ),
    attempt(
        29,
        "modules",
        "a pinned directory that is not there yet",
        Workspace(".git/modules/x/config"),
        files::modules,
    ),
    attempt(30, "hard-link", "a second name for a file outside", Value, files::hard_link),
    attempt(32, "tmp", "/tmp", Value, files::tmp),
    attempt(32, "shared-memory", "/dev/shm", Value, files::shared_memory),
    attempt(33, "identity", "the identity file", Value, files::identity),
    attempt(36, "mount", "mounting, in namespaces of its own", Door, kernel::mount),
    attempt(37, "unix-socket", "a socket in the user's directory", Value, sockets::unix),
    attempt(38, "abstract-socket", "an abstract socket", Value, sockets::abstract_name),
    attempt(39, "datagram", "a datagram to a socket", Value, sockets::datagram),
    attempt(40, "inherited", "an inherited descriptor", Value, process::inherited),
    attempt(40, "rights", "a descriptor passed over a socket", Value, sockets::rights),
    attempt(41, "key", "the user's keyring", Value, kernel::key),
    attempt(42, "push", "pushing keys into a terminal", Door, kernel::push),
    attempt(43, "signal", "a signal that opens an inspector", Value, process::signal),
    attempt(44, "tcp", "a port of this machine", Value, sockets::tcp),
    attempt(45, "mptcp", "the same by multipath TCP", Value, sockets::mptcp),
    attempt(45, "fast-open", "the same by TCP fast open", Value, sockets::fast_open),
    attempt(45, "udp", "the same by UDP", Value, sockets::udp),
    attempt(45, "vsock", "a socket to the host of this machine", Door, sockets::vsock),
    attempt(45, "vsock-loopback", "the same by vsock", Value, sockets::vsock_loopback),
    attempt(46, "dns", "a name server, asked with a name of one's own", Value, sockets::dns),
    attempt(47, "io-uring", "io_uring", Door, kernel::ring),
    attempt(49, "hooks", "a hook of git", Workspace(".git/hooks/post-checkout"), files::hooks),
    attempt(49, "config", "git's configuration", Workspace(".git/config"), files::config),
    attempt(
        49,
        "worktree-config",
        "git's second configuration",
        Workspace(".git/config.worktree"),
        files::worktree_config,
    ),
    attempt(
        49,
        "common-dir",
        "another configuration, by .git/commondir",
        Workspace(".git/commondir"),
        files::common_dir,
    ),
    attempt(50, "rc", "the start file of the user's shell", Home("home/.bashrc"), files::rc),
    attempt(52, "nested", "a sandbox with more in view", Value, kernel::nested),
    // Last: it waits for the end of all others.
    attempt(51, "outlive", "outliving the session", Workspace("outlived"), outlive),
];

/// What came of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Of [`Attempt::id`].
    pub id: String,
    /// What was got, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got: Option<String>,
    /// Why nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Tries one, in this process.
pub fn one(id: &str, case: &Case) -> io::Result<Vec<u8>> {
    let known = ATTEMPTS.iter().find(|attempt| attempt.id == id);
    let attempt = known.ok_or_else(|| io::Error::other(format!("there is no attempt `{id}`")))?;
    (attempt.run)(case)
}

/// Tries all, each in a process of its own, and tells of each.
pub fn try_all(case: &str, mut tell: impl FnMut(&Tried) -> io::Result<()>) -> io::Result<()> {
    let program = own()?;
    for attempt in ATTEMPTS {
        let mut process = Command::new(&program)
            .args([super::ARGUMENT, attempt.id, case])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let begun = Instant::now();
        while process.try_wait()?.is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended meanwhile.
        let _ = process.kill();
        let status = process.wait()?;
        let read = |stream: Option<&mut dyn Read>| {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // What is half read is half told.
                let _ = stream.take(1 << 20).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let out = read(process.stdout.as_mut().map(|s| s as &mut dyn Read));
        let err = read(process.stderr.as_mut().map(|s| s as &mut dyn Read));
        let ended = || if err.trim().is_empty() { status.to_string() } else { err.trim().into() };
        let (got, refused) =
            if status.success() { (Some(out), None) } else { (None, Some(ended())) };
        tell(&Tried { id: attempt.id.into(), got, refused })?;
    }
    Ok(())
}

/// Makes a directory look like a repository's, for attempts that write to one.
pub fn seed(workspace: &Path) -> io::Result<()> {
    fs::create_dir_all(workspace.join(".git/hooks"))?;
    fs::create_dir_all(workspace.join(".zagi"))?;
    fs::write(workspace.join(".git/HEAD"), "ref: refs/heads/main\n")?;
    fs::write(workspace.join(".git/config"), "[core]\n\tbare = false\n")
}

/// Leaves a process behind that writes a file when its session should be over.
fn outlive(_: &Case) -> io::Result<Vec<u8>> {
    let file = std::path::absolute("outlived")?;
    Command::new("setsid")
        .arg("--fork")
        .arg(own()?)
        .args([super::ARGUMENT, "linger"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(b"left behind".to_vec())
}

/// What is left behind.
pub fn linger(file: &Path) -> io::Result<()> {
    std::thread::sleep(LINGER);
    fs::File::create(file)?.write_all(PLANTED.as_bytes())
}
