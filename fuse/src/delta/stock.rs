//! Data files made ahead of time.
//!
//! To make a file on a disk takes longer than all else that a new file in a mount asks for. While
//! one new file follows another, a thread makes the data files of the next inode numbers. A number
//! that something else was given (a directory, a link) leaves a data file that is nobody's, which
//! is removed; so is what is left when nobody makes files any more, or when a process that was killed
//! is followed by another.
//!
//! Numbers come in order. Whoever needs the data file of a number asks here first, and from then on
//! no number up to that one is made here.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::files::{make_new, unlink};

/// So many new files, with less than [`PAUSE`] between them, are a sign of more.
const STREAK: u32 = 16;
const PAUSE: Duration = Duration::from_millis(100);
/// How many data files are made ahead.
const AHEAD: usize = 32;
/// How long they are kept.
const KEEP: Duration = Duration::from_secs(1);

/// The data files that were made ahead.
pub struct Stock {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    dir: Arc<OwnedFd>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// In the order of their numbers.
    ready: VecDeque<(u64, File)>,
    /// The number that the thread makes a file for at this moment.
    making: Option<u64>,
    /// No number below it is made any more.
    next: u64,
    /// How many new files there were in a row, and when the last was.
    streak: u32,
    last: Instant,
    /// Whether the thread is there.
    runs: bool,
    ended: bool,
}

impl Stock {
    /// An empty one, for the directory `dir`.
    pub fn new(dir: Arc<OwnedFd>) -> Stock {
        let state = State {
            ready: VecDeque::new(),
            making: None,
            next: 0,
            streak: 0,
            last: Instant::now(),
            runs: false,
            ended: false,
        };
        let shared = Shared { dir, state: Mutex::new(state), changed: Condvar::new() };
        Stock { shared: Arc::new(shared), thread: Mutex::default() }
    }

    /// The data file of `ino`, a number higher than all before it, if it was made ahead.
    pub fn take(&self, ino: u64) -> Option<File> {
        let mut state = self.shared.state();
        let soon = state.last.elapsed() < PAUSE;
        state.streak = if soon { state.streak.saturating_add(1) } else { 0 };
        state.last = Instant::now();
        while state.making == Some(ino) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.next = ino + 1;
        let mut found = None;
        let passed = state.ready.partition_point(|(number, _)| *number <= ino);
        for (number, file) in state.ready.drain(..passed) {
            if number == ino {
                found = Some(file);
            } else {
                unlink(&self.shared.dir, number);
            }
        }
        if state.streak >= STREAK && state.ready.len() < AHEAD / 2 {
            self.shared.changed.notify_all();
            if !state.runs && !state.ended {
                state.runs = true;
                self.start(&mut state);
            }
        }
        found
    }

    fn start(&self, state: &mut State) {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("stock".into());
        match thread.spawn(move || shared.work()) {
            // The one before it has ended, or is about to.
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread)
            }
            Err(_) => state.runs = false,
        }
    }

    /// Makes no more, and removes what is there.
    pub fn end(&self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(JoinHandle::join);
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves at worst a data file that is nobody's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life.
    fn work(&self) {
        let mut state = self.state();
        while !state.ended && state.last.elapsed() < KEEP {
            if state.ready.len() >= AHEAD {
                let waited = self.changed.wait_timeout(state, KEEP);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let after = state.ready.back().map_or(state.next, |(number, _)| number + 1);
            let number = after.max(state.next);
            state.making = Some(number);
            drop(state);
            let made = make_new(&self.dir, number);
            state = self.state();
            state.making = None;
            self.changed.notify_all();
            match made {
                Ok(file) => state.ready.push_back((number, file)),
                // A full disk, for one: then nobody makes anything.
                Err(Errno::EEXIST) => state.next = number + 1,
                Err(_) => break,
            }
        }
        // While nobody can be given the number of one of these.
        for (number, _) in std::mem::take(&mut state.ready) {
            unlink(&self.dir, number);
        }
        state.runs = false;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use super::*;

    fn files(dir: &Path) -> usize {
        walk(dir).len()
    }

    fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
        let shards = std::fs::read_dir(dir).expect("it is there");
        let files = |shard: std::fs::DirEntry| std::fs::read_dir(shard.path()).expect("a shard");
        shards.flatten().flat_map(files).flatten().map(|file| file.path()).collect()
    }

    fn stock(dir: &Path) -> Stock {
        Stock::new(Arc::new(OwnedFd::from(File::open(dir).expect("it is there"))))
    }

    #[test]
    fn whoever_makes_many_finds_the_next_made_and_what_is_left_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let stock = stock(dir.path());
        let mut ahead = 0;
        for ino in 100..1000 {
            // Every seventh number is a directory's.
            if ino % 7 != 0 {
                match stock.take(ino) {
                    Some(file) => {
                        ahead += 1;
                        let path =
                            std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
                        let name = format!("{:02x}/{ino:016x}", ino & 0xff);
                        assert_eq!(path.expect("it is open"), dir.path().join(name));
                    }
                    None => drop(make_new(&stock.shared.dir, ino).expect("nobody else made it")),
                }
            }
            if ino % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(ahead > 100, "{ahead} of 772");
        stock.end();
        assert_eq!(files(dir.path()), (100..1000).filter(|ino| ino % 7 != 0).count());
    }

    #[test]
    fn one_now_and_then_makes_nothing_ahead() {
        let dir = tempfile::tempdir().expect("a directory");
        let stock = stock(dir.path());
        assert!((1..STREAK.into()).all(|ino| stock.take(ino).is_none()));
        assert!(!stock.shared.state().runs);
        assert_eq!(files(dir.path()), 0);
    }
}
