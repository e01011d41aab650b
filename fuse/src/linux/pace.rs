//! How long a thread stays with a mount.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::abi::{Header, opcode};

/// How long a thread waits awake for the next request of those who ask again at once: about as
/// long as it takes to wake one that sleeps.
const AWAKE: u32 = 50;
/// After so many requests of one thread it counts as the only one that asks.
const ALONE: u32 = 16;

/// What answering a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// No more than to wake a thread.
    Light,
    /// Content is moved: light where it is little and at hand.
    Medium,
    /// A disk is waited for.
    Heavy,
}

impl Weight {
    fn of(opcode: u32) -> Weight {
        match opcode {
            opcode::READ | opcode::WRITE | opcode::SETATTR => Weight::Medium,
            opcode::FSYNC
            | opcode::FSYNCDIR
            | opcode::SYNCFS
            | opcode::FALLOCATE
            | opcode::COPY_FILE_RANGE => Weight::Heavy,
            _ => Weight::Light,
        }
    }
}

/// The habits of those who use one mount. What is lost in a race is a guess.
pub(super) struct Pace {
    /// How long it pays to wait awake, in microseconds.
    patience: AtomicU32,
    /// When a thread last gave up waiting, in microseconds since `epoch`.
    gave_up: AtomicU64,
    /// The thread that asked last.
    asker: AtomicU32,
    /// How many requests have come from it, up to [`ALONE`].
    in_a_row: AtomicU32,
    epoch: Instant,
}

impl Pace {
    /// That of a mount that nobody has used.
    pub fn new(epoch: Instant) -> Pace {
        Pace {
            patience: AtomicU32::new(AWAKE),
            gave_up: AtomicU64::new(0),
            asker: AtomicU32::new(0),
            in_a_row: AtomicU32::new(0),
            epoch,
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// A thread was woken. If it would have paid to stay awake, the next one does.
    pub fn begin(&self) {
        let slept = self.now().saturating_sub(self.gave_up.load(Ordering::Relaxed));
        if slept < u64::from(AWAKE) {
            self.patience.store(AWAKE, Ordering::Relaxed);
        }
    }

    /// How long to wait awake.
    pub fn patience(&self) -> Duration {
        Duration::from_micros(u64::from(self.patience.load(Ordering::Relaxed)))
    }

    /// It was waited in vain.
    pub fn end(&self) {
        let patience = self.patience.load(Ordering::Relaxed);
        self.patience.store(patience / 2, Ordering::Relaxed);
        self.gave_up.store(self.now(), Ordering::Relaxed);
    }

    /// Whether another thread should wait while the request `header` is answered. `crowded`: it
    /// was there before anybody waited for it.
    pub fn shares(&self, header: &Header, crowded: bool) -> bool {
        let same = self.asker.swap(header.pid, Ordering::Relaxed) == header.pid;
        let in_a_row = match same {
            true => self.in_a_row.load(Ordering::Relaxed).saturating_add(1).min(ALONE),
            false => 0,
        };
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        match Weight::of(header.opcode) {
            Weight::Light => false,
            Weight::Medium => crowded || in_a_row < ALONE,
            Weight::Heavy => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: u32, pid: u32) -> Header {
        Header { opcode, unique: 2, ino: 1, uid: 0, gid: 0, pid }
    }

    #[test]
    fn what_is_slow_is_shared_and_content_where_several_ask() {
        let pace = Pace::new(Instant::now());
        assert!(!pace.shares(&header(opcode::LOOKUP, 1), true));
        assert!(pace.shares(&header(opcode::FSYNC, 1), false));
        assert!(pace.shares(&header(opcode::READ, 1), false), "who knows");
        (0..ALONE).for_each(|_| _ = pace.shares(&header(opcode::READ, 1), false));
        assert!(!pace.shares(&header(opcode::READ, 1), false), "it alone asks");
        assert!(pace.shares(&header(opcode::READ, 1), true), "ahead of its answers");
        assert!(pace.shares(&header(opcode::READ, 2), false), "another does, too");
    }

    #[test]
    fn waiting_in_vain_is_given_up_until_it_would_have_paid() {
        let pace = Pace::new(Instant::now());
        assert!(pace.patience() > Duration::ZERO);
        (0..8).for_each(|_| pace.end());
        assert_eq!(pace.patience(), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(5));
        pace.begin();
        assert_eq!(pace.patience(), Duration::ZERO, "nobody asked for long");
        // A machine that is busy may need several attempts to be quick.
        let soon = || {
            pace.end();
            pace.begin();
            pace.patience() > Duration::ZERO
        };
        assert!((0..1000).any(|_| soon()));
    }
}
