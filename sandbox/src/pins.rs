//! What stays as it is inside a writable bind: mounts over single files and directories.
//!
//! A mount point can be neither renamed nor removed in its own mount namespace, so each
//! directory between the bind and what is pinned is bound over itself too: else
//! `mv .zagi x; mkdir .zagi` would put another one in its place. Nobody inside can undo a
//! mount: that takes a capability, and the system call is closed.
//!
//! Everything is done by the supervisor, in the mount namespace that it shares with init,
//! from descriptors that were reached through directories alone: what a link in the workspace
//! says is never followed, so that nothing else of the host is shown by one.
//!
//! A mount goes away when somebody *outside* replaces the file below it (`git config` writes
//! a new file and renames it), or a FUSE server takes its name back. The kernel tells of every
//! change of a mount namespace, and nothing else changes this one, so [`Pins::renew`] then
//! does it again: at once, but not in the same instant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::Step;
use crate::plan::{Pin, Plan};
use crate::report::Failure;
use crate::sys::{self, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::verify;

/// How often a pin is tried that finds something and then does not.
const RETRIES: usize = 20;

/// A file or directory that was made to hold a mount.
struct Made {
    path: PathBuf,
    parent: OwnedFd,
    directory: bool,
    /// What it says.
    content: String,
    /// Device and inode: what stands there later may be another.
    id: (u64, u64),
}

/// What was pinned so far.
#[derive(Default)]
pub(crate) struct Pins {
    /// Whether it is held read-only, or only as a directory on the way.
    held: BTreeMap<PathBuf, bool>,
    made: Vec<Made>,
}

/// What stands at a path, links not followed.
enum Found {
    Nothing,
    Directory(OwnedFd),
    File(OwnedFd),
}

impl Pins {
    /// Pins all that the plan says and that is not pinned already. To be called when the new
    /// root is the root.
    pub fn renew(&mut self, plan: &Plan, mountinfo: &str) -> Result<(), Failure> {
        if plan.pins.is_empty() {
            return Ok(());
        }
        let mounted: BTreeSet<PathBuf> = verify::mount_points(mountinfo).collect();
        self.held.retain(|path, _| mounted.contains(path));
        plan.pins.iter().try_for_each(|pin| {
            self.again(plan, pin).map_err(|e| Failure::at(Step::Pin, pin.path.to_string_lossy(), e))
        })
    }

    /// A name that somebody is about to remove is found still and takes no mount any more.
    fn again(&mut self, plan: &Plan, pin: &Pin) -> io::Result<()> {
        for _ in 0..RETRIES {
            match self.one(plan, pin) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.one(plan, pin)
    }

    fn one(&mut self, plan: &Plan, pin: &Pin) -> io::Result<()> {
        let base = plan
            .base(&pin.path)
            .ok_or_else(|| io::Error::other("it is in no directory that the program is shown"))?;
        let mut at = walk(&slash()?, base.strip_prefix("/").unwrap_or(base))?;
        let mut path = base.to_owned();
        let mut rest = pin.path.strip_prefix(base).unwrap_or(&pin.path).components().peekable();
        while let Some(part) = rest.next() {
            let name = Path::new(part.as_os_str());
            path.push(name);
            let last = rest.peek().is_none();
            match find(&at, name)? {
                Found::Nothing => {
                    match last && !pin.directory {
                        true => self.make_file(&at, name, &path, &pin.meanwhile)?,
                        false => self.make_directory(&at, name, &path)?,
                    }
                    return self.cover(&at, name, &path, pin.hidden && last);
                }
                Found::Directory(next) if !last => {
                    match self.held.get(&path) {
                        // Nothing below can be changed or made.
                        Some(true) => return Ok(()),
                        Some(false) => {}
                        None => {
                            mount_over(&next, &next, 0)?;
                            self.held.insert(path.clone(), false);
                        }
                    }
                    // Again by name: what is mounted there now.
                    match find(&at, name)? {
                        Found::Directory(mounted) => at = mounted,
                        _ => return Err(Errno::ENOTDIR.into()),
                    }
                }
                // A file where a directory is to be: nothing can be below, as long as it stays.
                Found::File(_) | Found::Directory(_) => {
                    return self.cover(&at, name, &path, pin.hidden && last);
                }
            }
        }
        Ok(())
    }

    /// Mounts what stands at `name` over itself, read-only, or nothing at all over it.
    fn cover(&mut self, at: &OwnedFd, name: &Path, path: &Path, hide: bool) -> io::Result<()> {
        if self.held.get(path) == Some(&true) {
            return Ok(());
        }
        let (Found::Directory(there) | Found::File(there)) = find(at, name)? else {
            return Err(Errno::ENOENT.into());
        };
        let shown = match (hide, kind(&fstat(&there)?)) {
            (false, _) => there.try_clone()?,
            (true, SFlag::S_IFDIR) => walk(&slash()?, Path::new("var/empty"))?,
            // A device, on a mount that lets no device be opened.
            (true, _) => match find(&walk(&slash()?, "dev".as_ref())?, "null".as_ref())? {
                Found::File(null) => null,
                _ => return Err(Errno::ENOENT.into()),
            },
        };
        mount_over(&shown, &there, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)?;
        self.held.insert(path.to_owned(), true);
        Ok(())
    }

    /// Makes what a mount can be put on.
    fn make_directory(&mut self, at: &OwnedFd, name: &Path, path: &Path) -> io::Result<()> {
        mkdirat(at, name, Mode::from_bits_truncate(0o755))?;
        self.made(at, name, path, None)
    }

    fn make_file(&mut self, at: &OwnedFd, name: &Path, path: &Path, says: &str) -> io::Result<()> {
        let make = |name: &Path| {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            openat(at, name, flags, Mode::from_bits_truncate(0o644))
        };
        if says.is_empty() {
            make(name)?;
        } else {
            // Nobody shall find it empty.
            let mut whole = name.as_os_str().to_owned();
            whole.push(format!(".{}", std::process::id()));
            let whole = Path::new(&whole);
            let _ = unlinkat(at, whole, UnlinkatFlags::NoRemoveDir);
            File::from(make(whole)?).write_all(says.as_bytes())?;
            renameat(at, whole, at, name)?;
        }
        self.made(at, name, path, Some(says))
    }

    /// Remembers what was made: a directory, or a file that says something.
    fn made(
        &mut self,
        at: &OwnedFd,
        name: &Path,
        path: &Path,
        says: Option<&str>,
    ) -> io::Result<()> {
        let stat = fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        self.made.push(Made {
            path: path.to_owned(),
            parent: at.try_clone()?,
            directory: says.is_none(),
            content: says.unwrap_or_default().to_owned(),
            id: (stat.st_dev, stat.st_ino),
        });
        Ok(())
    }
}

impl Drop for Pins {
    /// Takes away what was made, where it is still there as it was made. A mistake here leaves
    /// such a file behind; there is nobody to tell.
    fn drop(&mut self) {
        for made in self.made.iter().rev() {
            let _ = umount2(&made.path, MntFlags::MNT_DETACH);
            let name = Path::new(made.path.file_name().unwrap_or_default());
            let Ok(stat) = fstatat(&made.parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            if (stat.st_dev, stat.st_ino) != made.id {
                continue;
            }
            let _ = match made.directory {
                true => unlinkat(&made.parent, name, UnlinkatFlags::RemoveDir),
                false if made.says_so_still(name, &stat) => {
                    unlinkat(&made.parent, name, UnlinkatFlags::NoRemoveDir)
                }
                false => Ok(()),
            };
        }
    }
}

impl Made {
    fn says_so_still(&self, name: &Path, stat: &FileStat) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let read = || {
            let mut text = Vec::new();
            let file = File::from(openat(&self.parent, name, flags, Mode::empty())?);
            file.take(self.content.len() as u64 + 1).read_to_end(&mut text)?;
            io::Result::Ok(text)
        };
        match self.content.is_empty() {
            true => stat.st_size == 0,
            false => read().is_ok_and(|text| text == self.content.as_bytes()),
        }
    }
}

/// Refuses what could not hold: each pin lies in a bind, and no other bind shows the same
/// file where it can be written.
pub(crate) fn check(plan: &Plan) -> Result<(), Failure> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for pin in &plan.pins {
        let wrong = |what: String| {
            Err(Failure {
                path: Some(pin.path.display().to_string()),
                ..Failure::said(Step::Pin, what)
            })
        };
        let Some(bind) = plan
            .base(&pin.path)
            .and_then(|base| plan.binds.iter().rev().find(|bind| bind.target == base))
        else {
            return wrong("it is below nothing that the program is shown".into());
        };
        let inside = pin.path.strip_prefix(&bind.target).unwrap_or(&pin.path);
        let host = real(&bind.source).join(inside);
        for other in plan.binds.iter().filter(|other| other.writable) {
            let Ok(below) = host.strip_prefix(real(&other.source)) else { continue };
            let seen = other.target.join(below);
            let hidden_by = plan.base(&seen).is_some_and(|base| base != other.target);
            if !hidden_by && !plan.pins.iter().any(|pin| seen.starts_with(&pin.path)) {
                return wrong(format!("it is also seen as `{}`: pin that too", seen.display()));
            }
        }
    }
    Ok(())
}

/// Mounts a copy of `what` over `there`, with attributes.
fn mount_over(what: &OwnedFd, there: &OwnedFd, attributes: u64) -> io::Result<()> {
    let tree = sys::open_tree_at(what.as_fd())?;
    if attributes != 0 {
        sys::mount_setattr(tree.as_fd(), attributes, true)?;
    }
    sys::move_mount(tree.as_fd(), there.as_fd())
}

fn slash() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(nix::fcntl::AT_FDCWD, "/", flags, Mode::empty())
}

/// Goes down directories that are there.
fn walk(from: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut at = from.try_clone()?;
    for part in path.components() {
        match find(&at, Path::new(part.as_os_str()))? {
            Found::Directory(next) => at = next,
            Found::File(_) => return Err(Errno::ENOTDIR.into()),
            Found::Nothing => return Err(Errno::ENOENT.into()),
        }
    }
    Ok(at)
}

fn find(at: &OwnedFd, name: &Path) -> io::Result<Found> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = match openat(at, name, flags, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Found::Nothing),
        Err(e) => return Err(e.into()),
    };
    match kind(&fstat(&found)?) {
        SFlag::S_IFDIR => Ok(Found::Directory(found)),
        SFlag::S_IFLNK => Err(io::Error::other(format!(
            "`{}` is a link: what it leads to could be exchanged",
            name.display()
        ))),
        _ => Ok(Found::File(found)),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}
