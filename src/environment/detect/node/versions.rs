//! Which versions of node and of its managers: pin files, manifest, lock file, and what is
//! known of the tools themselves.

use super::super::Strength;
use super::super::survey::{Place, Survey};
use super::{Package, managers, pin};
use crate::environment::version::{Constraint, Version};

/// Names of long-term lines, in `lts/<name>`.
const LINES: [(&str, u64); 12] = [
    ("argon", 4),
    ("boron", 6),
    ("carbon", 8),
    ("dubnium", 10),
    ("erbium", 12),
    ("fermium", 14),
    ("gallium", 16),
    ("hydrogen", 18),
    ("iron", 20),
    ("jod", 22),
    ("krypton", 24),
    ("lithium", 26),
];

/// When each line became long-term (nodejs/Release), seconds since the epoch.
const LONG_TERM_SINCE: [(u64, i64); 12] = [
    (4, 1_444_608_000),
    (6, 1_476_748_800),
    (8, 1_509_408_000),
    (10, 1_540_857_600),
    (12, 1_571_616_000),
    (14, 1_603_756_800),
    (16, 1_635_206_400),
    (18, 1_666_656_000),
    (20, 1_698_105_600),
    (22, 1_730_160_000),
    (24, 1_761_609_600),
    (26, 1_793_059_200),
];

/// From here on every major version becomes long-term in October of its year.
const EVERY_MAJOR: (u64, i64) = (27, 1_824_508_800);

/// The oldest node on which a manager runs that registries still talk to (npm 6).
const OLDEST: u64 = 6;

/// What each major version of a manager runs on, as its own manifest says (`engines`).
const RUNS_ON: [(&str, u64, &str); 16] = [
    ("yarn", 4, ">=18.12"),
    ("yarn", 3, ">=12"),
    ("yarn", 2, ">=10"),
    ("npm", 12, "^22.22.2 || ^24.15.0 || >=26"),
    ("npm", 11, "^20.17.0 || >=22.9.0"),
    ("npm", 10, "^18.17.0 || >=20.5.0"),
    ("npm", 9, "^14.17.0 || ^16.13.0 || >=18"),
    ("npm", 8, "^12.13.0 || ^14.15.0 || >=16"),
    ("npm", 7, ">=10"),
    ("pnpm", 12, ">=18"),
    ("pnpm", 11, ">=22.13"),
    ("pnpm", 10, ">=18.12"),
    ("pnpm", 9, ">=18.12"),
    ("pnpm", 8, ">=16.14"),
    ("pnpm", 7, ">=14.6"),
    ("pnpm", 6, ">=12.17"),
];

/// `.nvmrc`, `.node-version`.
pub(super) fn pins(survey: &mut Survey<'_>, place: &Place) {
    for name in [".nvmrc", ".node-version"] {
        if !place.has(name) {
            continue;
        }
        let Some(text) = survey.text(&place.path(name)) else { continue };
        let said = text
            .lines()
            .map(|(line, said)| (line, said.split('#').next().unwrap_or("").trim()))
            .find(|(_, said)| !said.is_empty());
        if let Some((line, said)) = said {
            let evidence = text.evidence(line, said, Strength::Pin);
            let read = node_name(said, survey.date).ok_or(());
            survey.constrain("node", read, evidence);
        }
    }
}

/// What nvm and the like understand: `22`, `v22.11.0`, `lts/*`, `lts/jod`, `node`, a range.
pub(in super::super) fn node_name(said: &str, date: i64) -> Option<Constraint> {
    let said = said.trim().trim_start_matches("node@").trim_start_matches("nodejs@");
    let lower = said.to_ascii_lowercase();
    match lower.as_str() {
        "node" | "latest" | "current" | "stable" | "system" | "*" => return Some(Constraint::any()),
        "lts" | "lts/*" | "--lts" => return newest_line(date, 0),
        _ => {}
    }
    let line = |name: &str| LINES.iter().find(|(line, _)| *line == name).map(|(_, major)| *major);
    if let Some(name) = lower.strip_prefix("lts/").or_else(|| lower.strip_prefix("lts-")) {
        return match name.strip_prefix('-') {
            Some(back) => newest_line(date, back.parse().ok()?),
            None => line(name).map(major),
        };
    }
    line(&lower).map(major).or_else(|| Constraint::from_npm(said).ok())
}

fn major(number: u64) -> Constraint {
    Constraint::prefix(&Version::from_numbers(&[number]))
}

fn newest_line(date: i64, back: usize) -> Option<Constraint> {
    let begun = LONG_TERM_SINCE.iter().filter(|(_, since)| *since <= date);
    begun.rev().nth(back).map(|(number, _)| major(*number)).or(Some(Constraint::any()))
}

/// The lines that were long-term at `date`, the newest first: what one takes when nobody
/// says which.
fn long_term(date: i64) -> Vec<Constraint> {
    let mut lines = Vec::new();
    if EVERY_MAJOR.1 <= date {
        lines.push(Constraint::at_least(&Version::from_numbers(&[EVERY_MAJOR.0])));
    }
    let begun = LONG_TERM_SINCE.iter().rev().filter(|(_, since)| *since <= date);
    lines.extend(begun.map(|(number, _)| major(*number)));
    lines
}

/// `engines`, `packageManager`, `devEngines`, `volta`; and the default.
pub(super) fn manifest(survey: &mut Survey<'_>, package: &Package<'_>) {
    for tool in ["node", "npm", "pnpm", "yarn", "bun"] {
        if let Some(range) = package.json["engines"][tool].as_str() {
            let text = format!("engines.{tool} {range:?}");
            let evidence = package.evidence(&["engines", tool], text, Strength::Manifest);
            survey.constrain(tool, Constraint::from_npm(range), evidence);
        }
        if let Some(version) = package.json["volta"][tool].as_str() {
            let text = format!("volta.{tool} {version:?}");
            let evidence = package.evidence(&["volta", tool], text, Strength::Pin);
            survey.constrain(tool, pin(version).ok_or(()), evidence);
        }
    }
    if let Some((name, version)) = package.pinned_manager()
        && matches!(name, "npm" | "pnpm" | "yarn" | "bun")
    {
        let shown = version.split('+').next().unwrap_or(version);
        let text = format!("packageManager {:?}", format!("{name}@{shown}"));
        let evidence = package.evidence(&["packageManager"], text, Strength::Pin);
        survey.constrain(name, pin(version).ok_or(()), evidence);
    }
    for kind in ["runtime", "packageManager"] {
        let said = &package.json["devEngines"][kind];
        let all = said.as_array().map_or(std::slice::from_ref(said), Vec::as_slice);
        for engine in all {
            let known = |n: &&str| matches!(*n, "node" | "npm" | "pnpm" | "yarn" | "bun");
            let name = engine["name"].as_str().filter(known);
            if let (Some(name), Some(range)) = (name, engine["version"].as_str()) {
                let text = format!("devEngines.{kind} {name} {range:?}");
                let evidence = package.evidence(&["devEngines", kind], text, Strength::Manifest);
                survey.constrain(name, Constraint::from_npm(range), evidence);
            }
        }
    }
    let runs = Constraint::at_least(&Version::from_numbers(&[OLDEST]));
    if survey.claims.so_far("node").intersect(&runs).is_none() {
        // It may have been tested on that, once; nobody could install it there today.
        let text = format!("managers run on node {OLDEST} and later only");
        let evidence = package.text.evidence(1, text, Strength::Manifest);
        survey.claims.claim("node", runs, evidence);
    }
    let said = "the newest long-term line that will do, as of the commit";
    let usual = package.text.evidence(1, said, Strength::Default);
    survey.claims.prefer("node", long_term(survey.date), usual);
}

/// What the lock file's format says about the manager that wrote it.
pub(super) fn lock(survey: &mut Survey<'_>, package: &Package<'_>, manager: &str) {
    let Some((name, by)) = package.lock else { return };
    if by != manager {
        return;
    }
    if manager == "yarn" {
        return managers::yarn_lock(survey, package, name);
    }
    let Some(text) = survey.head(&package.place.path(name)) else { return };
    let said = text.lines().take(12).find_map(|(line, said)| {
        let said = said.trim().trim_start_matches('"');
        let value =
            said.strip_prefix("lockfileVersion")?.trim_start_matches('"').strip_prefix(':')?;
        Some((line, value.trim().trim_matches([',', '"', '\'']).to_owned()))
    });
    let Some((line, version)) = said else { return };
    let evidence = text.evidence(line, format!("lockfileVersion {version}"), Strength::Lock);
    let wrote = match (manager, version.as_str()) {
        // Every npm reads the first format.
        ("npm", "1") => "*",
        ("npm", "2" | "3") => ">=7",
        ("pnpm", "5.0" | "5.1" | "5.2" | "5.3") => "6",
        ("pnpm", "5.4") => "7",
        ("pnpm", v) if v.starts_with('6') => "8",
        ("pnpm", v) if v.starts_with('9') => ">=9",
        ("bun", "0" | "1") => ">=1.2",
        _ => {
            survey.note(
                format!(
                    "lock files of version {version} are not known; the newest {manager} is taken"
                ),
                vec![evidence],
            );
            return;
        }
    };
    survey.constrain(manager, Constraint::parse(wrote), evidence);
}

/// A manager that could not run on the node that was asked for is not taken.
pub(super) fn compatible(survey: &mut Survey<'_>, package: &Package<'_>, manager: &str) {
    let node = survey.claims.so_far("node");
    for (name, number, engines) in RUNS_ON {
        let runs = Constraint::parse(engines).expect("the table above is well formed");
        if name == manager && node.intersect(&runs).is_none() {
            let text = format!("{name} {number} runs on node {engines} only");
            let evidence = package.evidence(&["engines", "node"], text, Strength::Manifest);
            let without = Constraint::parse(&format!("!={number}")).expect("a number is a prefix");
            survey.claims.claim(manager, without, evidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_2025: i64 = 1_750_000_000;

    #[test]
    fn names_of_lines() {
        let shown = |said| node_name(said, IN_2025).map(|c| c.to_string());
        for (said, expected) in [
            ("lts/*", "22"),
            ("lts/-1", "20"),
            ("lts/jod", "22"),
            ("lts/Iron", "20"),
            ("hydrogen", "18"),
            ("v22.11.0", "22.11.0"),
            ("22", "22"),
            ("node", "*"),
            (">=18 <21", ">=18 <21"),
        ] {
            assert_eq!(shown(said).as_deref(), Some(expected), "{said}");
        }
        assert_eq!(shown("lts/nobody"), None);
        assert_eq!(shown("iojs"), None);
    }

    #[test]
    fn the_default_is_a_long_term_line() {
        let newest = |date| long_term(date).first().map(Constraint::to_string);
        assert_eq!(newest(IN_2025).as_deref(), Some("22"));
        assert_eq!(newest(0), None);
        assert_eq!(newest(i64::MAX).as_deref(), Some(">=27"));
    }
}
