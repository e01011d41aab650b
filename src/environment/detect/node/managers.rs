//! Which manager installs a project, and what says so of yarn and bun.
//!
//! yarn has two generations that read different lock files: the first (`# yarn lockfile v1`,
//! `.yarnrc`), and everything since 2 (`__metadata:`, `.yarnrc.yml`). A release of yarn that
//! is committed (`yarnPath`) is what every other yarn hands over to; its version counts.
//!
//! Neither yarn nor bun can install as of a date. Where there is no lock file to follow, npm
//! does, unless the manifests are written in words that it does not know.

use super::super::survey::{Place, Survey, join};
use super::super::{Evidence, Strength};
use super::{Package, dependencies, pin};
use crate::environment::version::Constraint;

/// Prefixes of versions in manifests that npm cannot read.
const FOREIGN: [&str; 4] = ["workspace:", "catalog:", "portal:", "patch:"];

/// The manager of `package` and, where it is another, who installs in its place.
pub(super) struct Managers {
    /// Whose words scripts are started with, if it can be had.
    pub speaks: Option<&'static str>,
    /// Who installs, if anybody can.
    pub installs: Option<&'static str>,
}

/// Who installs: the wanted one, or npm in place of one that could not as of the date, or
/// that cannot be had.
pub(super) fn choose(
    survey: &mut Survey<'_>,
    package: &Package<'_>,
    members: &[String],
    wanted: &str,
) -> Managers {
    let known = ["npm", "pnpm", "yarn", "bun"].into_iter().find(|name| *name == wanted);
    let both = |name| Managers { speaks: known, installs: name };
    if matches!(wanted, "npm" | "pnpm") {
        return both(known);
    }
    let locked = package.lock.filter(|(_, by)| *by == wanted);
    if known.is_some() && locked.is_some() {
        return both(known);
    }
    let foreign = speaks_foreign(survey, package, members);
    let evidence = package.evidence(&["packageManager"], wanted, Strength::Pin);
    let (text, installs) = match (known, foreign || is_modern_yarn(survey, package, wanted)) {
        // It would not start a script of what another has installed.
        (Some(_), true) => (
            format!(
                "there is no lock file of {wanted}, which cannot install as of the commit's date: today's versions are taken"
            ),
            known,
        ),
        (Some(_), false) => (
            format!(
                "there is no lock file of {wanted}, which cannot install as of the commit's date: npm does, from the same manifests"
            ),
            Some("npm"),
        ),
        (None, true) => (
            format!(
                "{wanted} is not provided, and npm cannot read these manifests: no dependencies are installed"
            ),
            None,
        ),
        (None, false) => (
            format!(
                "{wanted} is not provided: npm installs in its place, from the manifests and as of the commit's date, without the lock file"
            ),
            Some("npm"),
        ),
    };
    survey.note(text, vec![evidence]);
    both(installs)
}

/// Whether some manifest asks for packages in words that npm does not know.
fn speaks_foreign(survey: &mut Survey<'_>, package: &Package<'_>, members: &[String]) -> bool {
    let foreign = |(_, range): &(String, String)| FOREIGN.iter().any(|p| range.starts_with(p));
    package.dependencies().iter().any(foreign)
        || members.iter().any(|dir| {
            let manifest = survey.json(&join(dir, "package.json"));
            manifest.is_some_and(|(_, json)| dependencies(&json).iter().any(foreign))
        })
}

/// Whether this is a project of yarn 2 or newer.
fn is_modern_yarn(survey: &Survey<'_>, package: &Package<'_>, wanted: &str) -> bool {
    let locked = package.lock.filter(|(_, by)| *by == "yarn");
    let pinned = package.pinned_manager().filter(|(name, _)| *name == "yarn");
    wanted == "yarn"
        && match (locked, pinned) {
            (Some((name, _)), _) => {
                survey.head(&package.place.path(name)).is_some_and(|t| is_modern(&t.text))
            }
            (None, Some((_, version))) => !version.starts_with("1.") && !version.starts_with("0."),
            (None, None) => package.place.has(".yarnrc.yml"),
        }
}

fn is_modern(lock: &str) -> bool {
    lock.lines().any(|line| line == "__metadata:")
}

/// What pins yarn or bun in files of its own.
pub(super) fn pins(survey: &mut Survey<'_>, package: &Package<'_>) {
    let place = package.place;
    if let Some((evidence, version)) = committed(survey, place) {
        survey.constrain("yarn", pin(&version).ok_or(()), evidence);
    }
    if place.has(".bun-version")
        && let Some(text) = survey.text(&place.path(".bun-version"))
        && let Some((line, said)) = text.lines().find(|(_, said)| !said.trim().is_empty())
    {
        let said = said.trim().trim_start_matches('v');
        let evidence = text.evidence(line, said, Strength::Pin);
        survey.constrain("bun", pin(said).ok_or(()), evidence);
    }
}

/// The release of yarn in the tree that `yarnPath` names, with its version as its name has
/// it: `.yarn/releases/yarn-4.9.4.cjs`.
fn committed(survey: &mut Survey<'_>, place: &Place) -> Option<(Evidence, String)> {
    let (name, key) = [(".yarnrc.yml", "yarnPath:"), (".yarnrc", "yarn-path ")]
        .into_iter()
        .find(|(name, _)| place.has(name))?;
    let text = survey.text(&place.path(name))?;
    let (line, said) = text.lines().find(|(_, said)| said.starts_with(key))?;
    let path = said[key.len()..].trim().trim_matches(['"', '\'']);
    let file = path.rsplit('/').next()?.strip_prefix("yarn-")?;
    let version = file.strip_suffix(".cjs").or_else(|| file.strip_suffix(".js"))?.to_owned();
    Some((text.evidence(line, format!("yarnPath {path}"), Strength::Pin), version))
}

/// What the format of yarn's lock file says about the version that wrote it: any other
/// would change it, and is forbidden to.
pub(super) fn yarn_lock(survey: &mut Survey<'_>, package: &Package<'_>, name: &str) {
    let Some(text) = survey.head(&package.place.path(name)) else { return };
    if !is_modern(&text.text) {
        let line = text.line_of("# yarn lockfile v1");
        let evidence = text.evidence(line, "yarn lockfile v1", Strength::Lock);
        survey.constrain("yarn", Constraint::parse("1"), evidence);
        return;
    }
    let mut lines = text.lines().skip_while(|(_, said)| *said != "__metadata:").take(4);
    let said = lines.find_map(|(line, said)| {
        Some((line, said.trim().strip_prefix("version:")?.trim().to_owned()))
    });
    let Some((line, version)) = said else { return };
    let evidence = text.evidence(line, format!("__metadata version {version}"), Strength::Lock);
    let wrote = match version.as_str() {
        "4" => ">=2 <3.1",
        "5" => "3.1",
        "6" => ">=3.2 <4",
        "7" | "8" => ">=4 <4.14",
        "9" => "4.14",
        "10" => ">=4.15",
        _ => {
            let text = format!("lock files of yarn of version {version} are not known");
            return survey.note(format!("{text}; the newest is taken"), vec![evidence]);
        }
    };
    survey.constrain("yarn", Constraint::parse(wrote), evidence);
}

/// Which generation of yarn, where no lock file tells.
pub(super) fn usual(survey: &mut Survey<'_>, package: &Package<'_>, wanted: &str) {
    if wanted != "yarn" || package.lock.is_some_and(|(_, by)| by == "yarn") {
        return;
    }
    let (said, take) = match is_modern_yarn(survey, package, wanted) {
        true => ("a project of yarn 2 or newer", ["4", "3"]),
        false => ("a project of the first yarn", ["1", "1"]),
    };
    let evidence = package.text.evidence(1, said, Strength::Default);
    let read = |text| Constraint::parse(text).expect("a number is a prefix");
    survey.claims.prefer("yarn", take.map(read).into(), evidence);
}

/// Tests that bun runs itself, where no script does.
pub(super) fn bun_tests(survey: &Survey<'_>, place: &Place) -> Option<Evidence> {
    let below = ["test", "tests", "__tests__", "src"].into_iter();
    let below = below.filter(|name| place.directories.contains(*name));
    let places = below.map(|name| survey.place(&place.path(name)));
    std::iter::once(place.clone()).chain(places).find_map(|place| {
        let name = place.files.iter().find(|name| is_bun_test(name))?;
        let (file, text) = (place.path(name), name.clone());
        Some(Evidence { file, line: 1, text, strength: Strength::Manifest })
    })
}

/// `bun test` finds files by their names.
fn is_bun_test(name: &str) -> bool {
    let stem = [".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    stem.is_some_and(|stem| {
        [".test", "_test", ".spec", "_spec"].iter().any(|suffix| stem.ends_with(suffix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_bun() {
        for name in ["a.test.ts", "a_test.js", "a.spec.tsx", "a_spec.mjs"] {
            assert!(is_bun_test(name), "{name}");
        }
        for name in ["test.ts", "a.test.json", "contest.js", "spec_a.ts"] {
            assert!(!is_bun_test(name), "{name}");
        }
    }

    #[test]
    fn generations_of_locks() {
        assert!(is_modern("# comment\n\n__metadata:\n  version: 8\n"));
        assert!(!is_modern("# yarn lockfile v1\n\n\"x@^1\":\n  version \"1.0.0\"\n"));
    }
}
