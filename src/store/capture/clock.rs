//! The clock that files are dated by, and how late it may be.

use std::io;
use std::thread;
use std::time::Duration;

use crate::store::known::{self, Stamp};
use crate::store::scratch::Scratch;

/// How often what changes while it is read is read again.
pub const ATTEMPTS: u32 = 4;
/// What is on another file system than the root may be dated by another clock.
const OTHER_MARGIN: i64 = 3_000_000_000;
/// A capture waits no longer than this for a clock to move on, in nanoseconds.
const LONGEST_WAIT: i64 = 100_000_000;

/// The clock that files are dated by.
#[derive(Clone, Copy)]
pub struct Clock<'r> {
    /// When the capture began.
    pub now: i64,
    /// What changes that carry one time may be apart, on the root's file system.
    pub margin: i64,
    /// The root's file system.
    pub device: u64,
    /// On the store's file system.
    pub scratch: &'r Scratch,
}

impl Clock<'_> {
    fn margin(&self, device: u64) -> i64 {
        if device == self.device { self.margin } else { OTHER_MARGIN }
    }

    /// Whether a stamp of `device` that is taken at `now` or later changes with the file.
    pub fn is_settled(&self, stamp: &Stamp, device: u64, now: i64) -> bool {
        stamp.is_settled(now, self.margin(device))
    }

    /// Waits until the stamp of something that was changed just now changes with it, where
    /// that is soon. Takes the stamp again by `look`. Says whether it is settled.
    pub fn settle(
        &self,
        mut stamp: Stamp,
        device: u64,
        now: &mut i64,
        look: impl Fn() -> io::Result<Stamp>,
    ) -> io::Result<(Stamp, bool)> {
        let margin = self.margin(device);
        for _ in 0..ATTEMPTS {
            if self.is_settled(&stamp, device, *now) || margin > LONGEST_WAIT {
                break;
            }
            *now = known::now(self.scratch)?;
            let age = now.saturating_sub(stamp.ctime);
            // Something from the future was changed before the clock was set back.
            if age > margin || age < -margin {
                break;
            }
            thread::sleep(Duration::from_nanos((margin - age + 1_000_000) as u64));
            stamp = look()?;
        }
        Ok((stamp, self.is_settled(&stamp, device, *now)))
    }
}
