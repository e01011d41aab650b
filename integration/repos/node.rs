//! What a project fetches of which another was mounted before, in one home.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zagi_integration::machine::{Machine, Said, Who};

use super::counted::Counted;
use super::projects::Project;
use super::reason;
use super::trial;

/// How many of an ecosystem follow each other.
const MOST: usize = 4;

/// One mount.
#[derive(Serialize, Deserialize)]
pub struct Mounted {
    pub ecosystem: String,
    pub name: String,
    /// The tools, and their versions.
    #[serde(default)]
    pub tools: String,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// What was found out last.
pub fn result(kept: &Path) -> Vec<Mounted> {
    let text = fs::read_to_string(kept.join("one-node.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Mounts the first projects of each ecosystem, one after the other in one home, without those
/// that a trial could not mount; says whether all went well and something was mounted.
pub fn run(all: &[Project], kept: &Path) -> bool {
    let mut ecosystems: Vec<&str> = all.iter().map(|project| project.ecosystem.as_str()).collect();
    ecosystems.dedup();
    let mut results = Vec::new();
    let mut well = true;
    for ecosystem in ecosystems {
        let mountable = |project: &&Project| {
            let trial = trial::result(kept, &project.name);
            project.ecosystem == ecosystem && trial.is_none_or(|trial| trial.warm > 0.0)
        };
        let first: Vec<&Project> = all.iter().filter(mountable).take(MOST).collect();
        well &= mounted(ecosystem, &first, kept, &mut results);
    }
    if results.is_empty() {
        eprintln!("error: nothing was mounted: what `target/debug/repos node` found before stays");
        return false;
    }
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    fs::write(kept.join("one-node.json"), json).expect("the build directory is ours");
    well
}

/// Mounts `projects` in a home of their own, up to the first that cannot be: what that one
/// fetched would be missing in the next one's number.
fn mounted(
    ecosystem: &str,
    projects: &[&Project],
    kept: &Path,
    results: &mut Vec<Mounted>,
) -> bool {
    let machine = Machine::new(Who::Ordinary);
    let counted = Counted::start();
    let work = machine.work();
    for project in projects {
        let address = match project.on(&machine, kept) {
            Ok(address) => address,
            Err(why) => {
                eprintln!("error: {ecosystem}: there is no source of {}: {why}", project.name);
                return false;
            }
        };
        let before = counted.bytes();
        let mut command = machine.zagi_in(&work, &["mount", &address, &project.name]);
        let said = Said::of(command.envs(counted.variables()));
        let name = project.name.clone();
        if said.code != 0 {
            let own = work.parent().expect("it is in the machine's directory");
            let why = reason::of(&format!("{}\n{}", said.out, said.err), own);
            eprintln!("error: {ecosystem}: {name} was not mounted: exit {}: {why}", said.code);
            return false;
        }
        let fetched = counted.bytes() - before;
        println!("{ecosystem}: {name} fetched {}", zagi::event::bytes(fetched));
        let tools = trial::tools(&said.err);
        results.push(Mounted { ecosystem: ecosystem.to_owned(), name, tools, fetched });
    }
    true
}
