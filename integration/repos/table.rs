//! Markdown.

use std::path::Path;
use std::process::Command;

use zagi_integration::machine::{Said, program};

use super::node;
use super::projects::Project;
use super::trial::{self, Trial};

/// Everything that is known.
pub fn print(all: &[Project], kept: &Path) {
    let known: Vec<(&Project, Trial)> =
        fit(all).filter_map(|p| Some((p, trial::result(kept, &p.name)?))).collect();
    println!("# Real projects, from an empty home to their own tests\n");
    println!("`target/debug/repos`, then `target/debug/repos table`; see [main.rs](main.rs).");
    println!("{}.\n", versions());
    println!(
        "Each as an ordinary user, with an empty `$ZAGI_HOME`, no word typed beside the address. \
         \"Cold\" is the first `zagi mount`, \"warm\" the same address mounted at another place; \
         \"fetched\" is all that came through a proxy for the cold mount, sources included \
         (but for `debian:` ones, which the program makes a local repository of). A test fails \
         here as anywhere where it wants more than the project says.\n"
    );
    summary(all, &known);
    let mut ecosystems: Vec<&str> = all.iter().map(|p| p.ecosystem.as_str()).collect();
    ecosystems.dedup();
    for ecosystem in ecosystems {
        println!("\n## {ecosystem}\n");
        println!("| project | result | tools | test | cold | tests | warm | fetched |");
        println!("|---|---|---|---|--:|--:|--:|--:|");
        for (project, trial) in known.iter().filter(|(p, _)| p.ecosystem == ecosystem) {
            row(project, trial);
        }
    }
    println!("\n## Not counted\n");
    println!("Nobody could run the tests of these from that address here.\n");
    println!("| project | why |\n|---|---|");
    for project in all {
        if let Some(why) = &project.unfit {
            println!("| {} (`{}`) | {} |", project.name, project.address, cell(why));
        }
    }
    one_node(kept);
}

fn fit(all: &[Project]) -> impl Iterator<Item = &Project> {
    all.iter().filter(|project| project.unfit.is_none())
}

fn versions() -> String {
    let said = |program: &str, arguments: &[&str]| -> String {
        Said::of(Command::new(program).args(arguments)).out.trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let zagi = program();
    format!(
        "{}; {} at {}; Linux {}, {cores} cores",
        said("date", &["-u", "+%F"]),
        said(zagi.to_str().expect("UTF-8"), &["--version"]),
        said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]),
        said("uname", &["-r"]),
    )
}

fn summary(all: &[Project], known: &[(&Project, Trial)]) {
    let passed = known.iter().filter(|(_, trial)| trial.failed.is_none()).count();
    let percent = passed as f64 * 100.0 / known.len().max(1) as f64;
    println!(
        "**{passed} of {} pass their own tests ({percent:.0} %)**; {} are in the list.\n",
        known.len(),
        fit(all).count()
    );
    let mut failed: Vec<&str> =
        known.iter().filter_map(|(_, t)| Some(t.failed.as_ref()?.0.as_str())).collect();
    failed.sort_unstable();
    for group in failed.chunk_by(|a, b| a == b) {
        println!("- {} failed at: {}", group.len(), group[0]);
    }
    let medians = [
        ("cold", median(known, |trial| trial.cold)),
        ("warm", median(known, |trial| trial.warm)),
        ("its environment resolved", median(known, |trial| trial.resolved.unwrap_or(0.0))),
    ];
    for (name, (middle, most)) in medians {
        println!("- {name}: median {}, at most {}", seconds(middle), seconds(most));
    }
}

/// The median and the greatest of what is known (above zero).
fn median(known: &[(&Project, Trial)], of: impl Fn(&Trial) -> f64) -> (f64, f64) {
    let mut all: Vec<f64> = known.iter().map(|(_, t)| of(t)).filter(|v| *v > 0.0).collect();
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().unwrap_or(0.0);
    (at(all.len() / 2), at(all.len().saturating_sub(1)))
}

fn row(project: &Project, trial: &Trial) {
    let result = match &trial.failed {
        None => "passed".to_owned(),
        Some((step, why)) => format!("**{step}**: {}", cell(why)),
    };
    println!(
        "| {} (`{}`) | {result} | {} | {} | {} | {} | {} | {} |",
        project.name,
        project.address,
        cell(&trial.tools),
        code(&trial.test),
        seconds(trial.cold),
        seconds(trial.tests),
        seconds(trial.warm),
        zagi::event::bytes(trial.fetched),
    );
}

fn one_node(kept: &Path) {
    let mounted = node::result(kept);
    if mounted.is_empty() {
        return;
    }
    println!("\n## Several projects in one home\n");
    println!("`target/debug/repos node`: what each fetched, and how much that is of the first.\n");
    println!("| project | tools | fetched | of the first |\n|---|---|--:|--:|");
    let mut same = Vec::new();
    for group in mounted.chunk_by(|a, b| a.ecosystem == b.ecosystem) {
        let mut there: Vec<&str> = Vec::new();
        for next in group {
            let percent = next.fetched as f64 * 100.0 / group[0].fetched.max(1) as f64;
            let bytes = zagi::event::bytes(next.fetched);
            println!("| {} | {} | {bytes} | {percent:.1} % |", next.name, cell(&next.tools));
            let tools: Vec<&str> = next.tools.trim_end_matches(" realised").split(", ").collect();
            if tools.iter().all(|tool| there.contains(tool)) {
                same.push(percent);
            }
            there.extend(tools);
        }
    }
    let most = same.iter().copied().fold(0.0, f64::max);
    println!(
        "\nThe {} that need no tool that another had not brought: at most {most:.1} %. Of the others \
         the most part is the tools, which are those of the commit's date.",
        same.len()
    );
}

fn seconds(seconds: f64) -> String {
    match seconds {
        0.0 => "-".to_owned(),
        ..1.0 => format!("{seconds:.3} s"),
        ..10.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// Text that a cell of a table can hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}

fn code(text: &str) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!("`{}`", text.replace('|', "\\|").replace('\n', " ")),
    }
}
