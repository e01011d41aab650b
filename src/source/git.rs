//! Runs the git program: it fetches, because the ssh keys, credential helpers and proxies
//! that its users have set up then just work.
//!
//! It is given the user's environment without what would point it at another repository,
//! speaks English (its words are read below), and never asks anybody anything.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::error::SourceError;
use crate::context::Context;
use crate::event::Event;

/// What `GIT_CONFIG_COUNT` needs, by which addresses are given.
const NEEDED: (u32, u32) = (2, 31);

/// Variables by which git would look elsewhere than it is told to.
const MISLEADING: [&str; 11] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_ATTR_SOURCE",
    "LANGUAGE",
];

/// Settings of the user's that would change what is fetched, or run programs of theirs.
const SETTINGS: [(&str, &str); 10] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("fetch.prune", "false"),
    ("fetch.pruneTags", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // A server that sends nothing any more is given up.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "30"),
];

/// The git program, ready to be run.
pub(super) struct Git<'a> {
    ctx: &'a Context,
    program: PathBuf,
    ssh: Option<OsString>,
}

/// One run of it.
pub(super) struct Run<'a> {
    /// The repository, as errors name it.
    pub address: &'a str,
    /// The first word is the command's name.
    pub args: &'a [&'a OsStr],
    /// Settings that hold something secret, or a path: passed outside of the arguments.
    pub settings: &'a [(&'a str, &'a OsStr)],
    /// More environment: `GIT_DIR` and the like.
    pub env: &'a [(&'a str, &'a OsStr)],
    /// What it reads.
    pub input: &'a [u8],
    /// What it writes to, if that is not to be returned: a file; or a lock that must not be given up
    /// before it has ended, even if we are killed.
    pub output: Option<&'a File>,
    /// After this it is killed.
    pub deadline: Option<Duration>,
    /// Report its progress under this name.
    pub progress: Option<&'a str>,
    /// Where it runs; else where this process does.
    pub dir: Option<&'a Path>,
    /// What is in no error: addresses with a password.
    pub hidden: &'a [String],
}

impl<'a> Run<'a> {
    pub fn new(address: &'a str, args: &'a [&'a OsStr]) -> Run<'a> {
        Run {
            address,
            args,
            settings: &[],
            env: &[],
            input: &[],
            output: None,
            deadline: None,
            progress: None,
            dir: None,
            hidden: &[],
        }
    }
}

impl<'a> Git<'a> {
    /// Finds it on the user's PATH.
    pub fn find(ctx: &'a Context) -> Result<Git<'a>, SourceError> {
        let path = ctx.var("PATH").unwrap_or_default();
        let executable = |file: &PathBuf| {
            file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        let program = std::env::split_paths(path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(executable)
            .ok_or(SourceError::NoGit)?;
        Ok(Git { ctx, program, ssh: None })
    }

    /// As [`Git::find`], for what old versions cannot do, and for `url`, which is a remote of the
    /// repository `of`, if of one.
    pub fn for_remote(
        ctx: &'a Context,
        url: &str,
        of: Option<&Path>,
    ) -> Result<Git<'a>, SourceError> {
        let mut git = Git::find(ctx)?;
        let said = git.run(Run::new("git", &[OsStr::new("--version")]))?;
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let mut numbers =
            said.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < NEEDED {
            return Err(SourceError::OldGit { program: git.program, found: said, needed: "2.31" });
        }
        let over_ssh = url.starts_with("ssh://") || !url.contains("://");
        let configured = ["GIT_SSH_COMMAND", "GIT_SSH"].iter().any(|v| ctx.var(v).is_some());
        if over_ssh && !configured {
            let args = ["config", "--get", "core.sshCommand"].map(OsStr::new);
            let env = of.map(in_repository);
            let env = env.as_ref().map_or(&[][..], |env| env);
            let plain = git.run(Run { env, dir: of, ..Run::new("git", &args) }).is_err();
            // ssh asks on the terminal itself, and waits for a host for minutes.
            git.ssh = plain.then(|| "ssh -o BatchMode=yes -o ConnectTimeout=5".into());
        }
        Ok(git)
    }

    /// Runs it and returns what it wrote.
    pub fn run(&self, run: Run<'_>) -> Result<Vec<u8>, SourceError> {
        self.run_and_hear(run).map(|(output, _)| output)
    }

    /// The same, with the last lines that it said to people.
    pub fn run_and_hear(&self, run: Run<'_>) -> Result<(Vec<u8>, VecDeque<String>), SourceError> {
        let failed = |source| SourceError::RunGit { program: self.program.clone(), source };
        let mut command = self.command(&run);
        command.stdin(if run.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        // A lock is shared by every copy of its descriptor: git holds it until it ends.
        let output = match run.output {
            Some(file) => Stdio::from(file.try_clone().map_err(failed)?),
            None => Stdio::piped(),
        };
        command.stdout(output).stderr(Stdio::piped());
        if run.deadline.is_some() {
            // Its helpers are killed with it.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(failed)?;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take().expect("it is piped");
        let (status, output, said) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_all(stdout));
            let said = scope.spawn(|| self.listen(stderr, run.progress));
            // If it ends before it has read everything, its status says why.
            let fed = stdin.as_mut().map(|pipe| pipe.write_all(run.input));
            drop((fed, stdin));
            let status = wait(&mut child, run.deadline);
            let output = reader.join().expect("reading does not panic");
            (status, output, said.join().expect("reading does not panic"))
        });
        match status.map_err(failed)? {
            Some(status) if status.success() => Ok((output, said)),
            status => Err(failure(&run, status, &said)),
        }
    }

    fn command(&self, run: &Run<'_>) -> Command {
        let mut command = Command::new(&self.program);
        // As options they hold for every version, and whatever the user passes in another way.
        let settings = SETTINGS.iter().map(|(name, value)| format!("{name}={value}"));
        command.args(settings.flat_map(|setting| ["-c".to_owned(), setting]));
        command.args(run.args).env_clear();
        if let Some(dir) = run.dir {
            command.current_dir(dir);
        }
        let misleading = |name: &OsStr| MISLEADING.iter().any(|other| name == *other);
        command.envs(self.ctx.vars.iter().filter(|(name, _)| !misleading(name)));
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
        // What is missing is fetched at once and by us; git would fetch object by object,
        // and where the remote lacks one, without end.
        command.env("GIT_NO_LAZY_FETCH", "1");
        if let Some(ssh) = &self.ssh {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        // After those that the user passes in the same way.
        let count = |text: &OsStr| text.to_str()?.parse::<usize>().ok();
        let mut n = self.ctx.var("GIT_CONFIG_COUNT").and_then(count).unwrap_or(0);
        for (name, value) in run.settings {
            command.env(format!("GIT_CONFIG_KEY_{n}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{n}"), value);
            n += 1;
        }
        command.env("GIT_CONFIG_COUNT", n.to_string());
        command.envs(run.env.iter().copied());
        command
    }

    /// Reads what it says to people: passes on its progress, returns the last other lines.
    fn listen(&self, mut stderr: impl Read, progress: Option<&str>) -> VecDeque<String> {
        let mut kept = VecDeque::new();
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n) = stderr.read(&mut buffer) {
            for &byte in if n == 0 { b"\n" } else { &buffer[..n] } {
                if byte != b'\n' && byte != b'\r' {
                    // A line has a length; a hostile server's has a bound.
                    if line.len() < 4096 {
                        line.push(byte);
                    }
                    continue;
                }
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                line.clear();
                match (progress, received(&text)) {
                    (Some(what), Some((done, total))) => {
                        let (what, total) = (what.to_owned(), Some(total));
                        self.ctx.events.emit(Event::Progress { what, done, total });
                    }
                    (_, Some(_)) => {}
                    (_, None) if text.is_empty() => {}
                    (_, None) => kept.push_back(text),
                }
                if kept.len() > 24 {
                    kept.pop_front();
                }
            }
            if n == 0 {
                break;
            }
        }
        kept
    }
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is judged by git's status.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// `None` if it had to be killed.
fn wait(child: &mut Child, deadline: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(deadline) = deadline else { return child.wait().map(Some) };
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= deadline {
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            // It may have ended just now.
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `Receiving objects:  45% (123/271), 1.20 MiB | 2.00 MiB/s`
fn received(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("remote: ").unwrap_or(line);
    let known = ["Receiving objects:", "Resolving deltas:", "Enumerating objects:"];
    let known = known.iter().chain(&["Counting objects:", "Compressing objects:", "Total "]);
    if !known.into_iter().any(|name| rest.starts_with(name)) {
        return None;
    }
    let numbers = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let numbers = numbers.and_then(|(numbers, _)| numbers.split_once('/'));
    let parsed = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    Some(parsed.unwrap_or((0, 0)))
}

/// What git and servers say when they want credentials.
const DENIED: &[&str] = &[
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "terminal prompts disabled",
    "Permission denied",
    "Host key verification failed",
    "dubious ownership",
    "The requested URL returned error: 401",
    "The requested URL returned error: 403",
];

/// What they say of a repository that there is not.
const MISSING: &[&str] = &[
    "not found",
    "Repository not found",
    "does not appear to be a git repository",
    "The requested URL returned error: 404",
    "The requested URL returned error: 410",
    "access denied or repository not exported",
];

/// What they say when nobody answers, or not to the end.
const UNREACHABLE: &[&str] = &[
    "Could not resolve host",
    "Could not resolve hostname",
    "Couldn't connect",
    "Failed to connect",
    "unable to connect",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Connection closed",
    "Network is unreachable",
    "No route to host",
    "timed out",
    "Operation too slow",
    "Empty reply from server",
    "SSL",
    "early EOF",
    "unexpected disconnect",
    "hung up unexpectedly",
    "RPC failed",
    "Temporary failure in name resolution",
    "The requested URL returned error: 5",
    "The requested URL returned error: 429",
];

/// Gives a failure its name, by what git and servers are known to say.
fn failure(run: &Run<'_>, status: Option<ExitStatus>, said: &VecDeque<String>) -> SourceError {
    let address = run.address.to_owned();
    let Some(status) = status else {
        let seconds = run.deadline.unwrap_or_default().as_secs();
        let reason = format!("no answer within {seconds} s");
        return SourceError::Unreachable { address, reason };
    };
    let text: Vec<&str> = said.iter().map(String::as_str).collect();
    let all = text.join("\n");
    let says = |words: &[&str]| words.iter().any(|word| all.contains(word));
    let prefixes = ["fatal: ", "error: ", "remote: ", "ERROR: ", "! ["];
    let telling = text.iter().filter(|line| prefixes.iter().any(|p| line.starts_with(p)));
    let mut telling: Vec<&str> = telling.copied().collect();
    if telling.is_empty() {
        telling = text.last().copied().into_iter().collect();
    }
    telling.truncate(3);
    let mut reason = telling.join("; ");
    // Not every git leaves out the password of an address that it names.
    let hidden = run.hidden.iter().map(String::as_str);
    let secrets = run.settings.iter().filter_map(|(_, value)| value.to_str()).chain(hidden);
    for secret in secrets.filter(|secret| !secret.is_empty()) {
        reason = reason.replace(secret, run.address);
    }
    if reason.is_empty() {
        reason = status.to_string();
    }
    if says(DENIED) {
        SourceError::Denied { address, reason }
    } else if says(UNREACHABLE) {
        SourceError::Unreachable { address, reason }
    } else if says(MISSING) {
        SourceError::NoRepository { address, reason }
    } else {
        let command = run.args.first().map(|arg| arg.to_string_lossy().into_owned());
        SourceError::Git { address, command: command.unwrap_or_default(), reason }
    }
}

/// The environment that makes git use `dir` as the repository, whoever owns it.
pub(super) fn in_repository(dir: &Path) -> [(&'static str, &OsStr); 1] {
    [("GIT_DIR", dir.as_os_str())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read() {
        let line = "Receiving objects:  45% (123/271), 1.20 MiB | 2.00 MiB/s";
        assert_eq!(received(line), Some((123, 271)));
        assert_eq!(received("remote: Counting objects: 100% (5/5), done."), Some((5, 5)));
        assert_eq!(received("remote: Enumerating objects: 5, done."), Some((0, 0)));
        assert_eq!(received("fatal: no"), None);
    }
}
