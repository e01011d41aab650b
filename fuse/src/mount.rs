//! Mounting and unmounting: with mount(2) for who may, with `fusermount3` for everybody else.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::unistd::{AccessFlags, Gid, Uid, access};

/// Where the kernel is spoken to.
pub const DEVICE: &str = "/dev/fuse";

/// What a mount is to be.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// What stands in the first column of `mount`, after `zagi:`.
    pub fs_name: String,
    /// Whether other users may look in (as far as modes let them). An ordinary user may ask
    /// for it only when `/etc/fuse.conf` says `user_allow_other`.
    pub allow_other: bool,
    /// The program `fusermount3` (see [`find_fusermount3`]), which an ordinary user needs.
    pub fusermount3: Option<PathBuf>,
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Not while it is used.
    Normal,
    /// At once for newcomers; those who use it may go on.
    Lazy,
}

/// Why something cannot be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE, or this is a container without it.
    #[error("there is no {DEVICE}: the kernel module `fuse` is missing")]
    DeviceMissing,
    /// The device is closed to this user.
    #[error("{DEVICE} is closed to this user: it needs mode 0666")]
    DeviceDenied,
    /// The device cannot be opened for another reason.
    #[error("cannot open {DEVICE}")]
    Device(#[source] io::Error),
    /// An ordinary user needs a helper that is not installed.
    #[error("`fusermount3` is missing: install the package `fuse3`")]
    FusermountMissing,
    /// The helper could not be run.
    #[error("cannot run `{}`", program.display())]
    Run {
        /// The helper.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The helper refused.
    #[error("cannot mount `{}`: {message}", dir.display())]
    Refused {
        /// The mount point.
        dir: PathBuf,
        /// What the helper said.
        message: String,
    },
    /// The kernel refused.
    #[error("cannot mount `{}`", dir.display())]
    Mount {
        /// The mount point.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Somebody uses it.
    #[error("`{}` is busy", dir.display())]
    Busy {
        /// The mount point.
        dir: PathBuf,
    },
    /// There is nothing to unmount.
    #[error("nothing is mounted at `{}`", dir.display())]
    NotMounted {
        /// The directory.
        dir: PathBuf,
    },
    /// It could not be unmounted for another reason.
    #[error("cannot unmount `{}`", dir.display())]
    Unmount {
        /// The mount point.
        dir: PathBuf,
        /// What was said.
        source: io::Error,
    },
}

/// Whether the device can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// It can be opened.
    Usable,
    /// It is not there.
    Missing,
    /// It is closed to this user.
    Denied,
}

/// What this machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `/dev/fuse`.
    pub device: Device,
    /// The helper, where it was found.
    pub fusermount3: Option<PathBuf>,
    /// Whether that helper runs as root, without which it cannot mount.
    pub fusermount3_setuid: bool,
    /// Whether this process is root, and may mount without a helper (unless a container
    /// forbids it).
    pub root: bool,
}

/// Looks what there is; `path` is the variable `PATH`.
pub fn probe(path: Option<&OsStr>) -> Probe {
    let fusermount3 = find_fusermount3(path);
    let mode = fusermount3.as_ref().and_then(|program| std::fs::metadata(program).ok());
    let device = match open_device() {
        Ok(_) => Device::Usable,
        Err(MountError::DeviceDenied) => Device::Denied,
        Err(_) => Device::Missing,
    };
    Probe {
        device,
        fusermount3_setuid: mode.is_some_and(|meta| meta.permissions().mode() & 0o4000 != 0),
        fusermount3,
        root: Uid::effective().is_root(),
    }
}

/// Finds the program `fusermount3` in the directories of `path` (the variable `PATH`), then
/// where systems put it.
pub fn find_fusermount3(path: Option<&OsStr>) -> Option<PathBuf> {
    let listed = path.map(std::env::split_paths).into_iter().flatten();
    let usual = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];
    listed
        .filter(|dir| dir.is_absolute())
        .chain(usual.into_iter().map(PathBuf::from))
        .map(|dir| dir.join("fusermount3"))
        .find(|program| access(program, AccessFlags::X_OK).is_ok())
}

fn open_device() -> Result<OwnedFd, MountError> {
    // The standard library opens with O_CLOEXEC: a child that kept this descriptor would keep
    // a dead mount hanging.
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map(OwnedFd::from).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => MountError::DeviceMissing,
        Some(libc::EACCES | libc::EPERM) => MountError::DeviceDenied,
        _ => MountError::Device(error),
    })
}

/// Mounts a FUSE file system at `dir`, a directory. The answer is the descriptor through which
/// the kernel asks; nobody may touch `dir` before somebody answers there.
pub fn mount(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    // The helper would mount on a file too, and follow a link.
    let failed = |source| MountError::Mount { dir: dir.into(), source };
    if !std::fs::symlink_metadata(dir).map_err(failed)?.is_dir() {
        return Err(failed(Errno::ENOTDIR.into()));
    }
    if Uid::effective().is_root() {
        match mount_directly(dir, options) {
            // Root of a container: perhaps the helper may.
            Err(MountError::Mount { source, .. })
                if source.raw_os_error() == Some(libc::EPERM) && options.fusermount3.is_some() => {}
            other => return other,
        }
    }
    mount_with_helper(dir, options)
}

fn mount_directly(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        Uid::effective(),
        Gid::effective(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let source = format!("zagi:{}", options.fs_name);
    // Programs with set-id bits and devices come from a stranger's repository: neither works.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some(source.as_str()), dir, Some("fuse.zagi"), flags, Some(data.as_str()))
        .map_err(|errno| MountError::Mount { dir: dir.into(), source: errno.into() })?;
    Ok(device)
}

fn mount_with_helper(dir: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    match access(DEVICE, AccessFlags::R_OK | AccessFlags::W_OK) {
        Err(Errno::EACCES) => return Err(MountError::DeviceDenied),
        Err(_) => return Err(MountError::DeviceMissing),
        Ok(()) => {}
    }
    let program = options.fusermount3.as_ref().ok_or(MountError::FusermountMissing)?;
    let run = |source| MountError::Run { program: program.clone(), source };
    let mut list = OsString::from("nosuid,nodev,default_permissions,subtype=zagi,fsname=zagi:");
    list.push(OsStr::from_bytes(&escaped(options.fs_name.as_bytes())));
    if options.allow_other {
        list.push(",allow_other");
    }
    let (ours, theirs) = UnixStream::pair().map_err(run)?;
    // The helper answers through its standard input: so nothing need be inherited by others.
    let child = Command::new(program)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(dir)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    let received = crate::sys::recv_fds(&ours, &mut [0; 16]);
    let Output { status, stderr, .. } = child.wait_with_output().map_err(run)?;
    let device = received.map_err(run)?.1.into_iter().next();
    match device {
        Some(device) if status.success() => Ok(device),
        _ => Err(MountError::Refused { dir: dir.into(), message: said(&stderr) }),
    }
}

/// Options of the helper are parted by commas, which a backslash protects.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        if matches!(byte, b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

fn said(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).trim().replace('\n', "; ")
}

/// Unmounts what is mounted at `dir`. `fusermount3` is the helper for an ordinary user.
pub fn unmount(dir: &Path, how: How, fusermount3: Option<&Path>) -> Result<(), MountError> {
    let flags = MntFlags::UMOUNT_NOFOLLOW
        | if how == How::Lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match nix::mount::umount2(dir, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(MountError::Busy { dir: dir.into() }),
        Err(Errno::EINVAL | Errno::ENOENT) => Err(MountError::NotMounted { dir: dir.into() }),
        Err(Errno::EPERM) => unmount_with_helper(dir, how, fusermount3),
        Err(errno) => Err(MountError::Unmount { dir: dir.into(), source: errno.into() }),
    }
}

fn unmount_with_helper(dir: &Path, how: How, fusermount3: Option<&Path>) -> Result<(), MountError> {
    let program = fusermount3.ok_or(MountError::FusermountMissing)?;
    let mut command = Command::new(program);
    command.arg("-u");
    if how == How::Lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(dir)
        // What it says is read below.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| MountError::Run { program: program.into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let message = said(&output.stderr);
    let dir = dir.into();
    if message.contains("busy") {
        Err(MountError::Busy { dir })
    } else if message.contains("not found in") {
        Err(MountError::NotMounted { dir })
    } else {
        Err(MountError::Unmount { dir, source: io::Error::other(message) })
    }
}
