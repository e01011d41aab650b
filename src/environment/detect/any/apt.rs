//! What images and workflows install from Debian: `apt-get install`, `apk add`, `apt.txt`.
//!
//! Only what a build or a test needs is taken: packages that end in `-dev`, and those that
//! `native.toml` names. What every machine or a tool of the catalogue has is left out.

use super::super::survey::{Place, Survey, Text};
use super::super::system::{self, Debian};
use super::super::types::{Evidence, Strength};

/// Lists of packages, one a line: what buildpacks and Binder read.
const LISTS: [&str; 4] = ["apt.txt", "Aptfile", "binder/apt.txt", ".binder/apt.txt"];

/// How many packages of one command are looked at.
const MOST: usize = 256;

/// Reads the lists in the root.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    for path in LISTS {
        let there = match path.split_once('/') {
            None => root.has(path),
            Some((dir, _)) => root.directories.contains(dir),
        };
        let Some(text) = there.then(|| survey.text(path)).flatten() else { continue };
        for (line, said) in text.lines() {
            for name in said.split('#').next().unwrap_or("").split_whitespace().take(MOST) {
                package(survey, name, text.evidence(line, name, Strength::Pin));
            }
        }
    }
}

/// Takes what a command for a shell installs.
pub(super) fn command(survey: &mut Survey<'_>, text: &Text, line: u32, said: &str) {
    for (manager, name) in installed(said) {
        let evidence = text.evidence(line, format!("{manager} {name}"), Strength::Tested);
        match manager {
            "apk add" => system::alpine(survey, name, evidence),
            _ => package(survey, name, evidence),
        }
    }
}

/// Takes a script of several lines that begins in `line`.
pub(super) fn script(survey: &mut Survey<'_>, text: &Text, line: u32, said: &str) {
    if !said.contains("install") && !said.contains("apk") {
        return;
    }
    let joined = said.replace("\\\n", " ");
    for said in joined.lines() {
        let command_line = said.trim();
        let start = usize::try_from(line).unwrap_or(1).saturating_sub(1);
        let first = command_line.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
        let at = text.lines().skip(start).take(512).find(|(_, there)| there.contains(&first));
        let at = at.map_or(line, |(number, _)| number);
        command(survey, text, at, command_line);
    }
}

/// One package of Debian.
pub(super) fn package(survey: &mut Survey<'_>, name: &str, evidence: Evidence) {
    let name = name.split(['=', '/']).next().unwrap_or(name);
    match system::debian(name) {
        Debian::Tools(tools) => {
            for tool in tools {
                match survey.known.contains(tool) {
                    true => survey.claims.need_undated(tool, evidence.clone()),
                    false => system::add(survey, name, evidence.clone()),
                }
            }
        }
        Debian::System => system::add(survey, name, evidence),
        Debian::Nothing => {}
    }
}

/// The packages that `said` installs, each with the command that does.
fn installed(said: &str) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    let mut before = "";
    let mut manager: Option<&'static str> = None;
    for word in said.split_whitespace() {
        let ends =
            word.ends_with(';') || matches!(word, "&&" | "||" | "|" | ";" | "\\" | "}" | ")");
        let bare = word.trim_end_matches(';').trim_matches(['"', '\'']);
        match (manager, bare) {
            (_, "&&" | "||" | "|" | "" | "}" | ")") => {}
            (None, "install") if is_apt(before) => manager = Some("apt install"),
            (None, "add") if before == "apk" => manager = Some("apk add"),
            // Options stand between the manager and the word.
            (None, option) if option.starts_with('-') && (is_apt(before) || before == "apk") => {
                continue;
            }
            (Some(_), option) if option.starts_with(['-', '.', '$', '>', '<', '2', '(']) => {}
            (Some(manager), name) if found.len() < MOST => found.push((manager, name)),
            _ => {}
        }
        if ends {
            manager = None;
        }
        before = bare;
    }
    found
}

fn is_apt(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("apt-get" | "apt" | "aptitude" | "apt-fast"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_commands() {
        let names = |said| installed(said).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(
            names(
                "sudo apt-get update && sudo apt-get -y --no-install-recommends install libpq-dev \"g++\" -y $MORE && npm install x"
            ),
            ["libpq-dev", "g++"]
        );
        assert_eq!(names("apt install a; b c"), ["a"]);
        assert_eq!(names("apk add --no-cache -t x cairo-dev"), ["x", "cairo-dev"]);
        assert_eq!(names("pip install libpq-dev"), Vec::<&str>::new());
        assert_eq!(names("apt-get install -yqq a=1.2 2>&1 | tee b"), ["a=1.2"]);
    }
}
