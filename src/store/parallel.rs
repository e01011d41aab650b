//! The same work on many things by a few threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
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

/// Jobs that give rise to further ones, as directories do.
struct Stack<J> {
    jobs: Vec<J>,
    // Workers that have a job, and may add to the stack.
    busy: usize,
    stopped: bool,
}

/// Runs `work` on each of `jobs` and of those that it adds, the last ones first, until there
/// are none or `paused` says so after one. Gives what is left, or the first error.
pub fn spread<J: Send, E: Send>(
    jobs: Vec<J>,
    paused: impl Fn() -> bool + Sync,
    work: impl Fn(J, &mut Vec<J>) -> Result<(), E> + Sync,
) -> Result<Vec<J>, E> {
    const UNPOISONED: &str = "pushing to a Vec does not panic";
    let stack = Mutex::new(Stack { jobs, busy: 0, stopped: false });
    let changed = Condvar::new();
    let worker = || -> Result<(), E> {
        let mut new = Vec::new();
        let mut held = stack.lock().expect(UNPOISONED);
        loop {
            held = changed
                .wait_while(held, |s| s.jobs.is_empty() && s.busy > 0 && !s.stopped)
                .expect(UNPOISONED);
            if held.stopped {
                return Ok(());
            }
            let Some(job) = held.jobs.pop() else { return Ok(()) };
            held.busy += 1;
            drop(held);
            let done = work(job, &mut new);
            held = stack.lock().expect(UNPOISONED);
            held.busy -= 1;
            held.stopped |= done.is_err() || paused();
            held.jobs.append(&mut new);
            if held.busy == 0 || held.jobs.len() > 1 || held.stopped {
                changed.notify_all();
            }
            done?;
        }
    };
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores.min(MOST)).map(|_| scope.spawn(worker)).collect();
        let own = worker();
        let others = others
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect::<Result<(), E>>()
    })?;
    Ok(stack.into_inner().expect(UNPOISONED).jobs)
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

    #[test]
    fn jobs_give_rise_to_others_and_a_pause_leaves_the_rest() {
        let done = Mutex::new(Vec::new());
        let mut left = vec![1u32];
        let mut rounds = 0;
        while !left.is_empty() {
            let before = done.lock().unwrap().len();
            let paused = || done.lock().unwrap().len() >= before + 100;
            left = spread(left, paused, |n, new| {
                done.lock().unwrap().push(n);
                new.extend([2 * n, 2 * n + 1].into_iter().filter(|child| *child < 1000));
                Ok::<(), ()>(())
            })
            .unwrap();
            rounds += 1;
        }
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (1..1000).collect::<Vec<_>>());
        assert!((5..=10).contains(&rounds), "{rounds}");
        let failed = spread(
            vec![7],
            || false,
            |n, new| {
                new.push(n - 1);
                if n == 0 { Err("zero") } else { Ok(()) }
            },
        );
        assert_eq!(failed, Err("zero"));
    }
}
