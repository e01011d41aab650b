//! Process 1 inside: builds the root, drops everything, starts the program, reaps.

use std::io::{self, Read};
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, Pid};

use crate::error::Step;
use crate::plan::{Plan, Weaker};
use crate::private::Private;
use crate::program::{Stdio, execute};
use crate::report::{Enforced, Failure, Keeper, Limit, Report};
use crate::wire::{Ordered, Streams, send, send_bringing};
use crate::{fence, filter, ports, privileges, pty, root, sys, verify};

/// What init has of its supervisor.
pub(crate) struct Ends {
    /// Where reports go.
    pub control: UnixStream,
    /// Broken when the supervisor died. A byte says that the root stands.
    pub died: OwnedFd,
    /// One byte when all is pinned; then signals for the program, a byte each.
    pub orders: OwnedFd,
}

/// What init is to do.
pub(crate) struct Work {
    pub plan: Plan,
    pub streams: Option<Streams>,
    /// How many bytes of what is private are to come.
    pub private: Option<usize>,
    /// What the caller sent along.
    pub descriptors: Vec<OwnedFd>,
    /// The caller's namespaces.
    pub before: verify::Namespaces,
    /// What the supervisor did already.
    pub enforced: Enforced,
}

/// What was made for the program and the caller.
struct Ready {
    enforced: Enforced,
    stdio: Stdio,
    private: Option<Private>,
    /// For the caller.
    master: Option<OwnedFd>,
    listeners: Vec<TcpListener>,
    /// Asks the caller before anything is executed.
    watched: Option<OwnedFd>,
    /// For who tells the caller of the program's ports.
    diagnosis: Option<OwnedFd>,
}

/// Becomes init.
pub(crate) fn run(mut work: Work, ends: &Ends) -> ! {
    let code = match prepare(&mut work, ends) {
        Ok(ready) => start(&work.plan, ends, ready),
        Err(failure) => {
            send(&ends.control, &Report::Failed(failure));
            125
        }
    };
    std::process::exit(code)
}

fn prepare(work: &mut Work, ends: &Ends) -> Result<Ready, Failure> {
    let plan = &work.plan;
    die_with_supervisor(&ends.died)?;
    unistd::setsid().map_err(|e| Failure::new(Step::Detach, e))?;
    // The supervisor reads from there no more until the root stands.
    let receive = |length| Private::receive(&ends.control, length);
    let private = work.private.map(receive).transpose().map_err(|e| Failure::new(Step::Plan, e))?;
    let expected = root::build(plan, private.as_ref())?;
    // The host name is of the new uts namespace, `lo` of the new network namespace.
    unistd::sethostname(&plan.hostname).map_err(|e| Failure::new(Step::Host, e))?;
    if !plan.network {
        sys::loopback_up().map_err(|e| Failure::at(Step::Host, "lo", e))?;
    }
    wait_for_pins(ends)?;
    let listeners = listen(&plan.listen)?;
    let diagnosis = plan.publish.then(ports::diagnosis).transpose()?;
    let (stdio, master) = streams(work.streams.take(), std::mem::take(&mut work.descriptors))
        .map_err(|e| Failure::new(Step::Terminal, e))?;
    let landlock = fence::enforce(plan, &expected)?;
    privileges::no_core()?;
    privileges::drop_all()?;
    let calls_closed = filter::install(plan.profile)?;
    let watched = watched(plan)?;
    let filters = filter::filters() + usize::from(watched.is_some());
    // Dropping capabilities may not clear it, but a kernel that thinks otherwise would
    // leave an orphan: once more, and checked.
    die_with_supervisor(&ends.died)?;
    let namespaces = verify::all(plan, &work.before, &expected, filters)?;
    unistd::chdir(&plan.cwd)
        .map_err(|e| Failure::at(Step::Directory, plan.cwd.to_string_lossy(), e))?;
    let mut enforced = Enforced {
        namespaces,
        mounts: expected.len(),
        abstract_sockets_closed: fence::scopes(landlock),
        landlock,
        calls_closed,
        pins: plan.pins.len(),
        ..work.enforced.clone()
    };
    enforced.missing.extend(fence::missing(plan, landlock));
    enforced.missing.extend((plan.watch && watched.is_none()).then_some(Weaker::Watch));
    Ok(Ready { enforced, stdio, private, master, listeners, watched, diagnosis })
}

/// What asks before anything is executed, where the plan wants it.
fn watched(plan: &Plan) -> Result<Option<OwnedFd>, Failure> {
    match plan.watch.then(filter::watch).transpose() {
        Err(_) if plan.weaker.contains(&Weaker::Watch) => Ok(None),
        other => other.map_err(|e| Failure::at(Step::Filter, "execve", e)),
    }
}

/// Says that the root stands, and waits until the supervisor has pinned what is to be pinned.
fn wait_for_pins(ends: &Ends) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::new(Step::Pin, e);
    unistd::write(&ends.died, &[0]).map_err(|e| failed(e.into()))?;
    let mut done = [0];
    match unistd::read(&ends.orders, &mut done) {
        Ok(1) => Ok(()),
        // It has told the caller why, and is about to kill this process.
        Ok(_) => Err(Failure::said(Step::Pin, "the supervisor went away")),
        Err(e) => Err(failed(e.into())),
    }
}

/// Asks the kernel to kill this process when the supervisor dies, and makes sure that it
/// has not died before it was asked.
fn die_with_supervisor(died: &OwnedFd) -> Result<(), Failure> {
    use nix::sys::prctl;
    let failed = |e: Errno| Failure::new(Step::Detach, e);
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    if prctl::get_pdeathsig().map_err(failed)? != Some(Signal::SIGKILL) {
        return Err(Failure::said(Step::Detach, "the parent death signal does not hold"));
    }
    // The supervisor holds the only reading end of this pipe.
    let mut fds = [PollFd::new(died.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).map_err(failed)?;
    match fds[0].any() {
        Some(false) => Ok(()),
        _ => Err(Failure::said(Step::Detach, "the supervisor died")),
    }
}

/// The sockets that the caller serves, on loopback addresses of this network namespace's own.
fn listen(addresses: &[SocketAddrV4]) -> Result<Vec<TcpListener>, Failure> {
    let open = |address: &SocketAddrV4| {
        TcpListener::bind(address).map_err(|e| Failure::at(Step::Listen, address.to_string(), e))
    };
    addresses.iter().map(open).collect()
}

/// What the program's standard streams are to be, and the other end of its terminal.
fn streams(streams: Option<Streams>, given: Vec<OwnedFd>) -> io::Result<(Stdio, Option<OwnedFd>)> {
    let Some(wanted) = streams else {
        return Ok((Stdio { streams: None, terminal: None }, None));
    };
    let pty = match wanted.terminal.contains(&true) {
        true => Some(pty::open(&wanted.settings)?),
        false => None,
    };
    let mut given = given.into_iter();
    let mut one = |terminal: bool| match (&pty, terminal) {
        (Some(pty), true) => pty.slave.try_clone(),
        _ => given.next().ok_or_else(|| io::Error::other("a standard stream did not come along")),
    };
    let [input, output, error] = wanted.terminal;
    let streams = Some([one(input)?, one(output)?, one(error)?]);
    Ok(match pty {
        Some(pty::Pty { master, slave }) => {
            (Stdio { streams, terminal: Some(slave) }, Some(master))
        }
        None => (Stdio { streams, terminal: None }, None),
    })
}

/// Starts the program and reaps until it ends; the code init is to end with.
fn start(plan: &Plan, ends: &Ends, mut ready: Ready) -> i32 {
    let control = &ends.control;
    if let Some(watched) = ready.watched.take() {
        // Now: without an answer there is no program. And here alone: a copy that stays inside
        // would answer for all.
        send_bringing(control, &Report::Watched, &[watched.as_fd()]);
    }
    if plan.argv.is_empty() {
        send_bringing(control, &Report::Running(ready.enforced), &[]);
        send(control, &Report::Exited(0));
        return 0;
    }
    let ended = match children() {
        Ok(ended) => ended,
        Err(e) => {
            send(control, &Report::Failed(Failure::new(Step::Fork, e)));
            return 125;
        }
    };
    let Ready { enforced, stdio, private, master, listeners, diagnosis, .. } = ready;
    let begun = begin(plan, &stdio, private.as_ref(), &enforced.limits);
    drop(private);
    let published = |program| match &diagnosis {
        Some(diagnosis) => ports::start(diagnosis, &plan.listen).map(|end| (program, Some(end))),
        None => Ok((program, None)),
    };
    match begun.and_then(published) {
        Ok((program, ports)) => {
            let all = master.iter().map(AsFd::as_fd).chain(ports.iter().map(AsFd::as_fd));
            let with: Vec<BorrowedFd<'_>> = all.chain(listeners.iter().map(AsFd::as_fd)).collect();
            send_bringing(control, &Report::Running(enforced), &with);
            // Only the program's own copies are left: when it closes them, it is seen to.
            drop((stdio, master, ports, listeners, diagnosis));
            reap(ends, &ended, program)
        }
        Err(failure) => {
            send(control, &Report::Failed(failure));
            125
        }
    }
}

/// Starts the program; returns when it is executed.
fn begin(
    plan: &Plan,
    stdio: &Stdio,
    private: Option<&Private>,
    by: &[(Limit, Keeper)],
) -> Result<Pid, Failure> {
    // Closed by a successful execve(2); until then it carries the failure.
    let (mut started, starting) = io::pipe().map_err(|e| Failure::new(Step::Fork, e))?;
    let program = match sys::fork().map_err(|e| Failure::new(Step::Fork, e))? {
        sys::Fork::Parent(program) => program,
        sys::Fork::Child => {
            let failure = execute(plan, stdio, private, by);
            let _ = serde_json::to_writer(&starting, &failure);
            std::process::exit(125);
        }
    };
    drop(starting);
    let mut said = Vec::new();
    started.read_to_end(&mut said).map_err(|e| Failure::new(Step::Exec, e))?;
    match said.is_empty() {
        true => Ok(program),
        false => Err(serde_json::from_slice(&said)
            .unwrap_or_else(|e| Failure::new(Step::Exec, io::Error::from(e)))),
    }
}

/// Tells when a child ends; from before there is one.
fn children() -> Result<SignalFd, Errno> {
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    // Without a handler the signal would be lost. The program unblocks it.
    child.thread_block()?;
    SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Reaps every orphan of the namespace until `program` has ended, and hands it the signals
/// that are ordered. The kernel kills what is left when this process exits.
fn reap(ends: &Ends, ended: &SignalFd, program: Pid) -> i32 {
    let control = &ends.control;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::StillAlive) => obey(ends, ended, program),
            Ok(WaitStatus::Exited(pid, code)) if pid == program => {
                send(control, &Report::Exited(code));
                return 0;
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                send(control, &Report::Signalled(signal as i32));
                return 0;
            }
            Ok(WaitStatus::Stopped(pid, signal)) if pid == program => {
                send(control, &Report::Stopped(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left although the program was never seen to end: the caller
            // hears the connection close.
            Err(_) => return 125,
        }
    }
}

/// Waits until a child has ended, or delivers a signal.
fn obey(ends: &Ends, ended: &SignalFd, program: Pid) {
    let mut fds = [
        PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        PollFd::new(ends.orders.as_fd(), PollFlags::POLLIN),
    ];
    if poll(&mut fds, PollTimeout::NONE).is_err() {
        return; // interrupted
    }
    let ordered = fds[1].any() == Some(true);
    // Several that ended at once are one signal: whoever reaps asks until nobody is left.
    let _ = ended.read_signal();
    let mut byte = [0];
    if ordered && unistd::read(&ends.orders, &mut byte) == Ok(1) {
        // The program is not reaped yet, so its number, which is its group's too, is its own.
        let _ = match Ordered::from_byte(byte[0]) {
            Some(Ordered { signal, group: true }) => killpg(program, signal),
            Some(Ordered { signal, group: false }) => kill(program, signal),
            None => Ok(()),
        };
    }
}
