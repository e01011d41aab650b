//! Perl: a distribution as CPAN has it (`Makefile.PL`, `Build.PL`, `cpanfile`, `dist.ini`) with its
//! tests in `t/`. What it needs of CPAN is not installed.

use super::commands::Purpose;
use super::survey::{Place, Survey, Text};
use super::types::{Ecosystem, Project, Strength};
use crate::environment::version::{Constraint, Version};

const MANIFESTS: [&str; 5] = ["Makefile.PL", "Build.PL", "cpanfile", "META.json", "dist.ini"];

/// Reads the distribution in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let manifests = place.present(&MANIFESTS);
    // The last two are also others'.
    if !place.directories.contains("lib") || manifests.is_empty() {
        return false;
    }
    let has_tests = place.directories.contains("t")
        && survey.place(&place.path("t")).files.iter().any(|name| name.ends_with(".t"));
    let own = MANIFESTS[..3].iter().any(|name| place.has(name));
    if !own && !has_tests {
        return false;
    }
    let Some(text) = survey.text(&manifests[0]) else { return false };
    survey.claims.need("perl", text.evidence(1, "a distribution of Perl", Strength::Default));
    minimum(survey, &text);
    let mut project = Project::new(Ecosystem::Perl, &place.root, survey.date);
    project.manifests = manifests;
    survey.projects.push(project);
    // Modules in C are built first.
    let builds = place.files.iter().any(|name| name.ends_with(".xs"));
    let evidence = text.evidence(1, "", Strength::Manifest);
    if builds {
        for tool in ["cc", "make"] {
            survey.claims.need_undated(tool, text.evidence(1, "a module in C", Strength::Default));
        }
    }
    let build = match (place.has("Makefile.PL"), place.has("Build.PL")) {
        (true, _) => "perl Makefile.PL && make",
        (false, true) => "perl Build.PL && ./Build",
        (false, false) => "",
    };
    if !build.is_empty() {
        survey.commands.add(Purpose::Build, place, build, evidence.clone());
    }
    if has_tests {
        let test = match builds && !build.is_empty() {
            true => format!("{build} && prove -br t"),
            false => "prove -lr t".to_owned(),
        };
        survey.commands.add(Purpose::Test, place, &test, evidence);
    }
    true
}

/// `use 5.010;`, `use v5.26;`, `MIN_PERL_VERSION => "5.006"`, `requires "perl" => "5.008"`.
fn minimum(survey: &mut Survey<'_>, text: &Text) {
    for (line, said) in text.lines() {
        let said = said.trim();
        let value = ["use v", "use ", "requires \"perl\" =>", "requires 'perl' =>"]
            .into_iter()
            .find_map(|before| said.strip_prefix(before))
            .or_else(|| said.split_once("MIN_PERL_VERSION").map(|(_, rest)| rest));
        let Some(value) = value else { continue };
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let value = value.trim_start_matches(|c| !is_number(c) && c != ';');
        let end = value.find(|c| !is_number(c)).unwrap_or(value.len());
        if let Some(version) = version(&value[..end]) {
            let evidence = text.evidence(line, said, Strength::Manifest);
            survey.claims.claim("perl", Constraint::at_least(&version), evidence);
        }
    }
}

/// `5.26`, `5.26.1`, and as it was written before: `5.010` is 5.10, `5.008001` is 5.8.1.
fn version(said: &str) -> Option<Version> {
    let (major, rest) = said.split_once('.')?;
    if rest.len() < 3 || rest.contains('.') {
        return Version::parse(said).ok();
    }
    let part = |from: usize| rest.get(from..from + 3).map_or(Some(0), |digits| digits.parse().ok());
    Some(Version::from_numbers(&[major.parse().ok()?, part(0)?, part(3)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_perl() {
        for (said, expected) in [
            ("5.26", Some("5.26")),
            ("5.26.1", Some("5.26.1")),
            ("5.010", Some("5.10.0")),
            ("5.008001", Some("5.8.1")),
            ("5", None),
        ] {
            assert_eq!(version(said).map(|v| v.to_string()).as_deref(), expected, "{said}");
        }
    }
}
