//! One command of a plan, run in the sandbox: what it says is logged and counted, and what
//! its refusal means is told.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use zagi_sandbox::Exit;

use super::DependenciesError;
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
        if self.kept.len() < KEPT {
            self.kept.push_str(&line);
            self.kept.push('\n');
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
    Done,
    /// It did not, and this is all that it said.
    Failed { error: DependenciesError, said: String },
}

/// Runs one command to its end.
pub(super) fn run(
    ctx: &Context,
    plan: &Plan,
    sandbox: &zagi_sandbox::Plan,
    log: &Path,
) -> Result<Outcome, DependenciesError> {
    let file = File::options().create(true).append(true).open(log);
    let log_of = Mutex::new(Log {
        ctx,
        manager: &plan.manager,
        file: file.map_err(DependenciesError::file(log))?,
        kept: String::new(),
        tail: VecDeque::new(),
        progress: 0,
        told: Instant::now(),
    });
    let failed = |source| DependenciesError::Sandbox { source };
    let mut child = zagi_sandbox::spawn(sandbox, &ctx.program).map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|stream| read(stream, &log_of)));
        scope.spawn(|| stderr.map(|stream| read(stream, &log_of)));
    });
    let exit = child.wait().map_err(failed)?;
    if exit.success() {
        return Ok(Outcome::Done);
    }
    let log_of = log_of.into_inner().expect("a thread that panicked would have been joined");
    let error = explain(ctx, plan, &sandbox.argv, exit, &log_of, log.to_owned());
    Ok(Outcome::Failed { error, said: log_of.kept })
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
    exit: Exit,
    log: &Log<'_>,
    file: PathBuf,
) -> DependenciesError {
    let command = argv.join(" ");
    let tail = log.tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let tail = without_usage(&tail);
    let says = |words: &[&str]| words.iter().any(|w| log.kept.contains(w));
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
            log.kept.lines().filter(|l| MISSING.iter().any(|w| l.contains(w))).take(5).collect();
        return DependenciesError::Offline { command, missing: missing.join("\n") };
    }
    DependenciesError::Install { command, exit, tail, log: file }
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
