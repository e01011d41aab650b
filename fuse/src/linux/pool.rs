//! The threads that answer, one pool over all mounts.
//!
//! To wake a thread that sleeps takes longer than most requests take to be answered, and whoever
//! has asked often asks again at once. So a thread that took a request stays with its mount for
//! a turn: it answers and looks for the next request a little longer ([`Pace`]), letting others run
//! meanwhile, and only then lets any thread wait for this mount again. What may take long is shared
//! before it is begun; what turns out to, by the one who looks after the threads, within
//! milliseconds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::abi::{Header, Input, MAX_WRITE, Output, notify, opcode};
use super::desk::Desk;
use super::dispatch::Request;
use super::pace::Pace;
use crate::driver::{Serving, Start};
use crate::overlay::Overlay;

/// The most threads.
const MAX_THREADS: usize = 64;
/// A request and its header fit, as the kernel demands.
const BUFFER: usize = MAX_WRITE as usize + 4096;
/// How long a thread waits before it asks itself whether it is still needed, in milliseconds.
const IDLE: u16 = 5000;
/// How often somebody looks whether a request takes too long.
const LOOK: Duration = Duration::from_millis(500);
/// And how often while there is work, for so many times after the last.
const TICK: Duration = Duration::from_millis(2);
const TICKS: u32 = 50;
/// After so many times without work (ten seconds) memory that is free is given back.
const QUIET: u32 = 20;

/// Who waits until a request can be read: one thread at a time for each mount.
const WATCHED: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLONESHOT);

/// One mount. When its last user lets go of it, its end is told.
struct Channel {
    device: File,
    /// There until the end.
    overlay: Option<Arc<Overlay>>,
    pace: Pace,
    end: Arc<End>,
}

impl Channel {
    fn overlay(&self) -> &Overlay {
        self.overlay.as_deref().expect("only dropping takes it")
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        drop(self.overlay.take());
        *self.end.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.changed.notify_all();
    }
}

/// A mount's end, for those who wait for it.
#[derive(Default)]
struct End {
    ended: Mutex<bool>,
    changed: Condvar,
}

/// All mounts and threads.
pub(super) struct Pool {
    epoll: Epoll,
    channels: RwLock<HashMap<u64, Arc<Channel>>>,
    next: AtomicU64,
    /// Threads that wait for a request.
    waiting: AtomicUsize,
    /// Where the threads work. Held while it is decided whether one begins or ends.
    desks: Mutex<Vec<Arc<Desk>>>,
    /// Who looks for requests that take too long, if there is somebody.
    looker: Mutex<Option<Thread>>,
    /// Whether that thread sleeps for long.
    dozes: AtomicBool,
    /// Whether there was work since it last looked.
    stirred: AtomicBool,
    deadline: Duration,
    epoch: Instant,
}

/// A mount that is served.
pub(super) struct Served(Arc<End>);

impl Serving for Served {
    fn is_finished(&self) -> bool {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(self: Box<Self>) -> io::Result<()> {
        let mut ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            ended = self.0.changed.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Pool {
    /// A pool without mounts and threads; requests may take `deadline`.
    pub fn new(deadline: Duration) -> io::Result<Pool> {
        Ok(Pool {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            channels: RwLock::default(),
            next: AtomicU64::new(1),
            waiting: AtomicUsize::new(0),
            desks: Mutex::default(),
            looker: Mutex::default(),
            dozes: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
            deadline,
            epoch: Instant::now(),
        })
    }

    fn desks(&self) -> MutexGuard<'_, Vec<Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self, mount: u64) -> Option<Arc<Channel>> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.get(&mount).cloned()
    }

    /// Serves one more mount. One whose daemon was killed is asked to send again what was not
    /// answered; what it had not yet sent waits in the device.
    pub fn serve(
        self: &Arc<Self>,
        device: OwnedFd,
        overlay: Arc<Overlay>,
        start: Start,
    ) -> io::Result<Served> {
        let flags = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL)?);
        fcntl(&device, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let mount = self.next.fetch_add(1, Ordering::Relaxed);
        let end = Arc::new(End::default());
        let served = Served(Arc::clone(&end));
        let (device, overlay, pace) = (device.into(), Some(overlay), Pace::new(self.epoch));
        let channel = Arc::new(Channel { device, overlay, pace, end });
        let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        channels.insert(mount, Arc::clone(&channel));
        drop(channels);
        let ready = self.hire(true).and_then(|()| {
            if start == Start::TakenOver {
                let mut notice = Output::default();
                notice.begin();
                (&channel.device).write_all(notice.finish(0, notify::RESEND))?;
            }
            let event = EpollEvent::new(WATCHED, mount);
            self.epoll.add(&channel.device, event).map_err(io::Error::from)
        });
        if let Err(error) = ready {
            self.remove(mount);
            return Err(error);
        }
        Ok(served)
    }

    /// Adds a thread where there are none, or (unless it is the `first`) where none waits.
    fn hire(self: &Arc<Self>, first: bool) -> io::Result<()> {
        let mut desks = self.desks();
        let enough = if first { !desks.is_empty() } else { desks.len() >= MAX_THREADS };
        if enough {
            return Ok(());
        }
        let mut looker = self.looker.lock().unwrap_or_else(PoisonError::into_inner);
        if looker.is_none() {
            let pool = Arc::clone(self);
            let thread = std::thread::Builder::new().name("fuse-look".into());
            *looker = Some(thread.spawn(move || pool.look())?.thread().clone());
        }
        drop(looker);
        let (give, take) = std::sync::mpsc::channel();
        let pool = Arc::clone(self);
        std::thread::Builder::new().name("fuse".into()).spawn(move || {
            let desk = Arc::new(Desk::new(pool.epoch));
            // Whoever hired this thread waits for its desk.
            let _ = give.send(Arc::clone(&desk));
            drop(give);
            pool.work(&desk);
        })?;
        desks.extend(take.recv());
        Ok(())
    }

    /// One thread's life.
    fn work(self: &Arc<Self>, desk: &Arc<Desk>) {
        let mut buffer = vec![0; BUFFER];
        let mut out = Output::default();
        let mut events = [EpollEvent::empty()];
        loop {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            let got = self.epoll.wait(&mut events, EpollTimeout::from(IDLE));
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            match got {
                Ok(0) if self.leaves(desk) => return,
                Ok(1) => {}
                _ => continue,
            }
            let mount = events[0].data();
            if let Some(channel) = self.channel(mount) {
                self.stir();
                desk.hold();
                self.turn(mount, &channel, desk, &mut buffer, &mut out);
                self.share(mount, &channel, desk);
            }
        }
    }

    /// Answers what is asked of one mount, until nobody asks, or another may take over.
    fn turn(
        self: &Arc<Self>,
        mount: u64,
        channel: &Channel,
        desk: &Desk,
        buffer: &mut [u8],
        out: &mut Output,
    ) {
        let pace = &channel.pace;
        pace.begin();
        let mut last = Instant::now();
        let mut crowded = false;
        loop {
            match (&channel.device).read(buffer) {
                Ok(length) => {
                    let Ok((header, input)) = Input::new(&buffer[..length]) else { continue };
                    // Without another thread the other mounts would wait for this one; where
                    // none can be had, they do, for one request.
                    let alone = self.waiting.load(Ordering::Acquire) == 0;
                    if alone {
                        let _ = self.hire(false);
                    }
                    if alone || pace.shares(&header, crowded) {
                        self.share(mount, channel, desk);
                    }
                    self.serve_one(mount, channel, desk, (header, input), out);
                    if !desk.holds() {
                        return;
                    }
                    (last, crowded) = (Instant::now(), true);
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // Another thread was faster, or whoever asked has gone.
                    Some(Errno::EAGAIN) if last.elapsed() < pace.patience() => {
                        crowded = false;
                        std::thread::yield_now();
                    }
                    Some(Errno::EAGAIN | Errno::EINTR | Errno::ENOENT) => return pace.end(),
                    // Unmounted, or cut off.
                    _ => return self.remove(mount),
                },
            }
        }
    }

    /// There is work.
    fn stir(&self) {
        if !self.stirred.swap(true, Ordering::SeqCst) && self.dozes.swap(false, Ordering::SeqCst) {
            let looker = self.looker.lock().unwrap_or_else(PoisonError::into_inner);
            looker.iter().for_each(Thread::unpark);
        }
    }

    /// Lets any thread wait for the next request of the mount that `desk` holds, unless that is so
    /// already.
    fn share(&self, mount: u64, channel: &Channel, desk: &Desk) {
        if desk.let_go() {
            self.watch(mount, channel);
        }
    }

    /// Lets a thread wait for the next request of a mount.
    fn watch(&self, mount: u64, channel: &Channel) {
        // It fails only for one that was removed meanwhile.
        let _ = self.epoll.modify(&channel.device, &mut EpollEvent::new(WATCHED, mount));
    }

    /// Whether a thread that waited in vain may end: the last one stays while there are mounts.
    fn leaves(&self, desk: &Arc<Desk>) -> bool {
        let mut desks = self.desks();
        let idle = self.channels.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        let leaves = idle || (desks.len() > 2 && self.waiting.load(Ordering::Acquire) > 1);
        if leaves {
            desks.retain(|other| !Arc::ptr_eq(other, desk));
        }
        leaves
    }

    fn remove(&self, mount: u64) {
        let mut channels = self.channels.write().unwrap_or_else(PoisonError::into_inner);
        let removed = channels.remove(&mount);
        drop(channels);
        if let Some(channel) = removed {
            // The descriptor may live on in another process, and would be watched for ever.
            let _ = self.epoll.delete(channel.device.as_fd());
        }
    }

    fn serve_one(
        &self,
        mount: u64,
        channel: &Channel,
        desk: &Desk,
        (header, mut input): (Header, Input<'_>),
        out: &mut Output,
    ) {
        out.begin();
        match header.opcode {
            opcode::FORGET => {
                // It has no answer, also where it is wrong.
                let _ = input.u64().map(|count| channel.overlay().forget(header.ino, count));
                return;
            }
            opcode::BATCH_FORGET => {
                let _ = forget_all(channel.overlay(), &mut input);
                return;
            }
            opcode::INTERRUPT => {
                let unique = input.u64().unwrap_or(0);
                if !self.desks().iter().any(|desk| desk.interrupt(mount, unique)) {
                    // Not begun: the kernel asks again, unless it was answered meanwhile.
                    write(channel, out.finish(header.unique, -(Errno::EAGAIN as i32)));
                }
                return;
            }
            _ => {}
        }
        desk.begin(mount, &header);
        let overlay = channel.overlay();
        let mut request = Request { overlay, device: &channel.device, header, input, out };
        // A fault of ours costs whoever asked one error, and nobody a mount. The overlay's locks
        // outlive a panic.
        let answer = catch_unwind(AssertUnwindSafe(|| request.answer())).unwrap_or(Err(Errno::EIO));
        let error = answer.map_or_else(|errno| -(errno as i32), |()| 0);
        if desk.end() {
            write(channel, out.finish(header.unique, error));
        }
    }

    /// Looks after the threads, until there is none: answers for those that take too long, and
    /// lets others take over the mounts of those that take longer than was thought.
    fn look(self: &Arc<Self>) {
        let mut out = Output::default();
        let mut ticks = 0;
        let mut quiet = 0;
        loop {
            quiet = if self.nap(&mut ticks) { quiet + 1 } else { 0 };
            if quiet == QUIET {
                crate::sys::give_back_memory();
            }
            let now = self.desks();
            if now.is_empty() {
                crate::sys::give_back_memory();
                *self.looker.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return;
            }
            let desks = now.clone();
            // Whoever hires needs them.
            drop(now);
            for desk in &desks {
                if let Some(mount) = desk.held_longer_than(TICK)
                    && let Some(channel) = self.channel(mount)
                {
                    self.share(mount, &channel, desk);
                    if self.waiting.load(Ordering::Acquire) == 0 {
                        let _ = self.hire(false);
                    }
                }
                if let Some((mount, unique)) = desk.overdue(self.deadline)
                    && let Some(channel) = self.channel(mount)
                {
                    out.begin();
                    write(&channel, out.finish(unique, -(Errno::ETIMEDOUT as i32)));
                }
            }
        }
    }

    /// Sleeps until it is time to look. Whether that was for long.
    fn nap(&self, ticks: &mut u32) -> bool {
        *ticks = if self.stirred.swap(false, Ordering::SeqCst) { TICKS } else { *ticks };
        if let Some(fewer) = ticks.checked_sub(1) {
            *ticks = fewer;
            std::thread::sleep(TICK);
            return false;
        }
        self.dozes.store(true, Ordering::SeqCst);
        // Whoever stirs sees that this thread dozes, or is seen.
        if !self.stirred.load(Ordering::SeqCst) {
            std::thread::park_timeout(LOOK.min(self.deadline));
        }
        self.dozes.store(false, Ordering::SeqCst);
        true
    }
}

fn forget_all(overlay: &Overlay, input: &mut Input<'_>) -> Result<(), Errno> {
    let count = input.u32()?;
    input.skip(4)?;
    for _ in 0..count {
        let (ino, lookups) = (input.u64()?, input.u64()?);
        overlay.forget(ino, lookups);
    }
    Ok(())
}

/// Gives the kernel an answer. One that nobody waits for any more is refused (ENOENT), and one
/// that a mount which is gone would have had.
fn write(channel: &Channel, answer: &[u8]) {
    let _ = (&channel.device).write(answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It lives on while nothing else does: it must not wait for a lock that it has itself.
    #[test]
    fn where_all_are_busy_for_long_the_one_who_looks_hires_another() {
        let pool = Arc::new(Pool::new(Duration::from_secs(60)).expect("a pool"));
        let (device, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let (device, pace) = (File::from(OwnedFd::from(device)), Pace::new(pool.epoch));
        let end = Arc::new(End::default());
        let channel = Arc::new(Channel { device, overlay: None, pace, end });
        pool.channels.write().expect("nobody panicked").insert(1, channel);
        let desk = Arc::new(Desk::new(pool.epoch));
        desk.hold();
        let (unique, opcode) = (8, opcode::READ);
        desk.begin(1, &Header { opcode, unique, ino: 1, uid: 0, gid: 0, pid: 1 });
        pool.desks().push(desk);
        let looker = Arc::clone(&pool);
        std::thread::spawn(move || looker.look());
        let begun = Instant::now();
        while pool.desks.try_lock().map_or(1, |desks| desks.len()) < 2 {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody was hired");
            std::thread::sleep(Duration::from_millis(1));
        }
        pool.channels.write().expect("nobody panicked").clear();
    }
}
