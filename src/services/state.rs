//! A run of a service: whose keeper it is, and how it ended. `state.json`, version 1:
//!
//! ```json
//! {"version_of_format": 1, "pid": 4711, "began": 83423, "boot": "…", "since": 1790000000,
//!  "version": "16.9", "port": null, "stopping": false, "ended": null}
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::{ServiceError, at};

/// The file.
const FILE: &str = "state.json";
const VERSION: u32 = 1;
/// How long a service may take to end in good order. A database writes out what it has in
/// memory.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version_of_format: u32,
    /// The keeper's process.
    pub pid: i32,
    /// When that process began, in ticks since the machine did: with the number, it is that
    /// process and no other.
    began: u64,
    /// The kernel that this was under.
    boot: String,
    /// Seconds since the epoch.
    pub since: i64,
    /// Of the service's tool.
    pub version: String,
    /// The port of 127.0.0.1 where it listens.
    pub port: Option<u16>,
    /// It was told to end.
    stopping: bool,
    /// How it ended.
    ended: Option<String>,
}

impl State {
    /// That of a run that this process keeps.
    pub(super) fn of_this_process(
        version: &str,
        port: Option<u16>,
        since: i64,
    ) -> io::Result<State> {
        let pid = nix::unistd::getpid().as_raw();
        let began = began(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(State {
            version_of_format: VERSION,
            pid,
            began,
            boot: boot()?,
            since,
            version: version.to_owned(),
            port,
            stopping: false,
            ended: None,
        })
    }

    /// The last run in a service's directory.
    pub(super) fn read(dir: &Path) -> Result<Option<State>, ServiceError> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(&path)(e)),
        };
        let state: State = serde_json::from_slice(&bytes)
            .map_err(|source| ServiceError::Parse { path: path.clone(), source })?;
        match state.version_of_format {
            VERSION => Ok(Some(state)),
            other => Err(at(&path)(io::Error::other(format!("version {other} is not known")))),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).expect("every field has a form in JSON");
        write_whole(&dir.join(FILE), &bytes)
    }

    /// Of the last run nothing is to be known any more: the next begins.
    pub(super) fn forget(dir: &Path) -> Result<(), ServiceError> {
        let path = dir.join(FILE);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Whether its keeper is at work.
    pub(super) fn runs(&self) -> bool {
        self.ended.is_none()
            && boot().is_ok_and(|boot| boot == self.boot)
            && began(self.pid) == Some(self.began)
    }

    /// Whether it ended because it was to.
    pub(super) fn stopped(&self) -> bool {
        self.stopping
    }

    /// How it ended.
    pub(super) fn end(&self) -> String {
        match &self.ended {
            Some(end) => end.clone(),
            None if boot().is_ok_and(|boot| boot != self.boot) => {
                "the machine was restarted".into()
            }
            None => "its keeper was killed".into(),
        }
    }

    /// It is to end from now on.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// It is over.
    pub(super) fn finish(&mut self, how: &str) {
        self.ended = Some(how.to_owned());
    }
}

/// Stops what runs in a service's directory, whose lock is held: in good order first, and what
/// does not end is killed. `false` where nothing ran.
pub(super) fn stop(dir: &Path) -> Result<bool, ServiceError> {
    let Some(state) = State::read(dir)?.filter(State::runs) else { return Ok(false) };
    let keeper = Pid::from_raw(state.pid);
    let name = || dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The keeper kills by itself what has not ended in time; after that, nothing is lost.
    for (signal, wait) in
        [(Signal::SIGTERM, PATIENCE + Duration::from_secs(5)), (Signal::SIGKILL, PATIENCE)]
    {
        match kill(keeper, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(at(dir)(errno.into())),
        }
        let begun = Instant::now();
        while begun.elapsed() < wait {
            if began(state.pid) != Some(state.began) {
                return buried(dir, state).map(|()| true);
            }
            std::thread::sleep(PAUSE);
        }
    }
    Err(ServiceError::DoesNotEnd { name: name(), pid: state.pid })
}

/// The keeper writes down how it ended, unless it had to be killed.
fn buried(dir: &Path, before: State) -> Result<(), ServiceError> {
    let mut state = State::read(dir)?.unwrap_or(before);
    if state.ended.is_none() {
        state.stopping = true;
        state.ended = Some(Signal::SIGKILL.to_string());
        state.write(dir).map_err(at(dir))?;
    }
    Ok(())
}

/// When a process began, in ticks since the machine did; `None` where there is none, or it has
/// ended and its parent has not asked yet. Field 22 of proc_pid_stat(5); field 2 is the
/// program's name in parentheses, and may hold any byte.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|b| *b == b')')?;
    let fields = String::from_utf8_lossy(&stat[after + 1..]).into_owned();
    let mut fields = fields.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Writes a file that is never seen half-written.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    io::Write::write_all(&mut file, bytes)?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_again_is_another_process() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), None);
        let mut state = State::of_this_process("16.9", Some(5433), 7).unwrap();
        state.write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap().as_ref(), Some(&state));
        assert!(state.runs());
        let other = State { began: state.began + 1, ..state.clone() };
        assert!(!other.runs());
        let before = State { boot: "another".into(), ..state.clone() };
        assert!(!before.runs() && before.end().contains("restarted"));
        // Nothing is sent to whoever has the number now.
        other.write(dir.path()).unwrap();
        assert!(!stop(dir.path()).unwrap());
        state.finish("exit code 1");
        assert!(!state.runs() && !state.stopped());
        assert_eq!(state.end(), "exit code 1");
    }

    #[test]
    fn what_was_damaged_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["{", "{}", r#"{"version_of_format": 1, "x": 2}"#] {
            fs::write(dir.path().join(FILE), text).unwrap();
            let e = State::read(dir.path()).unwrap_err();
            assert!(e.to_string().contains(FILE), "{e}");
        }
    }
}
