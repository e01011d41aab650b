//! How long the second mount of a repository takes, as a whole process, and whether that
//! grows with the repository. Side by side, in one run: `git worktree add`, `git clone
//! --local`, `cp -a`.
//!
//! ```text
//! cargo build --release --workspace && target/release/bench-mount > integration/bench/RESULTS.md
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zagi_integration::machine::{Machine, Who};

/// Files of the two repositories.
const SIZES: [usize; 2] = [100, 100_000];
/// Measurements of a mount; the median counts.
const MOUNTS: usize = 31;
/// Measurements of what takes seconds.
const COPIES: usize = 3;

fn main() {
    let machine = Machine::new(Who::Me);
    let repositories = SIZES.map(|files| make(&machine, files));
    for repository in &repositories {
        machine.zagi(&["mount", text(repository), "warm"]).ok();
        machine.zagi(&["discard", "--yes", "warm"]).ok();
    }
    machine.zagi(&["mount", "pypi:itsdangerous@2.2.0", "first"]).ok();
    let (mounts, dependencies) = mounts(&machine, &repositories);
    let rows: Vec<Row> = std::iter::once(Row { name: "zagi mount", medians: mounts })
        .chain(peers(&machine, &repositories))
        .collect();
    print(&rows, dependencies);
}

struct Row {
    name: &'static str,
    /// One for each of [`SIZES`].
    medians: [Duration; 2],
}

/// A repository of `files` small files, a hundred a directory, in one commit.
fn make(machine: &Machine, files: usize) -> PathBuf {
    let dir = machine.work().join(format!("origin-{files}"));
    for i in 0..files {
        let sub = dir.join(format!("d{:02}/e{:02}", i / 10_000, i / 100 % 100));
        if i % 100 == 0 {
            std::fs::create_dir_all(&sub).expect("the directory is ours");
        }
        std::fs::write(sub.join(format!("f{i}.txt")), format!("file {i}\n")).expect("so is this");
    }
    let script = "git init -q && git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m one";
    machine.sh(&dir, script).ok();
    dir
}

/// Medians of the second mount, the sizes taken in turn so that noise falls on both alike;
/// and of one with an environment and dependencies.
fn mounts(machine: &Machine, repositories: &[PathBuf; 2]) -> ([Duration; 2], Duration) {
    let mut took = [const { Vec::new() }; 3];
    for _ in 0..MOUNTS {
        let jobs = [text(&repositories[0]), text(&repositories[1]), "pypi:itsdangerous@2.2.0"];
        for (job, took) in jobs.iter().zip(&mut took) {
            took.push(time(&mut machine.zagi_in(&machine.work(), &["mount", "-q", job, "m"])));
            machine.zagi(&["discard", "-q", "--yes", "m"]).ok();
        }
    }
    let [small, large, dependencies] = took.map(median);
    ([small, large], dependencies)
}

fn peers(machine: &Machine, repositories: &[PathBuf; 2]) -> Vec<Row> {
    let target = machine.work().join("peer");
    let row = |name, command: &dyn Fn(&Path) -> Command, undo: &dyn Fn(&Path)| Row {
        name,
        medians: repositories.each_ref().map(|repository| {
            let runs = (0..COPIES).map(|_| {
                let took = time(&mut command(repository));
                undo(repository);
                took
            });
            median(runs.collect())
        }),
    };
    let git = |dir: &Path, arguments: &[&str]| {
        let mut command = machine.command("git", dir);
        command.args(arguments).stderr(Stdio::null()).stdout(Stdio::null());
        command
    };
    let remove = |_: &Path| std::fs::remove_dir_all(&target).expect("it was just made");
    vec![
        row(
            "git worktree add",
            &|repository| git(repository, &["worktree", "add", "-q", "--detach", text(&target)]),
            &|repository| {
                remove(repository);
                let _ = git(repository, &["worktree", "prune"]).status();
            },
        ),
        row(
            "git clone --local",
            &|repository| git(repository, &["clone", "-q", "--local", ".", text(&target)]),
            &remove,
        ),
        row(
            "cp -a",
            &|repository| {
                let mut command = machine.command("cp", Path::new("/"));
                command.arg("-a").arg(repository).arg(&target);
                command
            },
            &remove,
        ),
    ]
}

fn time(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let status = command.status().expect("it can be started");
    let took = begun.elapsed();
    assert!(status.success(), "{command:?}");
    took
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the benchmark's own paths are UTF-8")
}

fn print(rows: &[Row], dependencies: Duration) {
    let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
    let ratio = |a: Duration, b: Duration| format!("{:.2}×", a.as_secs_f64() / b.as_secs_f64());
    println!("# Benchmarks\n\n## A second directory of a repository\n");
    println!("`cargo build --release --workspace && target/release/bench-mount`: whole processes,");
    println!("medians of {MOUNTS} mounts and of {COPIES} copies in one run, {}.\n", machine_line());
    println!(
        "| | {} files | {} files | grows by | against zagi at {} |",
        SIZES[0], SIZES[1], SIZES[1]
    );
    println!("|---|---|---|---|---|");
    for row in rows {
        let [small, large] = row.medians;
        println!(
            "| {} | {} | {} | {} | {} |",
            row.name,
            ms(small),
            ms(large),
            ratio(large, small),
            ratio(large, rows[0].medians[1])
        );
    }
    println!(
        "\nWith an environment and dependencies (`pypi:itsdangerous@2.2.0`): {}.",
        ms(dependencies)
    );
}

/// Kernel and cores, without the machine's name.
fn machine_line() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {cores} cores", kernel.split('-').next().unwrap_or("").trim())
}
