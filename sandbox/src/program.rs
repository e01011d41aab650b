//! The last steps of a process before it is the program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{self, Pid};

use crate::error::Step;
use crate::plan::Plan;
use crate::private::Private;
use crate::report::{Failure, Keeper, Limit};
use crate::{limits, sys};

/// What the program's standard streams are.
pub(crate) struct Stdio {
    /// Input, output, error; none: what init has.
    pub streams: Option<[OwnedFd; 3]>,
    /// Its own terminal, which init is the leader of.
    pub terminal: Option<OwnedFd>,
}

/// Becomes the program. Returns only what went wrong.
pub(crate) fn execute(
    plan: &Plan,
    stdio: &Stdio,
    private: Option<&Private>,
    by: &[(Limit, Keeper)],
) -> Failure {
    let name = plan.argv[0].as_str();
    if let Err(e) = settle(plan, stdio, by) {
        return Failure::at(Step::Exec, name, e);
    }
    let strings =
        |list: Vec<Vec<u8>>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let argv = plan.argv.iter().map(|word| word.clone().into_bytes()).collect();
    let (Ok(argv), Ok(env)) = (strings(argv), strings(environment(plan, private))) else {
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

/// All variables, `NAME=value`; what is private goes before what is not.
fn environment(plan: &Plan, private: Option<&Private>) -> Vec<Vec<u8>> {
    let private = || private.into_iter().flat_map(Private::vars);
    let is_private = |name: &str| private().any(|(private, _)| private == name);
    let plain = plan.env.iter().filter(|(name, _)| !is_private(name));
    let plain = plain.map(|(name, value)| (name.as_str(), value.as_bytes()));
    plain.chain(private()).map(|(name, value)| [name.as_bytes(), b"=", value].concat()).collect()
}

fn settle(plan: &Plan, stdio: &Stdio, by: &[(Limit, Keeper)]) -> io::Result<()> {
    match &stdio.terminal {
        // Init is the session's leader, as a shell would be: this process's group has a parent
        // in its session, so it can be stopped (an orphaned group cannot).
        Some(terminal) => own_foreground(terminal.as_fd())?,
        None => drop(unistd::setsid()?),
    }
    if let Some([input, output, error]) = &stdio.streams {
        unistd::dup2_stdin(input)?;
        unistd::dup2_stdout(output)?;
        unistd::dup2_stderr(error)?;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    limits::apply(&plan.limits, by)?;
    sys::default_signals();
    SigSet::empty().thread_set_mask()?;
    // The control socket and the pipes are close-on-exec already; this makes it
    // certain for whatever else there is.
    sys::close_from_3_on_exec()
}

/// A process group of its own, in the foreground of `terminal`.
fn own_foreground(terminal: BorrowedFd<'_>) -> io::Result<()> {
    unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    let mut stop = SigSet::empty();
    // Sent to a group that takes the terminal from the background.
    stop.add(Signal::SIGTTOU);
    stop.thread_block()?;
    Ok(unistd::tcsetpgrp(terminal, unistd::getpgrp())?)
}

/// Where a program may be: itself if it names a path, else in each directory of `path`.
fn candidates(name: &str, path: Option<&String>) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = path.map_or("/usr/bin:/bin", String::as_str);
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| format!("{dir}/{name}")).collect()
}
