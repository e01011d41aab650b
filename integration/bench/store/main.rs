//! The store against its peers: how long it takes to store and restore real files, and how
//! many bytes are kept. restic, borg, casync and zstd as Debian has them, and npm, must be
//! on PATH; the files are installed from npm once.
//!
//! ```text
//! cargo build --release --workspace && target/release/bench-store
//! target/release/bench-store limits      only these; also `node_modules`, `binaries`, `core`
//! ```
//!
//! Everything is on one file system, its page cache warm, whole processes are timed, the
//! tools take turns, medians are told (of the three slow ones, one measurement). What was restored is compared with what was stored.

mod data;
mod limits;
mod pipeline;
mod tools;

use std::path::Path;
use std::time::Duration;

use data::Data;
use tools::{Place, TOOLS, Tool};
use zagi_integration::machine;

/// Rounds, at the most.
const ROUNDS: usize = 3;

/// What is told of one tool, for one set of files.
#[derive(Default)]
struct Figures {
    first: Vec<Duration>,
    unchanged: Vec<Duration>,
    bumped: Vec<Duration>,
    restored: Vec<Duration>,
    over: Vec<Duration>,
    size: u64,
    size_of_both: u64,
}

fn main() {
    if let Some(arguments) = limits::asked_for_memory() {
        return limits::memory_of(&arguments);
    }
    let dir = machine::program().with_file_name("bench-store-data");
    std::fs::create_dir_all(&dir).expect("the build directory is ours");
    let dir = dir.canonicalize().expect("it was just made");
    let program = machine::program();
    let run = tempfile::Builder::new().prefix("run-").tempdir_in(&dir).expect("so is it");
    let run = run.path();
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    for data in data::all(&dir).into_iter().filter(|data| is_asked(data.name)) {
        let mut figures: Vec<Figures> = TOOLS.iter().map(|_| Figures::default()).collect();
        for round in 0..ROUNDS {
            for (tool, figures) in TOOLS.iter().zip(&mut figures).filter(|(t, _)| t.rounds > round)
            {
                eprintln!("{}, round {}: {}", data.name, round + 1, tool.name);
                measure(tool, &data, run, &program, figures);
            }
        }
        print(&data, &figures);
    }
    if is_asked("limits") {
        limits::print(&dir, run, &program);
    }
    for set in ["node_modules", "binaries"].into_iter().filter(|_| is_asked("core")) {
        println!("\n### {set}, one core, in memory: MB/s\n\n| | |\n|---|---|");
        for (name, value) in pipeline::run(&dir.join(set).join("tree")) {
            println!("| {name} | {value:.0} |");
        }
    }
}

fn measure(tool: &Tool, data: &Data, run: &Path, program: &Path, figures: &mut Figures) {
    data.warm();
    let mut place = Place::new(run, program);
    let inside = match tool.whole_name {
        true => place.out().join(data.tree.strip_prefix("/").expect("it is absolute")),
        false => place.out(),
    };
    place.run(tool.init, &data.tree);
    figures.first.push(place.run(tool.store, &data.tree));
    figures.size = disk_usage(&place.repository());
    if tool.remembers {
        figures.unchanged.push(place.run(tool.store, &data.tree));
    }
    data.bump();
    figures.bumped.push(place.run(tool.store, &data.tree));
    figures.size_of_both = disk_usage(&place.repository());
    figures.restored.push(place.run(tool.restore, &data.tree));
    data.assert_same(&inside);
    data.rewind();
    if let Some(over) = tool.over {
        place.run(tool.store, &data.tree);
        figures.over.push(place.run(over, &data.tree));
        // The peers leave what is not in the older state.
        if tool.name == "zagi" {
            data.assert_same(&inside);
        }
    }
}

/// Bytes of the files below `path`, each inode once.
fn disk_usage(path: &Path) -> u64 {
    let files = walkdir::WalkDir::new(path).into_iter().filter_map(|e| e.ok()?.metadata().ok());
    files.filter(|found| found.is_file()).map(|found| found.len()).sum()
}

fn median(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

type Row = (&'static str, fn(&Figures) -> &Vec<Duration>);

fn print(data: &Data, figures: &[Figures]) {
    let Data { name, files, bytes, .. } = data;
    println!("### {name}: {files} files, {:.0} MB\n", *bytes as f64 / 1e6);
    println!("| |{}", TOOLS.iter().map(|tool| format!(" {} |", tool.name)).collect::<String>());
    println!("|---|{}", "---|".repeat(TOOLS.len()));
    let rows: [Row; 5] = [
        ("first snapshot", |f| &f.first),
        ("unchanged snapshot", |f| &f.unchanged),
        ("snapshot after the bumps", |f| &f.bumped),
        ("restore", |f| &f.restored),
        ("restore over the other state", |f| &f.over),
    ];
    for (name, of) in rows {
        let own = median(of(&figures[0]).clone()).expect("zagi is measured in every row");
        let cells = figures.iter().map(|f| match median(of(f).clone()) {
            Some(took) => {
                let ratio = took.as_secs_f64() / own.as_secs_f64();
                format!(" {:.2} s ({ratio:.1}×) |", took.as_secs_f64())
            }
            None => " - |".to_owned(),
        });
        println!("| {name} |{}", cells.collect::<String>());
    }
    for (name, both) in [("stored", false), ("stored, both states", true)] {
        let of = |f: &Figures| if both { f.size_of_both } else { f.size } as f64;
        let own = of(&figures[0]);
        let cells =
            figures.iter().map(|f| format!(" {:.1} MB ({:.2}×) |", of(f) / 1e6, of(f) / own));
        println!("| {name} |{}", cells.collect::<String>());
    }
    println!();
}
