//! Attacks on processes, terminals and the kernel. Those on a process are given its number and
//! what to look for.

use std::ffi::{CString, c_int};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::sys::call;

/// None: it is no attack of this file.
pub(crate) fn attack(args: &[&str]) -> Option<io::Result<String>> {
    Some(match args {
        ["environ", pid, canary] => seen(fs::read(format!("/proc/{pid}/environ")), canary),
        ["mem", pid, canary] => memory(pid, canary),
        ["vm-readv", pid, canary] => vm_readv(pid, canary),
        ["ptrace", pid] => trace(pid),
        ["pidfd-getfd", pid] => pidfd(pid)
            .and_then(|fd| call(libc::SYS_pidfd_getfd, &[fd, 0, 0]).map(|_| "a descriptor".into())),
        ["setns", pid] => File::open(format!("/proc/{pid}/ns/user")).and_then(|file| {
            call(libc::SYS_setns, &[file.as_raw_fd() as usize, 0]).map(|_| "entered".into())
        }),
        ["key", name] => key(name),
        ["push"] => push(),
        ["socket", family, kind, protocol] => socket(family, kind, protocol),
        ["mptcp", port] => mptcp(port),
        ["io-uring"] => {
            let parameters = [0_u8; 120];
            let at = parameters.as_ptr() as usize;
            call(libc::SYS_io_uring_setup, &[1, at]).map(|_| "a ring".into())
        }
        ["mount", what, at] => mount(what, at),
        ["personality"] => {
            call(libc::SYS_personality, &[0x0400_0000]).map(|_| "READ_IMPLIES".into())
        }
        ["clone-user"] => clone_user(),
        ["nested"] => {
            let plan = zagi_sandbox::Plan::new(zagi_sandbox::Profile::Install, Vec::new());
            let helper = crate::support::program();
            zagi_sandbox::spawn(&plan, &helper).map(|_| "one more".into()).map_err(io::Error::other)
        }
        ["call", number] => {
            let number = number.parse().expect("a number");
            call(number, &[usize::MAX; 6]).map(|_| "done".into())
        }
        #[cfg(target_arch = "x86_64")]
        ["i386"] => Ok(crate::sys::getpid_of_i386().to_string()),
        ["execveat", dir, name] => execveat(dir, name),
        ["bad-exec"] => call(libc::SYS_execve, &[1, 1, 1]).map(|_| "executed".into()),
        ["listen"] => listen(),
        ["replace", ancestor, file] => replace(ancestor, file),
        ["plant", file] => plant(Path::new(file)),
        ["core", dir] => core(dir),
        _ => return None,
    })
}

fn seen(bytes: io::Result<Vec<u8>>, canary: &str) -> io::Result<String> {
    // Its own environment and arguments hold it too, if it is passed as it is.
    let canary: String = canary.chars().rev().collect();
    let text = String::from_utf8_lossy(&bytes?).into_owned();
    if text.contains(&canary) {
        Ok("the canary".into())
    } else {
        Err(io::Error::other("not there"))
    }
}

/// Where a process's stack is: it begins with the environment.
fn stack(pid: &str) -> io::Result<(usize, usize)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[stack]"));
    let range = line.and_then(|line| line.split_once(' ')?.0.split_once('-'));
    let (from, to) = range.ok_or_else(|| io::Error::other("no stack is seen"))?;
    let number = |text| usize::from_str_radix(text, 16).map_err(io::Error::other);
    Ok((number(from)?, number(to)?))
}

fn memory(pid: &str, canary: &str) -> io::Result<String> {
    let (from, to) = stack(pid)?;
    let mut file = File::open(format!("/proc/{pid}/mem"))?;
    file.seek(SeekFrom::Start(from as u64))?;
    let mut bytes = vec![0; to - from];
    file.read_exact(&mut bytes)?;
    seen(Ok(bytes), canary)
}

fn vm_readv(pid: &str, canary: &str) -> io::Result<String> {
    let number = pid.parse().map_err(io::Error::other)?;
    // Where the maps cannot be read, anywhere: the answer tells why not.
    let (from, to) = stack(pid).unwrap_or((0x1000, 0x2000));
    let mut bytes = vec![0_u8; to - from];
    let local = [bytes.as_mut_ptr() as usize, bytes.len()];
    let remote = [from, bytes.len()];
    let (local, remote) = (local.as_ptr() as usize, remote.as_ptr() as usize);
    call(libc::SYS_process_vm_readv, &[number, local, 1, remote, 1, 0])?;
    seen(Ok(bytes), canary)
}

fn trace(pid: &str) -> io::Result<String> {
    let pid = Pid::from_raw(pid.parse().map_err(io::Error::other)?);
    ptrace::attach(pid)?;
    nix::sys::wait::waitpid(pid, None)?;
    ptrace::detach(pid, None)?;
    Ok("attached".into())
}

fn pidfd(pid: &str) -> io::Result<usize> {
    call(libc::SYS_pidfd_open, &[pid.parse().map_err(io::Error::other)?, 0])
}

fn clone_user() -> io::Result<String> {
    let flags = libc::CLONE_NEWUSER as usize | libc::SIGCHLD as usize;
    match call(libc::SYS_clone, &[flags, 0, 0, 0, 0])? {
        0 => std::process::exit(0),
        _ => Ok("a user namespace".into()),
    }
}

/// Searches the user's keyring.
fn key(name: &str) -> io::Result<String> {
    const KEYCTL_SEARCH: usize = 10;
    const USER_KEYRING: usize = -4_isize as usize;
    let (kind, name) = (CString::new("user")?, CString::new(name)?);
    let (kind, name) = (kind.as_ptr() as usize, name.as_ptr() as usize);
    call(libc::SYS_keyctl, &[KEYCTL_SEARCH, USER_KEYRING, kind, name, 0]).map(|_| "a key".into())
}

/// Pushes a key into the terminal that is the standard input.
fn push() -> io::Result<String> {
    let key = b'x';
    call(libc::SYS_ioctl, &[0, libc::TIOCSTI as usize, &raw const key as usize])
        .map(|_| "pushed".into())
}

/// Executes a file of a directory that is open.
fn execveat(dir: &str, name: &str) -> io::Result<String> {
    let dir = File::open(dir)?;
    let name = CString::new(name)?;
    let argv = [name.as_ptr() as usize, 0];
    let (name, argv, fd) = (name.as_ptr() as usize, argv.as_ptr() as usize, dir.as_raw_fd());
    call(libc::SYS_execveat, &[fd as usize, name, argv, 0, 0]).map(|_| "executed".into())
}

/// Has the kernel ask this process about a call that nobody makes (acct(2)), for good.
pub(crate) fn listen() -> io::Result<String> {
    const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_acct as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, ASK),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = [filter.len(), filter.as_ptr() as usize];
    let (mode, listener) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    nix::sys::prctl::set_no_new_privs()?;
    let program = program.as_ptr() as usize;
    call(libc::SYS_seccomp, &[mode as usize, listener as usize, program]).map(|_| "asks".into())
}

fn socket(family: &str, kind: &str, protocol: &str) -> io::Result<String> {
    let number = |text: &str| text.parse::<c_int>().map(|n| n as usize).map_err(io::Error::other);
    call(libc::SYS_socket, &[number(family)?, number(kind)?, number(protocol)?])
        .map(|_| "a socket".into())
}

/// A connection that Landlock's TCP rules do not see.
fn mptcp(port: &str) -> io::Result<String> {
    let (inet, stream) = (libc::AF_INET as usize, libc::SOCK_STREAM as usize);
    let fd = call(libc::SYS_socket, &[inet, stream, libc::IPPROTO_MPTCP as usize])?;
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let [high, low] = port.to_be_bytes();
    let [f0, f1] = (libc::AF_INET as u16).to_ne_bytes();
    let address = [f0, f1, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_connect, &[fd, address.as_ptr() as usize, address.len()])
        .map(|_| "connected".into())
}

/// Changes what is mounted at a place, with whatever user namespace can be had.
fn mount(what: &str, at: &str) -> io::Result<String> {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};
    // The mounts are then locked for it, but one more can be put on top.
    let _ = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
    let none: Option<&str> = None;
    match what {
        "tmpfs" => mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), none)?,
        "writable" => mount(none, at, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none)?,
        "away" => umount2(at, MntFlags::MNT_DETACH)?,
        "new-api" => {
            let kind = CString::new("tmpfs")?;
            call(libc::SYS_fsopen, &[kind.as_ptr() as usize, 0])?;
        }
        _ => panic!("no such mount: {what}"),
    }
    Ok("mounted".into())
}

/// `mv .zagi x; mkdir .zagi; echo >.zagi/agents.toml`.
fn replace(ancestor: &str, file: &str) -> io::Result<String> {
    let before = fs::metadata(ancestor)?.ino();
    fs::rename(ancestor, format!("{ancestor}.away"))?;
    fs::create_dir(ancestor)?;
    plant(&Path::new(ancestor).join(file))?;
    let after = fs::metadata(ancestor)?.ino();
    Ok(format!("another directory: {before} {after}"))
}

/// Puts a file in a place, by any means.
fn plant(file: &Path) -> io::Result<String> {
    if let Some(parent) = file.parent() {
        // One of its parents may be in the way.
        let _ = fs::create_dir_all(parent);
    }
    let other = file.with_file_name("zagi-planted");
    let by = |other: &Path| {
        fs::write(other, "planted")?;
        fs::rename(other, file)
    };
    let elsewhere = std::env::temp_dir().join("zagi-planted");
    let attempts = [
        fs::write(file, "planted"),
        by(&other),
        fs::remove_file(file).and_then(|()| fs::write(file, "planted")),
        fs::write(&elsewhere, "planted").and_then(|()| fs::hard_link(&elsewhere, file)),
        fs::remove_dir_all(file).and_then(|()| fs::write(file, "planted")),
        std::os::unix::fs::symlink(&elsewhere, file),
    ];
    let _ = fs::remove_file(&other);
    let planted = fs::read_to_string(file).is_ok_and(|text| text == "planted");
    if planted || attempts.iter().any(Result::is_ok) {
        return Ok("planted".into());
    }
    Err(io::Error::other(format!("{:?}", attempts.map(|a| a.map_err(|e| e.to_string())))))
}

/// Dies so that a core dump is written, where one can be.
fn core(dir: &str) -> io::Result<String> {
    std::env::set_current_dir(dir)?;
    std::process::abort()
}
