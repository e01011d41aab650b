//! Landlock, at the kernel's version: what the mounts say, said once more by another part of
//! the kernel, and two things that mounts cannot say.
//!
//! Reading is allowed everywhere in the new root, which has nothing else; writing where a
//! mount is writable. So a mistake in a mount's attributes alone gives nothing away. Rules only
//! add up, so what is pinned inside a writable bind is held by its mount alone. From version 6
//! on, abstract unix sockets and signals do not leave the sandbox. No rule is about TCP: those
//! are no boundary (MPTCP passes them); an empty network namespace is.

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::error::Step;
use crate::plan::{Plan, Weaker};
use crate::report::Failure;
use crate::root::Expected;
use crate::sys;

/// The version that has truncation: without, a read-only rule lets a file be emptied.
const FILES: u32 = 3;
/// The version that has scopes. The empty network namespace closes abstract sockets too, and
/// the pid namespace signals.
const SCOPES: u32 = 6;

/// Enforces the rules on this process and all that it will start. Says their version; none
/// where the plan does without.
pub(crate) fn enforce(plan: &Plan, mounts: &[Expected]) -> Result<Option<u32>, Failure> {
    let needed = if plan.network { SCOPES } else { FILES };
    let version = sys::landlock_abi().unwrap_or(0);
    if version < needed && !plan.weaker.contains(&Weaker::Landlock) {
        let here = match version {
            0 => "has no Landlock, or it is off".to_owned(),
            n => format!("has Landlock {n}"),
        };
        return Err(Failure::said(
            Step::Landlock,
            format!("this kernel {here}; version {needed} is needed (Linux 6.12 has 6)"),
        ));
    }
    let Some(abi) = known(version) else { return Ok(None) };
    match restrict(abi, mounts) {
        Ok(RulesetStatus::FullyEnforced) => Ok(Some(version)),
        Ok(status) => Err(Failure::said(Step::Landlock, format!("the rules are {status:?}"))),
        Err(e) => Err(Failure::said(Step::Landlock, e.to_string())),
    }
}

/// What is missing of what [`enforce`] was to do.
pub(crate) fn missing(plan: &Plan, enforced: Option<u32>) -> Option<Weaker> {
    let needed = if plan.network { SCOPES } else { FILES };
    (enforced.unwrap_or(0) < needed).then_some(Weaker::Landlock)
}

/// Whether a version has scopes.
pub(crate) fn scopes(version: Option<u32>) -> bool {
    version >= Some(SCOPES)
}

/// The newest version that both the kernel and this program know.
fn known(version: u32) -> Option<ABI> {
    Some(match version {
        0 => return None,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        8 => ABI::V8,
        _ => ABI::V9,
    })
}

fn restrict(abi: ABI, mounts: &[Expected]) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    let scopes = Scope::from_all(abi);
    if !scopes.is_empty() {
        rules = rules.scope(scopes)?;
    }
    let mut created = rules.create()?;
    for mount in mounts {
        // Covered by a later bind: that one has a rule of its own.
        let Ok(at) = PathFd::new(&mount.at) else { continue };
        let rights = rights(abi, mount);
        if !rights.is_empty() {
            created = created.add_rule(PathBeneath::new(at, rights))?;
        }
    }
    Ok(created.restrict_self()?.ruleset)
}

/// What may be done below a mount.
fn rights(abi: ABI, mount: &Expected) -> BitFlags<AccessFs> {
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    // Files that are there can be written to, and nothing can be made or removed.
    let use_ = read | AccessFs::WriteFile | AccessFs::Truncate;
    let rights = match mount.at.as_path() {
        at if at == std::path::Path::new("/proc") => use_,
        _ if mount.devices => use_ | AccessFs::IoctlDev,
        _ if mount.writable => all,
        // A socket that the caller shows is there to be connected to.
        _ if mount.shown => read | AccessFs::ResolveUnix,
        at if at == std::path::Path::new("/") => read,
        // The root's rule says it already.
        _ => BitFlags::EMPTY,
    };
    let fits = if mount.directory { all } else { AccessFs::from_file(abi) };
    rights & fits
}
