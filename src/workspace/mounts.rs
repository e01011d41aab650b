//! What the kernel can mount and has mounted: `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Reading
//! it never touches a mount, which matters for one whose daemon is dead.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use zagi_fuse::delta::ROOT;
use zagi_fuse::mount::{self, Device};

use super::description::{Description, Presentation};
use crate::context::Context;
use crate::home::Home;

/// The type that our mounts have there.
const TYPE: &[u8] = b"fuse.zagi";
/// The type of those that the kernel's client of NFS has made.
const NFS: &[u8] = b"nfs";

/// Where our mounts are, of every home.
pub fn ours() -> io::Result<Vec<PathBuf>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?, TYPE))
}

/// Whether the kernel has mounted something through NFS at exactly `dir`.
#[cfg(not(target_os = "macos"))]
pub fn is_nfs(dir: &Path) -> io::Result<bool> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?, NFS).iter().any(|at| at == dir))
}

/// The same by mount(8), which prints `127.0.0.1:/TOKEN on DIR (nfs, …)`. Not tried: no such
/// machine was at hand.
#[cfg(target_os = "macos")]
pub fn is_nfs(dir: &Path) -> io::Result<bool> {
    let output = std::process::Command::new("/sbin/mount").args(["-t", "nfs"]).output()?;
    let at = format!(" on {} (", dir.display());
    Ok(String::from_utf8_lossy(&output.stdout).lines().any(|line| line.contains(&at)))
}

/// Whether the workspace can be entered: it is mounted, or it is real files. One that is presented
/// through NFS counts from when it is served, whether or not the kernel has it.
pub fn is_there(home: &Home, description: &Description) -> io::Result<bool> {
    match description.presented {
        Presentation::Fuse => is_ours(&description.path),
        Presentation::Nfs => Ok(description.is_mounted(home)),
        Presentation::Materialised => Ok(description.path.is_dir()),
    }
}

/// The device number of ours at exactly `dir` and the inode of its root, `52:0/1`.
pub fn root(dir: &Path) -> io::Result<Option<String>> {
    let info = std::fs::read("/proc/self/mountinfo")?;
    // The last one is on top.
    let ours = info.split(|&b| b == b'\n').rfind(|l| line(l, TYPE).is_some_and(|at| at == dir));
    let device = ours.and_then(|line| line.split(|&b| b == b' ').nth(2));
    Ok(device.map(|device| format!("{}/{ROOT}", String::from_utf8_lossy(device))))
}

/// The same of a directory that one is in.
pub fn root_here() -> io::Result<String> {
    let found = nix::sys::stat::stat(".")?;
    let (major, minor) = (nix::sys::stat::major(found.st_dev), nix::sys::stat::minor(found.st_dev));
    Ok(format!("{major}:{minor}/{}", found.st_ino))
}

/// Whether one of ours is mounted at exactly `dir`.
pub fn is_ours(dir: &Path) -> io::Result<bool> {
    Ok(ours()?.iter().any(|at| at == dir))
}

/// What FUSE lacks here, if it lacks something.
pub fn fuse_lack(ctx: &Context) -> Option<String> {
    let found = mount::probe(ctx.var("PATH"));
    let lack = match (found.device, found.root, &found.fusermount3) {
        (Device::Missing, ..) => "there is no /dev/fuse",
        (Device::Denied, ..) => "/dev/fuse is closed to this user",
        (Device::Usable, true, _) => return None,
        (Device::Usable, false, None) => "fusermount3 is not installed",
        (Device::Usable, false, Some(_)) if !found.fusermount3_setuid => {
            "fusermount3 is not setuid root"
        }
        (Device::Usable, false, Some(_)) => return None,
    };
    Some(lack.to_owned())
}

/// Whether its files can be had below its path: the kernel may yet have to mount what is served.
pub fn has_files(home: &Home, description: &Description) -> io::Result<bool> {
    match description.presented {
        Presentation::Nfs => is_nfs(&description.path),
        _ => is_there(home, description),
    }
}

fn parse(mountinfo: &[u8], kind: &[u8]) -> Vec<PathBuf> {
    mountinfo.split(|&b| b == b'\n').filter_map(|l| line(l, kind)).collect()
}

/// `36 35 98:0 /root /mount/point opts… [optional…] - type source superopts`
fn line(line: &[u8], kind: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    (*fields.get(dash + 1)? == kind).then(|| unescape(fields.get(4).copied().unwrap_or_default()))
}

/// Space, tab, newline and backslash stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ours_and_unescaped() {
        let text = b"25 1 254:0 / / rw - ext4 /dev/root rw\n\
            90 25 0:52 / /home/u/a\\040b\\134c rw,nosuid shared:3 - fuse.zagi zagi:a rw\n\
            91 25 0:53 / /mnt/x rw - fuse.sshfs host: rw\n\
            92 25 0:54 / /home/u/n rw,nosuid - nfs 127.0.0.1:/a5 rw,vers=3\n\
            broken line\n";
        assert_eq!(parse(text, TYPE), [PathBuf::from("/home/u/a b\\c")]);
        assert_eq!(parse(text, NFS), [PathBuf::from("/home/u/n")]);
    }
}
