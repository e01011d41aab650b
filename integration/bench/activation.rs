//! What being in an environment costs: the hook at a prompt where nothing changes, and a tool by its
//! shim over the tool itself. Side by side, in one run: direnv, and mise where its program is given.
//!
//! ```text
//! cargo build --release --workspace && target/release/bench-activation [MISE] >> integration/bench/RESULTS.md
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zagi_integration::machine::{Machine, Said, Who};

/// Measurements of each; the median counts.
const RUNS: usize = 501;

fn main() {
    let machine = Machine::new(Who::Me);
    let dir = machine.work().join("web");
    std::fs::create_dir_all(dir.join(".zagi")).expect("the directory is ours");
    std::fs::write(dir.join(".zagi/env.toml"), "[tools]\nuv = \"*\"\n").expect("so is this");
    std::fs::write(dir.join(".envrc"), "export LEVEL=7\n").expect("and this");
    std::fs::write(dir.join("mise.toml"), "[env]\nLEVEL = \"7\"\n").expect("and this");
    machine.sh(&dir, "git init -q .").ok();
    Said::of(&mut machine.zagi_in(&dir, &["exec", "--", "true"])).ok();

    let zagi = machine.program().to_owned();
    let words = |line: &[&str]| line.iter().map(PathBuf::from).collect::<Vec<_>>();
    let mut rows = vec![Row::new(&machine, &dir, "/bin/true", words(&["/bin/true"]), "")];
    let mut hook = |name, program: &Path, arguments: &str| {
        let mut line = vec![program.to_owned()];
        line.extend(arguments.split(' ').map(PathBuf::from));
        // What a shell evaluates so that the next look finds nothing to do.
        let before = format!("eval \"$('{}' {arguments})\"", program.display());
        rows.push(Row::new(&machine, &dir, name, line, &before));
    };
    hook("zagi hook-env, nothing changes", &zagi, "hook-env bash");
    machine.sh(&dir, "direnv allow").ok();
    hook("direnv export, nothing changes", Path::new("direnv"), "export bash");
    if let Some(mise) = std::env::args_os().nth(1).map(PathBuf::from) {
        machine.sh(&dir, &format!("'{}' trust -q", mise.display())).ok();
        hook("mise hook-env, nothing changes", &mise, "hook-env -s bash");
    }
    let shim = dir.join(".zagi/env/bin/uv");
    let text = std::fs::read_to_string(&shim).expect("uv is started by a script");
    let bare = text.rsplit('\'').nth(1).map(PathBuf::from).expect("which names the program");
    for (name, program) in [("uv --version", bare), ("uv --version by the shim", shim)] {
        rows.push(Row::new(&machine, &dir, name, vec![program, "--version".into()], ""));
    }

    // In turn: what else the machine does meanwhile is the same for all.
    for _ in 0..RUNS {
        rows.iter_mut().for_each(Row::run);
    }
    println!("\n### Activation\n\n| | median of {RUNS} | over `/bin/true` |\n|---|--:|--:|");
    let medians: Vec<Duration> = rows.iter_mut().map(Row::median).collect();
    for (row, median) in rows.iter().zip(&medians) {
        let over = median.saturating_sub(medians[0]);
        println!("| {} | {:.2} ms | {:.2} ms |", row.name, ms(*median), ms(over));
    }
}

/// One command in one directory.
struct Row {
    name: &'static str,
    command: Command,
    times: Vec<Duration>,
}

impl Row {
    /// `words` in `dir`, with the variables that a shell has after `before`.
    fn new(
        machine: &Machine,
        dir: &Path,
        name: &'static str,
        words: Vec<PathBuf>,
        before: &str,
    ) -> Row {
        let mut shell = machine.command("bash", dir);
        let out = shell.args(["-c", &format!("{before}\nexec env -0")]).output();
        let text = String::from_utf8(out.expect("it starts").stdout).expect("ours are text");
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(dir).env_clear();
        command.envs(text.split('\0').filter_map(|pair| pair.split_once('=')));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Row { name, command, times: Vec::new() }
    }

    fn run(&mut self) {
        let begun = Instant::now();
        let status = self.command.status().expect("it starts");
        self.times.push(begun.elapsed());
        assert!(status.success(), "{} failed", self.name);
    }

    fn median(&mut self) -> Duration {
        self.times.sort();
        self.times[self.times.len() / 2]
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
