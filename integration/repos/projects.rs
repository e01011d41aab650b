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
    /// What to give to `zagi mount` on `machine`, or why the source cannot be had; `kept` is for
    /// downloads.
    pub fn on(&self, machine: &Machine, kept: &Path) -> Result<String, String> {
        let Some(rest) = self.address.strip_prefix("debian:") else {
            return Ok(self.address.clone());
        };
        let (suite, package) = rest.split_once('/').expect("debian:SUITE/PACKAGE");
        let archive = upstream(suite, package, kept)?;
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
        Ok(dir.to_str().expect("the machine's directories are UTF-8").to_owned())
    }
}

/// The upstream archive of `package`, with the digest that the index gives.
fn upstream(suite: &str, package: &str, kept: &Path) -> Result<PathBuf, String> {
    let index = fetched(&format!("{MIRROR}/dists/{suite}/main/source/Sources.xz"), kept, suite)?;
    let index = Said::of(Command::new("xz").args(["-dc"]).arg(&index)).ok().out;
    let (directory, file, digest) = listed(&index, package)
        .ok_or_else(|| format!("{suite} has no upstream archive of {package}"))?;
    let path = fetched(&format!("{MIRROR}/{directory}/{file}"), kept, "")?;
    let said = Said::of(Command::new("sha256sum").arg(&path)).ok();
    match said.out.starts_with(digest) {
        true => Ok(path),
        false => Err(format!("{file} is not what the index of {suite} says")),
    }
}

/// Where the newest upstream archive of `package` is, its name, and its SHA-256.
fn listed<'i>(index: &'i str, package: &str) -> Option<(&'i str, &'i str, &'i str)> {
    let name = format!("Package: {package}");
    let paragraph = index
        .split("\n\n")
        .filter(|paragraph| paragraph.lines().any(|line| line == name))
        .last()?;
    let directory = paragraph.lines().find_map(|line| line.strip_prefix("Directory: "))?;
    let (_, digests) = paragraph.split_once("Checksums-Sha256:\n")?;
    let (digest, file) = digests
        .lines()
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.nth(1)?))
        })
        .find(|(_, file)| file.contains(".orig.tar.") && !file.ends_with(".asc"))?;
    Some((directory, file, digest))
}

/// What `url` has, downloaded once; `prefix` tells equal names apart.
fn fetched(url: &str, kept: &Path, prefix: &str) -> Result<PathBuf, String> {
    let dir = kept.join("downloads");
    fs::create_dir_all(&dir).expect("the build directory is ours");
    let name = url.rsplit('/').next().expect("an address has a last part");
    let path = dir.join(format!("{prefix}{name}"));
    if !path.exists() {
        let part = path.with_extension("part");
        let mut curl = Command::new("curl");
        let said = Said::of(curl.args(["-fsSL", "--retry", "2", "-o"]).arg(&part).arg(url));
        if said.code != 0 {
            return Err(format!("{url}: {}", said.err.trim()));
        }
        fs::rename(&part, &path).expect("the same directory");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_upstream_archive_is_taken() {
        let index = "Package: a\nDirectory: pool/a\nChecksums-Sha256:\n 00 9 a_1.orig.tar.gz\n\n\
                     Package: a\nChecksums-Sha256:\n 01 9 a_2-1.debian.tar.xz\n 02 9 \
                     a_2.orig.tar.xz.asc\n 03 9 a_2.orig.tar.xz\nDirectory: pool/a2\n\n\
                     Package: native\nDirectory: pool/n\nChecksums-Sha256:\n 04 9 native_1.tar.xz\n";
        assert_eq!(listed(index, "a"), Some(("pool/a2", "a_2.orig.tar.xz", "03")));
        assert_eq!(listed(index, "native"), None);
        assert_eq!(listed(index, "b"), None);
    }
}
