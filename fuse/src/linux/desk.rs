//! What each thread works on, as the others see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::abi::{Header, RESENT, opcode};
use crate::call::Call;

/// Set in the state of a request that was answered although its thread still works on it.
const ANSWERED: u64 = 1 << 62;

/// One thread's place of work.
pub(super) struct Desk {
    /// What the rooms below see of it.
    call: Arc<Call>,
    /// The request under way without [`RESENT`], perhaps with [`ANSWERED`]; 0 if there is none.
    state: AtomicU64,
    /// Which mount it is of.
    mount: AtomicU64,
    /// When it began, in milliseconds since `epoch`.
    since: AtomicU64,
    /// Whether it was sent to a process before.
    resent: AtomicBool,
    /// Whether it may take as long as it takes.
    patient: AtomicBool,
    /// Whether nobody else waits for requests of the mount.
    holds: AtomicBool,
    epoch: Instant,
}

impl Desk {
    /// The place of this thread; times are counted from `epoch`.
    pub fn new(epoch: Instant) -> Desk {
        Desk {
            call: Call::of_this_thread(),
            state: AtomicU64::new(0),
            mount: AtomicU64::new(0),
            since: AtomicU64::new(0),
            resent: AtomicBool::new(false),
            patient: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            epoch,
        }
    }

    /// From now on nobody but the thread takes requests of the mount that it works for.
    pub fn hold(&self) {
        self.holds.store(true, Ordering::Release);
    }

    /// Whether that is so.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }

    /// Ends it; says whether it was so.
    pub fn let_go(&self) -> bool {
        self.holds.swap(false, Ordering::AcqRel)
    }

    /// The mount that the thread holds, if its request takes longer than `time`.
    pub fn held_longer_than(&self, time: Duration) -> Option<u64> {
        let busy = self.state.load(Ordering::Acquire) != 0 && self.holds();
        (busy && self.age() >= time).then(|| self.mount.load(Ordering::Relaxed))
    }

    /// How long ago the request under way began.
    fn age(&self) -> Duration {
        let since = Duration::from_millis(self.since.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(since)
    }

    /// The thread begins with a request of the mount `mount`.
    pub fn begin(&self, mount: u64, header: &Header) {
        let operation = header.unique & !RESENT;
        // Waiting for a disk is no fault, and an error would mean that data is lost.
        let patient = matches!(header.opcode, opcode::FSYNC | opcode::FSYNCDIR | opcode::SYNCFS);
        self.mount.store(mount, Ordering::Relaxed);
        self.since.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.resent.store(header.unique & RESENT != 0, Ordering::Relaxed);
        self.patient.store(patient, Ordering::Relaxed);
        self.call.begin(operation, header.pid);
        self.state.store(operation, Ordering::Release);
    }

    /// The thread has ended it. Whether it is the one to answer.
    pub fn end(&self) -> bool {
        self.call.end();
        self.state.swap(0, Ordering::AcqRel) & ANSWERED == 0
    }

    /// If the thread works on the request `unique` of `mount`, tells it of a signal.
    pub fn interrupt(&self, mount: u64, unique: u64) -> bool {
        let here = self.state.load(Ordering::Acquire) & !ANSWERED == unique & !RESENT
            && self.mount.load(Ordering::Relaxed) == mount;
        if here {
            self.call.interrupt();
        }
        here
    }

    /// If the request under way takes longer than `deadline`: its mount and its number, which
    /// whoever asks is to answer instead of the thread.
    pub fn overdue(&self, deadline: Duration) -> Option<(u64, u64)> {
        let state = self.state.load(Ordering::Acquire);
        let late = self.age() > deadline;
        if state == 0 || state & ANSWERED != 0 || !late || self.patient.load(Ordering::Relaxed) {
            return None;
        }
        let mount = self.mount.load(Ordering::Relaxed);
        let resent = if self.resent.load(Ordering::Relaxed) { RESENT } else { 0 };
        let (new, order) = (state | ANSWERED, Ordering::AcqRel);
        self.state.compare_exchange(state, new, order, Ordering::Relaxed).ok()?;
        Some((mount, state | resent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: u32) -> Header {
        Header { opcode, unique: 8 | RESENT, ino: 1, uid: 0, gid: 0, pid: 1 }
    }

    #[test]
    fn a_request_is_answered_once_by_its_thread_or_by_who_lost_patience() {
        let desk = Desk::new(Instant::now());
        desk.begin(3, &header(opcode::READ));
        assert_eq!(desk.overdue(Duration::from_secs(60)), None);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(desk.overdue(Duration::ZERO), Some((3, 8 | RESENT)));
        assert_eq!(desk.overdue(Duration::ZERO), None, "once");
        assert!(!desk.end());
        desk.begin(3, &header(opcode::FSYNC));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(desk.overdue(Duration::ZERO), None, "syncing takes as long as it takes");
        assert!(desk.interrupt(3, 8) && !desk.interrupt(4, 8) && !desk.interrupt(3, 10));
        assert!(desk.end());
    }
}
