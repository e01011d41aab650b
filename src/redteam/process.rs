//! Attempts on a process of the user's.

use std::ffi::c_void;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use zagi_sandbox::attempt;

use super::canary::hunt;
use super::sockets;
use super::victim::Case;

type Got = io::Result<Vec<u8>>;

/// A file of the victim's in `/proc`.
fn proc_file(case: &Case, name: &str) -> Got {
    fs::read(format!("/proc/{}/{name}", case.pid))
}

/// A file of the victim's, or of whoever has it.
fn any(case: &Case, id: &str, name: &str) -> Got {
    let first = proc_file(case, name).and_then(|bytes| hunt(&bytes, id));
    if first.is_ok() || !case.all {
        return first;
    }
    let processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let numbered = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit())
    };
    let found = processes
        .filter(numbered)
        .map(|path| path.join(name))
        // Not a pipe, which would be waited for.
        .filter(|path| fs::metadata(path).is_ok_and(|about| about.is_file()))
        .filter_map(|path| fs::read(path).ok())
        .find_map(|bytes| hunt(&bytes, id).ok());
    found.map_or(first, Ok)
}

pub(super) fn environ(case: &Case) -> Got {
    any(case, "environ", "environ")
}

pub(super) fn argv(case: &Case) -> Got {
    any(case, "argv", "cmdline")
}

/// Where its stack is, at whose end its variables are.
fn stack(case: &Case) -> io::Result<(usize, usize)> {
    let maps = proc_file(case, "maps")?;
    let maps = String::from_utf8_lossy(&maps);
    let line = maps.lines().find(|line| line.ends_with("[stack]"));
    let range = line.and_then(|line| line.split_once(' ')?.0.split_once('-'));
    let (from, to) = range.ok_or_else(|| io::Error::other("no stack is seen"))?;
    let number = |text| usize::from_str_radix(text, 16).map_err(io::Error::other);
    Ok((number(from)?, number(to)?))
}

pub(super) fn mem(case: &Case) -> Got {
    // First the file: where the maps cannot be read either, the answer is its own.
    let mut file = File::open(format!("/proc/{}/mem", case.pid))?;
    let (from, to) = stack(case)?;
    file.seek(SeekFrom::Start(from as u64))?;
    let mut bytes = vec![0; to - from];
    file.read_exact(&mut bytes)?;
    hunt(&bytes, "mem")
}

pub(super) fn vm_readv(case: &Case) -> Got {
    let (from, to) = stack(case).unwrap_or((0x1000, 0x2000));
    let mut bytes = vec![0; to - from];
    let remote = [RemoteIoVec { base: from, len: bytes.len() }];
    process_vm_readv(Pid::from_raw(case.pid), &mut [IoSliceMut::new(&mut bytes)], &remote)?;
    hunt(&bytes, "vm-readv")
}

pub(super) fn trace(case: &Case) -> Got {
    let pid = Pid::from_raw(case.pid);
    ptrace::attach(pid)?;
    nix::sys::wait::waitpid(pid, None)?;
    let read = || {
        let (from, to) = stack(case)?;
        let word = size_of::<usize>();
        let mut bytes = Vec::new();
        for at in (from.max(to.saturating_sub(32 * 1024))..to).step_by(word) {
            bytes.extend(ptrace::read(pid, at as *mut c_void)?.to_ne_bytes());
        }
        hunt(&bytes, "ptrace")
    };
    let got = read();
    ptrace::detach(pid, None)?;
    got
}

pub(super) fn take(case: &Case) -> Got {
    let file = File::from(attempt::take_descriptor(case.pid, case.descriptor)?);
    let mut bytes = vec![0; 4096];
    let length = file.read_at(&mut bytes, 0)?;
    hunt(&bytes[..length], "pidfd-getfd")
}

pub(super) fn fd(case: &Case) -> Got {
    any(case, "proc-fd", &format!("fd/{}", case.descriptor))
}

pub(super) fn cwd(case: &Case) -> Got {
    any(case, "proc-cwd", "cwd/file")
}

pub(super) fn root(case: &Case) -> Got {
    any(case, "proc-root", &format!("root{}/private/root", case.dir.display()))
}

/// The victim's name for its machine is seen in its namespaces alone.
pub(super) fn enter(case: &Case) -> Got {
    let open = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", case.pid));
    let (user, name) = (open("user")?, open("uts")?);
    setns(user, CloneFlags::CLONE_NEWUSER)?;
    setns(name, CloneFlags::CLONE_NEWUTS)?;
    Ok(nix::unistd::gethostname()?.into_encoded_bytes())
}

pub(super) fn signal(case: &Case) -> Got {
    kill(Pid::from_raw(case.pid), Signal::SIGUSR1)?;
    let begun = Instant::now();
    loop {
        match sockets::ask(case, "signal") {
            Ok(got) if !got.is_empty() => return Ok(got),
            other if begun.elapsed() > Duration::from_secs(2) => return other,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Whatever was left open for it to inherit.
pub(super) fn inherited(_: &Case) -> Got {
    let mut bytes = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // The directory itself, and pipes, are not to be waited for.
        if fs::metadata(&path).is_ok_and(|about| about.is_file())
            && let Ok(mut more) = fs::read(&path)
        {
            bytes.append(&mut more);
        }
    }
    hunt(&bytes, "inherited")
}
