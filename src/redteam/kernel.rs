//! Attempts on the kernel's own: keys, terminals, namespaces, rarely used calls.

use std::fs::OpenOptions;
use std::io::{self, Read};

use nix::mount::{MsFlags, mount as mount_at};
use nix::sched::{CloneFlags, unshare};
use zagi_sandbox::{Plan, Profile, attempt};

use super::victim::{Case, own};

type Got = io::Result<Vec<u8>>;

fn opened(what: &str) -> Vec<u8> {
    what.as_bytes().to_vec()
}

pub(super) fn key(case: &Case) -> Got {
    attempt::read_key(&case.name)
}

pub(super) fn userfaultfd(_: &Case) -> Got {
    attempt::userfaultfd().map(|_| opened("a descriptor"))
}

pub(super) fn perf(_: &Case) -> Got {
    attempt::perf_event().map(|_| opened("a counter"))
}

pub(super) fn bpf(_: &Case) -> Got {
    attempt::bpf().map(|_| opened("a map"))
}

pub(super) fn ring(_: &Case) -> Got {
    attempt::io_uring().map(|_| opened("a ring"))
}

/// On a terminal of its own: what counts is whether the call does it.
pub(super) fn push(_: &Case) -> Got {
    // The leader of a session gets the first terminal that it opens.
    nix::unistd::setsid()?;
    // Not to be closed before the answer: its end ends its session.
    let pair = std::mem::ManuallyDrop::new(nix::pty::openpty(None, None)?);
    let name = nix::unistd::ttyname(&pair.slave)?;
    let terminal = OpenOptions::new().read(true).write(true).open(name)?;
    attempt::push_key(&terminal, b'x')?;
    attempt::push_key(&terminal, b'\n')?;
    let mut line = [0; 2];
    (&terminal).read_exact(&mut line)?;
    Ok(line.to_vec())
}

/// In whatever user namespace can be had: the host's mounts stay as they are.
pub(super) fn mount(_: &Case) -> Got {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount_at(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), none)?;
    Ok(opened("mounted"))
}

/// A sandbox for installations, with a file of the user's in it.
pub(super) fn nested(case: &Case) -> Got {
    let shown = "/zagi/shown";
    let plan = Plan::new(Profile::Install, vec!["/bin/cat".into(), shown.into()]).bind(
        case.dir.join("private/nested"),
        shown,
        false,
    );
    let mut child = zagi_sandbox::spawn(&plan, &own()?).map_err(io::Error::other)?;
    let mut got = Vec::new();
    if let Some(stdout) = child.stdout.as_mut() {
        stdout.read_to_end(&mut got)?;
    }
    Ok(got)
}
