//! Zig: `build.zig`, `build.zig.zon`, the pin files.

use super::commands::Purpose;
use super::survey::{Place, Survey, Text};
use super::{Ecosystem, Project, Strength};
use crate::environment::version::{Constraint, Version};

/// Where the tests of a program without `build.zig` are looked for, and its beginning.
const SOURCES: [&str; 6] =
    ["src/root.zig", "src/main.zig", "src/lib.zig", "main.zig", "root.zig", "lib.zig"];

/// Reads the Zig project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    for name in [".zigversion", ".zig-version"] {
        if let Some(text) = place.has(name).then(|| survey.text(&place.path(name))).flatten() {
            let said = text.text.trim().to_owned();
            let read = match said.as_str() {
                "stable" | "latest" => Ok(Constraint::any()),
                said => Version::parse(said).map(|version| Constraint::prefix(&version)),
            };
            survey.constrain("zig", read, text.evidence(1, said, Strength::Pin));
        }
    }
    let built = place.has("build.zig");
    let source = SOURCES.iter().find(|path| {
        let (dir, _) = path.split_once('/').unwrap_or(("", path));
        (dir.is_empty() || place.directories.contains(dir)) && survey.exists(&place.path(path))
    });
    let Some(name) = built.then_some("build.zig").or(source.copied()) else { return false };
    let Some(text) = survey.text(&place.path(name)) else { return false };
    survey.claims.need("zig", text.evidence(1, "a Zig project", Strength::Default));
    let mut project = Project::new(Ecosystem::Zig, &place.root, survey.date);
    project.manager = Some("zig".to_owned());
    project.manifests = place.present(&["build.zig", "build.zig.zon"]);
    if place.has("build.zig.zon") {
        manifest(survey, place);
    }
    if built {
        steps(survey, place, &text);
    } else {
        single(survey, place, &text, name);
    }
    survey.projects.push(project);
    true
}

/// `.minimum_zig_version = "0.14.0"`. Releases of zig break each other: where nothing else
/// is said, the line that was named is preferred to later ones.
fn manifest(survey: &mut Survey<'_>, place: &Place) {
    let Some(text) = survey.text(&place.path("build.zig.zon")) else { return };
    let said = text.lines().find_map(|(line, said)| {
        let value =
            said.trim().strip_prefix(".minimum_zig_version")?.trim_start().strip_prefix('=')?;
        Some((line, value.trim().trim_matches([',', '"', ' ']).to_owned()))
    });
    let Some((line, said)) = said else { return };
    let evidence = text.evidence(line, format!("minimum_zig_version {said:?}"), Strength::Manifest);
    let read = Version::parse(&said);
    if let Ok(version) = &read
        && version.number(0) == 0
    {
        let line_named = Constraint::prefix(&Version::from_numbers(&[0, version.number(1)]));
        let usual = text.evidence(line, "releases of zig break each other", Strength::Default);
        survey.claims.prefer("zig", vec![line_named], usual);
    }
    survey.constrain("zig", read.map(|version| Constraint::at_least(&version)), evidence);
}

/// The steps that `build.zig` names: `b.step("test", "Run the tests")`.
fn steps(survey: &mut Survey<'_>, place: &Place, text: &Text) {
    let has = |name: &str| {
        let step = format!("step(\"{name}\"");
        text.text.find(&step).map(|at| text.line_at(at))
    };
    if let Some(line) = has("test") {
        let evidence = text.evidence(line, "", Strength::Manifest);
        survey.commands.add(Purpose::Test, place, "zig build test", evidence);
    }
    let evidence = text.evidence(1, "", Strength::Manifest);
    survey.commands.add(Purpose::Build, place, "zig build", evidence);
    if let Some(line) = has("run") {
        let evidence = text.evidence(line, "", Strength::Manifest);
        survey.commands.add(Purpose::Start, place, "zig build run", evidence);
    }
}

/// A program of which only the source is there.
fn single(survey: &mut Survey<'_>, place: &Place, text: &Text, name: &str) {
    let test = text.lines().find(|(_, line)| {
        let rest = line.trim_start().strip_prefix("test");
        rest.is_some_and(|rest| rest.starts_with([' ', '{', '"']))
    });
    if let Some((line, _)) = test {
        let evidence = text.evidence(line, "", Strength::Manifest);
        survey.commands.add(Purpose::Test, place, &format!("zig test {name}"), evidence);
    }
    if text.text.contains("pub fn main(") {
        let evidence = text.evidence(text.line_of("pub fn main("), "", Strength::Manifest);
        survey.commands.add(
            Purpose::Build,
            place,
            &format!("zig build-exe {name}"),
            evidence.clone(),
        );
        survey.commands.add(Purpose::Start, place, &format!("zig run {name}"), evidence);
    }
}
