//! What a thread works on: one request at a time.
//!
//! A driver says so before it calls the overlay, and the two that need it ask here: the log, which
//! records the request's number beside the change that answers it, and long copies, which end
//! early when nobody waits for them any more. Operations that no driver began have neither.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;

/// The request under way on one thread, as other threads may see it.
#[derive(Debug, Default)]
pub(crate) struct Call {
    operation: AtomicU64,
    /// The thread that waits for the answer.
    waiting: AtomicU32,
    interrupted: AtomicBool,
}

thread_local! {
    static CALL: RefCell<Option<Arc<Call>>> = const { RefCell::new(None) };
}

impl Call {
    /// The call of this thread, made for it if it has none.
    pub fn of_this_thread() -> Arc<Call> {
        CALL.with_borrow_mut(|call| Arc::clone(call.get_or_insert_default()))
    }

    /// This thread begins to work on the request `operation`, which is not 0, of `waiting`.
    pub fn begin(&self, operation: u64, waiting: u32) {
        self.interrupted.store(false, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.operation.store(operation, Ordering::Release);
    }

    /// The thread has ended it.
    pub fn end(&self) {
        self.operation.store(0, Ordering::Release);
    }

    /// The request under way; 0 if there is none.
    pub fn operation(&self) -> u64 {
        self.operation.load(Ordering::Acquire)
    }

    /// A signal has come for whoever waits.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }
}

/// The request that this thread works on, if it does.
pub(crate) fn operation() -> Option<u64> {
    let operation = CALL.with_borrow(|call| call.as_ref().map_or(0, |call| call.operation()));
    (operation != 0).then_some(operation)
}

/// Fails with EINTR once whoever waits for the request of this thread is being killed. Other
/// signals do not end what they ask of a disk: no program expects that of a regular file.
pub(crate) fn check() -> Result<(), Errno> {
    let dying = |call: &Arc<Call>| {
        call.interrupted.load(Ordering::Relaxed) && is_dying(call.waiting.load(Ordering::Relaxed))
    };
    let dying = CALL.with_borrow(|call| call.as_ref().is_some_and(dying));
    if dying { Err(Errno::EINTR) } else { Ok(()) }
}

/// Whether the thread `tid` has SIGKILL pending, which is what every fatal signal becomes
/// (proc_pid_status(5)), or is gone.
fn is_dying(tid: u32) -> bool {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    let Ok(status) = std::fs::read_to_string(format!("/proc/{tid}/status")) else { return true };
    let pending = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    pending.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok()).any(|set| set & SIGKILL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_being_killed_ends_what_a_thread_works_on() {
        let call = Call::of_this_thread();
        assert_eq!((operation(), check()), (None, Ok(())));
        call.begin(7, std::process::id());
        assert_eq!((operation(), check()), (Some(7), Ok(())));
        call.interrupt();
        assert_eq!(check(), Ok(()), "this process goes on");
        // No thread has this number: it is beyond pid_max.
        call.begin(8, u32::MAX);
        assert_eq!(check(), Ok(()), "no signal has come");
        call.interrupt();
        assert_eq!(check(), Err(Errno::EINTR));
        call.end();
        assert_eq!(operation(), None);
    }
}
