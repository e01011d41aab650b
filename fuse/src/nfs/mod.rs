//! Presents an overlay through NFS, version 3 (RFC 1813), to clients on this machine.
//!
//! For hosts without FUSE, and for macOS (where nobody has tried it). The kernel's client, or any
//! other, connects to a port on 127.0.0.1 and mounts a path; `nfsserve` answers.
//!
//! | room | what |
//! |---|---|
//! | `front` | connections; who answers a call |
//! | `call` | the head of a call |
//! | `answers` | the calls that the crate has no answer to, or a wrong one |
//! | `tree` | the overlay as the crate wants it |
//! | `convert` | attributes and errors |
//! | `secret` | tokens and handles |
//!
//! # Who gets in
//!
//! Whoever connects is of this machine, and on Linux a process of the owner or of root: the
//! kernel says so. (The kernel's own client counts as root.) The path to be mounted is a
//! [token](Secret::token) that nobody guesses, and so is every handle. On Linux the path stands in
//! `/proc/mounts`, where everybody may read it; the first of the three is what counts there. On
//! other systems it is missing, and who may list the mounts may also mount.
//!
//! Each call must say that it comes from the owner or from root (AUTH_SYS). A kernel says that
//! truly, so other users of a kernel's mount are refused, as in a FUSE mount that was not made
//! with `allow_other`. What the mode says then counts as far as the client asks (ACCESS); access
//! control lists do not. Everything that is made belongs to the owner.
//!
//! # What is promised
//!
//! A write is answered as stable (FILE_SYNC), and is: its content and the metadata of its file are
//! on the disk, as after fsync(2). So no client need send COMMIT; one that does is answered. A
//! rename is on the disk when it is answered, with all changes of names before it. Other changes
//! of names and attributes survive the end of this process, and a loss of power as on a local
//! disk: in order, the last of them perhaps not.
//!
//! A handle is a number and the proof that we gave it out. It stays valid for as long as the file
//! has a name: also when another process serves the same overlay, that was opened with
//! [`Overlay::take_over`] (which keeps what is removed until the end, since somebody may have it
//! open). What was looked up is remembered to the end, about 200 bytes a file.
//!
//! # What cannot be done
//!
//! Because of the protocol: extended attributes and access control lists; files without a name;
//! renames that exchange, or that must not replace; telling a client that something has changed;
//! times before 1970 and after 2106. Locks have a protocol of their own, which nobody speaks here:
//! mount with `nolock` (macOS: `locallocks`), and locks hold among the programs of one mount.
//!
//! Because of the crate:
//! - MKNOD is refused (PROC_UNAVAIL): pipes, sockets and devices cannot be made.
//! - REMOVE and RMDIR are not told apart: either removes a file and an empty directory.
//! - An exclusive CREATE does not keep the client's verifier: repeated after its answer was lost,
//!   it says that the file exists.
//! - SETATTR with a guard that does not hold is done nevertheless, and answered twice in one
//!   record. (Linux sends no guards.)
//! - A call repeated on the same connection is dropped for a minute, not answered again.
//! - Lengths in calls are believed: whoever was let in can make it allocate 4 GiB.
//! - Whoever connects is told that it exports `/`, which cannot be mounted.

mod answers;
mod call;
mod convert;
mod front;
mod secret;
mod tree;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::overlay::{Caller, Overlay};
pub use secret::Secret;
use tree::Tree;

/// Threads that wait for disks.
const THREADS: usize = 4;

/// An overlay that is being served. Dropping this ends it: connections are closed, and the
/// overlay is let go.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Listens on 127.0.0.1: at `port`, or at any if that is 0.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

impl Server {
    /// Serves `overlay`, which is `owner`'s, to whoever comes through `listener` and knows
    /// `secret`. Another process may hold the listener too: clients then wait between this one's
    /// end and the next.
    pub fn start(
        listener: TcpListener,
        overlay: Arc<Overlay>,
        owner: Caller,
        secret: Secret,
    ) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .max_blocking_threads(THREADS)
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("nfs".into()).spawn(move || {
            runtime.spawn(front::accept(listener, Tree::new(overlay, secret, owner)));
            // Ends also when the other end is dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // With the thread its runtime ends, and waits for what is at the disks.
            let _ = thread.join();
        }
    }
}
