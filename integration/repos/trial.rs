//! One project, step by step.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use zagi_integration::machine::{Machine, Who, in_group};

use super::counted::Counted;
use super::projects::Project;
use super::reason;

/// For how long a mount may take.
const MOST_MOUNT: Duration = Duration::from_secs(1800);

/// What was found out about a project.
#[derive(Default, Serialize, Deserialize)]
pub struct Trial {
    /// When, in seconds since the epoch.
    pub date: u64,
    /// The step that failed, and how; `None` where all went well.
    pub failed: Option<(String, String)>,
    /// The tools, and their versions.
    pub tools: String,
    /// The command that detection found.
    pub test: String,
    /// Seconds of the first mount.
    pub cold: f64,
    /// Seconds of the tests.
    pub tests: f64,
    /// Seconds of the second mount.
    pub warm: f64,
    /// Seconds of its step `environment`.
    pub resolved: Option<f64>,
    /// Bytes that came over the network for the first mount.
    pub fetched: u64,
    /// For the second.
    pub fetched_warm: u64,
}

/// What is known of the project `name`.
pub fn result(kept: &Path, name: &str) -> Option<Trial> {
    let text = fs::read_to_string(kept.join(format!("{name}.json"))).ok()?;
    serde_json::from_str(&text).ok()
}

/// Tries `project` and keeps what comes of it.
pub fn run(project: &Project, kept: &Path, limit: Duration) {
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut trial = Trial { date: begun, ..Trial::default() };
    let log = kept.join(format!("{}.log", project.name));
    // What is left of an earlier trial would be taken for this one's.
    let _ = fs::remove_file(&log);
    trial.failed = steps(project, kept, limit, &log, &mut trial).err();
    let said = match &trial.failed {
        None => format!("passed in {:.0} s + {:.0} s", trial.cold, trial.tests),
        Some((step, why)) => format!("{step}: {why}"),
    };
    println!("{}: {said}", project.name);
    let json = serde_json::to_string_pretty(&trial).expect("plain data");
    fs::write(kept.join(format!("{}.json", project.name)), json).expect("the directory is ours");
}

type Failure = (String, String);

fn steps(
    project: &Project,
    kept: &Path,
    limit: Duration,
    log: &Path,
    trial: &mut Trial,
) -> Result<(), Failure> {
    let machine = Machine::new(Who::Ordinary);
    let work = machine.work();
    let own = work.parent().expect("it is in the machine's directory");
    let address = project.on(&machine, kept).map_err(|why| ("source".to_owned(), why))?;
    let counted = Counted::start();
    let mount = |directory: &str| {
        let mut command = machine.zagi_in(&work, &["mount", "--json", &address, directory]);
        command.envs(counted.variables());
        let before = counted.bytes();
        let begun = Instant::now();
        let said = said(&mut command, MOST_MOUNT, log);
        (said, begun.elapsed().as_secs_f64(), counted.bytes() - before)
    };
    let (said_cold, took, bytes) = mount("cold");
    (trial.cold, trial.fetched) = (took, bytes);
    let mounted = said_cold.well("mount", own)?;
    trial.tools = tools(&mounted.err);
    let json: serde_json::Value = serde_json::from_str(&mounted.out).expect("it said --json");
    let Some(test) = json["run"]["test"].as_str() else {
        return Err(("detect".into(), "no test command was found".into()));
    };
    trial.test = test.to_owned();
    let dir = work.join("cold");
    let begun = Instant::now();
    let mut command = machine.zagi_in(&dir, &["exec", "--", "sh", "-c", test]);
    let tested = said(&mut command, limit, log).well("test", own);
    trial.tests = begun.elapsed().as_secs_f64();
    // What was killed may have left something that looks into it.
    machine.zagi(&["unmount", "--force", "cold"]).ok();
    let (said_warm, took, bytes) = mount("warm");
    (trial.warm, trial.fetched_warm) = (took, bytes);
    trial.resolved = said_warm.well("mount again", own).map(|said| seconds(&said.err))?;
    tested.map(|_| ())
}

/// What a command said, and how it ended.
struct Output {
    out: String,
    err: String,
    /// `None` where its time was over.
    code: Option<i32>,
}

impl Output {
    fn well(self, step: &str, own: &Path) -> Result<Output, Failure> {
        let why = match self.code {
            Some(0) => return Ok(self),
            Some(code) => {
                let log = format!("{}\n{}", self.out, self.err);
                format!("exit {code}: {}", reason::of(&log, own))
            }
            None => "the time was over".to_owned(),
        };
        Err((step.to_owned(), why))
    }
}

/// Runs `command` to its end or for as long as `limit`; all that it says is added to `log`.
fn said(command: &mut Command, limit: Duration, log: &Path) -> Output {
    let part = |name: &str| -> PathBuf { log.with_extension(name) };
    let (out, err) = (part("out"), part("err"));
    let create = |path: &Path| File::create(path).expect("the build directory is ours");
    command.stdout(create(&out)).stderr(create(&err)).stdin(Stdio::null());
    let mut child = in_group(command).spawn().expect("the program can be started");
    let begun = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break Some(status.code().unwrap_or(-1));
        }
        if begun.elapsed() > limit {
            // It may have ended just now.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            child.wait().expect("it is our child");
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let [out, err] = [out, err].map(|path| {
        let bytes = fs::read(&path).expect("it was just written");
        fs::remove_file(&path).expect("so it can be removed");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let before = fs::read_to_string(log).unwrap_or_default();
    fs::write(log, format!("{before}$ {command:?}\n{out}{err}exit {code:?}\n\n"))
        .expect("the build directory is ours");
    Output { out, err, code }
}

/// What stands in the line of the step `environment`: `python 3.13.5, uv 0.13.8`.
pub fn tools(said: &str) -> String {
    let line = line(said).unwrap_or_default();
    line.split("  ").map(str::trim).find(|part| !part.is_empty()).unwrap_or_default().to_owned()
}

/// How long that step took.
fn seconds(said: &str) -> Option<f64> {
    line(said)?.trim().strip_suffix(" s")?.rsplit(' ').next()?.parse().ok()
}

fn line(said: &str) -> Option<&str> {
    said.lines().find_map(|line| line.trim_start().strip_prefix("environment"))
}
