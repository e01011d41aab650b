//! What git inside an agent runs to reach a remote: this program under another name. It speaks git's
//! protocol on its standard streams (gitremote-helpers(7)) and asks outside; see
//! `workspace/agent/push.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
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
    let (written, address) = (arguments.next()?, arguments.next()?);
    let remote = match rest(&address) {
        Some((remote, ".git" | "/" | ".git/")) => remote,
        // Another address, which begins as that of a remote does.
        Some((remote, rest)) if !rest.is_empty() => return Some(other(&written, &remote, rest)),
        _ => address,
    };
    let helper = Helper { remote, has: BTreeMap::new(), known: BTreeSet::new() };
    Some(match helper.speak(io::stdin().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("zagi: {e}");
            ExitCode::FAILURE
        }
    })
}

/// The remote that an address begins with, and what comes after.
fn rest(address: &str) -> Option<(String, &str)> {
    let names = git(&["config", "--name-only", "--get-regexp", r"^url\.zagi::.*\.insteadof$"], "");
    let names = names.ok()?;
    let names = names.lines().filter_map(|key| {
        let name = key.strip_prefix("url.zagi::")?.rsplit_once('.')?.0;
        Some((name.to_owned(), address.strip_prefix(name)?))
    });
    names.max_by_key(|(name, _)| name.len())
}

/// Goes to an address that is no remote's as git does, if by HTTP.
fn other(written: &str, remote: &str, rest: &str) -> ExitCode {
    let url = git(&["config", "--get", &format!("url.zagi::{remote}.insteadOf")], "");
    let url = format!("{}{rest}", url.unwrap_or_default().trim());
    let Some((scheme @ ("http" | "https"), _)) = url.split_once("://") else {
        eprintln!("zagi: `{}` is not one of the remotes", printable(&url));
        return ExitCode::FAILURE;
    };
    let e = Command::new("git").args([&format!("remote-{scheme}"), written, &url]).exec();
    eprintln!("zagi: cannot run git: {e}");
    ExitCode::FAILURE
}

/// How many references the outside is told of.
const MOST: usize = 20_000;
const UNCLEAR: &str = "the answer is not to what was asked";

struct Helper {
    remote: String,
    /// What the remote has, by name.
    has: BTreeMap<String, String>,
    /// Objects that need not be sent.
    known: BTreeSet<String>,
}

impl Helper {
    fn speak(mut self, input: impl BufRead) -> io::Result<()> {
        let (mut pushed, mut fetched) = (Vec::new(), Vec::new());
        for line in input.lines() {
            let line = line?;
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("capabilities", _) => say("fetch\npush\noption\n\n")?,
                ("option", option) if option.starts_with("verbosity ") => say("ok\n")?,
                ("option", option) if option.starts_with("progress ") => say("ok\n")?,
                ("option", _) => say("unsupported\n")?,
                ("list", what) => self.list(what == "for-push")?,
                ("push", refspec) => pushed.push(refspec.to_owned()),
                ("fetch", what) => {
                    fetched.extend(what.split_once(' ').map(|(id, _)| id.to_owned()));
                }
                ("", _) if !pushed.is_empty() => self.push(&std::mem::take(&mut pushed))?,
                ("", _) if !fetched.is_empty() => self.fetch(std::mem::take(&mut fetched))?,
                ("", _) => return Ok(()),
                _ => return Err(io::Error::other(format!("git asks for `{line}`"))),
            }
        }
        Ok(())
    }

    fn list(&mut self, push: bool) -> io::Result<()> {
        let question = Question::References { remote: self.remote.clone(), push };
        let (Answer::References { head, all, known }, _) = ask(question, |_| Ok(()))? else {
            return Err(io::Error::other(UNCLEAR));
        };
        let head = head.filter(|_| !push).map(|head| format!("@{head} HEAD\n"));
        let lines: String = all.iter().map(|(id, name)| format!("{id} {name}\n")).collect();
        self.has = all.into_iter().map(|(id, name)| (name, id)).collect();
        self.known = known.into_iter().collect();
        say(&format!("{lines}{}\n", head.unwrap_or_default()))
    }

    fn fetch(&self, wanted: Vec<String>) -> io::Result<()> {
        let had = git(&["for-each-ref", "--format=%(objectname)"], "")?;
        // More would say little, and a question has a length.
        let mut had: Vec<String> = had.lines().take(MOST).map(str::to_owned).collect();
        had.extend(
            git(&["rev-parse", "--verify", "--quiet", "HEAD"], "").map(|id| id.trim().to_owned()),
        );
        let partial = git(&["config", "--get-regexp", r"^remote\..*\.promisor$"], "").is_ok();
        let question = Question::Fetch { remote: self.remote.clone(), wanted, had, partial };
        let (Answer::Fetched, mut pack) = ask(question, |_| Ok(()))? else {
            return Err(io::Error::other(UNCLEAR));
        };
        let mut command = Command::new("git");
        command.args(["index-pack", "--stdin", "--fix-thin"]);
        if partial {
            command.arg("--promisor");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut stdin = child.stdin.take();
        let copied = stdin.as_mut().map_or(Ok(0), |stdin| io::copy(&mut pack, stdin));
        drop(stdin);
        if !child.wait()?.success() {
            return Err(io::Error::other("git does not take what was fetched"));
        }
        copied?;
        say("\n")
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
            Ok((Answer::Pushed(outcomes), _)) => outcomes,
            Ok(_) => return Err(io::Error::other(UNCLEAR)),
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
) -> io::Result<(Answer, impl Read)> {
    match wire::ask(question, pack)? {
        (Answer::Refused(why), _) => Err(io::Error::other(why)),
        other => Ok(other),
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
