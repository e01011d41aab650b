//! Dropping what init was given over its own namespaces, for good.

use std::fs;
use std::path::Path;

use caps::CapSet;
use landlock::{ABI, Access, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};

use crate::error::Step;
use crate::report::Failure;
use crate::sys;

/// Closes every way to a privilege. Says whether the Landlock scopes hold.
pub(crate) fn drop_all() -> Result<bool, Failure> {
    let abstract_sockets_closed = scope();
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
    nix::sys::prctl::set_dumpable(false)
        .map_err(|e| Failure::at(Step::Privileges, "dumpable", e))?;
    Ok(abstract_sockets_closed)
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

/// Keeps connections to abstract unix sockets and signals inside, where the kernel can.
fn scope() -> bool {
    let restrict = || -> Result<RulesetStatus, landlock::RulesetError> {
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .restrict_self()?;
        Ok(status.ruleset)
    };
    matches!(restrict(), Ok(RulesetStatus::FullyEnforced))
}
