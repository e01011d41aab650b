//! The caller's side: start the helper, hand it the plan, hear what became of it.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::attend::{Carrier, Console, Event, Filter, carry};
use crate::error::{SandboxError, Step};
use crate::plan::Plan;
use crate::ports::Ports;
use crate::private::Private;
use crate::report::{Enforced, Failure, Report};
use crate::runs::Runs;
use crate::sys::Caught;
use crate::wire::{Order, Ordered, Reports, send_order};

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
    /// The loopback ports of the plan, in its order: what connects to them inside is to be
    /// accepted here.
    pub listeners: Vec<TcpListener>,
    /// The way to what the program listens on, where the plan publishes it.
    pub ports: Option<Ports>,
    /// What is executed inside, where the plan asks for it.
    pub runs: Option<Runs>,
    enforced: Enforced,
    reports: Reports,
    carrier: Option<Carrier>,
    /// What came since [`spawn_on`].
    caught: Option<Caught>,
    helper: PathBuf,
    process: std::process::Child,
}

/// What became of a plan.
#[derive(Debug)]
pub struct Status {
    /// How the program ended.
    pub exit: Exit,
    /// What was enforced on it.
    pub enforced: Enforced,
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
        match (&self.0).write_all(&[Ordered { signal, group: false }.byte()]) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// Executes `plan` with `helper`, a program that calls [`crate::main_if_asked`] first of
/// all (as a rule: this very program). Returns when the program runs, or with the step that
/// failed. Its input is empty, and what it writes comes by [`Child::stdout`] and
/// [`Child::stderr`].
pub fn spawn(plan: &Plan, helper: &Path) -> Result<Child, SandboxError> {
    begin(plan, helper, None, None)
}

/// As [`spawn`], but with the caller's streams. Where one is a terminal the program gets one of
/// its own. Signals that end or stop this process are kept from now on for
/// [`Child::attend`], which is to be called soon.
pub fn spawn_on(
    plan: &Plan,
    helper: &Path,
    console: Console<'_>,
    private: Option<&Private>,
) -> Result<Child, SandboxError> {
    // From before the program runs: a signal that comes meanwhile is for it.
    let caught = Caught::new(&PASSED).map_err(terminal)?;
    match begin(plan, helper, Some(console), private) {
        Ok(mut child) => {
            child.caught = Some(caught);
            Ok(child)
        }
        Err(e) => {
            caught.obey();
            Err(e)
        }
    }
}

/// Executes `plan` with the caller's streams, to its end. See [`spawn_on`].
pub fn launch(plan: &Plan, helper: &Path, console: Console<'_>) -> Result<Status, SandboxError> {
    let mut child = spawn_on(plan, helper, console, None)?;
    Ok(Status { exit: child.attend()?, enforced: child.enforced.clone() })
}

fn begin(
    plan: &Plan,
    helper: &Path,
    console: Option<Console<'_>>,
    private: Option<&Private>,
) -> Result<Child, SandboxError> {
    let error = |source| SandboxError::Helper { helper: helper.to_owned(), source };
    let streams = console.map(Console::streams).transpose().map_err(terminal)?;
    let (streams, given) = streams.map_or((None, Vec::new()), |(s, given)| (Some(s), given));
    // A path that is not UTF-8 has no JSON.
    let order = Order { plan: plan.clone(), streams, private: private.map(Private::length) };
    let json = serde_json::to_vec(&order).map_err(|e| SandboxError::Setup {
        step: Step::Plan,
        path: None,
        source: io::Error::other(e),
    })?;
    let output = || if console.is_some() { Stdio::null() } else { Stdio::piped() };
    let (ours, theirs) = UnixStream::pair().map_err(error)?;
    // An empty environment: what the helper was given would be readable in `/proc/1`.
    let mut process = Command::new(helper)
        .arg(crate::HELPER_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(output())
        .stderr(output())
        .spawn()
        .map_err(error)?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let mut child = Child {
        stdout,
        stderr,
        listeners: Vec::new(),
        ports: None,
        runs: None,
        enforced: Enforced::default(),
        reports: Reports::new(ours),
        carrier: None,
        caught: None,
        helper: helper.to_owned(),
        process,
    };
    // A helper that is not ours closes its end: the next read says so.
    let _ = send_order(&child.reports.socket, &json, &given)
        .and_then(|()| private.map_or(Ok(()), |private| private.send(&child.reports.socket)));
    let mut report = child.next_report()?;
    if let Some(Report::Watched) = report {
        child.watch(&plan.argv)?;
        report = child.next_report()?;
    }
    match report {
        Some(Report::Running(enforced)) => child.enforced = enforced,
        Some(Report::Failed(failure)) => return Err(failed(failure)),
        _ => return Err(child.lost()),
    }
    let mut came = std::mem::take(&mut child.reports.descriptors);
    child.listeners = came
        .split_off(came.len().saturating_sub(plan.listen.len()))
        .into_iter()
        .map(Into::into)
        .collect();
    child.ports = plan.publish.then(|| came.pop()).flatten().map(|end| Ports::new(end.into()));
    if let (Some(console), Some(master)) = (console, came.pop()) {
        child.carrier = Some(Carrier::new(console, master).map_err(terminal)?);
    }
    Ok(child)
}

fn terminal(source: io::Error) -> SandboxError {
    SandboxError::Setup { step: Step::Terminal, path: None, source }
}

fn failed(failure: Failure) -> SandboxError {
    let (step, path) = (failure.step, failure.path.clone());
    let source = failure.into_io();
    match (step, path) {
        (Step::Exec, path) => SandboxError::Exec { program: path.unwrap_or_default(), source },
        (step, path) => SandboxError::Setup { step, path, source },
    }
}

impl Child {
    /// What is enforced on the program.
    pub fn enforced(&self) -> &Enforced {
        &self.enforced
    }

    /// A handle by which another thread can kill the program.
    pub fn killer(&self) -> io::Result<Killer> {
        Ok(Killer(self.reports.socket.try_clone()?))
    }

    /// What the program writes to its terminal passes through `filter` from now on, before the
    /// caller's shows it.
    pub fn filter(&mut self, filter: Box<dyn Filter>) {
        if let Some(carrier) = &mut self.carrier {
            carrier.filter(filter);
        }
    }

    /// Waits until the program has ended and all that it started is gone. Read
    /// [`Child::stdout`] and [`Child::stderr`] meanwhile, or take them and drop them.
    pub fn wait(&mut self) -> Result<Exit, SandboxError> {
        let report = loop {
            match self.next_report()? {
                // It is waited for all the same: whoever stopped it may continue it.
                Some(Report::Stopped(_)) => {}
                other => break other,
            }
        };
        self.ended(report)
    }

    /// As [`Child::wait`], for a program on the caller's streams ([`spawn_on`]): carries what
    /// is typed and written, and passes on the signals that this process gets meanwhile
    /// (interrupt, quit, hangup, terminate, stop, user 1 and 2). One at a time in a process.
    pub fn attend(&mut self) -> Result<Exit, SandboxError> {
        let caught = match self.caught.take() {
            Some(caught) => caught,
            None => Caught::new(&PASSED).map_err(terminal)?,
        };
        let report = loop {
            if !self.reports.is_pending() {
                let socket = self.reports.socket.as_fd();
                match carry(self.carrier.as_mut(), &caught, socket).map_err(terminal)? {
                    Event::Report => {}
                    Event::Signal(ordered) => {
                        // The other side may be gone: then there is a report of it.
                        let _ = (&self.reports.socket).write_all(&[ordered.byte()]);
                        continue;
                    }
                }
            }
            match self.next_report()? {
                Some(Report::Stopped(_)) => {
                    match &mut self.carrier {
                        Some(carrier) => carrier.stop(&caught),
                        None => caught.stop(),
                    }
                    let on = Ordered { signal: Signal::SIGCONT, group: true };
                    let _ = (&self.reports.socket).write_all(&[on.byte()]);
                }
                other => break other,
            }
        };
        let exit = self.ended(report);
        if let Some(carrier) = &mut self.carrier {
            carrier.finish();
        }
        exit
    }

    /// Answers from now on who is about to execute something: the program waits for it, too.
    fn watch(&mut self, argv: &[String]) -> Result<(), SandboxError> {
        let Some(listener) = self.reports.descriptors.pop() else { return Err(self.lost()) };
        let failed = |source| SandboxError::Setup { step: Step::Filter, path: None, source };
        self.runs = Some(Runs::start(listener, argv).map_err(failed)?);
        Ok(())
    }

    fn ended(&mut self, report: Option<Report>) -> Result<Exit, SandboxError> {
        let status = self
            .process
            .wait()
            .map_err(|source| SandboxError::Helper { helper: self.helper.clone(), source })?;
        match report {
            Some(Report::Exited(code)) => Ok(Exit::Code(code)),
            Some(Report::Signalled(signal)) => Ok(Exit::Signal(signal)),
            // What was enforced could be enforced no more: all was killed.
            Some(Report::Failed(failure)) => Err(failed(failure)),
            // The supervisor was told to kill, and did.
            None if status.code() == Some(KILLED) => Ok(Exit::Signal(libc::SIGKILL)),
            _ => Err(self.lost()),
        }
    }

    /// Kills the program and all that it started, and waits until it is gone.
    pub fn kill(&mut self) -> Result<(), SandboxError> {
        // The supervisor kills the tree when it can read no more.
        let _ = self.reports.socket.shutdown(Shutdown::Write);
        self.process
            .wait()
            .map(drop)
            .map_err(|source| SandboxError::Helper { helper: self.helper.clone(), source })
    }

    fn next_report(&mut self) -> Result<Option<Report>, SandboxError> {
        self.reports.next().map_err(|()| self.lost())
    }

    fn lost(&mut self) -> SandboxError {
        let _ = self.reports.socket.shutdown(Shutdown::Both);
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

/// What the program is told of.
const PASSED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTERM,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The supervisor's exit code after it killed the tree because its caller said so.
pub(crate) const KILLED: i32 = 137;
