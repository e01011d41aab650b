//! Dropping what init was given over its own namespaces, for good.

use std::fs;
use std::io;
use std::path::Path;

use caps::CapSet;
use nix::sys::resource::{Resource, setrlimit};

use crate::error::Step;
use crate::report::Failure;
use crate::sys;

/// Closes every way to a privilege.
pub(crate) fn drop_all() -> Result<(), Failure> {
    // Before the other sets: this needs CAP_SETPCAP.
    sys::drop_bounding_set().map_err(|e| Failure::at(Step::Privileges, "bounding set", e))?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|e| Failure {
            path: Some(format!("{set:?}")),
            ..Failure::said(Step::Privileges, e.to_string())
        })?;
    }
    // Nobody inside may read or trace init: it holds the control socket. (The program is
    // another process image and gets its own value from execve(2).)
    nix::sys::prctl::set_dumpable(false).map_err(|e| Failure::at(Step::Privileges, "dumpable", e))
}

/// A user namespace made inside would give all capabilities over what it owns: new mount
/// and network namespaces, and the kernel code behind them. `limit` is this user
/// namespace's own `user/max_user_namespaces`, so it changes nothing on the host, and
/// nobody inside can raise it: that takes CAP_SYS_RESOURCE.
pub(crate) fn forbid_user_namespaces(limit: &Path) -> Result<(), Failure> {
    let failed = |e| Failure::at(Step::Privileges, limit.to_string_lossy(), e);
    fs::write(limit, "0\n").map_err(failed)?;
    let now = fs::read_to_string(limit).map_err(failed)?;
    if now.trim() != "0" {
        return Err(Failure::said(Step::Privileges, "user namespaces stay possible"));
    }
    Ok(())
}

/// No core dump of this process or any that it will start: it would be written with whatever a
/// program had read. To be called while this process can be dumped: else its files in `/proc`
/// are not its own.
pub(crate) fn no_core() -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::at(Step::Privileges, "core dumps", e);
    // Of 1 byte, not of none: the kernel hands a dump to a program (`|` in core_pattern) at
    // any limit but 1; core(5).
    setrlimit(Resource::RLIMIT_CORE, 1, 1).map_err(|e| failed(e.into()))?;
    // And should there be one all the same, no memory in it. Kept by fork(2) and execve(2).
    match fs::write("/proc/self/coredump_filter", "0") {
        // A kernel that makes no dumps.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed),
    }
}
