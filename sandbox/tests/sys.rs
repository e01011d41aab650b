//! System calls as an attacker makes them.
#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;

/// syscall(2). Pointers among the arguments must be good for what the call does with them.
pub(crate) fn call(number: c_long, arguments: &[usize]) -> io::Result<usize> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the caller vouches for pointers; a call that makes a descriptor makes a new one.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// `getpid` by the numbers of 32-bit programs. Dies where that is not allowed.
#[cfg(target_arch = "x86_64")]
pub(crate) fn getpid_of_i386() -> usize {
    let result: usize;
    // SAFETY: `int 0x80` with number 20 takes no argument and changes `rax` alone, and on some
    // kernels r8 to r11.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") 20_usize => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

/// Makes hangups count again for this process and what it starts: whoever runs the tests may have
/// been told to ignore them (nohup(1)), and a shell traps no signal that it was born ignoring.
pub(crate) fn heed_hangups() {
    // SAFETY: SIG_DFL is no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
}
