//! Which system calls are closed, and why. Data: no code decides.
//!
//! What is not named stays open: programs that were written after this table must work.
//! Everything here either reaches something that is not the sandbox's, or is a part of the
//! kernel that broke often and that no tool of a project needs.

use libc::c_long;

use crate::plan::Profile;

/// What a closed call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// `EPERM`: not allowed.
    Forbidden,
    /// `ENOSYS`: as on a kernel that has no such call; whoever asks has another way.
    Absent,
    /// `EAFNOSUPPORT`: as on a kernel without that kind of sockets.
    NoSuchFamily,
}

/// Of an argument's lower 32 bits: the kernel looks at no others of those named here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Is {
    Equal(u32),
    Not(u32),
    /// All these bits are set.
    Has(u32),
}

/// Of the argument with this number.
pub(super) type Condition = (u8, Is);

/// A call, and what must all be so for it to be closed; nothing: always.
pub(super) type Call = (c_long, &'static [Condition]);

/// Calls that are closed for one reason.
pub(super) struct Group {
    /// For whoever reads the table.
    #[cfg_attr(not(test), expect(dead_code))]
    pub why: &'static str,
    pub answer: Answer,
    /// The profiles it is closed for; none: all.
    pub profiles: &'static [Profile],
    pub calls: &'static [Call],
}

const fn group(why: &'static str, answer: Answer, calls: &'static [Call]) -> Group {
    Group { why, answer, profiles: &[], calls }
}

/// From `linux/ioctl`s of terminals; ioctl_tty(2).
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const TIOCSETD: u32 = 0x5423;
/// `open_tree_attr`, Linux 6.15: not in every C library's headers.
const OPEN_TREE_ATTR: c_long = 467;

/// From `linux/personality.h`; personality(2).
const PER_LINUX: u32 = 0;
const PER_LINUX32: u32 = 8;

const AF_UNIX: u32 = libc::AF_UNIX as u32;
const AF_INET: u32 = libc::AF_INET as u32;
const AF_INET6: u32 = libc::AF_INET6 as u32;
const AF_NETLINK: u32 = libc::AF_NETLINK as u32;
const NETLINK_ROUTE: u32 = libc::NETLINK_ROUTE as u32;

const NEWUSER: u32 = libc::CLONE_NEWUSER as u32;
const NEWNS: u32 = libc::CLONE_NEWNS as u32;
const NEWPID: u32 = libc::CLONE_NEWPID as u32;
const NEWNET: u32 = libc::CLONE_NEWNET as u32;
const NEWIPC: u32 = libc::CLONE_NEWIPC as u32;
const NEWUTS: u32 = libc::CLONE_NEWUTS as u32;
const NEWCGROUP: u32 = libc::CLONE_NEWCGROUP as u32;
/// Only unshare(2) knows it: in clone(2) the bit is one of the exit signal's.
const NEWTIME: u32 = 0x80;

pub(super) const TABLE: &[Group] = &[
    group(
        "a new user namespace gives all capabilities over what it owns, and the kernel code \
         behind them; the other namespaces come with it",
        Answer::Forbidden,
        &[
            (libc::SYS_unshare, &[(0, Is::Has(NEWUSER))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWNS))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWPID))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWNET))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWIPC))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWUTS))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWCGROUP))]),
            (libc::SYS_unshare, &[(0, Is::Has(NEWTIME))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWUSER))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWNS))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWPID))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWNET))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWIPC))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWUTS))]),
            (libc::SYS_clone, &[(0, Is::Has(NEWCGROUP))]),
            (libc::SYS_setns, &[]),
        ],
    ),
    group(
        "its flags are in memory, where no filter can look; the C library asks clone(2) instead",
        Answer::Absent,
        &[(libc::SYS_clone3, &[])],
    ),
    group(
        "does what other calls do, past this filter; runtimes have their old way still",
        Answer::Absent,
        &[
            (libc::SYS_io_uring_setup, &[]),
            (libc::SYS_io_uring_enter, &[]),
            (libc::SYS_io_uring_register, &[]),
        ],
    ),
    group(
        "the view of files is made of mounts",
        Answer::Forbidden,
        &[
            (libc::SYS_mount, &[]),
            (libc::SYS_umount2, &[]),
            (libc::SYS_pivot_root, &[]),
            (libc::SYS_open_tree, &[]),
            (OPEN_TREE_ATTR, &[]),
            (libc::SYS_move_mount, &[]),
            (libc::SYS_fsopen, &[]),
            (libc::SYS_fsconfig, &[]),
            (libc::SYS_fsmount, &[]),
            (libc::SYS_fspick, &[]),
            (libc::SYS_mount_setattr, &[]),
            (libc::SYS_swapon, &[]),
            (libc::SYS_swapoff, &[]),
            (libc::SYS_quotactl, &[]),
            (libc::SYS_quotactl_fd, &[]),
        ],
    ),
    group(
        "opens a file by number, wherever it is",
        Answer::Forbidden,
        &[(libc::SYS_open_by_handle_at, &[])],
    ),
    group(
        "takes a descriptor out of another process",
        Answer::Forbidden,
        &[(libc::SYS_pidfd_getfd, &[])],
    ),
    group(
        "a user's keyring belongs to no namespace that is older than this one",
        Answer::Forbidden,
        &[(libc::SYS_keyctl, &[]), (libc::SYS_add_key, &[]), (libc::SYS_request_key, &[])],
    ),
    group(
        "pushes keys into a terminal, whose shell then obeys them; and line disciplines are \
         kernel code of another age, loaded on demand",
        Answer::Forbidden,
        &[
            (libc::SYS_ioctl, &[(1, Is::Equal(TIOCSTI))]),
            (libc::SYS_ioctl, &[(1, Is::Equal(TIOCLINUX))]),
            (libc::SYS_ioctl, &[(1, Is::Equal(TIOCSETD))]),
        ],
    ),
    group(
        "reaches the machine that this one is a guest of (vsock), or kernel code that is rarely \
         used and often broken (all others but these four)",
        Answer::NoSuchFamily,
        &[
            (
                libc::SYS_socket,
                &[
                    (0, Is::Not(AF_UNIX)),
                    (0, Is::Not(AF_INET)),
                    (0, Is::Not(AF_INET6)),
                    (0, Is::Not(AF_NETLINK)),
                ],
            ),
            // Every language's list of network interfaces comes from NETLINK_ROUTE; the others
            // are for administrators.
            (libc::SYS_socket, &[(0, Is::Equal(AF_NETLINK)), (2, Is::Not(NETLINK_ROUTE))]),
        ],
    ),
    group(
        "kernel code that was the way to root most often, for tools that look at the whole machine",
        Answer::Forbidden,
        &[
            (libc::SYS_bpf, &[]),
            (libc::SYS_perf_event_open, &[]),
            (libc::SYS_userfaultfd, &[]),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_modify_ldt, &[]),
        ],
    ),
    group(
        "changes the whole machine; no capability allows it anyway",
        Answer::Forbidden,
        &[
            (libc::SYS_kexec_load, &[]),
            (libc::SYS_kexec_file_load, &[]),
            (libc::SYS_init_module, &[]),
            (libc::SYS_finit_module, &[]),
            (libc::SYS_delete_module, &[]),
            (libc::SYS_reboot, &[]),
            (libc::SYS_acct, &[]),
            (libc::SYS_syslog, &[]),
            (libc::SYS_settimeofday, &[]),
            (libc::SYS_clock_settime, &[]),
            (libc::SYS_nfsservctl, &[]),
            (libc::SYS_lookup_dcookie, &[]),
            (libc::SYS_vhangup, &[]),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_iopl, &[]),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_ioperm, &[]),
            #[cfg(target_arch = "x86_64")]
            (libc::SYS_uselib, &[]),
        ],
    ),
    group(
        "makes a process behave as of another system or another age, with the bugs of those; \
         debuggers switch off randomisation, builds ask for a 32-bit machine's name",
        Answer::Forbidden,
        &[(
            libc::SYS_personality,
            &[
                (0, Is::Not(PER_LINUX)),
                (0, Is::Not(PER_LINUX32)),
                (0, Is::Not(libc::ADDR_NO_RANDOMIZE as u32)),
                // A question, not a change.
                (0, Is::Not(u32::MAX)),
            ],
        )],
    ),
    Group {
        // Elsewhere they stay open. They reach the sandbox's own processes and no other (the
        // pid namespace shows no other, Landlock denies it besides, init cannot be dumped, and
        // the filter is asked after the tracer), and debuggers, strace, and sanitizers that
        // look for leaks at the end of a test are tools of the trade.
        why: "a service debugs nobody",
        answer: Answer::Forbidden,
        profiles: &[Profile::Service],
        calls: &[
            (libc::SYS_ptrace, &[]),
            (libc::SYS_process_vm_readv, &[]),
            (libc::SYS_process_vm_writev, &[]),
            (libc::SYS_kcmp, &[]),
        ],
    },
];
