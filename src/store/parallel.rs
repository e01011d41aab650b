//! The same work on many things by a few threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// More threads than this do not make a disk faster.
const MOST: usize = 8;

/// What is still to be done, in order.
pub struct Queue<J> {
    jobs: Mutex<std::vec::IntoIter<J>>,
    stopped: AtomicBool,
}

impl<J> Queue<J> {
    /// The next job; none when all are given out or another worker has failed.
    pub fn next(&self) -> Option<J> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        self.jobs.lock().expect("taking the next of a Vec does not panic").next()
    }
}

/// Runs `work` on as many threads as help; each takes jobs from the queue until there are
/// none. Gives what each returned, or the first error, when all have ended.
pub fn run<J: Send, R: Send, E: Send>(
    jobs: Vec<J>,
    work: impl Fn(&Queue<J>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let threads = cores.min(MOST).min(jobs.len()).max(1);
    let queue = Queue { jobs: Mutex::new(jobs.into_iter()), stopped: AtomicBool::new(false) };
    let work = || work(&queue).inspect_err(|_| queue.stopped.store(true, Ordering::Relaxed));
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others = others
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_an_error_stops_the_rest() {
        let sums = run((1..=1000u64).collect(), |queue| {
            let mut sum = 0;
            while let Some(n) = queue.next() {
                sum += n;
            }
            Ok::<u64, ()>(sum)
        });
        assert_eq!(sums.map(|sums| sums.iter().sum::<u64>()), Ok(500_500));

        let failed = run((0..1000).collect(), |queue| {
            while let Some(n) = queue.next() {
                if n == 3 {
                    return Err(n);
                }
            }
            Ok(())
        });
        assert_eq!(failed, Err(3));
    }
}
