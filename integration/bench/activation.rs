//! What being in an environment costs: the hook at a prompt where nothing changes, and a tool by its
//! shim over the tool itself. Side by side, in one run: direnv, and mise where its program is given.
//!
//! ```text
//! cargo build --release --workspace && target/release/bench-activation [MISE] >> integration/bench/RESULTS.md
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
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
    let mut rows = vec![row(&machine, &dir, "/bin/true", [Path::new("/bin/true")], "")];
    let hook = [zagi.as_path(), Path::new("hook-env"), Path::new("bash")];
    rows.push(row(
        &machine,
        &dir,
        "zagi hook-env, nothing changes",
        hook,
        &on(&zagi, "hook-env bash"),
    ));
    machine.sh(&dir, "direnv allow").ok();
    let direnv = ["direnv", "export", "bash"].map(Path::new);
    rows.push(row(
        &machine,
        &dir,
        "direnv export, nothing changes",
        direnv,
        &on(direnv[0], "export bash"),
    ));
    if let Some(mise) = std::env::args_os().nth(1).map(PathBuf::from) {
        machine.sh(&dir, &format!("'{}' trust -q", mise.display())).ok();
        let words = [mise.as_path(), Path::new("hook-env"), Path::new("-s"), Path::new("bash")];
        rows.push(row(
            &machine,
            &dir,
            "mise hook-env, nothing changes",
            words,
            &on(&mise, "hook-env -s bash"),
        ));
    }
    let shim = dir.join(".zagi/env/bin/uv");
    let text = std::fs::read_to_string(&shim).expect("uv is started by a script");
    let bare = text.rsplit('\'').nth(1).map(PathBuf::from).expect("which names the program");
    let version = Path::new("--version");
    rows.push(row(&machine, &dir, "uv --version", [bare.as_path(), version], ""));
    rows.push(row(&machine, &dir, "uv --version by the shim", [shim.as_path(), version], ""));

    println!("\n### Activation\n\n| | median of {RUNS} | over `/bin/true` |\n|---|--:|--:|");
    let floor = rows[0].1;
    for (name, median) in &rows {
        let over = median.saturating_sub(floor);
        println!("| {name} | {:.2} ms | {:.2} ms |", ms(*median), ms(over));
    }
}

/// What a shell evaluates so that the next look finds nothing to do.
fn on(program: &Path, arguments: &str) -> String {
    format!("eval \"$('{}' {arguments})\"", program.display())
}

/// The median time of `words` in `dir`, with the variables that a shell has after `before`.
fn row<const N: usize>(
    machine: &Machine,
    dir: &Path,
    name: &'static str,
    words: [&Path; N],
    before: &str,
) -> (&'static str, Duration) {
    let mut shell = machine.command("bash", dir);
    let out = shell.args(["-c", &format!("{before}\nexec env -0")]).output().expect("it starts");
    let text = String::from_utf8(out.stdout).expect("variables of ours are text");
    let vars: BTreeMap<&str, &str> =
        text.split('\0').filter_map(|pair| pair.split_once('=')).collect();
    let run = || {
        let begun = Instant::now();
        let mut command = Command::new(words[0].as_os_str());
        command.args(words[1..].iter().map(|word| OsStr::new(*word)));
        command.env_clear().envs(&vars).current_dir(dir);
        let status =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("it starts").success(), "{name} failed");
        begun.elapsed()
    };
    run();
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort();
    (name, times[RUNS / 2])
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
