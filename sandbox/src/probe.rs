//! What this machine offers, for `zagi doctor`: by doing it, not by reading settings.

use std::path::Path;

use crate::plan::{Plan, Profile};
use crate::report::Enforced;
use crate::{SandboxError, spawn, sys};

/// What was found.
#[derive(Debug)]
pub struct Probe {
    /// A whole sandbox, set up and checked with nothing started in it: what would be
    /// enforced, or the step that this machine refuses.
    pub sandbox: Result<Enforced, SandboxError>,
    /// The Landlock version of the kernel; `None` where it has none or it is off.
    pub landlock_abi: Option<u32>,
}

/// Tries it, with `helper` as for [`spawn`].
pub fn probe(helper: &Path) -> Probe {
    let plan = Plan::new(Profile::Install, Vec::new());
    let sandbox = spawn(&plan, helper).and_then(|mut child| {
        child.wait()?;
        Ok(child.enforced().clone())
    });
    Probe { sandbox, landlock_abi: sys::landlock_abi().ok() }
}

/// Why user namespaces may be refused here, by the settings known to do it.
pub(crate) fn why_not() -> String {
    let setting =
        |path: &str| std::fs::read_to_string(Path::new("/proc/sys").join(path)).unwrap_or_default();
    if setting("kernel/apparmor_restrict_unprivileged_userns").trim() == "1" {
        return "AppArmor takes the capabilities of unprivileged user namespaces away here: \
                install an AppArmor profile that allows `userns` for zagi, or \
                `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            .into();
    }
    if setting("kernel/unprivileged_userns_clone").trim() == "0" {
        return "unprivileged user namespaces are switched off: \
                `sysctl kernel.unprivileged_userns_clone=1`"
            .into();
    }
    if setting("user/max_user_namespaces").trim() == "0" {
        return "user namespaces are switched off: `sysctl user.max_user_namespaces=10000`".into();
    }
    "a container may forbid namespaces and mounts: run it with a seccomp profile that allows \
     unshare and mount, or Linux is older than 5.12"
        .into()
}
