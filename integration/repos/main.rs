//! Real projects, each from an empty home to its own tests, with no word typed.
//!
//! ```text
//! cargo build --workspace && target/debug/repos          what has no result yet
//! target/debug/repos --only attrs,zlib                   these, again
//! target/debug/repos node                                what a second project fetches
//! target/debug/repos table > integration/repos/RESULTS.md
//! ```
//!
//! For each of `projects.toml`, as the ordinary user: an empty `$ZAGI_HOME`; `zagi mount`
//! (cold); the test command that detection found, by `zagi exec`; `zagi unmount`; `zagi mount`
//! of the same address elsewhere (warm). What comes over the network is counted at a proxy of
//! this program's own, through which mounting has to go. What is found out is kept in
//! `target/repos/`, a file a project with a log of everything that was said beside it: what was
//! interrupted goes on where it was.
//!
//! | file | what |
//! |---|---|
//! | `projects` | the list, and how the source of a Debian package becomes a repository |
//! | `trial` | one project, step by step |
//! | `reason` | the line of a log that tells why |
//! | `counted` | the proxy |
//! | `node` | several projects in one home |
//! | `table` | Markdown |
//!
//! It wants root, the user that `.ci/run` makes, `curl`, `git`, `tar`, `xz`, and the registries,
//! without a proxy between.

mod counted;
mod node;
mod projects;
mod reason;
mod table;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use zagi_integration::machine;

const USAGE: &str = "usage: repos [node | table] [--only NAME,…] [--limit SECONDS]";

/// For how long a project's tests may run.
const LIMIT: Duration = Duration::from_secs(900);

/// What was asked for.
struct Asked {
    part: Part,
    only: Vec<String>,
    limit: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Trials,
    Node,
    Table,
}

impl Asked {
    fn parse(arguments: &[String]) -> Option<Asked> {
        let mut asked = Asked { part: Part::Trials, only: Vec::new(), limit: LIMIT };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "node" => asked.part = Part::Node,
                "table" => asked.part = Part::Table,
                "--only" => asked.only.extend(words.next()?.split(',').map(str::to_owned)),
                "--limit" => asked.limit = Duration::from_secs(words.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(asked)
    }
}

/// Where results, logs and what was downloaded are kept: `target/repos`.
fn kept() -> PathBuf {
    let program = machine::program();
    let target = program.ancestors().nth(2).expect("the program is in target/PROFILE");
    let dir = target.join("repos");
    std::fs::create_dir_all(&dir).expect("the build directory is ours");
    dir
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = Asked::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let all = projects::all();
    let unknown = asked.only.iter().find(|name| all.iter().all(|project| project.name != **name));
    if let Some(name) = unknown {
        eprintln!("error: there is no `{name}` in projects.toml");
        return ExitCode::from(2);
    }
    let kept = kept();
    match asked.part {
        Part::Trials => {
            for project in &all {
                let again = asked.only.contains(&project.name);
                let is_asked = again || (asked.only.is_empty() && project.unfit.is_none());
                if is_asked && (again || trial::result(&kept, &project.name).is_none()) {
                    trial::run(project, &kept, asked.limit);
                }
            }
        }
        Part::Node => {
            let is_asked =
                |p: &projects::Project| asked.only.is_empty() || asked.only.contains(&p.name);
            let asked: Vec<_> = all.into_iter().filter(is_asked).collect();
            if !node::run(&asked, &kept) {
                return ExitCode::FAILURE;
            }
        }
        Part::Table => table::print(&all, &kept),
    }
    ExitCode::SUCCESS
}
