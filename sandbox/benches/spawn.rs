//! What a sandbox costs: `/bin/true` bare, by the launcher in each profile, by bubblewrap and by
//! firejail, side by side in one run.
//!
//! `cargo bench -p zagi-sandbox [-- ROUNDS]`. Each round runs every contender once, so that
//! whatever else the machine does meets all of them. A contender that is not installed, or
//! refuses, is said to, and stands in no table. Printed: the median and the best time of each in
//! milliseconds, the median over a bare spawn's, its ratio to bubblewrap's, and the time of
//! processors that one took: what is left of the comparison on a machine that is busy. And what one
//! execution inside takes, told to the caller ([`Plan::watch`]) and not.
//!
//! The helper is this program, which is small; zagi's own is larger and takes longer to start.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use zagi_sandbox::{Console, Plan, Profile};

const PROGRAM: &str = "/bin/true";
const ROUNDS: usize = 200;
/// How often it is executed inside, where that is what is looked at.
const TIMES: usize = 100;
const UNWATCHED: &str = "zagi agent, which executes it 100 times";
const WATCHED: &str = "the same, watched";

struct Contender {
    name: &'static str,
    run: Box<dyn Fn() -> Result<(), String>>,
    times: Vec<Duration>,
    /// Of processors, all processes together.
    used: Duration,
}

fn main() -> ExitCode {
    zagi_sandbox::main_if_asked();
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut contenders = contenders(dir.path());
    contenders.retain(|contender| match (contender.run)() {
        Ok(()) => true,
        Err(why) => {
            println!("{}: {why}", contender.name);
            false
        }
    });
    for _ in 0..rounds {
        for contender in &mut contenders {
            let (used, start) = (used(), Instant::now());
            (contender.run)().expect("it worked before");
            contender.times.push(start.elapsed());
            contender.used += self::used().saturating_sub(used);
        }
    }
    print(&mut contenders, rounds);
    ExitCode::SUCCESS
}

/// The processors' time of all processes that were waited for.
fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("can be asked");
    [usage.user_time(), usage.system_time()]
        .map(|t| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64))
        .into_iter()
        .sum()
}

fn contenders(dir: &Path) -> Vec<Contender> {
    let new = |name, run| Contender { name, run, times: Vec::new(), used: Duration::ZERO };
    let workspace = workspace(dir);
    let at_work = |profile| {
        let mut plan = plan(profile).bind(&workspace, &workspace, true);
        plan.cwd.clone_from(&workspace);
        plan
    };
    let mut pinned = at_work(Profile::Agent);
    for (path, directory) in [
        (".git/config", false),
        (".git/hooks", true),
        (".zagi/agents.toml", false),
        (".zagi/secrets.enc", false),
    ] {
        pinned = pinned.pin(workspace.join(path), directory);
    }
    let mut published = at_work(Profile::App);
    published.publish = true;
    let on_streams = pinned.clone();
    let script = format!("i=0; while [ $i -lt {TIMES} ]; do {PROGRAM}; i=$((i+1)); done");
    let mut unwatched = at_work(Profile::Agent);
    unwatched.argv = vec!["/bin/sh".into(), "-c".into(), script];
    let watched = Plan { watch: true, ..unwatched.clone() };
    vec![
        new("bare", Box::new(|| ended(Command::new(PROGRAM)))),
        new("zagi install", ours(plan(Profile::Install))),
        new("zagi service", ours(plan(Profile::Service))),
        new("zagi app", ours(at_work(Profile::App))),
        new("zagi app, its ports published", ours(published)),
        new("zagi agent", ours(at_work(Profile::Agent))),
        new("zagi agent, 4 pins", ours(pinned)),
        new("zagi agent, 4 pins, launch", Box::new(move || launch(&on_streams))),
        new(UNWATCHED, ours(unwatched)),
        new(WATCHED, ours(watched)),
        new("bwrap", Box::new(move || bubblewrap(&workspace))),
        new("firejail", Box::new(firejail)),
    ]
}

/// A directory with what is pinned, but for one file.
fn workspace(dir: &Path) -> PathBuf {
    for path in [".git/hooks", ".zagi"] {
        fs::create_dir_all(dir.join(path)).expect("made");
    }
    for path in [".git/config", ".zagi/agents.toml"] {
        fs::write(dir.join(path), "").expect("written");
    }
    dir.to_owned()
}

fn plan(profile: Profile) -> Plan {
    Plan::new(profile, vec![PROGRAM.into()])
}

fn helper() -> PathBuf {
    std::env::current_exe().expect("has a file")
}

fn ours(plan: Plan) -> Box<dyn Fn() -> Result<(), String>> {
    Box::new(move || {
        let exit = zagi_sandbox::spawn(&plan, &helper()).and_then(|mut child| child.wait());
        exit.map(drop).map_err(|e| e.to_string())
    })
}

fn launch(plan: &Plan) -> Result<(), String> {
    let null = fs::File::options().read(true).write(true).open("/dev/null").expect("there");
    let console = Console { input: null.as_fd(), output: null.as_fd(), error: null.as_fd() };
    zagi_sandbox::launch(plan, &helper(), console).map(drop).map_err(|e| e.to_string())
}

fn ended(mut command: Command) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let out = command.output().map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// As much of the same as its options give: no Landlock, no filter (it takes a compiled one).
fn bubblewrap(workspace: &Path) -> Result<(), String> {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]);
    command.args(["--cap-drop", "ALL", "--clearenv", "--uid", "1000", "--gid", "1000"]);
    command.args(["--ro-bind", "/usr", "/usr"]);
    for link in ["bin", "sbin", "lib", "lib64"] {
        command.args(["--symlink", &format!("usr/{link}"), &format!("/{link}")]);
    }
    for file in ["alternatives", "ld.so.cache", "ssl/certs", "hosts", "os-release"] {
        let path = format!("/etc/{file}");
        command.args(["--ro-bind-try", &path, &path]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]);
    command.args(["--tmpfs", "/zagi/home"]).arg("--bind").args([workspace, workspace]);
    for pin in [".git/config", ".git/hooks", ".zagi/agents.toml"] {
        command.arg("--ro-bind").args([workspace.join(pin), workspace.join(pin)]);
    }
    command.arg(PROGRAM);
    ended(command)
}

/// Its own view of files, no network, its default filter.
fn firejail() -> Result<(), String> {
    let mut command = Command::new("firejail");
    command.args(["--quiet", "--noprofile", "--private", "--private-dev", "--private-tmp"]);
    command.args(["--net=none", "--caps.drop=all", "--nonewprivs", "--seccomp", PROGRAM]);
    ended(command)
}

fn print(contenders: &mut [Contender], rounds: usize) {
    for contender in &mut *contenders {
        contender.times.sort();
    }
    let median = |name: &str| {
        let found = contenders.iter().find(|c| c.name == name);
        found.map(|c| milliseconds(c.times[rounds / 2]))
    };
    let (bare, bwrap) = (median("bare").unwrap_or(0.0), median("bwrap"));
    println!(
        "| | median, ms | best, ms | over bare, ms | to bwrap | processors, ms |\n|---|---|---|---|---|---|"
    );
    for contender in &*contenders {
        let middle = milliseconds(contender.times[rounds / 2]);
        let best = milliseconds(contender.times[0]);
        let ratio = bwrap.map_or("-".into(), |bwrap| format!("{:.2}", middle / bwrap));
        let name = contender.name;
        let used = milliseconds(contender.used) / rounds as f64;
        let over = middle - bare;
        println!("| {name} | {middle:.1} | {best:.1} | {over:.1} | {ratio} | {used:.1} |");
    }
    print_executions(median);
}

/// What one execution inside takes: what a sandbox takes that has none is taken off.
fn print_executions(median: impl Fn(&str) -> Option<f64>) {
    let one = |name| Some((median(name)? - median("zagi agent")?) / TIMES as f64);
    if let (Some(unwatched), Some(watched)) = (one(UNWATCHED), one(WATCHED)) {
        let ratio = watched / unwatched;
        println!(
            "\none execution inside: {unwatched:.3} ms, watched {watched:.3} ms: {ratio:.2} times"
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
