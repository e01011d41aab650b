//! The helper: supervisor, init and program, from `helper __sandbox` to the plan's
//! execve(2).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, Pid};

use crate::error::Step;
use crate::plan::Plan;
use crate::report::{Enforced, Failure, Report, send};
use crate::sys::{self, Fork};
use crate::{privileges, root, spawn, verify};

/// Becomes the sandbox helper, and never returns, where the program was started as one
/// (`program __sandbox`, by [`crate::spawn`]). To be called first of all in `main`: before
/// anything is opened and before any thread is started.
pub fn main_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == crate::HELPER_ARGUMENT) {
        std::process::exit(supervise());
    }
}

/// The process outside: detaches itself from the caller, makes the namespaces, starts init,
/// and kills it as soon as the caller goes away.
fn supervise() -> i32 {
    let control = match sys::close_from_3().and_then(|()| take_control()) {
        Ok(control) => control,
        // Nobody to tell: standard input is no control socket, or this kernel is too old
        // for close_range(2), which the caller sees as a helper that went away.
        Err(_) => return 125,
    };
    let before = verify::namespaces();
    let result = spawn::receive_plan(&control)
        .map_err(|e| Failure::new(Step::Plan, e))
        .and_then(|plan| check(&plan).map(|()| plan))
        .and_then(|plan| detach().map(|groups_dropped| (plan, groups_dropped)))
        .and_then(|(plan, groups)| namespaces(&plan).map(|()| (plan, groups)))
        .and_then(|(plan, groups_dropped)| {
            let (alive, died) =
                unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Failure::new(Step::Fork, e))?;
            let (orders, ordering) =
                unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Failure::new(Step::Fork, e))?;
            match sys::fork().map_err(|e| Failure::new(Step::Fork, e))? {
                Fork::Parent(init) => {
                    drop((died, orders));
                    Ok((init, alive, ordering))
                }
                Fork::Child => {
                    drop((alive, ordering));
                    let ends = Ends { control: &control, died, orders };
                    init(&plan, &ends, &before, groups_dropped)
                }
            }
        });
    match result {
        Ok((init, alive, ordering)) => watch(&control, init, &alive, ordering.into()),
        Err(failure) => {
            send(&control, &Report::Failed(failure));
            125
        }
    }
}

/// Takes the control socket off standard input, and puts `/dev/null` there.
fn take_control() -> io::Result<UnixStream> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails where it is no socket: somebody typed `__sandbox`.
    control.local_addr()?;
    let null = std::fs::File::open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    Ok(control)
}

/// Refuses plans that make no sense before anything is done for them.
fn check(plan: &Plan) -> Result<(), Failure> {
    let absolute = |path: &Path| {
        path.is_absolute()
            && path.components().all(|c| !matches!(c, std::path::Component::ParentDir))
    };
    let targets = plan.binds.iter().map(|b| &b.target);
    for path in targets.chain([&plan.cwd, &plan.identity.home]) {
        if !absolute(path) || path.to_str().is_none_or(|p| p.contains(['\n', '\0'])) {
            return Err(Failure::at(Step::Plan, path.to_string_lossy(), Errno::EINVAL));
        }
    }
    if plan.binds.iter().any(|b| !b.source.is_absolute() || b.target == Path::new("/")) {
        return Err(Failure::said(Step::Plan, "a bind must have an absolute source and a target"));
    }
    if plan.identity.uid == 0 || plan.identity.gid == 0 {
        return Err(Failure::said(Step::Plan, "the user inside must not be 0"));
    }
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain(&plan.identity.name) || !plain(&plan.hostname) {
        return Err(Failure::said(
            Step::Plan,
            "a user or host name may have letters, digits and `-`",
        ));
    }
    Ok(())
}

/// Leaves what ties this process to its caller. Says whether the groups were dropped.
fn detach() -> Result<bool, Failure> {
    let failed = |e: Errno| Failure::new(Step::Detach, e);
    // A session of its own has no controlling terminal: TIOCSTI has nothing to push to, and
    // the terminal's Ctrl-C goes to the caller alone, which hangs up.
    unistd::setsid().map_err(failed)?;
    // Set before any namespace gives capabilities, so that no execve(2) from here on can
    // gain a privilege. Cannot be unset.
    nix::sys::prctl::set_no_new_privs().map_err(failed)?;
    sys::leave_keyring().map_err(|e| Failure::new(Step::Detach, e))?;
    // Only root may; an ordinary user's groups stay, which `Enforced` says. Dropping
    // groups only takes rights away.
    Ok(unistd::geteuid().is_root() && unistd::setgroups(&[]).is_ok())
}

/// Makes the namespaces and maps this user, and no other, into the new user namespace.
fn namespaces(plan: &Plan) -> Result<(), Failure> {
    let (uid, gid) = (unistd::geteuid(), unistd::getegid());
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !plan.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    // Gives this process all capabilities, but only over the namespaces made here: nothing
    // of the host is governed by them. They are dropped before the program starts.
    unshare(flags).map_err(|e| Failure::new(Step::Namespaces, e))?;
    let write = |file: &str, text: String| {
        std::fs::write(file, text).map_err(|e| Failure::at(Step::Identity, file, e))
    };
    // One id each, this user's own: no other id can be taken. `setgroups` must be denied
    // first, or the kernel refuses the map to the unprivileged: a process could otherwise
    // leave a group that it is denied something through.
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("{} {uid} 1\n", plan.identity.uid))?;
    write("/proc/self/gid_map", format!("{} {gid} 1\n", plan.identity.gid))?;
    // Ubuntu's AppArmor lets the namespace be made and takes its capabilities away.
    if !caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN)
        .unwrap_or(false)
    {
        return Err(Failure::new(Step::Namespaces, Errno::EPERM));
    }
    Ok(())
}

/// Waits for init to end or the caller to go; in the latter case kills all. What the caller
/// sends after the plan are signals for the program, a byte each: init has them delivered.
fn watch(control: &UnixStream, init: Pid, alive: &OwnedFd, mut ordering: File) -> i32 {
    let mut hung_up = false;
    loop {
        let mut fds = [
            PollFd::new(alive.as_fd(), PollFlags::POLLIN),
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => hung_up = true,
            Ok(_) => {
                let mut signal = [0];
                if fds[1].any().unwrap_or(true) {
                    hung_up = !matches!((&mut &*control).read(&mut signal), Ok(1));
                    if !hung_up {
                        // Init is about to end if nobody reads.
                        let _ = ordering.write_all(&signal);
                        continue;
                    }
                }
            }
        }
        if hung_up {
            // Killing process 1 of a pid namespace kills all processes in it.
            let _ = nix::sys::signal::kill(init, Signal::SIGKILL);
        }
        break;
    }
    // Returns when the whole pid namespace is gone.
    while let Err(Errno::EINTR) = waitpid(init, None) {}
    if hung_up { spawn::KILLED } else { 0 }
}

/// What init has of its supervisor.
struct Ends<'a> {
    /// Where reports go.
    control: &'a UnixStream,
    /// Broken when the supervisor died.
    died: OwnedFd,
    /// Signals for the program, a byte each.
    orders: OwnedFd,
}

/// Process 1 inside: builds the root, drops everything, starts the program, reaps.
fn init(plan: &Plan, ends: &Ends<'_>, before: &verify::Namespaces, groups_dropped: bool) -> ! {
    let code = match prepare(plan, &ends.died, before, groups_dropped) {
        Ok(enforced) => start(plan, ends, enforced),
        Err(failure) => {
            send(ends.control, &Report::Failed(failure));
            125
        }
    };
    std::process::exit(code)
}

fn prepare(
    plan: &Plan,
    died: &OwnedFd,
    before: &verify::Namespaces,
    groups_dropped: bool,
) -> Result<Enforced, Failure> {
    die_with_supervisor(died)?;
    unistd::setsid().map_err(|e| Failure::new(Step::Detach, e))?;
    let expected = root::build(plan)?;
    // The host name is of the new uts namespace, `lo` of the new network namespace.
    unistd::sethostname(&plan.hostname).map_err(|e| Failure::new(Step::Host, e))?;
    if !plan.network {
        sys::loopback_up().map_err(|e| Failure::at(Step::Host, "lo", e))?;
    }
    let abstract_sockets_closed = privileges::drop_all()?;
    // Dropping capabilities may not clear it, but a kernel that thinks otherwise would
    // leave an orphan: once more, and checked.
    die_with_supervisor(died)?;
    let namespaces = verify::all(plan, before, &expected)?;
    unistd::chdir(&plan.cwd)
        .map_err(|e| Failure::at(Step::Directory, plan.cwd.to_string_lossy(), e))?;
    Ok(Enforced { namespaces, mounts: expected.len(), groups_dropped, abstract_sockets_closed })
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

/// Starts the program and reaps until it ends; the code init is to end with.
fn start(plan: &Plan, ends: &Ends<'_>, enforced: Enforced) -> i32 {
    let control = ends.control;
    if plan.argv.is_empty() {
        send(control, &Report::Running(enforced));
        send(control, &Report::Exited(0));
        return 0;
    }
    let fail = |failure| {
        send(control, &Report::Failed(failure));
        125
    };
    // Closed by a successful execve(2); until then it carries the failure.
    let (mut started, starting) = match io::pipe() {
        Ok(ends) => ends,
        Err(e) => return fail(Failure::new(Step::Fork, e)),
    };
    let ended = match children() {
        Ok(ended) => ended,
        Err(e) => return fail(Failure::new(Step::Fork, e)),
    };
    let program = match sys::fork() {
        Ok(Fork::Parent(program)) => program,
        Ok(Fork::Child) => {
            let failure = execute(plan);
            let _ = serde_json::to_writer(&starting, &failure);
            std::process::exit(125);
        }
        Err(e) => return fail(Failure::new(Step::Fork, e)),
    };
    drop(starting);
    let mut said = Vec::new();
    if let Err(e) = io::Read::read_to_end(&mut started, &mut said) {
        return fail(Failure::new(Step::Exec, e));
    }
    if !said.is_empty() {
        return fail(
            serde_json::from_slice(&said)
                .unwrap_or_else(|e| Failure::new(Step::Exec, io::Error::from(e))),
        );
    }
    send(control, &Report::Running(enforced));
    reap(ends, &ended, program)
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
fn reap(ends: &Ends<'_>, ended: &SignalFd, program: Pid) -> i32 {
    let control = ends.control;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => obey(ends, ended, program),
            Ok(WaitStatus::Exited(pid, code)) if pid == program => {
                send(control, &Report::Exited(code));
                return 0;
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                send(control, &Report::Signalled(signal as i32));
                return 0;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left although the program was never seen to end: the caller
            // hears the connection close.
            Err(_) => return 125,
        }
    }
}

/// Waits until a child has ended, or delivers a signal.
fn obey(ends: &Ends<'_>, ended: &SignalFd, program: Pid) {
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
    let mut number = [0];
    if ordered && unistd::read(&ends.orders, &mut number) == Ok(1) {
        // The program is not reaped yet, so its number is still its own.
        if let Ok(signal) = Signal::try_from(i32::from(number[0])) {
            let _ = nix::sys::signal::kill(program, signal);
        }
    }
}

/// Becomes the program. Returns only what went wrong.
fn execute(plan: &Plan) -> Failure {
    let name = plan.argv[0].as_str();
    let step = || -> io::Result<()> {
        unistd::setsid()?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        // No core dump: it would be written with whatever the program had read.
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
        sys::default_signals();
        SigSet::empty().thread_set_mask()?;
        // The control socket and the pipes are close-on-exec already; this makes it
        // certain for whatever else there is.
        sys::close_from_3_on_exec()
    };
    if let Err(e) = step() {
        return Failure::at(Step::Exec, name, e);
    }
    let strings =
        |list: Vec<String>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let env = plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (Ok(argv), Ok(env)) = (strings(plan.argv.clone()), strings(env)) else {
        return Failure::at(Step::Exec, name, Errno::EINVAL);
    };
    let mut refused = Errno::ENOENT;
    for file in candidates(name, plan.env.get("PATH")) {
        let Ok(file) = CString::new(file) else { continue };
        match unistd::execve(&file, &argv, &env) {
            Ok(never) => match never {},
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            // Another directory of the path may have one that can be executed.
            Err(errno) => refused = errno,
        }
    }
    Failure::at(Step::Exec, name, refused)
}

/// Where a program may be: itself if it names a path, else in each directory of `path`.
fn candidates(name: &str, path: Option<&String>) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = path.map_or("/usr/bin:/bin", String::as_str);
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| format!("{dir}/{name}")).collect()
}
