//! What a project fetches of which another was mounted before, in one home.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zagi_integration::machine::{Machine, Said, Who};

use super::counted::Counted;
use super::projects::Project;
use super::trial;

/// How many of an ecosystem follow each other.
const MOST: usize = 4;

/// One mount.
#[derive(Serialize, Deserialize)]
pub struct Mounted {
    pub ecosystem: String,
    pub name: String,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// What was found out last.
pub fn result(kept: &Path) -> Vec<Mounted> {
    let text = fs::read_to_string(kept.join("one-node.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Mounts the first projects of each ecosystem that can be mounted, one after the other.
pub fn run(all: &[Project], kept: &Path) {
    let mut ecosystems: Vec<&str> = all.iter().map(|project| project.ecosystem.as_str()).collect();
    ecosystems.dedup();
    let mut results = Vec::new();
    for ecosystem in ecosystems {
        let machine = Machine::new(Who::Ordinary);
        let counted = Counted::start();
        let mountable = |project: &&Project| {
            let trial = trial::result(kept, &project.name);
            project.ecosystem == ecosystem && trial.is_some_and(|trial| trial.warm > 0.0)
        };
        for project in all.iter().filter(mountable).take(MOST) {
            let address = project.on(&machine, kept);
            let before = counted.bytes();
            let mut command = machine.zagi_in(&machine.work(), &["mount", &address, &project.name]);
            Said::of(command.envs(counted.variables())).ok();
            let fetched = counted.bytes() - before;
            println!("{ecosystem}: {} fetched {fetched}", project.name);
            let (ecosystem, name) = (ecosystem.to_owned(), project.name.clone());
            results.push(Mounted { ecosystem, name, fetched });
        }
    }
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    fs::write(kept.join("one-node.json"), json).expect("the build directory is ours");
}
