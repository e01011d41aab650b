//! What names tools of any ecosystem: mise.toml, .tool-versions; and what a project is
//! tested with: Dockerfile, devcontainer, CI workflows.

mod ci;

use toml_edit::{Item, Value};

use super::survey::{Place, Survey, Toml};
use super::{Evidence, Strength, go, node, python, rust};
use crate::environment::version::{Constraint, Version};

/// Names of mise, where there are several in one tree the first wins.
const MISE: [&str; 6] = [
    "mise.toml",
    ".mise.toml",
    "mise/config.toml",
    ".mise/config.toml",
    ".config/mise.toml",
    ".config/mise/config.toml",
];

/// Specifications of other programs that are not read yet.
const FOREIGN: [&str; 5] =
    ["devbox.json", "flake.nix", "environment.yml", "environment.yaml", "deno.json"];

/// Reads all of it, in the repository's root.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    mise(survey, root);
    tool_versions(survey, root);
    dockerfiles(survey, root);
    devcontainer(survey, root);
    ci::survey(survey, root);
    for name in FOREIGN {
        if root.has(name) {
            let evidence = Evidence {
                file: name.to_owned(),
                line: 1,
                text: name.to_owned(),
                strength: Strength::Pin,
            };
            survey.note(format!("`{name}` is not read yet"), vec![evidence]);
        }
    }
}

/// The catalogue's name of what others call so.
fn tool(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("core:").unwrap_or(name);
    Some(match name {
        "node" | "nodejs" => "node",
        "npm" | "npm:npm" => "npm",
        "pnpm" | "npm:pnpm" => "pnpm",
        "python" => "python",
        "uv" => "uv",
        "rust" => "rust",
        "go" | "golang" => "go",
        "zig" => "zig",
        _ => return None,
    })
}

/// Takes `said`, in the tool's own way of naming versions.
fn named(survey: &mut Survey<'_>, tool: &str, said: &str, evidence: Evidence) {
    let said = said.trim().trim_start_matches("prefix:");
    if matches!(said, "latest" | "system" | "ref:HEAD") {
        survey.claims.claim(tool, Constraint::any(), evidence);
        return;
    }
    let read = match tool {
        "rust" => return rust::channel(survey, said, evidence),
        "node" => node::node_name(said, survey.date),
        "python" => python::python_name(said),
        "go" => go::version(said).map(|version| Constraint::prefix(&version)),
        _ => Version::parse(said).ok().map(|version| Constraint::prefix(&version)),
    };
    survey.constrain(tool, read.ok_or(()), evidence);
}

fn mise(survey: &mut Survey<'_>, root: &Place) {
    let found = MISE.into_iter().find(|path| match path.split_once('/') {
        None => root.has(path),
        Some((dir, _)) => root.directories.contains(dir) && survey.exists(path),
    });
    let Some(toml) = found.and_then(|path| survey.toml(path)) else { return };
    let mut others = Vec::new();
    for name in toml.keys(&["tools"]) {
        let Some(tool) = tool(&name) else {
            others.push(name);
            continue;
        };
        let keys = ["tools", &name];
        if let Some(said) = toml.get(&keys).and_then(first_version) {
            let evidence = toml.evidence(&keys, format!("{name} {said:?}"), Strength::Pin);
            named(survey, tool, &said, evidence);
        }
    }
    not_provided(survey, &toml, others);
}

/// `"22"`, `["22", "20"]`, `{ version = "22" }`, `[{ version = "22" }]`: the first is the
/// one in force.
fn first_version(item: &Item) -> Option<String> {
    if let Some(array) = item.as_array() {
        return array.get(0).and_then(|value| match value {
            Value::String(said) => Some(said.value().clone()),
            value => value.as_inline_table()?.get("version")?.as_str().map(str::to_owned),
        });
    }
    let version = item.as_str().or_else(|| item.get("version").and_then(Item::as_str));
    version.map(str::to_owned)
}

fn not_provided(survey: &mut Survey<'_>, toml: &Toml, others: Vec<String>) {
    if others.is_empty() {
        return;
    }
    let evidence = toml.evidence(&["tools"], others.join(", "), Strength::Pin);
    let text = format!("{} in `{}`: not provided yet", others.join(", "), toml.text.path);
    survey.note(text, vec![evidence]);
}

fn tool_versions(survey: &mut Survey<'_>, root: &Place) {
    let Some(text) = root.has(".tool-versions").then(|| survey.text(".tool-versions")).flatten()
    else {
        return;
    };
    for (line, said) in text.lines() {
        let mut words = said.split('#').next().unwrap_or("").split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let evidence = text.evidence(line, format!("{name} {version}"), Strength::Pin);
        match tool(name) {
            Some(tool) => named(survey, tool, version, evidence),
            None => {
                survey.note(format!("{name} in `.tool-versions`: not provided yet"), vec![evidence])
            }
        }
    }
}

/// `FROM node:22-alpine`, with arguments that have a default.
fn dockerfiles(survey: &mut Survey<'_>, root: &Place) {
    let is_one = |name: &&String| {
        matches!(
            name.as_str(),
            "Dockerfile" | "Containerfile" | "Dockerfile.dev" | "dev.Dockerfile"
        )
    };
    let names: Vec<String> = root.files.iter().filter(is_one).cloned().collect();
    for name in names {
        let Some(text) = survey.text(&name) else { continue };
        let mut arguments: Vec<(String, String)> = Vec::new();
        for (line, said) in text.lines() {
            let mut words = said.split_whitespace();
            match words.next().map(str::to_ascii_uppercase).as_deref() {
                Some("ARG") => {
                    if let Some((name, value)) = words.next().and_then(|word| word.split_once('='))
                    {
                        let value = value.trim_matches(['"', '\'']);
                        arguments.push((name.to_owned(), value.to_owned()));
                    }
                }
                Some("FROM") => {
                    if let Some(named) = words.find(|word| !word.starts_with("--")) {
                        let evidence = text.evidence(line, said.trim(), Strength::Tested);
                        image(survey, &substituted(named, &arguments), evidence);
                    }
                }
                _ => {}
            }
        }
    }
}

fn substituted(text: &str, arguments: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for (name, value) in arguments {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        if text.len() > 512 {
            break;
        }
    }
    text
}

/// `docker.io/library/python:3.12-slim`, `mcr.microsoft.com/devcontainers/python:1-3.12-bullseye`.
fn image(survey: &mut Survey<'_>, image: &str, evidence: Evidence) {
    let image = image.split('@').next().unwrap_or(image);
    let Some((name, tag)) = image.rsplit_once(':') else { return };
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some(tool) = tool(name).filter(|tool| matches!(*tool, "node" | "python" | "rust" | "go"))
    else {
        return;
    };
    // The images of devcontainers have a version of their own in front.
    let own = image.contains("/devcontainers/");
    let number = tag.split('-').nth(usize::from(own)).unwrap_or("");
    if let Ok(version) = Version::parse(number) {
        survey.claims.claim(tool, Constraint::prefix(&version), evidence);
    }
}

/// The image and the features of `devcontainer.json`, which is JSON with comments: read by
/// lines.
fn devcontainer(survey: &mut Survey<'_>, root: &Place) {
    let path = match root.has(".devcontainer.json") {
        true => ".devcontainer.json",
        false if root.directories.contains(".devcontainer") => ".devcontainer/devcontainer.json",
        false => return,
    };
    let Some(text) = survey.text(path) else { return };
    let mut feature: Option<&'static str> = None;
    for (line, said) in text.lines() {
        let said = said.trim();
        if said.starts_with("//") {
            continue;
        }
        let strings: Vec<&str> = said.split('"').skip(1).step_by(2).collect();
        if let ["image", value, ..] = strings.as_slice() {
            let evidence = text.evidence(line, format!("image {value}"), Strength::Tested);
            image(survey, value, evidence);
        }
        if let Some(name) = strings.iter().find_map(|s| s.split_once("/features/")).map(|(_, n)| n)
        {
            feature = tool(name.split(':').next().unwrap_or(name));
        }
        if let (Some(tool), Some(at)) = (feature, strings.iter().position(|s| *s == "version")) {
            if let Some(version) = strings.get(at + 1).and_then(|v| Version::parse(v).ok()) {
                let evidence =
                    text.evidence(line, format!("feature {tool} {version}"), Strength::Tested);
                survey.claims.claim(tool, Constraint::prefix(&version), evidence);
            }
            feature = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_dockerfiles() {
        let arguments = [("V".to_owned(), "22".to_owned())];
        assert_eq!(substituted("node:${V}-slim", &arguments), "node:22-slim");
        assert_eq!(substituted("node:$V", &arguments), "node:22");
    }
}
