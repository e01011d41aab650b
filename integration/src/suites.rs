//! Test suites that others have written for file systems, run on a directory as a user:
//! `pjdfstest` and `fsx`, programs that are installed beside the build (`.ci/run` says how).
//!
//! What a suite says of a mount is set beside what it says of an ext4 of its own, on a loop
//! device: the kernel, the user and the configuration are the same, and so only the file system
//! is left to differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{self, Machine, ORDINARY, Said};

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It could not be run here, and why.
    Skipped(String),
    /// It failed, and what it said.
    Failed(String),
}

/// Every test's outcome, by its name.
pub type Outcomes = BTreeMap<String, Outcome>;

/// The program `name`, put where every user of `machine` may run it.
///
/// # Panics
/// Where it is not installed: a test that cannot have what it needs fails.
pub fn tool(machine: &Machine, name: &str) -> PathBuf {
    let installed = installed(name);
    let own = machine.work().join(name);
    if !own.exists() {
        machine::install(&installed, &own);
    }
    own
}

/// In `suites/bin` of the build's directory, else on the PATH.
fn installed(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let beside = test.ancestors().map(|dir| dir.join("suites/bin").join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    let found = beside.chain(on_path).find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not there: cargo install --locked --root target/suites {name}")
    })
}

/// An ext4 of its own on a loop device, unmounted with this value.
pub struct Ext4<'m> {
    machine: &'m Machine,
    dir: PathBuf,
}

impl Ext4<'_> {
    /// One of `size` (as truncate(1) takes it) at `native` in the work directory, the user's own.
    pub fn new<'m>(machine: &'m Machine, size: &str) -> Ext4<'m> {
        let work = machine.work();
        let dir = work.join("native");
        let script = r#"truncate -s "$1" native.img && mkfs.ext4 -q -F native.img
            mkdir native && mount -o loop native.img native"#;
        let made = Command::new("sh").args(["-ec", script, "sh", size]).current_dir(&work).status();
        assert!(made.is_ok_and(|status| status.success()), "a disk can be made and mounted");
        machine.give(&dir);
        Ext4 { machine, dir }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Ext4<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        let _ = std::fs::remove_file(self.machine.work().join("native.img"));
    }
}

/// The whole of `pjdfstest`, and all its features that Linux has. `EROFS` is left out: to see it
/// the suite remounts what it runs on, which the native file system itself now and then refuses
/// (it is busy with what was just closed). As an ordinary user the suite skips what only root may.
///
/// # Panics
/// Where it cannot be run, or did not come to its end.
pub fn pjdfstest(machine: &Machine, dir: &Path) -> Outcomes {
    // Timestamps must differ after a nap: the kernel's coarse clock ticks every 4 ms or 10.
    let configuration = format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\n\
         utimensat = {{}}\nsecondary_fs = \"/dev/shm\"\n\
         [settings]\nnaptime = 0.02\nallow_remount = false\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"{ORDINARY}\", \"{ORDINARY}\"], \
         [\"daemon\", \"daemon\"]]\n"
    );
    let file = machine.work().join("pjdfstest.toml");
    std::fs::write(&file, configuration).expect("the directory is the test's own");
    let program = tool(machine, "pjdfstest");
    let mut command = machine.command(program, Path::new("/"));
    command.arg("-c").arg(&file).arg("-p").arg(dir).env("NO_COLOR", "1");
    let said = Said::of(&mut command);
    let outcomes = outcomes(&said.out);
    let summary = format!(", {} total", outcomes.len());
    assert!(said.out.contains(&summary), "no whole summary:\n{}\n{}", said.out, said.err);
    outcomes
}

/// Reads lines of a name and a word, and below them what was said.
fn outcomes(out: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut last = None;
    for line in out.lines() {
        if let Some(said) = line.strip_prefix('\t') {
            let reason = last.as_ref().and_then(|name| outcomes.get_mut(name));
            if let Some(Outcome::Skipped(why) | Outcome::Failed(why)) = reason
                && why.is_empty()
            {
                said.clone_into(why);
            }
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(word), None) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let outcome = match word {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped(String::new()),
            "FAILED" => Outcome::Failed(String::new()),
            _ => continue,
        };
        last = Some(name.to_owned());
        outcomes.insert(name.to_owned(), outcome);
    }
    outcomes
}

/// What passes on the native file system and not on the mount: name and reason, a line each.
pub fn worse(native: &Outcomes, mount: &Outcomes) -> Vec<String> {
    let passed = native.iter().filter(|(_, outcome)| **outcome == Outcome::Passed);
    let lacks = passed.filter_map(|(name, _)| match mount.get(name) {
        Some(Outcome::Passed) => None,
        Some(other) => Some(format!("{name}: {other:?}")),
        None => Some(format!("{name}: was not run")),
    });
    lacks.collect()
}

/// How many of each: passed, skipped, failed.
pub fn counts(outcomes: &Outcomes) -> [usize; 3] {
    let count = |is: fn(&Outcome) -> bool| outcomes.values().filter(|o| is(o)).count();
    [
        count(|o| matches!(o, Outcome::Passed)),
        count(|o| matches!(o, Outcome::Skipped(_))),
        count(|o| matches!(o, Outcome::Failed(_))),
    ]
}

/// Everything `fsx` can do here: reads, writes, mappings, truncation, holes, preallocation,
/// `sendfile`, `copy_file_range`, advice, syncs, closing and opening again.
const FSX: &str = "flen = 1048576\n[opsize]\nmax = 131072\n[weights]\nclose_open = 1\nread = 10\n\
    write = 10\nmapread = 10\nmapwrite = 10\ninvalidate = 1\ntruncate = 3\nfsync = 0.2\n\
    fdatasync = 0.2\nposix_fallocate = 2\npunch_hole = 2\nsendfile = 3\nposix_fadvise = 2\n\
    copy_file_range = 3\n";

/// A run of `fsx` on a new file in `dir`, ready to be started: `operations` of them, chosen by
/// `seed`.
///
/// # Panics
/// Where the program or its configuration cannot be put in place.
pub fn fsx(machine: &Machine, dir: &Path, seed: u64, operations: u64) -> Command {
    let file = machine.work().join("fsx.toml");
    std::fs::write(&file, FSX).expect("the directory is the test's own");
    let mut command = machine.command(tool(machine, "fsx"), Path::new("/"));
    command.arg("-f").arg(&file);
    command.args(["-S", &seed.to_string(), "-N", &operations.to_string()]);
    // Should it fail, what it expected lies beside the file that it wrote.
    command.arg("-P").arg(dir).arg(dir.join(format!("fsx-{seed}")));
    command
}

/// A seed that is new every time, or the one in `ZAGI_TEST_SEED`; printed, so that a run that
/// failed can be had again.
///
/// # Panics
/// Where the variable is no number.
pub fn seed() -> u64 {
    let given = std::env::var("ZAGI_TEST_SEED").ok();
    let seed = given.map(|text| text.parse().expect("ZAGI_TEST_SEED is a number"));
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_micros() as u64);
    seed.unwrap_or_else(|| now() % 1_000_000_007)
}
