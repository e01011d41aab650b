//! Limits for all processes of a sandbox together, by a cgroup (version 2) where this user may
//! make one; else by setrlimit(2), which knows one process at a time.
//!
//! The cgroup is made beside the caller's own or below it, whichever has the controllers
//! (cgroups(7): one that has processes of its own can give no controller to those below). The
//! supervisor enters it before it makes namespaces, so that everything inside is born there and
//! the cgroup namespace shows it as the root; it leaves at the end, kills what is left, and
//! removes it. Made only for a plan with limits: entering one waits for the whole kernel, some
//! milliseconds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::error::Step;
use crate::plan::{Limits, Plan, Weaker};
use crate::report::{Failure, Keeper, Limit};

/// The supervisor and init, which are in the cgroup too.
const OURS: u32 = 2;
/// `cpu.max`'s period, in microseconds.
const PERIOD: u64 = 100_000;

/// How often a cgroup is tried to be removed, two milliseconds apart.
const PATIENCE: usize = 1000;

/// A cgroup of the sandbox's own. Dropped, it is killed and removed.
struct Cgroup {
    name: String,
    parent: OwnedFd,
    kill: File,
    /// Where the supervisor came from.
    back: File,
}

/// What keeps the plan's limits.
pub(crate) struct Kept {
    /// Lives as long as the supervisor.
    _cgroup: Option<Cgroup>,
    pub by: Vec<(Limit, Keeper)>,
}

/// Makes this process, and all that it will start, subject to the plan's limits; those that
/// [`Keeper::Process`] keeps are for [`apply`]. To be called before namespaces are made.
pub(crate) fn keep(plan: &Plan) -> Result<Kept, Failure> {
    let asked = asked(&plan.limits);
    if asked.is_empty() {
        return Ok(Kept { _cgroup: None, by: Vec::new() });
    }
    let weaker = plan.weaker.contains(&Weaker::Limits);
    let (cgroup, held, why) = enter(&plan.limits, weaker);
    if held.len() < asked.len() && !weaker {
        let said = format!(
            "a limit needs a cgroup (version 2) with the controllers pids, memory and cpu that \
             this user may make: {why} (under systemd: `systemd-run --user --scope -p Delegate=yes \
             …`)"
        );
        return Err(Failure::said(Step::Limits, said));
    }
    let keeper = |limit: &Limit| match (held.contains(limit), limit) {
        (true, _) => Keeper::Cgroup,
        (false, Limit::Memory) => Keeper::Process,
        // The kernel does not count root's.
        (false, Limit::Processes) if !geteuid().is_root() => Keeper::Process,
        (false, _) => Keeper::Nobody,
    };
    let by = asked.iter().map(|limit| (*limit, keeper(limit))).collect();
    Ok(Kept { _cgroup: cgroup, by })
}

/// Sets what one process may have, on this one and all that it will start.
pub(crate) fn apply(limits: &Limits, by: &[(Limit, Keeper)]) -> nix::Result<()> {
    for (limit, keeper) in by {
        let (resource, value) = match (keeper, limit) {
            (Keeper::Process, Limit::Processes) => {
                (Resource::RLIMIT_NPROC, limits.processes.map(u64::from))
            }
            // Not address space: runtimes reserve far more of that than they use.
            (Keeper::Process, Limit::Memory) => (Resource::RLIMIT_DATA, limits.memory),
            _ => continue,
        };
        if let Some(value) = value {
            setrlimit(resource, value, value)?;
        }
    }
    Ok(())
}

fn asked(limits: &Limits) -> Vec<Limit> {
    let all = [
        (Limit::Processes, limits.processes.is_some()),
        (Limit::Memory, limits.memory.is_some()),
        (Limit::Cpu, limits.cpu.is_some()),
    ];
    all.iter().filter(|(_, asked)| *asked).map(|(limit, _)| *limit).collect()
}

/// Enters a cgroup that keeps all limits, or, where less will do, some; says which, and what
/// was in the way.
fn enter(limits: &Limits, weaker: bool) -> (Option<Cgroup>, Vec<Limit>, String) {
    let mut why = "no cgroup of version 2 is mounted".to_owned();
    let Some(own) = own() else { return (None, Vec::new(), why) };
    // Beside first: that may have what below may not.
    for parent in [own.parent().filter(|p| p.join("cgroup.procs").exists()), Some(&own)] {
        let Some(parent) = parent else { continue };
        match make(parent, &own, limits) {
            Ok((cgroup, held))
                if held.len() == asked(limits).len() || (weaker && !held.is_empty()) =>
            {
                return (Some(cgroup), held, String::new());
            }
            Ok(_) => why = format!("`{}` does not give all controllers", parent.display()),
            Err(e) => why = format!("`{}`: {e}", parent.display()),
        }
    }
    (None, Vec::new(), why)
}

/// This process's own cgroup, as a directory.
fn own() -> Option<PathBuf> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let dir = Path::new(mount.split(' ').nth(4)?).join(path);
    dir.join("cgroup.procs").exists().then_some(dir)
}

/// Makes a cgroup, sets what it can keep, and moves this process there.
fn make(parent: &Path, own: &Path, limits: &Limits) -> io::Result<(Cgroup, Vec<Limit>)> {
    let name = format!("zagi-{}", std::process::id());
    let dir = parent.join(&name);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent_fd = openat(AT_FDCWD, parent, flags, Mode::empty())?;
    fs::create_dir(&dir)?;
    let open = |path: PathBuf| OpenOptions::new().write(true).open(path);
    let opened =
        open(dir.join("cgroup.kill")).and_then(|k| Ok((k, open(own.join("cgroup.procs"))?)));
    let (kill, back) = opened.inspect_err(|_| drop(fs::remove_dir(&dir)))?;
    let cgroup = Cgroup { name, parent: parent_fd, kill, back };
    for controller in ["pids", "memory", "cpu"] {
        // Most often it is given already. What it comes to is seen by the files below.
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    let set = |file: &str, value: String| fs::write(dir.join(file), value).is_ok();
    let mut held = Vec::new();
    if limits.processes.is_some_and(|n| set("pids.max", n.saturating_add(OURS).to_string())) {
        held.push(Limit::Processes);
    }
    if limits.memory.is_some_and(|bytes| set("memory.max", bytes.to_string())) {
        // Else the limit is one on memory that is not swapped. No swap, no file.
        set("memory.swap.max", "0".into());
        held.push(Limit::Memory);
    }
    if limits
        .cpu
        .is_some_and(|p| set("cpu.max", format!("{} {PERIOD}", u64::from(p) * PERIOD / 100)))
    {
        held.push(Limit::Cpu);
    }
    if held.is_empty() {
        return Ok((cgroup, held));
    }
    // Where it may not be entered it keeps nothing.
    fs::write(dir.join("cgroup.procs"), "0")?;
    Ok((cgroup, held))
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nobody is there to be told of an error: an empty cgroup stays behind.
        let _ = self.back.write_all(b"0");
        let _ = self.kill.write_all(b"1");
        // The killed are not gone at once, on a slow machine not soon.
        for _ in 0..PATIENCE {
            let removed = unlinkat(&self.parent, self.name.as_str(), UnlinkatFlags::RemoveDir);
            if removed != Err(Errno::EBUSY) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
