//! The process that keeps every `/dev/fuse` descriptor (of what is presented through NFS: every
//! listening socket), and a worker alive.
//!
//! Between the two runs a socket pair, the worker's standard input. The supervisor sends a
//! `begin` on it with the listening socket, and a `held` with its descriptor for each mount that
//! the worker is to take over; the worker sends `ready`, then `held` with a descriptor, `dropped`,
//! and `end` before it goes of its own will.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use zagi_fuse::sys::{recv_fds, send_fds};

use super::socket;
use crate::context::Context;

/// What goes over the socket pair.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// To the worker, with the listening socket.
    Begin {
        /// How many workers there have been, this one counted.
        starts: u32,
        /// The supervisor.
        supervisor: u32,
        /// How many [`Message::Held`] follow.
        held: usize,
    },
    /// With a `/dev/fuse` descriptor or a listening socket: from the worker one of a new mount, to the worker one of
    /// a mount that its predecessor held.
    Held(String),
    /// From the worker: it has taken over what there was, and serves.
    Ready,
    /// From the worker: the mount is gone.
    Dropped(String),
    /// From the worker: it ends because it was told to, or has nothing left to do.
    End,
}

/// So many workers in a row that die before they serve, and the supervisor gives up.
const PATIENCE: u32 = 5;

/// Before another worker is started: should each die at once, they do not take a whole processor.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs until the worker says it is done. To be called in a process of its own.
pub fn run(ctx: &Context) -> io::Result<()> {
    let (_, path) = socket(ctx);
    let lock = File::create(path.with_extension("lock"))?;
    let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        return Ok(()); // there is one already
    };
    // Out of the caller's session: neither Ctrl-C nor closing the terminal is for us.
    let _ = nix::unistd::setsid();
    let _ = std::fs::remove_file(&path); // a dead daemon's; we hold the lock
    let listener = UnixListener::bind(&path)?;
    let outcome = keep_worker(ctx, &listener);
    let _ = std::fs::remove_file(&path);
    outcome
}

fn keep_worker(ctx: &Context, listener: &UnixListener) -> io::Result<()> {
    let mut held: HashMap<String, OwnedFd> = HashMap::new();
    let mut young_deaths = 0;
    for starts in 1.. {
        match serve(ctx, listener, starts, &mut held)? {
            Death::Wanted => return Ok(()),
            Death::Serving => young_deaths = 0,
            Death::Young => young_deaths += 1,
        }
        if young_deaths == PATIENCE {
            return Err(io::Error::other("the worker dies as soon as it is started"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// How a worker ended.
#[derive(Clone, Copy)]
enum Death {
    /// Of its own will.
    Wanted,
    /// While it served.
    Serving,
    /// Before it could.
    Young,
}

/// One worker's life.
fn serve(
    ctx: &Context,
    listener: &UnixListener,
    starts: u32,
    held: &mut HashMap<String, OwnedFd>,
) -> io::Result<Death> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut worker = Command::new(&ctx.program)
        .arg("__work")
        .arg(ctx.home.root())
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    let begin = Message::Begin { starts, supervisor: std::process::id(), held: held.len() };
    let mut told = send(&ours, &begin, &[listener.as_fd()]);
    for (id, device) in held.iter() {
        told = told.and_then(|()| send(&ours, &Message::Held(id.clone()), &[device.as_fd()]));
    }
    if told.is_err() {
        // It died before it had heard everything.
        worker.wait()?;
        return Ok(Death::Young);
    }
    let mut death = Death::Young;
    // A broken pair is a dead worker.
    while let Ok(Some((message, fds))) = receive(&ours) {
        match message {
            Message::Held(id) => {
                // Whatever was held for this id belongs to a mount that is replaced.
                if let Some(fd) = fds.into_iter().next() {
                    held.insert(id, fd);
                }
            }
            Message::Dropped(id) => {
                held.remove(&id);
            }
            Message::Ready => death = Death::Serving,
            Message::End => death = Death::Wanted,
            Message::Begin { .. } => {}
        }
    }
    worker.wait()?;
    Ok(death)
}

/// Sends one message; each is well under the size that a stream socket takes at once.
pub(super) fn send(
    stream: &UnixStream,
    message: &Message,
    fds: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    match send_fds(stream.as_fd(), &line, fds)? {
        n if n == line.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The next message and what came with it; `None` at the end of the stream.
pub(super) fn receive(stream: &UnixStream) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut line = Vec::new();
    let mut fds = Vec::new();
    loop {
        // Byte by byte: a stream joins messages, and a descriptor belongs to the message
        // it was sent with. These are a few dozen bytes, a few times a mount.
        let mut byte = [0];
        let (n, mut came) = match recv_fds(stream.as_fd(), &mut byte) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        fds.append(&mut came);
        match (n, byte[0]) {
            (0, _) => return Ok(None),
            (_, b'\n') => return Ok(Some((serde_json::from_slice(&line)?, fds))),
            (_, b) => line.push(b),
        }
    }
}
