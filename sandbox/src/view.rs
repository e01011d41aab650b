//! One directory seen at another place, by this process and what it starts.
//!
//! Programs of a Nix store hold the path `/nix/store` in them; the files are elsewhere, and
//! the host has no `/nix`, nor does an ordinary user get to make one. So the process gets a
//! mount namespace of its own. Where the place exists the directory is laid over it; where
//! it does not, the process gets a root in memory that has everything of the host's root at
//! the same paths, and that place besides. It stays the same process: its id, descriptors,
//! session, working directory and the user it is seen as do not change, so what is executed next knows
//! no difference.
//!
//! It hides and confines nothing. Mounts that come or go on the host do so here too, as
//! long as the host's own are shared (as systemd has them). What differs inside, for an
//! ordinary user: setuid programs (`sudo`) gain nothing, since no other user exists in the
//! namespace; and for everybody: `/` itself is read-only where it was made.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{self, chdir, fchdir, symlinkat};

use crate::error::{SandboxError, Step};
use crate::report::Failure;
use crate::root::{self, STAGE};
use crate::sys::{self, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};

/// Shows the directory `source` at `target`, read-only, to this process and all that it will
/// start. Does nothing where that is so already. To be called before any thread is started.
pub fn show(source: &Path, target: &Path) -> Result<(), SandboxError> {
    if same(source, target) {
        return Ok(());
    }
    enter(source, target).map_err(|failure| SandboxError::Show {
        directory: source.to_owned(),
        target: target.to_owned(),
        step: failure.step,
        path: failure.path.clone(),
        source: failure.into_io(),
    })
}

/// Whether two paths name one directory.
fn same(a: &Path, b: &Path) -> bool {
    let id = |path| fs::metadata(path).map(|m: fs::Metadata| (m.dev(), m.ino()));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

fn enter(source: &Path, target: &Path) -> Result<(), Failure> {
    let below = target.strip_prefix("/").unwrap_or(Path::new(""));
    let Some(Component::Normal(top)) = below.components().next() else {
        return Err(Failure::at(Step::Plan, target.to_string_lossy(), Errno::EINVAL));
    };
    let failed = |e: io::Error| Failure::at(Step::Source, source.to_string_lossy(), e);
    let here = Here::new();
    namespace()?;
    // Attached nowhere yet: it is read-only before anybody can reach it.
    let tree = sys::open_tree(source).map_err(failed)?;
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    sys::mount_setattr(tree.as_fd(), attributes, true).map_err(failed)?;
    let bind = |e: io::Error| Failure::at(Step::Bind, target.to_string_lossy(), e);
    if target.is_dir() {
        let at = open(target).map_err(|e| bind(e.into()))?;
        return sys::move_mount(tree.as_fd(), at.as_fd()).map_err(bind);
    }
    let entries = entries(top)?;
    root::tmpfs(Path::new(STAGE), "0755")?;
    chdir(STAGE).map_err(|e| Failure::new(Step::Root, e))?;
    let made = open(Path::new(".")).map_err(|e| Failure::new(Step::Root, e))?;
    for (name, entry) in entries {
        let failed = |e: io::Error| Failure::at(Step::Root, format!("/{name}"), e);
        let name = Path::new(&name);
        let (tree, at) = match entry {
            Entry::Link(to) => {
                symlinkat(to.as_path(), &made, name).map_err(|e| failed(e.into()))?;
                continue;
            }
            Entry::Directory(tree) => (tree, root::directory(&made, name)),
            Entry::File(tree) => (tree, root::file(&made, name, b"")),
        };
        sys::move_mount(tree.as_fd(), at.map_err(failed)?.as_fd()).map_err(failed)?;
    }
    let at = root::directory(&made, below).map_err(bind)?;
    sys::move_mount(tree.as_fd(), at.as_fd()).map_err(bind)?;
    root::enter(&made)?;
    here.again()
}

/// A mount namespace of this process's own; for who may not have one, in a user namespace
/// that knows this user and no other.
fn namespace() -> Result<(), Failure> {
    let (uid, gid) = (unistd::geteuid(), unistd::getegid());
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => {
            // Nothing that is mounted here reaches the host; what the host mounts comes here.
            let none: Option<&str> = None;
            return mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
                .map_err(|e| Failure::new(Step::Namespaces, e));
        }
        Err(Errno::EPERM) => {}
        Err(e) => return Err(Failure::new(Step::Namespaces, e)),
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|e| Failure::new(Step::Namespaces, e))?;
    let write = |file: &str, text: String| {
        fs::write(file, text).map_err(|e| Failure::at(Step::Identity, file, e))
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))
}

/// What stands in the host's root.
enum Entry {
    Link(PathBuf),
    Directory(OwnedFd),
    File(OwnedFd),
}

/// Everything in the host's root but `without`. What cannot be shown elsewhere (a socket, a
/// mount that forbids it) is left out: no program is stopped by what it does not need.
fn entries(without: &OsStr) -> Result<Vec<(String, Entry)>, Failure> {
    let failed = |e| Failure::at(Step::Root, "/", e);
    let mut found = Vec::new();
    for entry in fs::read_dir("/").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type().map_err(failed)?;
        if entry.file_name() == without {
            continue;
        }
        let path = entry.path();
        let shown = match kind {
            _ if kind.is_symlink() => fs::read_link(&path).map(Entry::Link),
            _ if kind.is_dir() => sys::open_tree(&path).map(Entry::Directory),
            _ if kind.is_file() => sys::open_tree(&path).map(Entry::File),
            _ => continue,
        };
        found.extend(shown.ok().map(|shown| (name, shown)));
    }
    Ok(found)
}

fn open(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty())
}

/// The working directory.
struct Here {
    path: Option<PathBuf>,
    open: Option<OwnedFd>,
}

impl Here {
    fn new() -> Here {
        Here { path: std::env::current_dir().ok(), open: open(Path::new(".")).ok() }
    }

    /// Goes there again, in the new root. A directory that has no path any more (it was
    /// deleted) is still the same one through its descriptor.
    fn again(&self) -> Result<(), Failure> {
        if let Some(path) = &self.path
            && chdir(path).is_ok()
        {
            return Ok(());
        }
        match &self.open {
            Some(open) => fchdir(open).map_err(|e| Failure::new(Step::Directory, e)),
            None => Err(Failure::new(Step::Directory, Errno::ENOENT)),
        }
    }
}
