//! Many mounts in one daemon, a repository of a million files, a directory of a hundred
//! thousand.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::asked::Asked;
use super::place::{Interrupt, Place};
use super::rows::{ROW, Row, Step, phase};
use super::speed::{Bench, trees};
use super::{side, table};

/// Seconds that a step may take.
const LIMIT: u64 = 900;
/// Files of the small repository.
const FEW: usize = 100;
/// How often a large and a small repository are mounted in turn.
const MOUNTS: usize = 21;

/// How much of each there is.
struct Sizes {
    mounts: usize,
    files: usize,
    entries: usize,
}

const WHOLE: Sizes = Sizes { mounts: 1_000, files: 1_000_000, entries: 100_000 };
const QUICK: Sizes = Sizes { mounts: 50, files: 50_000, entries: 5_000 };

const DIRECTORY: &[Row] = &[
    Row {
        key: "directory",
        phases: &[
            phase("ls -f, cold", 1.5, Step::Sh("ls -f big >/dev/null")),
            phase("ls -f, warm", 1.5, Step::Sh("ls -f big >/dev/null")),
        ],
        ..ROW
    },
    Row {
        key: "directory",
        phases: &[
            phase("find, cold", 1.5, Step::Sh("find big >/dev/null")),
            phase("find, warm", 1.5, Step::Sh("find big >/dev/null")),
        ],
        ..ROW
    },
    Row {
        key: "directory",
        phases: &[
            phase("ls -l, cold", 1.5, Step::Sh("ls -lU big >/dev/null")),
            phase("ls -l, warm", 1.5, Step::Sh("ls -lU big >/dev/null")),
        ],
        ..ROW
    },
];

/// Measures and prints what was asked for of `mounts`, `million` and `directory`.
pub fn run(asked: &Asked, interrupt: &Interrupt) -> bool {
    let sizes = if asked.quick { QUICK } else { WHOLE };
    let mut well = true;
    for &who in &asked.users {
        if asked.wants("mounts") || asked.wants("million") {
            let place = Place::new(who, interrupt);
            println!(
                "### Mounts, as {}\n\n{}.\n\n| | |\n|---|---|",
                place.user(),
                table::machine()
            );
            repository(&place, "few", FEW, false);
            if asked.wants("mounts") {
                many(&place, sizes.mounts);
            }
            if asked.wants("million") {
                large(&place, sizes.files);
            }
            println!();
        }
        if asked.wants("directory") {
            let place = Place::new(who, interrupt);
            repository(&place, "origin", sizes.entries, true);
            trees(&place);
            let path = |name: &str| place.path(name).to_string_lossy().into_owned();
            let variables = BTreeMap::from([("TRASH", path("trash"))]);
            let bench = Bench { asked, place: &place, variables };
            let about = format!("A directory of {} entries", sizes.entries);
            well &= bench.rows(DIRECTORY, &side::all(asked), &about);
        }
    }
    well
}

/// A repository of `files` files with few contents, a hundred a directory, or all in `big/`.
fn repository(place: &Place, name: &str, files: usize, one_directory: bool) {
    let dir = place.directory(name);
    place.sh(&dir, "git init -q -b main .");
    let mut command = place.command("git", &dir);
    let mut child = command
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("git can be started");
    let mut to = BufWriter::new(child.stdin.take().expect("it was asked for"));
    let mut write = || -> std::io::Result<()> {
        for i in 0..10 {
            writeln!(to, "blob\nmark :{}\ndata 10\ncontent {i}\n", i + 1)?;
        }
        writeln!(to, "commit refs/heads/main\ncommitter T <t@localhost> 1700000000 +0000")?;
        writeln!(to, "data 3\none")?;
        for i in 0..files {
            let dir = match one_directory {
                true => "big".to_owned(),
                false => format!("d{:03}/e{:02}", i / 10_000, i / 100 % 100),
            };
            writeln!(to, "M 100644 :{} {dir}/f{i}.txt", i % 10 + 1)?;
        }
        writeln!(to)?;
        to.flush()
    };
    write().expect("git reads it");
    drop(to);
    assert!(child.wait().is_ok_and(|status| status.success()), "git fast-import {name}");
}

/// The time of each request, and what a mount costs that nobody uses.
fn many(place: &Place, mounts: usize) {
    place.zagi(&["mount", "-q", "few", "warm"]);
    place.zagi(&["unmount", "-q", "warm"]);
    // What one mount makes the daemon load is no mount's own.
    let before = Memory::of(place);
    let idle = mounts.to_string();
    let times = |arguments: &[&str], times: &str| zagi(place, times, arguments);
    print("`zagi --version`, which asks nothing", &ms(times(&["--version"], "101")));
    print("`zagi daemon status`, which asks the daemon", &ms(times(&["daemon", "status"], "101")));
    let mounting = times(&["mount", "-q", "few", "m{}"], &idle);
    print(&format!("`zagi mount`, median of {mounts}"), &format!("{} (≤ 2)", ms(mounting)));
    std::thread::sleep(Duration::from_secs(2));
    let after = Memory::of(place);
    let each = |after: u64, before: u64| (after as f64 - before as f64) / mounts as f64;
    let memory = |after: [u64; 2], before: [u64; 2]| {
        format!("{:.1} KiB, {:.1} KiB", each(after[0], before[0]), each(after[1], before[1]))
    };
    print(
        "an idle mount in the worker: RSS, PSS (≤ 128 KiB)",
        &memory(after.worker, before.worker),
    );
    print("and in the supervisor", &memory(after.supervisor, before.supervisor));
    print(&format!("threads of the worker with {mounts} mounts"), &after.threads.to_string());
    let unmounting = times(&["unmount", "-q", "m{}"], &idle);
    print(&format!("`zagi unmount`, median of {mounts}"), &format!("{} (≤ 2)", ms(unmounting)));
}

/// Whether the time of a mount grows with the repository.
fn large(place: &Place, files: usize) {
    repository(place, "many", files, false);
    for name in ["few", "many"] {
        place.zagi(&["mount", "-q", name, "warm-again"]);
        place.zagi(&["discard", "-q", "--yes", "warm-again"]);
    }
    let mut took = [const { Vec::new() }; 4];
    for _ in 0..MOUNTS {
        for (i, name) in ["few", "many"].into_iter().enumerate() {
            took[i].push(zagi(place, "1", &["mount", "-q", name, "m"]));
            let ls = ["sh".to_owned(), "ls m m/d000 m/d000/e00 >/dev/null".to_owned()];
            took[i + 2].push(step(place, &ls));
            place.zagi(&["discard", "-q", "--yes", "m"]);
        }
    }
    let [few, many, ls_few, ls_many] = took.map(|mut took| {
        took.sort_by(f64::total_cmp);
        took[took.len() / 2]
    });
    print(&format!("`zagi mount` of {FEW} files"), &ms(few));
    print(&format!("`zagi mount` of {files} files"), &format!("{} ({:.2}×)", ms(many), many / few));
    print(&format!("first `ls` in {FEW} files"), &ms(ls_few));
    let ratio = ls_many / ls_few;
    print(&format!("first `ls` in {files} files"), &format!("{} ({ratio:.2}×)", ms(ls_many)));
}

fn print(name: &str, value: &str) {
    println!("| {name} | {value} |");
}

fn ms(took: f64) -> String {
    format!("{took:.2} ms")
}

/// The median of as many runs of `zagi`, whole processes: milliseconds.
fn zagi(place: &Place, times: &str, arguments: &[&str]) -> f64 {
    let program = place.machine.program().to_string_lossy().into_owned();
    let words = ["many", times, &program].into_iter().chain(arguments.iter().copied());
    step(place, &words.map(str::to_owned).collect::<Vec<_>>())
}

fn step(place: &Place, words: &[String]) -> f64 {
    let took = place.time(&place.machine.work(), words, LIMIT, &[]);
    took.unwrap_or_else(|why| panic!("{why}"))
}

/// KiB of resident and proportional memory.
struct Memory {
    worker: [u64; 2],
    supervisor: [u64; 2],
    threads: u64,
}

impl Memory {
    fn of(place: &Place) -> Memory {
        let status = place.zagi(&["daemon", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("it prints JSON");
        let pid = |name: &str| status[name].as_u64().expect("the daemon runs");
        let read = |pid: u64| {
            let proc = Path::new("/proc").join(pid.to_string());
            let rollup = std::fs::read_to_string(proc.join("smaps_rollup")).expect("it runs");
            ["Rss:", "Pss:"].map(|name| field(&rollup, name))
        };
        let worker = pid("worker_pid");
        let threads = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("it runs");
        Memory {
            worker: read(worker),
            supervisor: read(pid("supervisor_pid")),
            threads: field(&threads, "Threads:"),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("the kernel does not tell {name}"))
}
