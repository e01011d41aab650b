//! What the store promises in absolute figures: links, packs, an unchanged tree, memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::tools::Place;
use crate::{data, median};

/// Measurements of what takes less than a second.
const TIMES: usize = 9;
/// Asks this program to run another one and to say how much memory it took.
const MEMORY: &str = "--memory-of";

/// The arguments of a command whose memory is asked for.
pub fn asked_for_memory() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == MEMORY).then(|| arguments.collect())
}

/// Runs a command; prints the most memory that it had, in bytes.
pub fn memory_of(arguments: &[String]) {
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).stdout(std::io::stderr());
    assert!(command.status().expect("it can be started").success(), "{arguments:?} failed");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("there was a child");
    println!("{}", usage.max_rss() * 1024);
}

/// Measures and prints.
pub fn print(dir: &Path, run: &Path, program: &Path) {
    let modules = dir.join("node_modules/tree");
    println!("### Limits\n\n| | |\n|---|---|");
    let tree = subset(dir, &modules, 15_000);
    let mut place = Place::new(run, program);
    place.run("$ZAGI -q snapshot $TREE > $REPO/../id", &tree);
    for (name, script) in [
        ("15,000 files restored from packs", "$ZAGI -q restore $(cat $REPO/../id) $OUT"),
        (
            "15,000 files restored by links",
            "$ZAGI -q restore --require-link $(cat $REPO/../id) $OUT",
        ),
        ("15,000 files, `cp -a`", "cp -a $TREE $OUT"),
        ("15,000 files, `cp -al`", "cp -al $TREE $OUT"),
    ] {
        // The farm is filled by the first.
        let took = (0..=TIMES).map(|_| {
            place.elsewhere();
            place.run(script, &tree)
        });
        told(name, took.skip(1).collect());
    }
    let tree = subset(dir, &modules, 60_000);
    place.run("$ZAGI -q snapshot $TREE", &tree);
    let unchanged = (0..TIMES).map(|_| place.run("$ZAGI -q snapshot $TREE", &tree));
    told("60,000 files, unchanged snapshot", unchanged.collect());
    let find = (0..TIMES).map(|_| place.run("find $TREE -newermt 2100-01-01", &tree));
    told("60,000 files, `find -newer`", find.collect());

    let tree = dir.join("many");
    data::many(500_000, &tree);
    let place = Place::new(run, program);
    let (home, out) = (place.repository(), place.out());
    let text = |path: &Path| path.to_str().expect("it is ours").to_owned();
    let memory = |arguments: &[&str]| {
        let mut own = Command::new(std::env::current_exe().expect("a program knows its own file"));
        own.arg(MEMORY).arg(program).args(arguments).env("ZAGI_HOME", &home);
        let output = own.output().expect("it can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>();
        said.expect("it prints a number") / 1e6
    };
    let (tree, out) = (text(&tree), text(&out));
    let latest = format!("snapshot{tree}");
    for (name, arguments) in [
        ("first snapshot", vec!["-q", "snapshot", &tree]),
        ("unchanged snapshot", vec!["-q", "snapshot", &tree]),
        ("restore", vec!["-q", "restore", &latest, &out]),
        ("restore over the same", vec!["-q", "restore", &latest, &out]),
        ("verify", vec!["-q", "store", "verify"]),
        ("gc", vec!["-q", "store", "gc"]),
    ] {
        println!("| 500,000 files, memory of: {name} | {:.0} MB |", memory(&arguments));
    }
}

fn subset(dir: &Path, tree: &Path, files: usize) -> PathBuf {
    let to = dir.join(format!("{files}"));
    data::some(tree, files, &to);
    to
}

fn told(name: &str, took: Vec<Duration>) {
    let took = median(took).expect("it was measured");
    println!("| {name} | {:.3} s |", took.as_secs_f64());
}
