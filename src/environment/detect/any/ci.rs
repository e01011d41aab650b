//! CI workflows: which versions the project is tested with, and what is installed for that.
//! GitHub, GitLab, CircleCI, Travis. What is looked for is one key with a value or a list,
//! wherever it stands.

use super::super::survey::{Place, Survey, Text};
use super::super::types::Strength;
use super::super::written::split;
use super::super::yaml::Yaml;
use super::super::{names, services};
use super::{apt, docker};

/// How many workflows are read.
const MOST_FILES: usize = 32;
/// How many values are looked at in all of them.
const MOST_VALUES: usize = 4096;

/// Keys of setup actions and of matrices, and the tools that they are about.
const KEYS: [(&str, &str); 30] = [
    ("bun-version", "bun"),
    ("deno-version", "deno"),
    ("dotnet-version", "dotnet"),
    ("dotnet", "dotnet"),
    ("elixir", "elixir"),
    ("elixir-version", "elixir"),
    ("go", "go"),
    ("go-version", "go"),
    ("go_version", "go"),
    ("java", "java"),
    ("java-version", "java"),
    ("java_version", "java"),
    ("jdk", "java"),
    ("node", "node"),
    ("node-version", "node"),
    ("node-versions", "node"),
    ("node_js", "node"),
    ("node_version", "node"),
    ("node_versions", "node"),
    ("nodejs", "node"),
    ("php", "php"),
    ("php-version", "php"),
    ("python", "python"),
    ("python-version", "python"),
    ("python-versions", "python"),
    ("python_version", "python"),
    ("ruby", "ruby"),
    ("ruby-version", "ruby"),
    ("rvm", "ruby"),
    ("zig-version", "zig"),
];

/// Keys whose values are commands for a shell.
const SCRIPTS: [&str; 6] =
    ["before_install", "before_script", "command", "install", "run", "script"];

/// Reads the root's.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let mut paths = Vec::new();
    if root.directories.contains(".github") {
        let place = survey.place(".github/workflows");
        let is_workflow = |name: &&String| name.ends_with(".yml") || name.ends_with(".yaml");
        let names = place.files.iter().filter(is_workflow).take(MOST_FILES);
        paths.extend(names.map(|name| place.path(name)));
    }
    paths.extend(root.present(&[".travis.yml", ".gitlab-ci.yml"]));
    if root.directories.contains(".circleci") {
        paths.push(".circleci/config.yml".to_owned());
    }
    let mut left = MOST_VALUES;
    for path in paths {
        if let Some((text, yaml)) = survey.yaml(&path) {
            workflow(survey, &text, &yaml, &mut left);
        }
    }
}

fn workflow(survey: &mut Survey<'_>, text: &Text, yaml: &Yaml, left: &mut usize) {
    let mut found = Vec::new();
    yaml.visit(&mut |key, value| {
        let known = KEYS.iter().any(|(name, _)| name.eq_ignore_ascii_case(key));
        if key == "apt" {
            found.extend(value.get("packages").map(|packages| ("packages", packages)));
        } else if known || matches!(key, "image" | "services") || SCRIPTS.contains(&key) {
            found.push((key, value));
        }
    });
    for (key, value) in found {
        let tool = KEYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        for item in value.items() {
            *left = left.saturating_sub(1);
            let named = item.str().or_else(|| item.get("name").and_then(Yaml::str));
            let Some(said) = named.filter(|_| *left > 0) else { continue };
            let line = item.line;
            match (key, tool) {
                (_, Some((_, tool))) => values(survey, text, line, tool, said),
                ("image", _) => {
                    let evidence = text.evidence(line, format!("image {said}"), Strength::Tested);
                    let (name, tag) = split(said);
                    services::image(survey, name, tag, evidence.clone());
                    docker::image(survey, said, evidence);
                }
                ("services", _) => {
                    let (name, tag) = split(said);
                    let evidence = text.evidence(line, format!("service {said}"), Strength::Tested);
                    match tag {
                        "" => services::named(survey, name, evidence),
                        tag => services::image(survey, name, tag, evidence),
                    }
                }
                ("packages", _) => {
                    apt::package(survey, said, text.evidence(line, said, Strength::Tested));
                }
                _ => apt::script(survey, text, line, said),
            }
        }
    }
}

/// One value, or several in one text.
fn values(survey: &mut Survey<'_>, text: &Text, line: u32, tool: &str, said: &str) {
    if !survey.known.contains(tool) {
        return;
    }
    // An expression is another key's value, which is read where it stands.
    let said = said.trim().trim_matches(['[', ']', '|']);
    for one in said.split([',', '\n']) {
        let one = one.trim().trim_matches(['"', '\'']).trim();
        if one.is_empty() || one.contains("${{") || one.contains("<<") {
            continue;
        }
        let plain = one.strip_suffix(".x").unwrap_or(one);
        let plain = plain.strip_prefix("~").unwrap_or(plain);
        // Other implementations, names of the day and `3.x` say nothing about releases.
        let vague = (tool == "python" && !plain.contains('.'))
            || (tool == "ruby" && plain.starts_with(['j', 't']));
        let constraint = names::constraint(survey.date, tool, plain);
        if let Some(constraint) = constraint.filter(|c| !vague && !c.is_any()) {
            let evidence = text.evidence(line, format!("{tool} {one}"), Strength::Tested);
            survey.claims.claim(tool, constraint, evidence);
        }
    }
}
