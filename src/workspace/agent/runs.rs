//! What an agent executes, as it is written into its log: each command line, without the secrets that
//! this program knows of, and no flood of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use zagi_sandbox::{Filter, Ran, Runs};

use super::log::{Log, What};
use crate::redact::{Needles, Redactor};

/// Of one program so many command lines are written,
const EACH: u64 = 500;
/// and of all so many. Of what is executed more often the number is, at the end.
const ALL: u64 = 5000;
/// So many programs are counted each by itself; others are written as long as there is room for any.
const PROGRAMS: usize = 500;

/// Somebody who writes.
pub(super) struct Watch(JoinHandle<Counted>);

impl Watch {
    /// Writes from now on. `needles` are what no command line is to have in the log.
    pub fn start(mut runs: Runs, log: Arc<Log>, needles: Arc<Needles>) -> Watch {
        Watch(std::thread::spawn(move || {
            let mut counted = Counted::default();
            for ran in runs.by_ref() {
                if counted.count(&ran.program) {
                    // What cannot be written down is no reason to stop the agent's work.
                    let _ = log.write(told(ran, &needles));
                }
            }
            counted.others += runs.lost();
            counted
        }))
    }

    /// Writes the numbers. To be called when nothing inside lives any more.
    pub fn end(self, log: &Log) -> io::Result<()> {
        // Nothing in it panics.
        let counted = self.0.join().unwrap_or_default();
        for (program, times) in counted.more() {
            log.write(What::RanMore { program, times })?;
        }
        Ok(())
    }
}

fn told(ran: Ran, needles: &Arc<Needles>) -> What {
    let clean = |text: String| {
        let (mut redactor, mut out) = (Redactor::new(needles.clone()), Vec::new());
        redactor.pass(text.as_bytes(), &mut out);
        redactor.flush(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let argv = ran.argv.into_iter().map(clean).collect();
    What::Ran { program: clean(ran.program), argv, cut: ran.cut }
}

/// How often each program was executed.
#[derive(Default)]
struct Counted {
    written: u64,
    /// And how many of them were written.
    programs: BTreeMap<String, (u64, u64)>,
    /// Those that have no name here, and were not written.
    others: u64,
}

impl Counted {
    /// Counts one more; whether it is to be written.
    fn count(&mut self, program: &str) -> bool {
        if !self.programs.contains_key(program) && self.programs.len() >= PROGRAMS {
            let write = self.written < ALL;
            self.written += u64::from(write);
            self.others += u64::from(!write);
            return write;
        }
        let (times, written) = self.programs.entry(program.to_owned()).or_default();
        *times += 1;
        let write = *written < EACH && self.written < ALL;
        *written += u64::from(write);
        self.written += u64::from(write);
        write
    }

    /// What was not written, and how many times.
    fn more(self) -> impl Iterator<Item = (String, u64)> {
        let others = (self.others > 0).then_some((String::new(), self.others));
        let more = |(program, (times, written))| (program, times - written);
        self.programs.into_iter().map(more).filter(|(_, times)| *times > 0).chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_executed_all_the_time_hides_no_other() {
        let mut counted = Counted::default();
        let cc = (0..2000).filter(|_| counted.count("/usr/bin/cc")).count() as u64;
        assert!(counted.count("/usr/bin/git"));
        assert_eq!(cc, EACH);
        let more: Vec<_> = counted.more().collect();
        assert_eq!(more, [("/usr/bin/cc".to_owned(), 2000 - EACH)]);
    }

    #[test]
    fn many_names_hide_none() {
        let mut counted = Counted::default();
        let names = (0..PROGRAMS).filter(|n| counted.count(&format!("./{n}"))).count();
        assert_eq!(names, PROGRAMS);
        let evil = (0..ALL).filter(|_| counted.count("./evil")).count() as u64;
        assert_eq!(evil, ALL - PROGRAMS as u64);
        assert_eq!(counted.more().collect::<Vec<_>>(), [(String::new(), PROGRAMS as u64)]);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut counted = Counted::default();
        let (mut written, mut all) = (0, 0);
        for program in 0..PROGRAMS + 10 {
            for _ in 0..EACH / 2 {
                written += u64::from(counted.count(&format!("./{program}")));
                all += 1;
            }
        }
        assert_eq!(written, ALL);
        let more: Vec<_> = counted.more().collect();
        assert_eq!(more.iter().map(|(_, times)| times).sum::<u64>(), all - ALL);
        assert_eq!(more.last(), Some(&(String::new(), 10 * (EACH / 2))));
    }

    #[test]
    fn a_secret_is_not_written() {
        let mut needles = Needles::default();
        needles.add(b"c4nary-7f3a91").unwrap();
        let argv = vec!["curl".into(), "-HX: c4nary-7f3a91".into()];
        let ran = Ran { program: "/usr/bin/curl".into(), argv, cut: false };
        let What::Ran { argv, program, .. } = told(ran, &Arc::new(needles)) else { panic!() };
        assert_eq!((argv[1].as_str(), program.as_str()), ("-HX: *************", "/usr/bin/curl"));
    }
}
