//! One command of a plan, run in the sandbox: what it says is logged and counted, and what
//! its refusal means is told.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use zagi_sandbox::Exit;

use super::DependenciesError;
use super::confine::Confined;
use super::network::{Refused, Watched};
use super::plan::Plan;
use crate::context::Context;
use crate::event::Event;

/// Lines that an error shows.
const TAIL: usize = 25;
/// The longest line that is kept whole.
const LINE: u64 = 8 * 1024;
/// What is kept of a log to understand it.
const KEPT: usize = 1 << 20;

/// Beginnings of lines that report progress and explain nothing.
const PROGRESS: [&str; 10] = [
    "npm http",
    "Progress:",
    "Downloading",
    "Downloaded",
    "go: downloading",
    "Fetch",
    "+ ",
    "Building",
    "Built",
    "➤ YN0013",
];
/// What the managers say when a lock file does not fit its manifest.
const DISAGREES: [&str; 8] = [
    "`npm ci` can only install packages when your",
    "The `npm ci` command can only install with an existing",
    "ERR_PNPM_OUTDATED_LOCKFILE",
    "but `--locked` was provided",
    "--locked was passed",
    "Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`",
    "The lockfile would have been modified by this install",
    "lockfile had changes, but lockfile is frozen",
];
/// What they say when something is missing and they may not fetch it.
const MISSING: [&str; 13] = [
    "ENOTCACHED",
    "only-if-cached",
    "ERR_PNPM_NO_OFFLINE",
    "network was disabled",
    "Network connectivity is disabled",
    "--offline was specified",
    "offline mode",
    "module lookup disabled by GOPROXY=off",
    "the `--offline` flag",
    "There appears to be trouble with your network connection",
    "getaddrinfo EAI_AGAIN",
    "has been blocked because of your configuration settings",
    "ConnectionRefused downloading",
];

/// What a command says, while it says it.
struct Log<'a> {
    ctx: &'a Context,
    manager: &'a str,
    file: File,
    kept: String,
    tail: VecDeque<String>,
    progress: u64,
    told: Instant,
}

impl Log<'_> {
    fn line(&mut self, line: &str) {
        let line = plain(line);
        let text = line.trim();
        // The log is for reading afterwards; an installation does not fail with it.
        let _ = writeln!(self.file, "{line}");
        if PROGRESS.iter().any(|beginning| text.starts_with(beginning)) {
            self.progress += 1;
        } else if !text.is_empty() {
            self.tail.push_back(line.clone());
            if self.tail.len() > TAIL {
                self.tail.pop_front();
            }
        }
        self.kept.push_str(&line);
        self.kept.push('\n');
        // Programs say last what stopped them.
        if self.kept.len() > 2 * KEPT {
            let end = memchr::memchr(b'\n', &self.kept.as_bytes()[KEPT..]);
            self.kept.drain(..end.map_or(self.kept.len(), |end| KEPT + end + 1));
        }
        if self.told.elapsed() > Duration::from_millis(100) {
            self.told = Instant::now();
            let text = text.strip_prefix("npm http fetch GET 200 ").unwrap_or(text);
            let what = format!("{}: {}", self.manager, text.chars().take(60).collect::<String>());
            self.ctx.events.emit(Event::Progress { what, done: self.progress, total: None });
        }
    }
}

/// A stranger's line without what would steer a terminal.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            // A control sequence (ECMA-48): up to its final letter.
            '\x1b' => {
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// What came of a command.
pub(super) enum Outcome {
    /// It ended well.
    Done { refused: Refused },
    /// It did not, and this is all that it said.
    Failed { error: DependenciesError, said: String, refused: Refused },
}

/// What a command said, and how it ended.
pub(super) struct Heard {
    pub exit: Exit,
    /// The last of what it said, up to twice [`KEPT`].
    pub said: String,
    /// Its last lines.
    pub tail: String,
    /// It was ended because its time was over.
    pub late: bool,
    /// What it wanted of the network and was not given.
    pub refused: Refused,
}

/// Runs one command of `plan` to its end.
pub(super) fn run(
    ctx: &Context,
    plan: &Plan,
    confined: &Confined,
    log: &Path,
) -> Result<Outcome, DependenciesError> {
    let heard = listen(ctx, &plan.manager, confined, log, None)?;
    if heard.exit.success() {
        return Ok(Outcome::Done { refused: heard.refused });
    }
    let error = explain(ctx, plan, &confined.sandbox.argv, &heard, log.to_owned());
    Ok(Outcome::Failed { error, said: heard.said, refused: heard.refused })
}

/// Runs a command to its end, or to that of its time; what it says goes to `log`, and as `who`'s
/// progress to the user.
pub(super) fn listen(
    ctx: &Context,
    who: &str,
    confined: &Confined,
    log: &Path,
    limit: Option<Duration>,
) -> Result<Heard, DependenciesError> {
    let file = File::options().create(true).append(true).open(log);
    let log_of = Mutex::new(Log {
        ctx,
        manager: who,
        file: file.map_err(DependenciesError::file(log))?,
        kept: String::new(),
        tail: VecDeque::new(),
        progress: 0,
        told: Instant::now(),
    });
    let failed = |source| DependenciesError::Sandbox { source };
    let mut child = zagi_sandbox::spawn(&confined.sandbox, &ctx.program).map_err(failed)?;
    let listeners = std::mem::take(&mut child.listeners);
    let watched = confined.network.as_ref().map(|network| network.serve(listeners));
    let killer = child.killer().map_err(DependenciesError::file(log))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (over, ended) = mpsc::channel::<()>();
    let late = std::thread::scope(|scope| {
        let readers = [
            scope.spawn(|| stdout.map(|stream| read(stream, &log_of))),
            scope.spawn(|| stderr.map(|stream| read(stream, &log_of))),
        ];
        let watch = limit.map(|limit| {
            scope.spawn(move || {
                let late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                if late {
                    killer.kill();
                }
                late
            })
        });
        for reader in readers {
            // One that panicked has the lock with it: found below.
            let _ = reader.join();
        }
        drop(over);
        watch.is_some_and(|watch| watch.join().unwrap_or(false))
    });
    let exit = child.wait().map_err(failed)?;
    let refused = watched.map(Watched::end).unwrap_or_default();
    let log_of = log_of.into_inner().expect("nothing panics with it held");
    let tail = log_of.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    Ok(Heard { exit, said: log_of.kept, tail, late, refused })
}

fn read(stream: impl Read, log: &Mutex<Log<'_>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match stream.by_ref().take(LINE).read_until(b'\n', &mut line) {
            // The end, or a pipe that broke with the sandbox: `wait` says which.
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut log = log.lock().expect("nothing panics with it held");
        for part in String::from_utf8_lossy(&line).split(['\n', '\r']).filter(|p| !p.is_empty()) {
            log.line(part);
        }
    }
}

fn explain(
    ctx: &Context,
    plan: &Plan,
    argv: &[String],
    heard: &Heard,
    log: PathBuf,
) -> DependenciesError {
    let command = argv.join(" ");
    let tail = without_usage(&heard.tail);
    let says = |words: &[&str]| words.iter().any(|w| heard.said.contains(w));
    if let Some(lock) = &plan.project.lock
        && says(&DISAGREES)
    {
        let update = update(&plan.manager);
        return DependenciesError::LockDisagrees {
            lock: lock.clone(),
            update: update.into(),
            tail,
        };
    }
    if ctx.offline && says(&MISSING) {
        let missing: Vec<&str> =
            heard.said.lines().filter(|l| MISSING.iter().any(|w| l.contains(w))).take(5).collect();
        return DependenciesError::Offline { command, missing: missing.join("\n") };
    }
    DependenciesError::Install {
        command,
        exit: heard.exit,
        tail,
        log,
        refused: heard.refused.clone(),
    }
}

/// The command that brings a lock file of `manager` up to date.
pub(super) fn update(manager: &str) -> &'static str {
    match manager {
        "npm" => "npm install",
        "pnpm" => "pnpm install --no-frozen-lockfile",
        "uv" => "uv lock",
        "yarn" => "yarn install",
        "bun" => "bun install",
        "poetry" => "poetry lock",
        "pdm" => "pdm lock",
        "pipenv" => "pipenv lock",
        _ => "cargo update --workspace",
    }
}

/// What npm says, without its manual and without a path of the sandbox.
fn without_usage(tail: &str) -> String {
    let lines = tail.lines().take_while(|line| !line.ends_with("Clean install a project"));
    let lines = lines.filter(|line| !line.contains("A complete log of this run can be found"));
    lines.collect::<Vec<_>>().join("\n").trim_end_matches("\nnpm error").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_manual() {
        let said = "npm error code EUSAGE\nnpm error Missing: a@1 from lock file\nnpm error\n\
                    npm error Clean install a project\nnpm error\nnpm error Usage:";
        assert_eq!(
            without_usage(said),
            "npm error code EUSAGE\nnpm error Missing: a@1 from lock file"
        );
        assert_eq!(without_usage("a\nb"), "a\nb");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("\x1b[31mred\x1b[0m\x07 a\tb"), "red a b");
        assert_eq!(plain("\x1b]0;title\x07rest"), "0;titlerest");
        assert_eq!(plain("plain ü"), "plain ü");
        assert_eq!(plain("\x1b["), "");
    }
}
