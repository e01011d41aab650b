//! The process that answers the kernel. See the room's own page for the protocol.

mod changes;
mod face;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use zagi_fuse::delta::DeltaError;
use zagi_fuse::driver::{Driver, Start};
use zagi_fuse::mount::{self, How, MountError, MountOptions};
use zagi_fuse::overlay::{self, Overlay, OverlayError};

use super::supervisor::{Message, receive, send};
use super::{Ask, Change, MountStatus, Request, Response, Status};
use crate::context::Context;
use crate::store::Store;
use crate::workspace::description::{Description, Presentation};
use crate::workspace::index_layer::{Origin, Owner};
use crate::workspace::nfs::Export;
use crate::workspace::{fsmonitor, layers, mounts};
use changes::say;
use face::Face;

/// A daemon that holds nothing for this long ends; the next command starts another.
const IDLE: Duration = Duration::from_secs(60);

/// How long a delta may stay in use after it was unmounted.
const LETTING_GO: Duration = Duration::from_secs(2);

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

struct Mount {
    path: PathBuf,
    overlay: Arc<Overlay>,
    /// What git's first index follows from.
    origin: Origin,
    /// Its device number and the inode of its root, as [`Ask::Git`] has them.
    root: String,
    /// Dropped with the mount.
    face: Face,
}

struct Worker {
    ctx: Context,
    driver: Box<dyn Driver>,
    /// The program as it was when this process began.
    program: Option<(u64, u64)>,
    supervisor: UnixStream,
    supervisor_pid: u32,
    starts: u32,
    store: Mutex<Option<Store>>,
    mounts: Mutex<HashMap<String, Mount>>,
    /// What was unmounted and may still be in use (after `--force`, by those who are in
    /// it): a delta has one overlay, so a mount that follows takes this one up again.
    detached: Mutex<HashMap<String, Weak<Overlay>>>,
}

/// Runs until told to stop, or idle. `stdin` is the socket pair to the supervisor.
pub fn run(ctx: &Context, stdin: &impl AsFd) -> io::Result<()> {
    let supervisor = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    let Some((Message::Begin { starts, supervisor: supervisor_pid, held }, fds)) =
        receive(&supervisor)?
    else {
        return Err(io::Error::other("started by something that is not a supervisor"));
    };
    let mut devices = HashMap::new();
    for _ in 0..held {
        if let Some((Message::Held(id), fds)) = receive(&supervisor)? {
            devices.extend(fds.into_iter().next().map(|device| (id, device)));
        }
    }
    let Some(listener) = fds.into_iter().next().map(UnixListener::from) else {
        return Err(io::Error::other("the supervisor sent no socket"));
    };
    // Pages that the kernel wants written back need this process: be among the last that
    // a lack of memory ends. Only root may; for others it stays as it is.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
    // And memory for it must not be waited for by writing them back. Only root may, too.
    let _ = zagi_fuse::sys::set_io_flusher();
    // A mount takes a handful of descriptors, and there may be a thousand.
    let _ = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    let worker = Arc::new(Worker {
        ctx: ctx.clone(),
        driver: driver()?,
        program: identity(&ctx.program),
        supervisor,
        supervisor_pid,
        starts,
        store: Mutex::default(),
        mounts: Mutex::default(),
        detached: Mutex::default(),
    });
    worker.recover(devices);
    send(&worker.supervisor, &Message::Ready, &[])?;
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let idle = PollTimeout::try_from(IDLE).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, idle) {
            Ok(0) if worker.mounts().is_empty() => return worker.end(),
            Ok(0) => {
                worker.rest();
                continue;
            }
            Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        let (stream, _) = listener.accept()?;
        let worker = worker.clone();
        std::thread::Builder::new()
            .name("request".into())
            .spawn(move || worker.converse(stream))?;
    }
}

impl Worker {
    fn mounts(&self) -> MutexGuard<'_, HashMap<String, Mount>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn detached(&self) -> MutexGuard<'_, HashMap<String, Weak<Overlay>>> {
        self.detached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> io::Result<()> {
        send(&self.supervisor, &Message::End, &[])
    }

    /// Takes over what a predecessor that died had mounted, by the descriptors that it held; or
    /// mounts it again.
    fn recover(&self, mut devices: HashMap<String, OwnedFd>) {
        let all = Description::all(&self.ctx.home).unwrap_or_default();
        for description in all.into_iter().filter(|d| d.is_mounted(&self.ctx.home)) {
            if let Some(device) = devices.remove(&description.id) {
                match self.take_over(&description, device) {
                    Ok(()) => continue,
                    Err(e) => complain(&format!("{}: {e}", description.path.display())),
                }
            }
            if mounts::is_ours(&description.path).unwrap_or(false) {
                let _ = mount::unmount(&description.path, How::Lazy, self.fusermount3().as_deref());
            }
            if let Response::Failed { message } = self.mount(&description.id) {
                complain(&format!("{}: {message}", description.path.display()));
                // Else every later command would wait for what cannot be, and so would those
                // who are in the old mount, as long as its descriptor is held.
                let _ = description.set_mounted(&self.ctx.home, false);
                let _ = send(&self.supervisor, &Message::Dropped(description.id.clone()), &[]);
            }
        }
    }

    fn take_over(
        &self,
        description: &Description,
        device: OwnedFd,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let overlay = self.overlay(description, Overlay::take_over)?;
        let face = match description.presented {
            Presentation::Nfs => face::take_over(&self.ctx, description, device, overlay.clone())?,
            _ => {
                let serving = self.driver.serve(device, overlay.clone(), Start::TakenOver)?;
                Face::Fuse { _serving: serving }
            }
        };
        let mount = self.hold(description, overlay, face);
        self.mounts().insert(description.id.clone(), mount);
        Ok(())
    }

    /// What is served of the workspace, and what git asks by. Without either git looks by itself.
    fn hold(&self, description: &Description, overlay: Arc<Overlay>, face: Face) -> Mount {
        if let Err(e) = fsmonitor::link(&self.ctx, &description.id) {
            complain(&format!("{}: git is not told of changes: {e}", description.id));
        }
        let path = description.path.clone();
        let root = mounts::root(&path).ok().flatten().unwrap_or_default();
        let origin = Origin::of(description, Owner::me());
        Mount { path, overlay, origin, root, face }
    }

    /// Nobody has asked anything for a while.
    fn rest(&self) {
        self.mounts().values().for_each(|mount| mount.overlay.rest());
        if let Some(store) = &*self.store.lock().unwrap_or_else(PoisonError::into_inner) {
            store.rest();
        }
    }

    fn fusermount3(&self) -> Option<PathBuf> {
        mount::find_fusermount3(self.ctx.var("PATH"))
    }

    fn converse(&self, stream: UnixStream) {
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line).is_err() || line.is_empty() {
            return;
        }
        let mut stop = false;
        let answer = match serde_json::from_str::<Request>(&line) {
            // The command asks again, and meets the program that is there now.
            Ok(request) if request.program != VERSION && self.was_replaced() => {
                std::process::exit(0)
            }
            Ok(request) if request.program != VERSION => Response::Failed {
                message: format!(
                    "the daemon is of version {}, the command of {}; end it with `zagi daemon stop`",
                    VERSION, request.program
                ),
            },
            Ok(Request { ask: Ask::Git { id, token, root }, .. }) => {
                return changes::git(&stream, self.asked(&id, &root), &token);
            }
            Ok(Request { ask: Ask::Events { id }, .. }) => {
                return changes::follow(&stream, &|| self.followed(&id));
            }
            Ok(request) => {
                let answer = self.answer(&request.ask);
                stop = matches!((&request.ask, &answer), (Ask::Stop { .. }, Response::Done));
                answer
            }
            Err(e) => Response::Failed { message: format!("not a request: {e}") },
        };
        let _ = say(&stream, &answer);
        if stop {
            let _ = self.end();
            std::process::exit(0);
        }
    }

    /// Whether another program is on the disk than the one that runs.
    fn was_replaced(&self) -> bool {
        let now = identity(&self.ctx.program);
        now.is_some() && now != self.program
    }

    fn answer(&self, ask: &Ask) -> Response {
        match ask {
            Ask::Mount { id } => self.mount(id),
            Ask::Unmount { id, force } => self.unmount(id, *force),
            Ask::Changes { id } => self.changes(id),
            Ask::Status => Response::Status(self.status()),
            Ask::Git { .. } | Ask::Events { .. } => {
                Response::Failed { message: "answered with more than one line".into() }
            }
            Ask::Stop { force } => {
                let ids: Vec<String> = self.mounts().keys().cloned().collect();
                let answers = ids.iter().map(|id| self.unmount(id, *force));
                answers.into_iter().find(|a| !matches!(a, Response::Done)).unwrap_or(Response::Done)
            }
        }
    }

    fn mount(&self, id: &str) -> Response {
        self.try_mount(id).map_or_else(failed, |()| Response::Done)
    }

    fn try_mount(&self, id: &str) -> Result<(), Box<dyn std::error::Error>> {
        // Held throughout: two requests for one workspace make one mount.
        let mut mounts = self.mounts();
        if let Some(mount) = mounts.get(id) {
            if matches!(mount.face, Face::Nfs { .. }) || mounts::is_ours(&mount.path)? {
                return Ok(());
            }
            mounts.remove(id); // taken away behind our back, with umount(8)
        }
        let description = Description::read(&self.ctx.home, id)?;
        let (overlay, face) = match description.presented {
            Presentation::Nfs => self.present_by_nfs(&description)?,
            _ => self.present_by_fuse(&description)?,
        };
        description.set_mounted(&self.ctx.home, true)?;
        mounts.insert(id.to_owned(), self.hold(&description, overlay, face));
        Ok(())
    }

    fn present_by_nfs(
        &self,
        description: &Description,
    ) -> Result<(Arc<Overlay>, Face), Box<dyn std::error::Error>> {
        // First whose turn it is, then where: clients of one that died know numbers that this
        // process has not given out.
        let again = description.is_mounted(&self.ctx.home);
        let open = if again { Overlay::take_over } else { Overlay::open };
        let overlay = self.overlay(description, open)?;
        let (listener, export) = face::listen(&self.ctx, description)?;
        send(&self.supervisor, &Message::Held(description.id.clone()), &[listener.as_fd()])?;
        let face = face::serve(listener, overlay.clone(), export)?;
        Ok((overlay, face))
    }

    fn present_by_fuse(
        &self,
        description: &Description,
    ) -> Result<(Arc<Overlay>, Face), Box<dyn std::error::Error>> {
        let overlay = self.overlay(description, Overlay::open)?;
        let options = MountOptions {
            fs_name: description.name.clone(),
            allow_other: description.allow_other,
            fusermount3: self.fusermount3(),
        };
        let fd = mount::mount(&description.path, &options)?;
        send(&self.supervisor, &Message::Held(description.id.clone()), &[fd.as_fd()])?;
        let serving = self.driver.serve(fd, overlay.clone(), Start::Mounted)?;
        Ok((overlay, Face::Fuse { _serving: serving }))
    }

    fn overlay(
        &self,
        description: &Description,
        open: fn(overlay::Options) -> Result<Overlay, OverlayError>,
    ) -> Result<Arc<Overlay>, Box<dyn std::error::Error>> {
        let detached = self.detached().remove(&description.id);
        if let Some(overlay) = detached.and_then(|weak| weak.upgrade()) {
            return Ok(overlay);
        }
        let store = self.store()?;
        let begun = Instant::now();
        loop {
            let opened = open(overlay::Options {
                layers: layers::of(&self.ctx, &store, description)?,
                delta: description.delta(&self.ctx.home),
                uid: nix::unistd::geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
            });
            match opened {
                // The one before is just being let go, by its last user or by a worker that
                // was killed.
                Err(OverlayError::Delta(DeltaError::Locked { .. }))
                    if begun.elapsed() < LETTING_GO =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => {
                    let (overlay, dir) = (other?, description.path.clone());
                    overlay.complain_to(move |path, error| {
                        complain(&format!("{}: {}", dir.join(path).display(), in_full(error)));
                    });
                    return Ok(Arc::new(overlay));
                }
            }
        }
    }

    fn unmount(&self, id: &str, force: bool) -> Response {
        let mut mounts = self.mounts();
        let Some(mount) = mounts.get(id) else { return Response::Done };
        let _ = mount.overlay.sync();
        let how = if force { How::Lazy } else { How::Normal };
        let mounted = match mount.face {
            Face::Fuse { .. } => mounts::is_ours(&mount.path),
            Face::Nfs { .. } => mounts::is_nfs(&mount.path),
        };
        let gone = match (mounted, &mount.face) {
            (Ok(false), _) => Ok(()),
            (_, Face::Nfs { .. }) if !nix::unistd::geteuid().is_root() => {
                let dir = mount.path.display();
                return failed(format!("the kernel has it mounted: `sudo umount {dir}` first"));
            }
            _ => mount::unmount(&mount.path, how, self.fusermount3().as_deref()),
        };
        match gone {
            Ok(()) => {}
            Err(MountError::Busy { dir: path }) => return Response::Busy { path },
            Err(e) => return failed(e),
        }
        if let Err(e) = Export::remove(&self.ctx.home, id) {
            return failed(e);
        }
        if let Some(mount) = mounts.remove(id) {
            self.detached().insert(id.to_owned(), Arc::downgrade(&mount.overlay));
        }
        drop(mounts);
        let _ = send(&self.supervisor, &Message::Dropped(id.to_owned()), &[]);
        let unmarked = Description::read(&self.ctx.home, id)
            .and_then(|description| description.set_mounted(&self.ctx.home, false));
        unmarked.map_or_else(failed, |()| Response::Done)
    }

    fn changes(&self, id: &str) -> Response {
        let overlay = self.mounts().get(id).map(|mount| mount.overlay.clone());
        match overlay {
            Some(overlay) => {
                Response::Changes(overlay.changes().into_iter().map(Change::from).collect())
            }
            None => Response::Failed { message: "the workspace is not mounted".into() },
        }
    }

    /// The mount of `id`, if `root` is its root.
    fn asked(&self, id: &str, root: &str) -> Option<(Arc<Overlay>, Origin)> {
        let mounts = self.mounts();
        let mount = mounts.get(id).filter(|mount| mount.root == root)?;
        Some((Arc::clone(&mount.overlay), mount.origin))
    }

    fn followed(&self, id: &str) -> Option<Arc<Overlay>> {
        self.mounts().get(id).map(|mount| Arc::clone(&mount.overlay))
    }

    fn status(&self) -> Status {
        let mut mounts: Vec<MountStatus> = self
            .mounts()
            .iter()
            .map(|(id, mount)| MountStatus { id: id.clone(), path: mount.path.clone() })
            .collect();
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        Status {
            supervisor_pid: self.supervisor_pid,
            worker_pid: std::process::id(),
            starts: self.starts,
            memory: resident(),
            mounts,
        }
    }

    /// The store is opened with the first mount that wants it.
    fn store(&self) -> Result<Store, Box<dyn std::error::Error>> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if store.is_none() {
            *store = Some(Store::open(&self.ctx.home.store())?);
        }
        Ok(store.clone().expect("it was opened above"))
    }
}

/// What speaks to this kernel.
fn driver() -> io::Result<Box<dyn Driver>> {
    #[cfg(target_os = "linux")]
    let driver = zagi_fuse::linux::LinuxDriver::new()?;
    // Not tried: no such machine was at hand.
    #[cfg(not(target_os = "linux"))]
    let driver = zagi_fuse::fuser_driver::FuserDriver { threads: 2 };
    Ok(Box::new(driver))
}

/// Tells a file from the one that takes its place.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// To the log: standard error is that file.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

fn failed(e: impl Into<Box<dyn std::error::Error>>) -> Response {
    Response::Failed { message: in_full(&*e.into()) }
}

/// What `e` says, and all that led to it.
fn in_full(e: &dyn std::error::Error) -> String {
    let mut message = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        // thiserror's own messages often name their source already
        if !message.contains(&c.to_string()) {
            message = format!("{message}: {c}");
        }
        cause = c.source();
    }
    message
}

/// Resident memory of this process in bytes: the second field of proc_pid_statm(5), in
/// pages.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|s| s.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    pages * size.unwrap_or(4096) as u64
}
