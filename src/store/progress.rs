//! How far a long operation is, told now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::event::{Event, Events};

/// Who looks at a terminal sees no more than this.
const PERIOD: Duration = Duration::from_millis(50);

/// Counts what is done of one thing; used by several threads.
pub struct Progress {
    events: Arc<dyn Events>,
    what: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    told: Mutex<Instant>,
}

impl Progress {
    /// Begins at nothing done. `total` is `None` where nobody knows it.
    pub fn new(events: &Arc<dyn Events>, what: &'static str, total: Option<u64>) -> Progress {
        Progress {
            events: Arc::clone(events),
            what,
            total,
            done: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
        }
    }

    /// So many more are done.
    pub fn add(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        // If another thread is at it, the next one tells.
        if let Ok(mut told) = self.told.try_lock()
            && told.elapsed() >= PERIOD
        {
            *told = Instant::now();
            let what = self.what.to_owned();
            self.events.emit(Event::Progress { what, done, total: self.total });
        }
    }
}
