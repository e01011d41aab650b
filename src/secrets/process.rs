//! A process that holds values: not dumped, not looked into.

use nix::sys::resource::{Resource, setrlimit};

use super::error::SecretsError;

/// Called before the first value is there. No core dump is written, and no process of the same
/// user may attach to this one or read its memory or environment. prctl(2), `PR_SET_DUMPABLE`: a
/// process that may trace all (root) can; a program that this one executes is dumpable again.
pub fn harden() -> Result<(), SecretsError> {
    let failed = |e: nix::errno::Errno| SecretsError::Memory(e.into());
    // Of 1 byte, not of none: at any limit but 1 a dump is handed to a program, where one is named
    // for that; core(5).
    setrlimit(Resource::RLIMIT_CORE, 1, 1).map_err(failed)?;
    nix::sys::prctl::set_dumpable(false).map_err(failed)?;
    // The call cannot fail for want of anything; that it did what it says is looked at.
    match nix::sys::prctl::get_dumpable().map_err(failed)? {
        false => Ok(()),
        true => Err(SecretsError::Memory(std::io::Error::other("it can still be dumped"))),
    }
}
