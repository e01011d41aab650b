//! What git inside an agent runs to push: this program under another name. It speaks git's
//! protocol on its standard streams (gitremote-helpers(7)) and asks outside; see
//! `workspace/agent/push.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::output::printable;
use crate::workspace::agent::push::HELPER;
use crate::workspace::agent::push::wire::{self, Answer, Outcome, Question, Wanted};

/// Speaks with git, if that is who started the program.
pub(super) fn main_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args();
    let program = arguments.next()?;
    if Path::new(&program).file_name().is_none_or(|name| name != HELPER) {
        return None;
    }
    // The remote's name or address as it was written, and ours.
    let helper = Helper { remote: arguments.nth(1)?, has: BTreeMap::new(), known: BTreeSet::new() };
    Some(match helper.speak(io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("zagi: {e}");
            ExitCode::FAILURE
        }
    })
}

struct Helper {
    remote: String,
    /// What the remote has, by name.
    has: BTreeMap<String, String>,
    /// Objects that need not be sent.
    known: BTreeSet<String>,
}

impl Helper {
    fn speak(mut self, input: impl BufRead) -> io::Result<()> {
        let mut batch = Vec::new();
        for line in input.lines() {
            let line = line?;
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("capabilities", _) => say("push\noption\n\n")?,
                ("option", option) if option.starts_with("verbosity ") => say("ok\n")?,
                ("option", option) if option.starts_with("progress ") => say("ok\n")?,
                ("option", _) => say("unsupported\n")?,
                ("list", "for-push") => self.list()?,
                ("push", refspec) => batch.push(refspec.to_owned()),
                ("", _) if batch.is_empty() => return Ok(()),
                ("", _) => self.push(&std::mem::take(&mut batch))?,
                _ => return Err(io::Error::other("an agent pushes by this way, and nothing else")),
            }
        }
        Ok(())
    }

    fn list(&mut self) -> io::Result<()> {
        let question = Question::References { remote: self.remote.clone() };
        let Answer::References { all, known } = ask(question, |_| Ok(()))? else {
            return Err(io::Error::other("the answer is not to what was asked"));
        };
        let lines: String = all.iter().map(|(id, name)| format!("{id} {name}\n")).collect();
        self.has = all.into_iter().map(|(id, name)| (name, id)).collect();
        self.known = known.into_iter().collect();
        say(&format!("{lines}\n"))
    }

    fn push(&self, refspecs: &[String]) -> io::Result<()> {
        let updates = refspecs.iter().map(|refspec| self.wanted(refspec));
        let updates: Vec<Wanted> = updates.collect::<io::Result<_>>()?;
        let new: Vec<String> = updates.iter().filter_map(|update| update.new.clone()).collect();
        let question = Question::Push { remote: self.remote.clone(), updates };
        let answer = ask(question, |stream| match new.is_empty() {
            true => Ok(()),
            false => pack(&new, &self.known, stream),
        });
        let outcomes = match answer {
            Ok(Answer::Pushed(outcomes)) => outcomes,
            Ok(_) => return Err(io::Error::other("the answer is not to what was asked")),
            Err(e) => {
                let refused = |refspec: &String| {
                    let name = refspec.rsplit_once(':').map_or("", |(_, name)| name).to_owned();
                    Outcome { name, error: Some(e.to_string()), said: Vec::new() }
                };
                refspecs.iter().map(refused).collect()
            }
        };
        let mut out = String::new();
        for outcome in outcomes {
            outcome.said.iter().for_each(|line| eprintln!("{}", printable(line)));
            out.push_str(&match outcome.error {
                None => format!("ok {}\n", outcome.name),
                Some(error) => format!("error {} {}\n", outcome.name, error.replace('\n', "; ")),
            });
        }
        say(&format!("{out}\n"))
    }

    /// `+src:dst` as what is asked.
    fn wanted(&self, refspec: &str) -> io::Result<Wanted> {
        let (plus, refspec) = match refspec.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, refspec),
        };
        let (from, name) = refspec
            .rsplit_once(':')
            .ok_or_else(|| io::Error::other(format!("`{refspec}` is no refspec")))?;
        let new = match from {
            "" => None,
            from => Some(git(&["rev-parse", "--verify", "--quiet", from], "")?.trim().to_owned()),
        };
        let old = self.has.get(name).cloned();
        Ok(Wanted { name: name.to_owned(), old, new, force: plus })
    }
}

fn ask(
    question: Question,
    pack: impl FnOnce(&mut TcpStream) -> io::Result<()>,
) -> io::Result<Answer> {
    match wire::ask(question, pack) {
        Ok(Answer::Refused(why)) => Err(io::Error::other(why)),
        other => other,
    }
}

/// Writes a pack of what `new` needs beside `known`.
fn pack(new: &[String], known: &BTreeSet<String>, to: &mut TcpStream) -> io::Result<()> {
    // What the outside knows, this repository need not.
    let asked: String = known.iter().map(|id| format!("{id}\n")).collect();
    let said = git(&["cat-file", "--batch-check=%(objectname) %(objecttype)"], &asked)?;
    let here = said.lines().filter(|line| !line.ends_with(" missing"));
    let without = here.filter_map(|line| Some(format!("^{}\n", line.split_once(' ')?.0)));
    let input: String = new.iter().map(|id| format!("{id}\n")).chain(without).collect();
    let mut child = Command::new("git")
        .args(["pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // It reads to the end before it writes.
    stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))?;
    if let Some(mut stdout) = stdout {
        io::copy(&mut stdout, to)?;
    }
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("git could not pack what is to be pushed")),
    }
}

/// What git says in the repository that it started us in.
fn git(args: &[&str], input: &str) -> io::Result<String> {
    let mut child =
        Command::new("git").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (mut text, input) = (String::new(), input.to_owned());
    // It answers line by line, more than a pipe holds.
    let writer = std::thread::spawn(move || {
        stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))
    });
    stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text))?;
    let _ = writer.join();
    match child.wait()?.success() {
        true => Ok(text),
        false => Err(io::Error::other(format!("`git {}` failed", args.join(" ")))),
    }
}

/// To git.
fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
