//! The helper's process outside: from `helper __sandbox` to the end of all that is inside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{self, Pid};

use crate::error::Step;
use crate::init::{self, Ends, Work};
use crate::limits;
use crate::pins::{self, Pins};
use crate::plan::Plan;
use crate::report::{Enforced, Failure, Keeper, Report};
use crate::sys::{self, Fork};
use crate::wire::{self, Order, send};
use crate::{plan::Weaker, spawn, verify};

/// Becomes the sandbox helper, and never returns, where the program was started as one
/// (`program __sandbox`, by [`crate::spawn`]). To be called first of all in `main`: before
/// anything is opened and before any thread is started.
pub fn main_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == crate::HELPER_ARGUMENT) {
        std::process::exit(supervise());
    }
}

/// Detaches itself from the caller, makes the namespaces, starts init, pins, and kills all as
/// soon as the caller goes away.
fn supervise() -> i32 {
    let control = match sys::close_from_3().and_then(|()| take_control()) {
        Ok(control) => control,
        // Nobody to tell: standard input is no control socket, or this kernel is too old
        // for close_range(2), which the caller sees as a helper that went away.
        Err(_) => return 125,
    };
    let result = wire::receive_order(&control)
        .map_err(|e| Failure::new(Step::Plan, e))
        .and_then(|(order, given)| start(&control, order, given));
    match result {
        Ok(inside) => inside.watch(&control),
        Err(failure) => {
            send(&control, &Report::Failed(failure));
            125
        }
    }
}

/// What the supervisor has of init.
struct Inside {
    plan: Plan,
    init: Pid,
    /// Ends when init does.
    alive: OwnedFd,
    orders: File,
    /// Dropped last but one, when nothing inside lives any more.
    pins: Pins,
    _limits: limits::Kept,
}

fn start(control: &UnixStream, order: Order, given: Vec<OwnedFd>) -> Result<Inside, Failure> {
    let Order { plan, streams, private } = order;
    let before = verify::namespaces();
    check(&plan)?;
    let groups_dropped = detach()?;
    let limits = limits::keep(&plan)?;
    namespaces(&plan)?;
    let mut enforced =
        Enforced { groups_dropped, limits: limits.by.clone(), ..Enforced::default() };
    if limits.by.iter().any(|(_, keeper)| *keeper != Keeper::Cgroup) {
        enforced.missing.push(Weaker::Limits);
    }
    let failed = |e: Errno| Failure::new(Step::Fork, e);
    let (alive, died) = unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let (orders, ordering) = unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let copy = control.try_clone().map_err(|e| Failure::new(Step::Fork, e))?;
    match sys::fork().map_err(|e| Failure::new(Step::Fork, e))? {
        Fork::Parent(init) => {
            drop((died, orders, given, copy));
            let orders = File::from(ordering);
            Ok(Inside { plan, init, alive, orders, pins: Pins::default(), _limits: limits })
        }
        Fork::Child => {
            drop((alive, ordering));
            // The supervisor's to undo.
            std::mem::forget(limits);
            let work = Work { plan, streams, private, descriptors: given, before, enforced };
            init::run(work, &Ends { control: copy, died, orders })
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
    let pinned = plan.pins.iter().map(|p| &p.path);
    for path in targets.chain(pinned).chain([&plan.cwd, &plan.identity.home]) {
        if !absolute(path) || path.to_str().is_none_or(|p| p.contains(['\n', '\0'])) {
            return Err(Failure::at(Step::Plan, path.to_string_lossy(), Errno::EINVAL));
        }
    }
    if plan.binds.iter().any(|b| !b.source.is_absolute() || b.target == Path::new("/")) {
        return Err(Failure::said(Step::Plan, "a bind must have an absolute source and a target"));
    }
    if plan.hidden.as_ref().is_some_and(|hidden| !absolute(&hidden.path)) {
        return Err(Failure::said(Step::Plan, "what is hidden must have an absolute path"));
    }
    if plan.identity.uid == 0 || plan.identity.gid == 0 {
        return Err(Failure::said(Step::Plan, "the user inside must not be 0"));
    }
    pins::check(plan)?;
    network(plan)?;
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain(&plan.identity.name) || !plain(&plan.hostname) {
        return Err(Failure::said(
            Step::Plan,
            "a user or host name may have letters, digits and `-`",
        ));
    }
    Ok(())
}

/// What the caller wants to have of the program's network must be of one that is its own.
fn network(plan: &Plan) -> Result<(), Failure> {
    let refused = |why| Err(Failure::said(Step::Plan, why));
    if plan.network && !(plan.listen.is_empty() && plan.hosts.is_empty() && !plan.publish) {
        return refused("with the network given, nothing is listened on, named or published");
    }
    // Beside them come a terminal and the way to the program's ports.
    let many = plan.listen.len() + 2 > wire::DESCRIPTORS;
    let fine = |a: &std::net::SocketAddrV4| a.ip().is_loopback() && a.port() != 0;
    if many || !plan.listen.iter().all(fine) {
        return refused("a few ports of loopback addresses can be listened on, and not 0");
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if plan.hosts.keys().any(|name| name.is_empty() || !name.chars().all(letter)) {
        return refused("a host's name may have letters, digits, `.`, `-` and `_`");
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
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
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

impl Inside {
    /// Pins what the plan says, and lets init go on; then waits for init to end or the caller
    /// to go, and in the latter case kills all. What the caller sends after the order are
    /// signals for the program, a byte each: init has them delivered.
    fn watch(mut self, control: &UnixStream) -> i32 {
        let killed = match self.pin() {
            Ok(mounts) => self.wait(control, mounts.as_ref()),
            Err(failure) => {
                send(control, &Report::Failed(failure));
                true
            }
        };
        if killed {
            // Killing process 1 of a pid namespace kills all processes in it.
            let _ = kill(self.init, Signal::SIGKILL);
        }
        // Returns when the whole pid namespace is gone.
        while let Err(Errno::EINTR) = waitpid(self.init, None) {}
        if killed { spawn::KILLED } else { 0 }
    }

    /// When init says that the root stands, pins, and says so. Returns what tells of changes
    /// of the mounts, where there is something pinned.
    fn pin(&mut self) -> Result<Option<File>, Failure> {
        let failed = |e: io::Error| Failure::new(Step::Pin, e);
        if !matches!(unistd::read(&self.alive, &mut [0]), Ok(1)) {
            // Init has told the caller why it ended.
            return Ok(None);
        }
        let mut mounts = None;
        if !self.plan.pins.is_empty() {
            // pivot_root(2) has brought this process along. It is in no `/proc` here, but init
            // is, and has the same mounts.
            let mut file = File::open("/proc/1/mountinfo").map_err(failed)?;
            renew(&mut self.pins, &self.plan, &mut file)?;
            mounts = Some(file);
        }
        self.orders.write_all(&[0]).map_err(failed)?;
        Ok(mounts)
    }

    /// Returns whether all is to be killed.
    fn wait(&mut self, control: &UnixStream, mut mounts: Option<&File>) -> bool {
        loop {
            let mut fds = vec![
                PollFd::new(self.alive.as_fd(), PollFlags::POLLIN),
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(mounts.map(|m| PollFd::new(m.as_fd(), PollFlags::POLLPRI)));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(_) => return true,
                Ok(_) => {}
            }
            let ready = |n: usize| fds.get(n).is_some_and(|fd| fd.any().unwrap_or(true));
            let (ended, spoken, changed) = (ready(0), ready(1), ready(2));
            if spoken {
                let mut signal = [0];
                if !matches!((&mut &*control).read(&mut signal), Ok(1)) {
                    return true;
                }
                // Init is about to end if nobody reads.
                let _ = self.orders.write_all(&signal);
            } else if ended {
                return false;
            }
            if let (true, Some(mut file)) = (changed, mounts.take()) {
                if let Err(failure) = renew(&mut self.pins, &self.plan, &mut file) {
                    send(control, &Report::Failed(failure));
                    return true;
                }
                mounts = Some(file);
            }
        }
    }
}

/// Pins what is not pinned (any more). Reading what is mounted also asks to be told of the
/// next change: a change meanwhile is told.
fn renew(pins: &mut Pins, plan: &Plan, mut mounts: impl Read + io::Seek) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::at(Step::Pin, "/proc/1/mountinfo", e);
    let mut text = String::new();
    mounts.rewind().map_err(failed)?;
    mounts.read_to_string(&mut text).map_err(failed)?;
    pins.renew(plan, &text)
}
