//! The caller's terminal and the program's: carrying bytes, sizes, stops and signals.
//!
//! The program has a terminal of its own, made inside; the caller's is never handed in. What
//! is typed goes in and what is written comes out, through the caller's own process and no
//! other: a process in the terminal's session is stopped by the kernel when it reads from the
//! background, and knows of a changed size, which a process outside the session is not.
//!
//! - Input and output on a terminal: it is made raw, so that each key (Ctrl-C, Ctrl-Z) means what
//!   the program's own terminal says. Only in the foreground; put back at the end, at every stop,
//!   and when this code unwinds. Only SIGKILL leaves it raw, as with every such program.
//! - Only some of the streams on one: its modes stay, and the program's echoes nothing.
//! - A program that stops stops the caller with it, and is continued with it.
//! - Signals that the caller gets are passed on: those of keys and a hangup to the program's
//!   process group, others to the program alone.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, read, tcgetpgrp, write};

use crate::pty;
use crate::sys::{self, Caught};
use crate::wire::{Ordered, Streams};

/// The streams that the program is to have, as a rule the caller's own 0, 1 and 2. Those that
/// are no terminal are handed in as they are.
#[derive(Debug, Clone, Copy)]
pub struct Console<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error.
    pub error: BorrowedFd<'a>,
}

/// What goes by on its way to somebody, and may be changed.
pub trait Filter: Send {
    /// Takes `bytes`, and appends to `out` what is to go on. What it keeps back comes out later.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>);
    /// Nothing more comes, for now or at all: appends what it kept back.
    fn flush(&mut self, out: &mut Vec<u8>);
    /// Whether it keeps something back.
    fn holds(&self) -> bool;
}

impl<'a> Console<'a> {
    /// What the program is to have instead, and what is handed in.
    pub(crate) fn streams(self) -> io::Result<(Streams, Vec<BorrowedFd<'a>>)> {
        let all = [self.input, self.output, self.error];
        let terminal = all.map(|fd| fd.is_terminal());
        let given = all.into_iter().filter(|fd| !fd.is_terminal()).collect();
        let settings = match all.into_iter().find(BorrowedFd::is_terminal) {
            Some(fd) if self.is_whole() => pty::settings(fd)?,
            Some(fd) => pty::quiet(pty::settings(fd)?),
            None => Default::default(),
        };
        Ok((Streams { terminal, settings }, given))
    }

    /// Whether the program and the user talk through terminals alone.
    fn is_whole(self) -> bool {
        self.input.is_terminal() && self.output.is_terminal()
    }
}

/// How often something is looked at that nobody tells of, in milliseconds.
const TICK: u16 = 200;
/// How long the rest of what is kept back may take to come, in milliseconds.
const PAUSE: u16 = 50;
/// How much is carried at once.
const CHUNK: usize = 16 * 1024;
/// Ctrl-D: the end of input, to a terminal that puts lines together.
const END: u8 = 4;

/// The caller's side of the program's terminal.
pub(crate) struct Carrier {
    /// The other end of the program's terminal.
    master: File,
    /// What is typed; none where input is no terminal, or ended.
    input: Option<File>,
    /// Where what is written goes: a terminal.
    output: File,
    whole: bool,
    /// How the caller's terminal was, while it is raw.
    before: Option<Termios>,
    /// Typed, and not taken by the program yet.
    typed: Vec<u8>,
    /// Nobody has the other end open: to be looked at again, later.
    idle: bool,
    filter: Option<Box<dyn Filter>>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrier").field("whole", &self.whole).finish_non_exhaustive()
    }
}

impl Carrier {
    pub fn new(console: Console<'_>, master: OwnedFd) -> io::Result<Carrier> {
        // A program that does not read must not keep what it writes from being carried.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        let outputs = [console.output, console.error, console.input];
        let output = outputs.into_iter().find(BorrowedFd::is_terminal).unwrap_or(console.output);
        Ok(Carrier {
            master: File::from(master),
            input: console.input.is_terminal().then(|| copy(console.input)).transpose()?,
            output: copy(output)?,
            whole: console.is_whole(),
            before: None,
            typed: Vec::new(),
            idle: false,
            filter: None,
        })
    }

    pub fn filter(&mut self, filter: Box<dyn Filter>) {
        self.filter = Some(filter);
    }

    /// Whether the caller is in the foreground of its terminal, or that knows no such thing.
    fn foreground(&self) -> bool {
        tcgetpgrp(&self.output).is_ok_and(|group| group == getpgrp())
            || matches!(tcgetpgrp(&self.output), Err(Errno::ENOTTY))
    }

    /// Makes the caller's terminal raw where it should be and is not, and the program's as big.
    fn take(&mut self) -> io::Result<()> {
        let (rows, columns) = sys::window(self.output.as_fd())?;
        sys::set_window(self.master.as_fd(), rows, columns)?;
        if self.whole && self.before.is_none() && self.foreground() {
            let before = tcgetattr(&self.output)?;
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&self.output, SetArg::TCSADRAIN, &raw)?;
            self.before = Some(before);
        }
        Ok(())
    }

    /// Puts the caller's terminal back.
    fn leave(&mut self) {
        if let Some(before) = self.before.take() {
            // A terminal that went away needs nothing.
            let _ = tcsetattr(&self.output, SetArg::TCSADRAIN, &before);
        }
    }

    /// What the program wrote. At the end of it there is an error on a terminal.
    fn out(&mut self) -> io::Result<()> {
        let mut bytes = [0; CHUNK];
        match self.master.read(&mut bytes) {
            Ok(0) => self.idle = true,
            Ok(read) => self.show(&bytes[..read])?,
            Err(e) if e.raw_os_error() == Some(libc::EIO) => self.idle = true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(filter) = &mut self.filter else { return self.output.write_all(bytes) };
        let mut out = Vec::with_capacity(bytes.len());
        match bytes.is_empty() {
            true => filter.flush(&mut out),
            false => filter.pass(bytes, &mut out),
        }
        self.output.write_all(&out)
    }

    /// What the user typed. False: the terminal went away.
    fn typed(&mut self) -> bool {
        let Some(input) = &self.input else { return true };
        let mut bytes = [0; CHUNK];
        match read(input, &mut bytes) {
            Ok(0) if self.whole => return false,
            Ok(0) => self.typed.push(END),
            Ok(read) => self.typed.extend_from_slice(&bytes[..read]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return false,
        }
        true
    }

    fn deliver(&mut self) {
        match write(&self.master, &self.typed) {
            Ok(taken) => drop(self.typed.drain(..taken)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The program has closed its terminal: nobody will read this.
            Err(_) => self.typed.clear(),
        }
    }

    /// The rest, when all inside is gone.
    pub fn finish(&mut self) {
        self.idle = false;
        while !self.idle && self.out().is_ok() {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0) {
                break;
            }
        }
        let _ = self.show(&[]);
        self.leave();
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What happened.
pub(crate) enum Event {
    /// The helper has something to say.
    Report,
    /// A signal is to be passed on.
    Signal(Ordered),
}

/// Carries until something happens that is the caller's business.
pub(crate) fn carry(
    carrier: Option<&mut Carrier>,
    caught: &Caught,
    reports: BorrowedFd<'_>,
) -> io::Result<Event> {
    let Some(carrier) = carrier else {
        loop {
            let mut fds = [
                PollFd::new(reports, PollFlags::POLLIN),
                PollFd::new(caught.as_fd(), PollFlags::POLLIN),
            ];
            wait(&mut fds, PollTimeout::NONE)?;
            if let Some(signal) = caught.next().and_then(|signal| passed_on(signal, false)) {
                return Ok(Event::Signal(signal));
            }
            if fds[0].any() == Some(true) {
                return Ok(Event::Report);
            }
        }
    };
    loop {
        if let Some(event) = carrier.turn(caught, reports)? {
            return Ok(event);
        }
    }
}

impl Carrier {
    /// Carries once.
    fn turn(&mut self, caught: &Caught, reports: BorrowedFd<'_>) -> io::Result<Option<Event>> {
        // Tells also of having come to the foreground.
        if self.take().is_err() {
            self.input = None;
        }
        let reading = self.input.as_ref().filter(|_| self.typed.is_empty() && self.foreground());
        let in_background = self.input.is_some() && reading.is_none() && self.typed.is_empty();
        let interest = if self.typed.is_empty() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLIN | PollFlags::POLLOUT
        };
        let mut fds = vec![
            PollFd::new(reports, PollFlags::POLLIN),
            PollFd::new(caught.as_fd(), PollFlags::POLLIN),
        ];
        let held = self.filter.as_ref().is_some_and(|filter| filter.holds());
        let timeout = match () {
            () if held => PAUSE.into(),
            () if self.idle || in_background => TICK.into(),
            () => PollTimeout::NONE,
        };
        let (master, input) = (self.master.as_fd(), reading.map(AsFd::as_fd));
        fds.extend((!self.idle).then(|| PollFd::new(master, interest)));
        fds.extend(input.map(|input| PollFd::new(input, PollFlags::POLLIN)));
        let came = wait(&mut fds, timeout)?;
        let ready = |n: usize, wanted| {
            let seen = fds.get(n).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            seen.intersects(wanted | PollFlags::POLLHUP | PollFlags::POLLERR)
        };
        let at = if self.idle { 2 } else { 3 };
        let said = ready(0, PollFlags::POLLIN);
        let out = !self.idle && ready(2, PollFlags::POLLIN);
        let taken = !self.typed.is_empty() && !self.idle && ready(2, PollFlags::POLLOUT);
        let typed = input.is_some() && ready(at, PollFlags::POLLIN);
        self.idle = false;
        if held && !came && self.show(&[]).is_err() {
            return Ok(Some(self.hung_up()));
        }
        if out && self.out().is_err() {
            return Ok(Some(self.hung_up()));
        }
        if typed && !self.typed() {
            return Ok(Some(self.hung_up()));
        }
        if taken || typed {
            self.deliver();
        }
        if let Some(signal) = caught.next().and_then(|signal| passed_on(signal, true)) {
            return Ok(Some(Event::Signal(signal)));
        }
        Ok(said.then_some(Event::Report))
    }

    fn hung_up(&mut self) -> Event {
        self.input = None;
        self.before = None;
        Event::Signal(Ordered { signal: Signal::SIGHUP, group: true })
    }

    /// Stops the caller, as the program was stopped; returns when it is continued.
    pub fn stop(&mut self, caught: &Caught) {
        self.leave();
        caught.stop();
    }
}

/// Waits; whether something came before the time was over.
fn wait(fds: &mut [PollFd<'_>], timeout: PollTimeout) -> io::Result<bool> {
    match poll(fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// What the program is to get for a signal that the caller got.
fn passed_on(signal: Signal, terminal: bool) -> Option<Ordered> {
    let (signal, group) = match signal {
        Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP => (signal, true),
        // Without a terminal its group is an orphan, which nothing but this stops.
        Signal::SIGTSTP if !terminal => (Signal::SIGSTOP, true),
        Signal::SIGTSTP => (signal, true),
        // What they are for was done by the time they are seen: the next turn looks.
        Signal::SIGWINCH | Signal::SIGCONT => return None,
        _ => (signal, false),
    };
    Some(Ordered { signal, group })
}
