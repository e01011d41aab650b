//! The commands' side of the daemon: connect, start it where it is not, ask.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Ask, Change, DaemonError, PathEvent, Request, Response, Status, log, socket};
use crate::context::Context;
use crate::workspace::{fsmonitor, mounts};

/// How long a daemon that was just started may take until it listens. It remounts what a
/// predecessor held before it does.
const START: Duration = Duration::from_secs(20);

/// Between two attempts to reach a daemon that is starting or ending.
const PAUSE: Duration = Duration::from_millis(2);
/// After so long without one, another is started: the first may have met its predecessor,
/// which was just about to end.
const AGAIN: Duration = Duration::from_millis(200);

/// Asks a running daemon; `None` where none runs.
pub fn ask_running(ctx: &Context, ask: Ask) -> Result<Option<Response>, DaemonError> {
    let (_, path) = socket(ctx);
    let begun = Instant::now();
    loop {
        let Ok(stream) = UnixStream::connect(&path) else { return Ok(None) };
        match converse(stream, &ask) {
            // It ended without an answer: either another takes its place, or none is left.
            Err(DaemonError::Broken(_)) if begun.elapsed() < START => std::thread::sleep(PAUSE),
            other => return other.map(Some),
        }
    }
}

/// Asks the daemon, starting it where none runs.
pub fn ask(ctx: &Context, ask: Ask) -> Result<Response, DaemonError> {
    let (_, path) = socket(ctx);
    let begun = Instant::now();
    let mut started: Option<Instant> = None;
    loop {
        if let Some(answer) = ask_running(ctx, ask.clone())? {
            return Ok(answer);
        }
        if begun.elapsed() > START {
            return Err(DaemonError::Silent { socket: path, log: log(ctx) });
        }
        if started.is_none_or(|at| at.elapsed() > AGAIN) {
            start(ctx)?;
            started = Some(Instant::now());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Mounts the workspace `id`.
pub fn mount(ctx: &Context, id: &str) -> Result<(), DaemonError> {
    done(ask(ctx, Ask::Mount { id: id.to_owned() })?)
}

/// Unmounts the workspace `id`; nothing is to be done where no daemon runs.
pub fn unmount(ctx: &Context, id: &str, force: bool) -> Result<(), DaemonError> {
    done(ask(ctx, Ask::Unmount { id: id.to_owned(), force })?)
}

/// What changed in the mounted workspace `id`.
pub fn changes(ctx: &Context, id: &str) -> Result<Vec<Change>, DaemonError> {
    match ask(ctx, Ask::Changes { id: id.to_owned() })? {
        Response::Changes(changes) => Ok(changes),
        other => Err(unexpected(other)),
    }
}

/// Asks for git, in the root of the work tree and for the workspace whose directory under the
/// home is `workspace`, what changed since `token`. Nothing is started, and of the home nothing
/// but the link to the socket is looked at.
pub fn git(workspace: &Path, token: &str) -> Result<fsmonitor::Answer, DaemonError> {
    // What was written through a mapping of memory, the kernel has not told anybody yet.
    std::fs::File::open(".")
        .and_then(|here| nix::unistd::syncfs(here).map_err(io::Error::from))
        .map_err(DaemonError::Broken)?;
    let id = workspace.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = mounts::root_here().map_err(DaemonError::Broken)?;
    let socket =
        std::fs::read_link(workspace.join(fsmonitor::SOCKET)).map_err(DaemonError::Broken)?;
    let stream = UnixStream::connect(socket).map_err(DaemonError::Broken)?;
    let mut reader = send(stream, &Ask::Git { id, token: token.to_owned(), root })?;
    let (length, directories) = match receive(&mut reader)? {
        Response::Git { length, directories } => (length, directories),
        other => return Err(unexpected(other)),
    };
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(DaemonError::Broken)?;
    Ok(fsmonitor::Answer { text, directories })
}

/// Follows what changes in the mounted workspace `id`, from when `each` is first told, of nothing,
/// until `each` says that it is enough, the reader of `output` has gone, or the mount.
pub fn events(
    ctx: &Context,
    id: &str,
    output: &impl AsFd,
    each: &mut dyn FnMut(&[PathEvent]) -> bool,
) -> Result<(), DaemonError> {
    let (_, path) = socket(ctx);
    let stream = UnixStream::connect(path).map_err(DaemonError::Broken)?;
    let mut reader = send(stream, &Ask::Events { id: id.to_owned() })?;
    loop {
        // What was read ahead is answered first.
        while reader.buffer().is_empty() {
            let mut fds = [
                PollFd::new(reader.get_ref().as_fd(), PollFlags::POLLIN),
                // Errors are told without being asked for.
                PollFd::new(output.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(DaemonError::Broken(errno.into())),
                Ok(_) if fds[0].any() == Some(true) => break,
                Ok(_) => return Ok(()),
            }
        }
        match receive(&mut reader)? {
            Response::Events(events) if each(&events) => {}
            Response::Events(_) | Response::Done => return Ok(()),
            other => return Err(unexpected(other)),
        }
    }
}

/// How the daemon is; `None` where none runs.
pub fn status(ctx: &Context) -> Result<Option<Status>, DaemonError> {
    match ask_running(ctx, Ask::Status)? {
        None => Ok(None),
        Some(Response::Status(status)) => Ok(Some(status)),
        Some(other) => Err(unexpected(other)),
    }
}

/// Ends the daemon; `false` where none ran.
pub fn stop(ctx: &Context, force: bool) -> Result<bool, DaemonError> {
    let (_, path) = socket(ctx);
    match ask_running(ctx, Ask::Stop { force })? {
        None => return Ok(false),
        Some(answer) => done(answer)?,
    }
    // Gone, not only going: the next command is to find none.
    let begun = Instant::now();
    while path.exists() && begun.elapsed() < START {
        std::thread::sleep(PAUSE);
    }
    Ok(true)
}

fn done(answer: Response) -> Result<(), DaemonError> {
    match answer {
        Response::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: Response) -> DaemonError {
    match answer {
        Response::Busy { path } => DaemonError::Busy { path },
        Response::Failed { message } => DaemonError::Failed(message),
        other => DaemonError::Answer(format!("{other:?}")),
    }
}

fn converse(stream: UnixStream, ask: &Ask) -> Result<Response, DaemonError> {
    receive(&mut send(stream, ask)?)
}

fn send(mut stream: UnixStream, ask: &Ask) -> Result<BufReader<UnixStream>, DaemonError> {
    let request = Request { program: env!("CARGO_PKG_VERSION").into(), ask: ask.clone() };
    let mut line = serde_json::to_vec(&request).expect("a request is plain data");
    line.push(b'\n');
    stream.write_all(&line).map_err(DaemonError::Broken)?;
    Ok(BufReader::new(stream))
}

fn receive(reader: &mut BufReader<UnixStream>) -> Result<Response, DaemonError> {
    let mut answer = String::new();
    reader.read_line(&mut answer).map_err(DaemonError::Broken)?;
    if answer.is_empty() {
        return Err(DaemonError::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_str(&answer).map_err(|_| DaemonError::Answer(answer.trim_end().to_owned()))
}

/// Starts a supervisor, detached from this terminal. Two started at once are harmless: the
/// second finds the lock taken and ends.
fn start(ctx: &Context) -> Result<(), DaemonError> {
    let (dir, _) = socket(ctx);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(DaemonError::Start)?;
    let meta = std::fs::symlink_metadata(&dir).map_err(DaemonError::Start)?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
        // Somebody else's directory under /tmp: whoever owns it could answer for us.
        return Err(DaemonError::Start(io::ErrorKind::PermissionDenied.into()));
    }
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log(ctx))
        .map_err(DaemonError::Start)?;
    Command::new(&ctx.program)
        .arg("__supervise")
        .arg(ctx.home.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(DaemonError::Start)?;
    Ok(())
}
