//! One user's directories and processes, and how they go: at the end, after a panic, and when
//! interrupted.
//!
//! Every process that is started carries [`MARK`] in its environment, so that also what went
//! into the background (a file system, a database) is found again and ended by its own id.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use zagi_integration::machine::{Machine, Who};

use super::step;

/// The variable that names the place a process belongs to.
const MARK: &str = "BENCH_FS_PLACE";

/// Watches for SIGINT, SIGTERM and SIGHUP, and clears the places there are.
#[derive(Clone)]
pub struct Interrupt {
    places: Arc<Mutex<Vec<PathBuf>>>,
    came: Arc<AtomicBool>,
}

impl Interrupt {
    /// To be called before any other thread is started.
    pub fn watch() -> Interrupt {
        let interrupt = Interrupt { places: Arc::default(), came: Arc::default() };
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().expect("signals can be blocked");
        let watcher = interrupt.clone();
        std::thread::spawn(move || {
            let signal = signals.wait().expect("blocked signals can be waited for");
            watcher.came.store(true, Ordering::SeqCst);
            eprintln!("\n{signal}: clearing up");
            let places = watcher.places.lock().unwrap_or_else(PoisonError::into_inner);
            for place in places.iter() {
                clear(place);
                let _ = std::fs::remove_dir_all(place);
            }
            std::process::exit(128 + signal as i32);
        });
        interrupt
    }

    /// Does not return once a signal came: nothing new may be started then.
    fn check(&self) {
        while self.came.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// One user's place.
pub struct Place {
    /// The user, `zagi`, and the directories.
    pub machine: Machine,
    who: Who,
    dir: PathBuf,
    interrupt: Interrupt,
}

impl Place {
    /// An empty place, with this program copied to where the user may run it.
    pub fn new(who: Who, interrupt: &Interrupt) -> Place {
        let mut machine = Machine::new(who);
        let work = machine.work();
        let dir = work.parent().expect("it lies in the machine's directory").to_owned();
        interrupt.places.lock().unwrap_or_else(PoisonError::into_inner).push(dir.clone());
        let own = std::env::current_exe().expect("a program knows its own file");
        std::fs::copy(own, dir.join("bench-fs")).expect("the directory is ours");
        machine.set(MARK, dir.to_str().expect("temporary directories have plain names"));
        Place { machine, who, dir, interrupt: interrupt.clone() }
    }

    /// A name for the table.
    pub fn user(&self) -> &'static str {
        if self.is_root() { "root" } else { "an ordinary user" }
    }

    /// Whether it is root's.
    pub fn is_root(&self) -> bool {
        self.who == Who::Me
    }

    /// A path in the work directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.work().join(name)
    }

    /// A new directory there, of the user's.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("the place is ours");
        self.machine.give(&path);
        path
    }

    /// A command of the user's.
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        self.interrupt.check();
        self.machine.command(program, dir)
    }

    /// Runs a script that has to go well.
    pub fn sh(&self, dir: &Path, script: &str) -> String {
        self.interrupt.check();
        self.machine.sh(dir, script).ok().out
    }

    /// Runs `zagi` in the work directory; it has to go well.
    pub fn zagi(&self, arguments: &[&str]) -> String {
        self.interrupt.check();
        self.machine.zagi(arguments).ok().out
    }

    /// Runs a step in `dir`, in a process of the user's that measures itself: milliseconds.
    pub fn time(
        &self,
        dir: &Path,
        step: &[String],
        limit: u64,
        variables: &[(&str, String)],
    ) -> Result<f64, String> {
        // What was written before must not be paid for by whoever comes next.
        nix::unistd::sync();
        let mut command = self.command("timeout", dir);
        command.arg("--kill-after=5").arg(limit.to_string()).arg(self.dir.join("bench-fs"));
        command.arg(step::WORD).args(step).envs(variables.iter().map(|(k, v)| (*k, v)));
        let output = command.output().map_err(|e| e.to_string())?;
        if matches!(output.status.code(), Some(124 | 137)) {
            return Err(format!("it took over {limit} s"));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        match (output.status.success(), said.trim().parse::<f64>()) {
            (true, Ok(micros)) => Ok(micros / 1e3),
            _ => Err(format!("{}: {}", step.join(" "), last_lines(&output.stderr))),
        }
    }
}

/// The end of what a program said, in one line.
pub fn last_lines(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut stop = self.machine.zagi_in(Path::new("/"), &["daemon", "stop", "--force"]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        clear(&self.dir);
        let mut places = self.interrupt.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| *place != self.dir);
    }
}

/// Unmounts everything below `place` and ends every process of it.
fn clear(place: &Path) {
    for _ in 0..50 {
        let mounts = mounts_below(place);
        for mount in mounts.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(mount).stderr(Stdio::null()).status();
        }
        let processes = processes_of(place);
        if mounts.is_empty() && processes.is_empty() {
            return;
        }
        for process in processes {
            let _ = kill(process, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("something is left in {}", place.display());
}

/// What is mounted below `dir`, in the order of mounting.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

fn processes_of(place: &Path) -> Vec<Pid> {
    let marked = [MARK.as_bytes(), b"=", place.as_os_str().as_bytes()].concat();
    let is_of = |pid: i32| {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let environ = std::fs::read(proc.join("environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == marked)
            || std::fs::read_link(proc.join("exe")).is_ok_and(|exe| exe.starts_with(place))
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_of(*pid)).map(Pid::from_raw).collect()
}
