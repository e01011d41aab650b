//! The new root: made from nothing, in init, with capabilities over this mount namespace
//! only.
//!
//! Every source is opened on the host first, as a detached copy of its mount (open_tree(2)),
//! gets its attributes while nobody can reach it (mount_setattr(2), recursive, all or
//! none), and is then moved into place by descriptor. So no bind is ever writable or
//! setuid for a moment, no path is looked up twice, and nothing of the host is changed:
//! the mount namespace is this sandbox's own and all propagation is cut first.
//!
//! What is hidden ([`crate::Hidden`]) is covered in this namespace between the few sources
//! below it that are shown and all others.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir, pivot_root, symlinkat};

use crate::error::Step;
use crate::plan::{Bind, Plan};
use crate::private::{Private, SECRETS};
use crate::privileges;
use crate::report::Failure;
use crate::sys::{self, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};

/// Programs and libraries of the host, where there are such.
const SYSTEM: &[&str] =
    &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store"];
/// What programs need of `/etc` as it is on the host; links are followed. None of these
/// holds a secret (`ssl/private` is left out for that).
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "hosts",
    "host.conf",
    "gai.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    // Debian's Java keeps its security settings there, and does not start without.
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "localtime",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];
/// Devices that reach nothing.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of `/proc` through which root's id could change the host without a capability.
const PROC_READ_ONLY: &[&str] =
    &["sys", "bus", "fs", "irq", "sysrq-trigger", "acpi", "scsi", "mtrr"];
/// Parts of `/proc` that tell of the host's memory, keys or log.
const PROC_HIDDEN: &[&str] =
    &["kcore", "keys", "kmsg", "latency_stats", "timer_list", "timer_stats", "sched_debug"];
/// Covered while the root is being made: a directory that every host has. Sources are open
/// by then.
pub(crate) const STAGE: &str = "/usr";

/// One mount as it must be found afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub at: PathBuf,
    pub writable: bool,
    /// Device nodes on it work: only the bound devices themselves.
    pub devices: bool,
    /// It is a directory.
    pub directory: bool,
    /// The plan asked for it.
    pub shown: bool,
}

impl Expected {
    /// A directory that is the sandbox's own.
    pub fn own(at: impl Into<PathBuf>, writable: bool) -> Expected {
        Expected { at: at.into(), writable, devices: false, directory: true, shown: false }
    }
}

/// A link in the root, and where it leads.
type Link = (String, PathBuf);

/// A detached mount on its way.
struct Source {
    tree: OwnedFd,
    directory: bool,
    expected: Expected,
}

/// Makes the root, enters it, and leaves the host's. Says what was mounted where.
pub(crate) fn build(plan: &Plan, private: Option<&Private>) -> Result<Vec<Expected>, Failure> {
    let failed = |e: Errno| Failure::new(Step::Root, e);
    let none: Option<&str> = None;
    // From here on no mount or unmount reaches the host, nor one of the host's here.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed)?;
    let (system, links) = system(plan)?;
    let devices = devices()?;
    let binds = binds(plan)?;
    let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
    let hosts = fs::read("/etc/hosts").unwrap_or_default();

    tmpfs(Path::new(STAGE), "0755")?;
    chdir(STAGE).map_err(failed)?;
    let root = openat(
        nix::fcntl::AT_FDCWD,
        ".",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    let mut expected = vec![Expected::own("/", false)];
    for (name, target) in links {
        symlinkat(target.as_path(), &root, name.as_str())
            .map_err(|e| Failure::at(Step::Root, name, e))?;
    }
    place(&root, system, &mut expected)?;
    etc(&root, plan, &resolver, &hosts)?;
    proc(&root, &mut expected)?;
    place(&root, devices, &mut expected).map_err(|f| Failure { step: Step::Devices, ..f })?;
    terminals(&root, &mut expected)?;
    let memory = [("tmp", "1777"), ("var/tmp", "1777"), ("dev/shm", "1777")];
    let home = plan.identity.home.strip_prefix("/").expect("checked: absolute");
    for (at, mode) in memory.iter().map(|(at, mode)| (Path::new(at), *mode)).chain([(home, "0700")])
    {
        directory(&root, at).map_err(|e| Failure::at(Step::Root, at.to_string_lossy(), e))?;
        tmpfs(at, mode)?;
        expected.push(Expected::own(Path::new("/").join(at), true));
    }
    if plan.pins.iter().any(|pin| pin.hidden) {
        // What a hidden directory looks like; the usual name of such a one.
        directory(&root, Path::new("var/empty"))
            .map_err(|e| Failure::at(Step::Root, "/var/empty", e))?;
    }
    place(&root, binds, &mut expected)?;
    if let Some(private) = private.filter(|private| private.has_files()) {
        secrets(&root, private)?;
        expected.push(Expected::own(SECRETS, true));
    }
    enter(&root)?;
    Ok(expected)
}

/// The directory of private files.
fn secrets(root: &OwnedFd, private: &Private) -> Result<(), Failure> {
    let at = Path::new(SECRETS).strip_prefix("/").unwrap_or(Path::new(SECRETS));
    let failed = |e: io::Error| Failure::at(Step::Root, SECRETS, e);
    directory(root, at).map_err(failed)?;
    tmpfs(at, "0700")?;
    for (name, value) in private.files() {
        file(root, &at.join(name), value).map_err(failed)?;
    }
    Ok(())
}

/// A mount of memory of this sandbox's own. `at` is not a link of anybody else's: it is the
/// stage, or was made below it a moment ago.
pub(crate) fn tmpfs(at: &Path, mode: &str) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(format!("mode={mode}").as_str()))
        .map_err(|e| Failure::at(Step::Root, at.to_string_lossy(), e))
}

fn open(source: &Path, at: PathBuf, attributes: u64) -> Result<Source, Failure> {
    let failed = |e| Failure::at(Step::Source, source.to_string_lossy(), e);
    // Changes nothing on the host: the copy is attached nowhere yet.
    let tree = sys::open_tree(source).map_err(failed)?;
    let kind = fstat(&tree).map_err(|e| failed(e.into()))?.st_mode & SFlag::S_IFMT.bits();
    let directory = kind == SFlag::S_IFDIR.bits();
    // Only takes rights away, from the copy, before anybody can reach it. A mount that the
    // host locked read-only or nosuid stays so.
    sys::mount_setattr(tree.as_fd(), attributes, true).map_err(failed)?;
    let expected = Expected {
        at,
        writable: attributes & MOUNT_ATTR_RDONLY == 0,
        devices: attributes & MOUNT_ATTR_NODEV == 0,
        directory,
        shown: false,
    };
    Ok(Source { tree, directory, expected })
}

const READ_ONLY: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/// The system's directories, and the links among them (`/lib` → `usr/lib`).
fn system(plan: &Plan) -> Result<(Vec<Source>, Vec<Link>), Failure> {
    let (mut sources, mut links) = (Vec::new(), Vec::new());
    for name in SYSTEM {
        let path = Path::new("/").join(name);
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_symlink() {
            let target = fs::read_link(&path)
                .map_err(|e| Failure::at(Step::Source, path.to_string_lossy(), e))?;
            links.push(((*name).to_owned(), target));
        } else {
            sources.push(open(&path, path.clone(), READ_ONLY)?);
        }
    }
    // One that is made up takes its place.
    let made = |name: &&&str| **name == "hosts" && !plan.hosts.is_empty();
    for name in ETC.iter().filter(|name| !made(name)) {
        let path = Path::new("/etc").join(name);
        if path.exists() {
            sources.push(open(&path, path.clone(), READ_ONLY | MOUNT_ATTR_NOEXEC)?);
        }
    }
    Ok((sources, links))
}

/// The devices. Read-only does not stop writing *to* a device; it stops changing its mode
/// on the host, whose owner root's id is.
fn devices() -> Result<Vec<Source>, Failure> {
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    let open = |name: &&str| {
        let path = Path::new("/dev").join(name);
        open(&path, path.clone(), attributes)
    };
    DEVICES.iter().map(open).collect()
}

fn binds(plan: &Plan) -> Result<Vec<Source>, Failure> {
    let open = |bind: &Bind| {
        let read_only = if bind.writable { 0 } else { MOUNT_ATTR_RDONLY };
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | read_only;
        let mut source = open(&bind.source, bind.target.clone(), attributes)?;
        source.expected.shown = true;
        Ok(source)
    };
    let Some(hidden) = &plan.hidden else { return plan.binds.iter().map(open).collect() };
    let first = |bind: &Bind| hidden.but.contains(&bind.source).then(|| open(bind)).transpose();
    let first: Vec<Option<Source>> = plan.binds.iter().map(first).collect::<Result<_, _>>()?;
    let around = hide(&hidden.path)?;
    let rest = |(bind, first): (&Bind, Option<Source>)| match first {
        Some(source) => Ok(source),
        None => {
            let source = open(bind)?;
            keep_apart(&source.tree, &around, hidden.only.get(&bind.source))
                .map_err(|e| Failure::at(Step::Source, bind.source.to_string_lossy(), e))?;
            Ok(source)
        }
    };
    plan.binds.iter().zip(first).map(rest).collect()
}

/// Device and inode.
type Id = (u64, u64);

/// Covers a directory with an empty one, in this mount namespace. Says what it is, and what it is in.
fn hide(path: &Path) -> Result<Vec<Id>, Failure> {
    let failed = |e: io::Error| Failure::at(Step::Source, path.to_string_lossy(), e);
    // The names of a link's would be those of other directories.
    if path.canonicalize().map_err(failed)? != path {
        return Err(failed(Errno::ELOOP.into()));
    }
    let id = |at: &Path| fs::metadata(at).map(|about| (about.dev(), about.ino()));
    let around = path.ancestors().map(id).collect::<io::Result<_>>().map_err(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=0555"))
        .map_err(|e| failed(e.into()))?;
    Ok(around)
}

/// Refuses what is not what it was, what has the hidden directory below it, where other ways may lead
/// to it, and a `/proc`, by which processes are looked into.
fn keep_apart(tree: &OwnedFd, around: &[Id], was: Option<&Id>) -> io::Result<()> {
    let about = fstat(tree)?;
    let id = (about.st_dev, about.st_ino);
    let is_it = was.is_none_or(|was| *was == id) && !around.contains(&id);
    match !is_it || fstatfs(tree)?.filesystem_type() == PROC_SUPER_MAGIC {
        true => Err(Errno::EACCES.into()),
        false => Ok(()),
    }
}

/// Moves each source to its place, making the place.
fn place(
    root: &OwnedFd,
    sources: Vec<Source>,
    expected: &mut Vec<Expected>,
) -> Result<(), Failure> {
    for source in sources {
        let at = source.expected.at.as_path();
        let failed = |e: io::Error| Failure::at(Step::Bind, at.to_string_lossy(), e);
        let inside = at.strip_prefix("/").expect("checked: absolute");
        let target = match source.directory {
            true => directory(root, inside),
            false => file(root, inside, b""),
        };
        // `target` was reached from our own root through directories alone, no link, so it
        // is inside; the mount covers it in this namespace only.
        sys::move_mount(source.tree.as_fd(), target.map_err(failed)?.as_fd()).map_err(failed)?;
        expected.push(source.expected);
    }
    Ok(())
}

/// Opens `path` below `root`, making directories that are missing. A link or a file on the
/// way is an error.
pub(crate) fn directory(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Most are there: one call. What goes wrong with it goes wrong below too, and says where.
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH;
    let how = OpenHow::new().flags(flags).resolve(resolve);
    if let Ok(there) = openat2(root, path, how) {
        return Ok(there);
    }
    let mut at = root.try_clone()?;
    for part in path.components() {
        let Component::Normal(name) = part else {
            return Err(Errno::EINVAL.into());
        };
        match mkdirat(&at, name, Mode::from_bits_truncate(0o755)) {
            // EROFS: a bind that is there already may hold the directory.
            Ok(()) | Err(Errno::EEXIST | Errno::EROFS | Errno::EACCES) => {}
            Err(e) => return Err(e.into()),
        }
        at = openat(&at, name, flags, Mode::empty())?;
    }
    Ok(at)
}

/// Makes the file `path` below `root` with `content`, or opens the one that is there.
pub(crate) fn file(root: &OwnedFd, path: &Path, content: &[u8]) -> io::Result<OwnedFd> {
    let parent = directory(root, path.parent().unwrap_or(Path::new("")))?;
    let name: &OsStr = path.file_name().ok_or(Errno::EINVAL)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    match openat(&parent, name, flags, Mode::from_bits_truncate(0o644)) {
        Ok(made) => fs::File::from(made).write_all(content)?,
        Err(Errno::EEXIST | Errno::EROFS) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(openat(&parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// The files of `/etc` that are made up: who there is, and where names are looked up.
fn etc(root: &OwnedFd, plan: &Plan, resolver: &[u8], hosts: &[u8]) -> Result<(), Failure> {
    let id = &plan.identity;
    let (uid, gid, name, home) = (id.uid, id.gid, &id.name, id.home.display());
    // Many ask here for a shell, and not the variable.
    let plain = |shell: &&String| shell.starts_with('/') && !shell.contains([':', '\n']);
    let shell = plan.env.get("SHELL").filter(plain).map_or("/bin/sh", String::as_str);
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let group = format!("root:x:0:\n{name}:x:{gid}:\nnogroup:x:65534:\n");
    let names = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
                 services: files\nprotocols: files\n";
    let mut files = vec![
        ("etc/passwd", passwd.into_bytes()),
        ("etc/group", group.into_bytes()),
        ("etc/nsswitch.conf", names.into()),
        ("etc/hostname", format!("{}\n", plan.hostname).into_bytes()),
    ];
    if plan.network {
        files.push(("etc/resolv.conf", resolver.to_vec()));
    }
    if !plan.hosts.is_empty() {
        let line = |(name, address): (&String, _)| format!("{address} {name}\n");
        let ours: String = plan.hosts.iter().map(line).collect();
        // The first line that has a name counts.
        files.push(("etc/hosts", [ours.as_bytes(), hosts].concat()));
    }
    for (path, content) in files {
        file(root, Path::new(path), &content).map_err(|e| Failure::at(Step::Root, path, e))?;
    }
    Ok(())
}

/// `/proc` of the new pid namespace, without what reaches the host.
fn proc(root: &OwnedFd, expected: &mut Vec<Expected>) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::new(Step::Proc, e);
    directory(root, Path::new("proc")).map_err(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Shows the processes of the new pid namespace only. The kernel refuses where the
    // host's own `/proc` is masked, so nothing that a container hides is uncovered.
    mount(Some("proc"), "proc", Some("proc"), flags, None::<&str>).map_err(|e| failed(e.into()))?;
    expected.push(Expected::own("/proc", true));
    // While `/proc/sys` can still be written.
    privileges::forbid_user_namespaces(Path::new("proc/sys/user/max_user_namespaces"))?;
    let mut covers = Vec::new();
    for name in PROC_READ_ONLY {
        let at = Path::new("proc").join(name);
        if at.exists() {
            covers.push(open(&at, Path::new("/").join(&at), READ_ONLY | MOUNT_ATTR_NOEXEC)?);
        }
    }
    for name in PROC_HIDDEN {
        let at = Path::new("proc").join(name);
        if at.exists() {
            let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
            covers.push(open(Path::new("/dev/null"), Path::new("/").join(&at), attributes)?);
        }
    }
    place(root, covers, expected)
}

/// What of `/dev` is no device of the host: its own terminals, and links.
fn terminals(root: &OwnedFd, expected: &mut Vec<Expected>) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::new(Step::Devices, e);
    directory(root, Path::new("dev/pts")).map_err(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // A new instance: none of the host's terminals is in it.
    mount(
        Some("devpts"),
        "dev/pts",
        Some("devpts"),
        flags,
        Some("newinstance,ptmxmode=0666,mode=0620"),
    )
    .map_err(|e| failed(e.into()))?;
    expected.push(Expected { devices: true, ..Expected::own("/dev/pts", true) });
    for (target, link) in [
        ("pts/ptmx", "dev/ptmx"),
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
    ] {
        symlinkat(target, root, link).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

/// Makes `root`, which is the current directory, the root, and lets go of the old one.
pub(crate) fn enter(root: &OwnedFd) -> Result<(), Failure> {
    let failed = |e: Errno| Failure::new(Step::Pivot, e);
    fchdir(root).map_err(failed)?;
    // The old root ends up mounted over the new one, and is the first thing unmounted:
    // pivot_root(2), "pivot_root(".", ".")". Detaching takes all that is mounted in it
    // along, in this namespace only.
    pivot_root(".", ".").map_err(failed)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed)?;
    chdir("/").map_err(failed)?;
    // What was made in the root itself (`/etc`, the mount points) is not to change.
    let slash = openat(
        nix::fcntl::AT_FDCWD,
        "/",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    sys::mount_setattr(slash.as_fd(), MOUNT_ATTR_RDONLY, false)
        .map_err(|e| Failure::new(Step::Pivot, e))
}
