//! What a workspace survives: processes killed, disks full, faulty or cut off, files that turn
//! out corrupt.

mod corrupt;
mod eio;
mod full;
mod killed;
mod power;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zagi_integration::machine::{Machine, Said};

/// How long a test may go on making trouble: some seconds, or what `ZAGI_FAULT_SECONDS` says.
fn time(seconds: u64) -> Duration {
    let given = std::env::var("ZAGI_FAULT_SECONDS").ok();
    Duration::from_secs(given.map_or(seconds, |text| text.parse().expect("a number of seconds")))
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Lots(u64);

impl Lots {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// The content that file number `number` has: as long, and as it is, by its number.
fn content(number: u64) -> Vec<u8> {
    let mut lots = Lots(number);
    let length = 1 + lots.draw(40_000) as usize;
    (0..length.div_ceil(8)).flat_map(|_| lots.draw(u64::MAX).to_le_bytes()).take(length).collect()
}

/// A small repository, mounted at `w`.
fn mounted(machine: &Machine) -> PathBuf {
    let origin = super::git::repository(machine, "letters");
    machine.zagi(&["mount", text(&origin), "w"]).ok();
    machine.work().join("w")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are text")
}

/// A script as whoever runs the tests, in the machine's work directory.
#[track_caller]
fn sh(machine: &Machine, script: &str) -> Said {
    Said::of(Command::new("sh").args(["-ec", script]).current_dir(machine.work())).ok()
}

/// The daemon's two processes: supervisor, worker; and how many workers there have been.
fn pids(machine: &Machine) -> Option<(Pid, Pid, u64)> {
    let said = machine.zagi(&["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said.out).ok()?;
    let pid = |name: &str| Some(Pid::from_raw(i32::try_from(status[name].as_i64()?).ok()?));
    Some((pid("supervisor_pid")?, pid("worker_pid")?, status["starts"].as_u64()?))
}

fn kill_hard(pid: Pid) {
    // That it has just ended by itself is fine.
    let _ = kill(pid, Signal::SIGKILL);
}

/// A file system where the machine's home is; gone with this value, whatever still uses it.
struct Disk<'m> {
    machine: &'m Machine,
}

impl Disk<'_> {
    /// What `mount` mounts, a script that finds the place in `$HOME_DIR`.
    fn new<'m>(machine: &'m Machine, mount: &str) -> Disk<'m> {
        std::fs::create_dir_all(machine.home()).expect("the user's directory is there");
        sh(machine, &format!("HOME_DIR={}; {mount}", text(&machine.home())));
        machine.give(&machine.home());
        Disk { machine }
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = self.machine.zagi(&["daemon", "stop", "--force"]);
        let _ = Command::new("umount").arg("-l").arg(self.machine.home()).status();
    }
}
