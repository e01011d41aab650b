//! The system calls that no safe wrapper offers. The crate's only `unsafe`.
#![allow(unsafe_code)]

pub mod attempt;
pub(crate) mod notify;

use std::ffi::{CString, c_int, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

/// From `linux/mount.h`; open_tree(2), move_mount(2), mount_setattr(2).
const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x01;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x02;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x04;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x08;

/// `struct mount_attr`, its first and so far only version.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// fork(2), refused where the process has more than one thread.
pub(crate) fn fork() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("the helper has {threads} threads, not one")));
    }
    // SAFETY: the process has one thread (just counted, and only that thread could start
    // another), so no lock can be held by a thread that the child does not have: the child
    // may allocate and do anything the parent could.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
    }
}

/// Closes every descriptor from 3 on.
pub(crate) fn close_from_3() -> io::Result<()> {
    // SAFETY: called first in the helper, before it opened anything, so no `OwnedFd`
    // stands for any of the descriptors that are closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3 as c_uint, c_uint::MAX, 0 as c_uint) })?;
    Ok(())
}

/// Marks every descriptor from 3 on to be closed by the next execve(2).
pub(crate) fn close_from_3_on_exec() -> io::Result<()> {
    // SAFETY: closes nothing; sets a flag that every descriptor may have.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as c_uint,
            c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as c_uint,
        )
    })?;
    Ok(())
}

/// A detached copy of the mount at `path` (links are followed) with all that is mounted
/// below it.
pub(crate) fn open_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as c_uint;
    // SAFETY: `path` is a NUL-terminated string that outlives the call, which keeps no
    // pointer to it.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// A detached copy of the mount at what `fd` names, with all that is mounted below it.
pub(crate) fn open_tree_at(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | OPEN_TREE_CLOEXEC
        | libc::AT_RECURSIVE as c_uint
        | libc::AT_EMPTY_PATH as c_uint;
    // SAFETY: the path is a NUL-terminated literal; `fd` is borrowed and so open.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: the kernel just made this descriptor for us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// Adds attributes to the mount at `fd`, and where `recursive` to all below it; all or
/// none.
pub(crate) fn mount_setattr(fd: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path is a NUL-terminated literal; `attr` is the kernel's structure
    // of exactly the size given and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags as c_uint,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Attaches the detached mount `tree` on top of what `target` names.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated literals; both descriptors are borrowed and so
    // open during the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Leaves the caller's session keyring for a new, empty one. A kernel without keyrings has
/// nothing to leave.
pub(crate) fn leave_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_ulong = 1;
    // SAFETY: the call takes two integers here; a null name asks for an anonymous keyring.
    let result = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0 as c_ulong)
    });
    match result {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Empties the capability bounding set, also of capabilities newer than this program.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 as c_ulong {
        // SAFETY: the call takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result.into()) {
            Ok(_) => {}
            // The first number that is no capability of this kernel.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && capability > 0 => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Gives every signal its default action back: ignored ones would stay ignored in the
/// program (Rust ignores `SIGPIPE`).
pub(crate) fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: `SIG_DFL` runs no code of ours. Signals that cannot be set (KILL, STOP,
        // those that the C library keeps) answer EINVAL, which is what they should have.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Unlocks the terminal that `master` is one end of, and opens the other; ioctl_tty(2).
pub(crate) fn unlocked_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked: c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    check(
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into(),
    )?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes integers.
    let slave = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    // SAFETY: the kernel just made this descriptor for us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(slave as c_int) })
}

/// Makes `terminal` the controlling one of this process, a session's leader without one.
pub(crate) fn control_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes integers.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())?;
    Ok(())
}

/// A terminal's rows and columns.
pub(crate) fn window(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    // SAFETY: `winsize` is plain data for which all-zero is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which outlives the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets a terminal's rows and columns. Its foreground processes are told.
pub(crate) fn set_window(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which outlives the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())?;
    Ok(())
}

/// Where the signal handler writes: the one pipe of the one [`Caught`].
static CAUGHT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(signal: c_int) {
    // SAFETY: the thread's own errno, which whatever was interrupted may be about to read.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above. Valid for as long as the thread is.
    let before = unsafe { *errno };
    let byte = signal as u8;
    // SAFETY: write(2) may be called in a handler (signal-safety(7)); `byte` outlives the call.
    // The pipe does not block; one that is full has told enough.
    unsafe { libc::write(CAUGHT.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Signals of this process that are caught instead of obeyed, until this is dropped.
#[derive(Debug)]
pub(crate) struct Caught {
    pipe: OwnedFd,
    _writing: OwnedFd,
    before: Vec<(Signal, SigAction)>,
}

impl Caught {
    /// Catches signals, but not those that are ignored (nohup(1)). One at a time.
    pub fn new(signals: &[Signal]) -> io::Result<Caught> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (pipe, writing) = nix::unistd::pipe2(flags)?;
        CAUGHT
            .compare_exchange(-1, writing.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst)
            .map_err(|_| io::Error::other("signals are caught already"))?;
        let mut caught = Caught { pipe, _writing: writing, before: Vec::new() };
        for signal in signals {
            let before = caught.set(*signal)?;
            if matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: restores what was there a moment ago.
                unsafe { sigaction(*signal, &before) }?;
            } else {
                caught.before.push((*signal, before));
            }
        }
        Ok(caught)
    }

    fn set(&self, signal: Signal) -> nix::Result<SigAction> {
        let handler = SigHandler::Handler(on_signal);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does what handlers may: it calls write(2) and keeps errno.
        unsafe { sigaction(signal, &action) }
    }

    /// The next one that was caught.
    pub fn next(&self) -> Option<Signal> {
        let mut byte = [0];
        match nix::unistd::read(&self.pipe, &mut byte) {
            Ok(1) => Signal::try_from(c_int::from(byte[0])).ok(),
            _ => None,
        }
    }

    /// Ends this process of a signal that was caught meanwhile and is to end it.
    pub fn obey(self) {
        let mut pending = Vec::new();
        while let Some(signal) = self.next() {
            pending.push(signal);
        }
        drop(self);
        for signal in pending {
            if !matches!(signal, Signal::SIGCONT | Signal::SIGWINCH | Signal::SIGTSTP) {
                let _ = nix::sys::signal::raise(signal);
            }
        }
    }

    /// Stops this process and its group, as Ctrl-Z does; returns when it is continued (or at
    /// once, where there is nobody to continue it).
    pub fn stop(&self) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { sigaction(Signal::SIGTSTP, &default) };
        let _ = nix::sys::signal::kill(Pid::from_raw(0), Signal::SIGTSTP);
        let _ = self.set(Signal::SIGTSTP);
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            // SAFETY: restores what was there before.
            let _ = unsafe { sigaction(*signal, before) };
        }
        CAUGHT.store(-1, Ordering::SeqCst);
    }
}

/// Takes over descriptors that a message brought.
pub(crate) fn own_received(raw: Vec<c_int>) -> Vec<OwnedFd> {
    // SAFETY: recvmsg(2) made these descriptors for whoever reads the message, and each is
    // taken from it once.
    raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Brings `lo` up in a network namespace that has nothing else.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: socket(2) takes integers.
    let fd = check(
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into(),
    )?;
    // SAFETY: the kernel just made this descriptor for us and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
    // SAFETY: `ifreq` is plain data for which all-zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call and has its name and
    // flags set.
    check(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into(),
    )?;
    Ok(())
}

/// The Landlock version of this kernel; an error where it has none or it is off.
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: c_uint = 1;
    // SAFETY: with this flag the call takes no structure (null, 0) and makes no descriptor.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    })?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// Zeroed memory of this process, mapped for it alone and wiped before it is given back.
pub(crate) struct Mapping {
    at: std::ptr::NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value, which is moved whole; nothing in it is bound to a
// thread.
unsafe impl Send for Mapping {}
// SAFETY: behind a shared reference the memory is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Pages that only this process's page tables know: the kernel's own map does not have them,
    /// so neither swap, a core dump, nor a read through the kernel gets at them.
    /// memfd_secret(2), Linux 5.14, off by `secretmem.enable=0` before 6.5.
    pub(crate) fn secret(len: usize) -> io::Result<Mapping> {
        // SAFETY: takes an integer.
        let fd = check(unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) })?;
        // SAFETY: the kernel just made this descriptor for us and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
        nix::unistd::ftruncate(&fd, len as i64)?;
        Mapping::map(len, libc::MAP_SHARED, fd.as_raw_fd())
    }

    /// Ordinary pages, left out of core dumps; whether they are kept out of swap, too.
    pub(crate) fn private(len: usize) -> io::Result<(Mapping, bool)> {
        let map = Mapping::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        // SAFETY: the range is the mapping just made; the advice changes no content.
        check(unsafe { libc::madvise(map.at.as_ptr().cast(), len, libc::MADV_DONTDUMP) }.into())?;
        // SAFETY: the range is the mapping just made; locking changes no content.
        let locked = check(unsafe { libc::mlock(map.at.as_ptr().cast(), len) }.into()).is_ok();
        Ok((map, locked))
    }

    fn map(len: usize, flags: c_int, fd: c_int) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, 0) };
        match std::ptr::NonNull::new(at.cast::<u8>()) {
            Some(at) if at.as_ptr().cast() != libc::MAP_FAILED => Ok(Mapping { at, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` readable bytes are mapped at `at` for as long as the value lives, and
        // are written through `bytes_mut` only, which borrows it mutably.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, writable, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }

    /// Writes zeros that the compiler may not leave out.
    pub(crate) fn wipe(&mut self) {
        for byte in self.bytes_mut() {
            // SAFETY: a valid, exclusive reference.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.wipe();
        // SAFETY: the range was mapped by `map`, and no reference into it outlives the value.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
