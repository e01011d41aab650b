//! System calls that a sandbox is to stop, for whoever tries whether it does: `zagi doctor
//! --attack`. Each is safe to call, and what it opens is its caller's alone.

use std::ffi::{CString, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// From `linux/keyctl.h`; keyctl(2).
const KEYCTL_SETPERM: usize = 5;
const KEYCTL_UNLINK: usize = 9;
const KEYCTL_SEARCH: usize = 10;
const KEYCTL_READ: usize = 11;
const KEYCTL_SET_TIMEOUT: usize = 15;
const USER_KEYRING: usize = -4_isize as usize;
/// Its possessor and its user may do anything with a key.
const OWNERS: usize = 0x3f3f_0000;
/// From `linux/userfaultfd.h`: faults of programs alone, which needs no privilege.
const UFFD_USER_MODE_ONLY: usize = 1;
/// From `linux/perf_event.h`: a counter of the kernel's own (`PERF_TYPE_SOFTWARE`) of this
/// process's time (`PERF_COUNT_SW_TASK_CLOCK`), while it is no kernel code that runs.
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
const PERF_EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
const PERF_ATTR_SIZE: usize = 64;
/// From `linux/bpf.h`: a map of an array type, with entries of these sizes.
const BPF_MAP_CREATE: usize = 0;
const BPF_MAP: [u32; 4] = [2, 4, 4, 1];

fn call(number: c_long, arguments: &[usize]) -> io::Result<usize> {
    let mut all = [0; 6];
    for (place, argument) in all.iter_mut().zip(arguments) {
        *place = *argument;
    }
    let [a, b, c, d, e, f] = all;
    // SAFETY: this function is private; each caller below hands in numbers, or pointers to values
    // that live until it returns and are as large as the call is told.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

fn descriptor(number: c_long, arguments: &[usize]) -> io::Result<OwnedFd> {
    let made = call(number, arguments)?;
    // SAFETY: the calls that come here answer with a new descriptor, nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(made as i32) })
}

fn text(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Puts a key into the user's keyring, for two minutes.
pub fn keep_key(name: &str, value: &[u8]) -> io::Result<()> {
    let (kind, name) = (text("user")?, text(name)?);
    let (kind, name, at) =
        (kind.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize);
    let key = call(libc::SYS_add_key, &[kind, name, at, value.len(), USER_KEYRING])?;
    call(libc::SYS_keyctl, &[KEYCTL_SET_TIMEOUT, key, 120])?;
    call(libc::SYS_keyctl, &[KEYCTL_SETPERM, key, OWNERS]).map(drop)
}

fn search(name: &str) -> io::Result<usize> {
    let (kind, name) = (text("user")?, text(name)?);
    let (kind, name) = (kind.as_ptr() as usize, name.as_ptr() as usize);
    call(libc::SYS_keyctl, &[KEYCTL_SEARCH, USER_KEYRING, kind, name, 0])
}

/// Takes a key out of the user's keyring.
pub fn forget_key(name: &str) -> io::Result<()> {
    let key = search(name)?;
    call(libc::SYS_keyctl, &[KEYCTL_UNLINK, key, USER_KEYRING]).map(drop)
}

/// Reads a key of the user's keyring.
pub fn read_key(name: &str) -> io::Result<Vec<u8>> {
    let key = search(name)?;
    let mut value = vec![0_u8; 4096];
    let at = value.as_mut_ptr() as usize;
    let length = call(libc::SYS_keyctl, &[KEYCTL_READ, key, at, value.len()])?;
    value.truncate(length);
    Ok(value)
}

/// Takes a descriptor out of another process.
pub fn take_descriptor(pid: i32, number: i32) -> io::Result<OwnedFd> {
    let process = descriptor(libc::SYS_pidfd_open, &[pid as usize, 0])?;
    let from = process.as_raw_fd() as usize;
    descriptor(libc::SYS_pidfd_getfd, &[from, number as usize, 0])
}

/// A ring, by which other calls can be made past a filter.
pub fn io_uring() -> io::Result<OwnedFd> {
    // `struct io_uring_params`, all of it nothing.
    let mut parameters = [0_u64; 15];
    descriptor(libc::SYS_io_uring_setup, &[1, parameters.as_mut_ptr() as usize])
}

/// A descriptor by which a program answers its own page faults, or another's.
pub fn userfaultfd() -> io::Result<OwnedFd> {
    descriptor(libc::SYS_userfaultfd, &[UFFD_USER_MODE_ONLY | libc::O_CLOEXEC as usize])
}

/// A counter of what this process does.
pub fn perf_event() -> io::Result<OwnedFd> {
    let mut attributes = [0_u64; PERF_ATTR_SIZE / 8];
    // `type` and `size` are the two halves of the first word, in memory's order.
    let mut first = [0_u8; 8];
    first[..4].copy_from_slice(&PERF_TYPE_SOFTWARE.to_ne_bytes());
    first[4..].copy_from_slice(&(PERF_ATTR_SIZE as u32).to_ne_bytes());
    attributes[0] = u64::from_ne_bytes(first);
    attributes[1] = PERF_COUNT_SW_TASK_CLOCK;
    attributes[5] = PERF_EXCLUDE_KERNEL_AND_HYPERVISOR;
    let (own, any, none) = (0, usize::MAX, usize::MAX);
    descriptor(libc::SYS_perf_event_open, &[attributes.as_mut_ptr() as usize, own, any, none, 0])
}

/// A table that programs in the kernel share.
pub fn bpf() -> io::Result<OwnedFd> {
    let map = BPF_MAP;
    let size = std::mem::size_of_val(&map);
    descriptor(libc::SYS_bpf, &[BPF_MAP_CREATE, map.as_ptr() as usize, size])
}

/// A socket of TCP over several paths, which is another protocol to what looks for TCP.
pub fn multipath_socket() -> io::Result<OwnedFd> {
    let (inet, stream) =
        (libc::AF_INET as usize, (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as usize);
    descriptor(libc::SYS_socket, &[inet, stream, libc::IPPROTO_MPTCP as usize])
}

/// A socket to the machine that this one is a guest of.
pub fn host_socket() -> io::Result<OwnedFd> {
    let stream = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as usize;
    descriptor(libc::SYS_socket, &[libc::AF_VSOCK as usize, stream, 0])
}

/// Pushes a key into a terminal, as if it had been typed.
pub fn push_key(terminal: impl AsFd, key: u8) -> io::Result<()> {
    let (terminal, key) = (terminal.as_fd().as_raw_fd() as usize, &raw const key as usize);
    call(libc::SYS_ioctl, &[terminal, libc::TIOCSTI as usize, key]).map(drop)
}

/// Lets every process of this user trace this one, where the kernel lets parents alone.
pub fn be_traced_by_anybody() -> io::Result<()> {
    let (option, anybody) = (libc::PR_SET_PTRACER as usize, libc::PR_SET_PTRACER_ANY as usize);
    call(libc::SYS_prctl, &[option, anybody, 0, 0, 0]).map(drop)
}
