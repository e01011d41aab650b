//! The caller's side: start the helper, hand it the plan, hear what became of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::{SandboxError, Step};
use crate::plan::Plan;
use crate::report::{Enforced, Report};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// Of this signal.
    Signal(i32),
}

impl Exit {
    /// Code 0.
    pub fn success(&self) -> bool {
        *self == Exit::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => match Signal::try_from(*signal) {
                Ok(name) => write!(f, "{name}"),
                Err(_) => write!(f, "signal {signal}"),
            },
        }
    }
}

/// A program at work in its sandbox. Dropping it kills the program and all that it started.
#[derive(Debug)]
pub struct Child {
    /// What the program writes to its standard output.
    pub stdout: Option<ChildStdout>,
    /// What the program writes to its standard error.
    pub stderr: Option<ChildStderr>,
    enforced: Enforced,
    reports: BufReader<UnixStream>,
    helper: PathBuf,
    process: std::process::Child,
}

/// Kills a [`Child`], or sends it a signal, from another thread.
#[derive(Debug)]
pub struct Killer(UnixStream);

impl Killer {
    /// Kills the program and all that it started; [`Child::wait`] then returns.
    pub fn kill(&self) {
        // An error means that the other side is gone already.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Sends the program a signal, and nothing that it started: what it does then is its own
    /// affair. A program that is gone already gets none.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = u8::try_from(signal as i32).map_err(io::Error::other)?;
        match (&self.0).write_all(&[number]) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// Executes `plan` with `helper`, a program that calls [`crate::main_if_asked`] first of
/// all (as a rule: this very program). Returns when the program runs, or with the step that
/// failed.
pub fn spawn(plan: &Plan, helper: &Path) -> Result<Child, SandboxError> {
    let error = |source| SandboxError::Helper { helper: helper.to_owned(), source };
    // A path that is not UTF-8 has no JSON.
    let json = serde_json::to_vec(plan).map_err(|e| SandboxError::Setup {
        step: Step::Plan,
        path: None,
        source: io::Error::other(e),
    })?;
    let (ours, theirs) = UnixStream::pair().map_err(error)?;
    // An empty environment: what the helper was given would be readable in `/proc/1`.
    let mut process = Command::new(helper)
        .arg(crate::HELPER_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(error)?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let mut child = Child {
        stdout,
        stderr,
        enforced: Enforced {
            namespaces: Vec::new(),
            mounts: 0,
            groups_dropped: false,
            abstract_sockets_closed: false,
        },
        reports: BufReader::new(ours),
        helper: helper.to_owned(),
        process,
    };
    // A helper that is not ours closes its end: the next read says so.
    let _ = send_plan(child.reports.get_ref(), &json);
    match child.next_report()? {
        Some(Report::Running(enforced)) => {
            child.enforced = enforced;
            Ok(child)
        }
        Some(Report::Failed(failure)) => {
            let (step, path) = (failure.step, failure.path.clone());
            let source = failure.into_io();
            Err(match (step, path) {
                (Step::Exec, path) => {
                    SandboxError::Exec { program: path.unwrap_or_default(), source }
                }
                (step, path) => SandboxError::Setup { step, path, source },
            })
        }
        _ => Err(child.lost()),
    }
}

/// The plan's length (32 bits, little-endian) and its JSON.
fn send_plan(mut control: &UnixStream, json: &[u8]) -> io::Result<()> {
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    control.write_all(&length.to_le_bytes())?;
    control.write_all(json)
}

/// The other end of [`send_plan`].
pub(crate) fn receive_plan(mut control: &UnixStream) -> io::Result<Plan> {
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let mut json = vec![0; u32::from_le_bytes(length) as usize];
    control.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

impl Child {
    /// What is enforced on the program.
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// A handle by which another thread can kill the program.
    pub fn killer(&self) -> io::Result<Killer> {
        Ok(Killer(self.reports.get_ref().try_clone()?))
    }

    /// Waits until the program has ended and all that it started is gone. Read
    /// [`Child::stdout`] and [`Child::stderr`] meanwhile, or take them and drop them.
    pub fn wait(&mut self) -> Result<Exit, SandboxError> {
        let report = self.next_report()?;
        let status = self
            .process
            .wait()
            .map_err(|source| SandboxError::Helper { helper: self.helper.clone(), source })?;
        match report {
            Some(Report::Exited(code)) => Ok(Exit::Code(code)),
            Some(Report::Signalled(signal)) => Ok(Exit::Signal(signal)),
            // The supervisor was told to kill, and did.
            None if status.code() == Some(KILLED) => Ok(Exit::Signal(libc::SIGKILL)),
            _ => Err(self.lost()),
        }
    }

    /// Kills the program and all that it started, and waits until it is gone.
    pub fn kill(&mut self) -> Result<(), SandboxError> {
        // The supervisor kills the tree when it can read no more.
        let _ = self.reports.get_ref().shutdown(Shutdown::Write);
        self.process
            .wait()
            .map(drop)
            .map_err(|source| SandboxError::Helper { helper: self.helper.clone(), source })
    }

    fn next_report(&mut self) -> Result<Option<Report>, SandboxError> {
        let mut line = Vec::new();
        // A connection that breaks is a helper that ended.
        let read = self.reports.by_ref().take(1 << 20).read_until(b'\n', &mut line).unwrap_or(0);
        if read == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|_| self.lost())
    }

    fn lost(&mut self) -> SandboxError {
        let _ = self.reports.get_ref().shutdown(Shutdown::Both);
        // A helper on its way out is let go, for the sake of its exit code; any other
        // program may run for ever.
        let deadline = Instant::now() + Duration::from_millis(500);
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = match self.process.wait() {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        SandboxError::Lost { helper: self.helper.clone(), status }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing is left to tell an error to; the supervisor dies with this process anyway.
        let _ = self.kill();
    }
}

/// The supervisor's exit code after it killed the tree because its caller said so.
pub(crate) const KILLED: i32 = 137;
