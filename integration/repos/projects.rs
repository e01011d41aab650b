//! The list, and how the source of a Debian package becomes a repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use zagi_integration::machine::{Machine, Said};

const MIRROR: &str = "http://deb.debian.org/debian";

/// One line of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Unique.
    pub name: String,
    /// What the table has it below.
    pub ecosystem: String,
    /// What `zagi mount` is given; or `debian:SUITE/PACKAGE`, the upstream archive of a Debian
    /// source package, committed to a repository of git.
    pub address: String,
    /// Why nobody could run its tests from that address here: the archive lacks them, a registry
    /// that is reached lacks what they need. It is not tried, nor counted.
    pub unfit: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    project: Vec<Project>,
}

/// All that there are, in the list's order.
///
/// # Panics
/// Where the list is not what it should be.
pub fn all() -> Vec<Project> {
    let list: List = toml_edit::de::from_str(include_str!("projects.toml")).expect("a list");
    let mut names: Vec<&str> = list.project.iter().map(|project| project.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), list.project.len(), "every name stands there once");
    list.project
}

impl Project {
    /// What to give to `zagi mount` on `machine`; `kept` is for downloads.
    ///
    /// # Panics
    /// Where the source cannot be had.
    pub fn on(&self, machine: &Machine, kept: &Path) -> String {
        let Some(rest) = self.address.strip_prefix("debian:") else { return self.address.clone() };
        let (suite, package) = rest.split_once('/').expect("debian:SUITE/PACKAGE");
        let archive = upstream(suite, package, kept);
        let dir = machine.work().join("upstream").join(&self.name);
        fs::create_dir_all(&dir).expect("the machine's own directory");
        for path in [dir.parent().expect("it was joined"), &dir] {
            machine.give(path);
        }
        let own = dir.join("archive");
        fs::copy(&archive, &own).expect("it was downloaded");
        machine.give(&own);
        // As git has it: what an archive leaves out of a directory of its own is left out.
        let unpack = "tar --strip-components=1 --no-same-owner -xf archive && rm archive";
        machine.sh(&dir, unpack).ok();
        let newest = machine.sh(&dir, "find . -type f -printf '%T@\\n' | sort -n | tail -1").ok();
        let date = newest.out.split('.').next().unwrap_or("0").trim().to_owned();
        machine.git(&dir, &["init", "-q", "-b", "main"]).ok();
        machine.git(&dir, &["add", "-A", "-f"]).ok();
        let mut commit = machine.command("git", &dir);
        commit.args(["-c", "user.name=Test", "-c", "user.email=test@localhost"]);
        commit.args(["commit", "-q", "-m", "upstream"]);
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            commit.env(name, format!("@{date} +0000"));
        }
        Said::of(&mut commit).ok();
        dir.to_str().expect("the machine's directories are UTF-8").to_owned()
    }
}

/// The upstream archive of `package`, with the digest that the index gives.
fn upstream(suite: &str, package: &str, kept: &Path) -> PathBuf {
    let index = fetched(&format!("{MIRROR}/dists/{suite}/main/source/Sources.xz"), kept, suite);
    let index = Said::of(Command::new("xz").args(["-dc"]).arg(&index)).ok().out;
    let name = format!("Package: {package}");
    let paragraph = index
        .split("\n\n")
        .filter(|paragraph| paragraph.lines().any(|line| line == name))
        .last()
        .unwrap_or_else(|| panic!("there is no source package {package} in {suite}"));
    let directory = paragraph.lines().find_map(|line| line.strip_prefix("Directory: "));
    let digests = paragraph.split("Checksums-Sha256:\n").nth(1).expect("it has digests");
    let (digest, file) = digests
        .lines()
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.nth(1)?))
        })
        .find(|(_, file)| file.contains(".orig.tar.") && !file.ends_with(".asc"))
        .unwrap_or_else(|| panic!("{package} of {suite} has no upstream archive"));
    let directory = directory.expect("it has a directory");
    let path = fetched(&format!("{MIRROR}/{directory}/{file}"), kept, "");
    let said = Said::of(Command::new("sha256sum").arg(&path)).ok();
    assert!(said.out.starts_with(digest), "{} is not what the index says", path.display());
    path
}

/// What `url` has, downloaded once; `prefix` tells equal names apart.
fn fetched(url: &str, kept: &Path, prefix: &str) -> PathBuf {
    let dir = kept.join("downloads");
    fs::create_dir_all(&dir).expect("the build directory is ours");
    let name = url.rsplit('/').next().expect("an address has a last part");
    let path = dir.join(format!("{prefix}{name}"));
    if !path.exists() {
        let part = path.with_extension("part");
        Said::of(Command::new("curl").args(["-fsSL", "--retry", "2", "-o"]).arg(&part).arg(url))
            .ok();
        fs::rename(&part, &path).expect("the same directory");
    }
    path
}
