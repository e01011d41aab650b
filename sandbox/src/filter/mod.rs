//! The system call filter: [`table::TABLE`], compiled for this profile and this machine.
//!
//! A filter has one answer, so there is one for each [`Answer`]; the kernel asks all of them
//! and obeys the strictest, and remembers which calls none of them ever closes. Calls of
//! another architecture's numbering kill the process: the numbers mean something else there
//! (32-bit programs do not run in the sandbox). On x86-64 that leaves x32, whose calls count
//! as x86-64's: they are absent.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::error::Step;
use crate::plan::Profile;
use crate::report::Failure;
use crate::sys::notify;
use table::{Answer, Condition, Group, Is, TABLE};

const ANSWERS: [Answer; 3] = [Answer::Forbidden, Answer::Absent, Answer::NoSuchFamily];

/// Closes the calls for this process and all that it will start, for good. Says how many
/// calls are closed, in part or always. To be called when nothing is left to mount.
pub(crate) fn install(profile: Profile) -> Result<usize, Failure> {
    let failed = |e: seccompiler::Error| Failure::said(Step::Filter, e.to_string());
    for program in programs(profile).map_err(|e| Failure::said(Step::Filter, e.to_string()))? {
        seccompiler::apply_filter(&program).map_err(failed)?;
    }
    let closed: BTreeSet<_> = groups(profile).flat_map(|g| g.calls.iter().map(|c| c.0)).collect();
    Ok(closed.len())
}

/// Has the kernel ask what this returns before anything is executed from now on; one filter more.
/// To be called after [`install`], whose answers count for more.
pub(crate) fn watch() -> io::Result<OwnedFd> {
    notify::install(&mut watching())
}

/// How many filters [`install`] puts in place.
pub(crate) fn filters() -> usize {
    ANSWERS.len() + usize::from(!extra().is_empty())
}

fn groups(profile: Profile) -> impl Iterator<Item = &'static Group> {
    TABLE.iter().filter(move |g| g.profiles.is_empty() || g.profiles.contains(&profile))
}

fn programs(profile: Profile) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let mut programs: Vec<BpfProgram> = Vec::new();
    programs.extend(Some(extra()).filter(|program| !program.is_empty()));
    for answer in ANSWERS {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (call, conditions) in
            groups(profile).filter(|g| g.answer == answer).flat_map(|g| g.calls)
        {
            let rules = rules.entry(*call).or_default();
            if !conditions.is_empty() {
                let all = conditions.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
                rules.push(SeccompRule::new(all)?);
            }
        }
        let errno = match answer {
            Answer::Forbidden => libc::EPERM,
            Answer::Absent => libc::ENOSYS,
            Answer::NoSuchFamily => libc::EAFNOSUPPORT,
        };
        let (open, closed) = (SeccompAction::Allow, SeccompAction::Errno(errno as u32));
        let arch: TargetArch = std::env::consts::ARCH.try_into()?;
        programs.push(SeccompFilter::new(rules, open, closed, arch)?.try_into()?);
    }
    Ok(programs)
}

fn condition((argument, is): &Condition) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (operator, value) = match *is {
        Is::Equal(value) => (SeccompCmpOp::Eq, value),
        Is::Not(value) => (SeccompCmpOp::Ne, value),
        Is::Has(bits) => (SeccompCmpOp::MaskedEq(bits.into()), bits),
    };
    SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator, value.into())
}

/// What the library has no rule for: on x86-64, all numbers of x32.
fn extra() -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return BpfProgram::new();
    }
    const X32: u32 = 0x4000_0000; // `__X32_SYSCALL_BIT`
    vec![
        load_number(),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

/// Asks about what executes a file. Of another architecture's calls nobody is asked: they kill.
fn watching() -> [sock_filter; 5] {
    let is = |call: libc::c_long, jt, jf| {
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, call as u32)
    };
    [
        load_number(),
        is(libc::SYS_execve, 2, 0),
        is(libc::SYS_execveat, 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_USER_NOTIF),
    ]
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// The number is the first field of `struct seccomp_data`; seccomp(2).
fn load_number() -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)
}

fn answer(answer: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Profile; 4] = [Profile::Install, Profile::Service, Profile::Agent, Profile::App];

    #[test]
    fn every_profile_compiles_and_each_filter_fits() {
        for profile in ALL {
            let programs = programs(profile).expect("compiles");
            assert_eq!(programs.len(), filters());
            for program in programs {
                // BPF_MAXINSNS; seccomp(2).
                assert!((2..4096).contains(&program.len()), "{}", program.len());
            }
        }
    }

    #[test]
    fn a_call_is_closed_always_or_under_conditions_and_once() {
        for profile in ALL {
            let mut seen = BTreeMap::new();
            for group in groups(profile) {
                assert!(!group.why.is_empty());
                for (call, conditions) in group.calls {
                    let always = seen.insert(*call, conditions.is_empty());
                    // An empty list of rules means always: another rule would undo it.
                    assert!(always.is_none() || (always == Some(false) && !conditions.is_empty()));
                }
            }
        }
    }
}
