//! Being told of system calls of other processes: seccomp_unotify(2).

use std::ffi::{c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use seccompiler::sock_filter;

use super::check;

/// A call that somebody is about to make, and waits to be let do it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub id: u64,
    /// Of the thread, as this process sees it.
    pub pid: u32,
    pub number: i64,
    pub arguments: [u64; 6],
}

/// Installs a filter; what tells of the calls for which it says `SECCOMP_RET_USER_NOTIF`.
pub(crate) fn install(filter: &mut [sock_filter]) -> io::Result<OwnedFd> {
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    // The structures are one another's: `sock_filter` is four plain fields of linux/filter.h.
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr().cast() };
    let install = |flags: c_ulong| {
        // SAFETY: `program` names exactly the instructions of `filter`, which outlives the call;
        // the kernel copies them.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        })
    };
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Who is about to be answered is interrupted by no signal but a deadly one: Linux 5.19.
    let fd = match install(listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => install(listener)?,
        other => other?,
    };
    // SAFETY: the kernel just made this descriptor for us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The next call. Waits for one, so poll(2) first.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Call> {
    // SAFETY: plain data for which all-zero is valid, and what the kernel wants to be handed.
    let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
    // SAFETY: the request's number says the structure's size, so the kernel writes no more than
    // `told`, which outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw mut told) }.into())?;
    let libc::seccomp_data { nr, args, .. } = told.data;
    Ok(Call { id: told.id, pid: told.pid, number: nr.into(), arguments: args })
}

/// Whether the call still waits: then its process's number is nobody else's.
pub(crate) fn waits(listener: BorrowedFd<'_>, call: &Call) -> bool {
    let request = libc::SECCOMP_IOCTL_NOTIF_ID_VALID;
    // SAFETY: the request reads one 64-bit number, which outlives the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const call.id) == 0 }
}

/// Lets the call be made.
pub(crate) fn let_go(listener: BorrowedFd<'_>, call: &Call) -> io::Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as c_uint;
    let answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
    let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
    // SAFETY: the request's number says the structure's size; `answer` outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const answer) }.into())?;
    Ok(())
}
