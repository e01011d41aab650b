//! .NET: `global.json`, projects (`*.csproj`, `*.fsproj`, `*.vbproj`), solutions.

use super::commands::Purpose;
use super::survey::{Place, Survey, Text};
use super::types::{Ecosystem, Evidence, Project, Strength};
use super::{names, written};
use crate::environment::version::{Constraint, Version};

const PROJECTS: [&str; 3] = [".csproj", ".fsproj", ".vbproj"];
const SOLUTIONS: [&str; 2] = [".sln", ".slnx"];

/// Reads the .NET project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    pin(survey, place);
    let of = |endings: &[&str]| {
        place.files.iter().find(|name| endings.iter().any(|end| name.ends_with(end))).cloned()
    };
    let single = of(&PROJECTS);
    let Some(name) = of(&SOLUTIONS).or(single.clone()) else { return false };
    let path = place.path(&name);
    let evidence = Evidence {
        file: path.clone(),
        line: 1,
        text: "a .NET project".into(),
        strength: Strength::Default,
    };
    survey.claims.need("dotnet", evidence.clone());
    let text = single.and_then(|name| survey.text(&place.path(&name)));
    if let Some(text) = &text {
        target(survey, text);
    }
    let mut project = Project::new(Ecosystem::Dotnet, &place.root, survey.date);
    project.manifests = vec![path];
    project.manifests.extend(place.present(&["global.json", "packages.lock.json"]));
    survey.projects.push(project);
    let evidence = Evidence { strength: Strength::Manifest, ..evidence };
    survey.commands.add(Purpose::Test, place, "dotnet test", evidence.clone());
    survey.commands.add(Purpose::Build, place, "dotnet build", evidence.clone());
    let runs =
        |text: &Text| text.text.contains(".Sdk.Web\"") || text.text.contains("<OutputType>Exe<");
    if text.as_ref().is_some_and(runs) {
        survey.commands.add(Purpose::Start, place, "dotnet run", evidence);
    }
    true
}

/// `global.json`: the SDK; what it may roll forward to is of its line.
fn pin(survey: &mut Survey<'_>, place: &Place) {
    if !place.has("global.json") {
        return;
    }
    let Some((text, json)) = survey.json_with_comments(&place.path("global.json")) else { return };
    if let Some(said) = json["sdk"]["version"].as_str() {
        let line = text.line_of_key(&["sdk", "version"]);
        let evidence = text.evidence(line, format!("sdk.version {said:?}"), Strength::Pin);
        names::line(survey, "dotnet", said, evidence);
    }
}

/// `<TargetFramework>net8.0</TargetFramework>`: built by the SDK of that line, or a later one.
fn target(survey: &mut Survey<'_>, text: &Text) {
    for (line, said) in text.lines() {
        let Some((_, rest)) = said.split_once("<TargetFramework") else { continue };
        let Some((_, rest)) = rest.split_once('>') else { continue };
        let said = rest.split('<').next().unwrap_or(rest);
        // `netstandard2.0` and `net48` are of no SDK.
        let version = |name: &str| {
            let number =
                name.trim().strip_prefix("net").or(name.trim().strip_prefix("netcoreapp"))?;
            written::release(number).filter(|_| {
                number.starts_with(|c: char| c.is_ascii_digit()) && number.contains('.')
            })
        };
        let Some(version) = said.split(';').filter_map(version).max() else { continue };
        let line_named = Version::from_numbers(&[version.number(0)]);
        let evidence = text.evidence(line, format!("TargetFramework {said}"), Strength::Manifest);
        survey.claims.claim("dotnet", Constraint::at_least(&line_named), evidence.clone());
        survey.claims.prefer("dotnet", vec![Constraint::prefix(&line_named)], evidence);
    }
}
