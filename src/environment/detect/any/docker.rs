//! Dockerfiles, and what images are of: `FROM`, `RUN apt-get install`, `CMD`. An image's own
//! variables (`ENV`) are about the image and are not read.

use super::super::names;
use super::super::survey::{Place, Survey, Text};
use super::super::types::{Evidence, Strength};
use super::super::written::{release, split};
use super::apt;
use crate::environment::version::{Constraint, Version};

/// How many Dockerfiles are read.
const MOST_FILES: usize = 4;
/// Longer instructions are cut.
const LONGEST: usize = 64 << 10;

/// One instruction, its continuations joined.
pub(in super::super) struct Instruction {
    pub line: u32,
    /// In capitals.
    pub name: String,
    pub rest: String,
}

/// The Dockerfiles of the root.
pub(in super::super) fn files(root: &Place) -> Vec<String> {
    let is_one = |name: &&String| {
        let stem = name.strip_suffix(".Dockerfile").or(name.strip_prefix("Dockerfile."));
        matches!(name.as_str(), "Dockerfile" | "Containerfile" | "dockerfile")
            || stem.is_some_and(|stem| matches!(stem, "dev" | "test" | "ci" | "prod" | "build"))
    };
    root.files.iter().filter(is_one).take(MOST_FILES).cloned().collect()
}

/// The instructions of a Dockerfile.
pub(in super::super) fn instructions(text: &Text) -> Vec<Instruction> {
    let mut found: Vec<Instruction> = Vec::new();
    let mut continued = false;
    for (line, said) in text.lines() {
        let said = said.trim();
        // Comments and empty lines may stand between the lines of an instruction.
        if said.starts_with('#') || said.is_empty() {
            continue;
        }
        let (part, more) = match said.strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (said, false),
        };
        if continued && let Some(last) = found.last_mut() {
            if last.rest.len() + part.len() < LONGEST {
                last.rest.push(' ');
                last.rest.push_str(part);
            }
        } else {
            let (name, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            let (name, rest) = (name.to_ascii_uppercase(), rest.trim().to_owned());
            found.push(Instruction { line, name, rest });
        }
        continued = more;
    }
    found
}

/// Reads the root's Dockerfiles.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    for name in files(root) {
        let Some(text) = survey.text(&name) else { continue };
        let mut arguments: Vec<(String, String)> = Vec::new();
        for Instruction { line, name, rest } in instructions(&text) {
            match name.as_str() {
                "ARG" => {
                    if let Some((name, value)) = rest.split_once('=') {
                        let value = value.trim_matches(['"', '\'']);
                        arguments.push((name.to_owned(), value.to_owned()));
                    }
                }
                "FROM" => {
                    if let Some(named) = rest.split_whitespace().find(|w| !w.starts_with("--")) {
                        let evidence =
                            text.evidence(line, format!("FROM {rest}"), Strength::Tested);
                        image(survey, &substituted(named, &arguments), evidence);
                    }
                }
                "RUN" => apt::command(survey, &text, line, &rest),
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

/// `docker.io/library/python:3.12-slim`, `mcr.microsoft.com/devcontainers/python:1-3.12-bullseye`,
/// `maven:3.9-eclipse-temurin-21`.
pub(super) fn image(survey: &mut Survey<'_>, image: &str, evidence: Evidence) {
    let (name, tag) = split(image);
    // The images of devcontainers have a version of their own in front.
    let own = image.contains("/devcontainers/");
    let mut parts = tag.split('-').skip(usize::from(own));
    let number = parts.next().unwrap_or("");
    let name = match image {
        _ if image.contains("dotnet/") => "dotnet",
        _ => name,
    };
    // What other tools run on stands behind theirs: `gradle:8.5-jdk21`.
    if let "maven" | "gradle" | "sbt" = name
        && let Some(java) = parts
            .filter(|part| {
                let digits = part.trim_start_matches("jdk").trim_start_matches("jre");
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            })
            .last()
        && let Some(tool) = names::tool(survey, "java")
    {
        names::line(survey, &tool, java, evidence.clone());
    }
    // Images of systems and services have versions that are nobody's.
    const TOOLS: [&str; 20] = [
        "amazoncorretto",
        "bun",
        "deno",
        "dotnet",
        "eclipse-temurin",
        "elixir",
        "go",
        "golang",
        "gradle",
        "java",
        "maven",
        "node",
        "openjdk",
        "php",
        "python",
        "ruby",
        "rust",
        "typescript-node",
        "javascript-node",
        "zig",
    ];
    if !TOOLS.contains(&name) {
        return;
    }
    let name = name.strip_suffix("script-node").map_or(name, |_| "node");
    let Some(tool) = names::tool(survey, name) else { return };
    if matches!(tool.as_str(), "java" | "ruby" | "php" | "elixir" | "dotnet") {
        if release(number).is_some() {
            names::line(survey, &tool, number, evidence);
        }
    } else if let Ok(version) = Version::parse(number) {
        survey.claims.claim(&tool, Constraint::prefix(&version), evidence);
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

    #[test]
    fn instructions_are_joined() {
        let text = "FROM a\nRUN x && \\\n  # why\n  y \\\n\n z\ncmd [\"a\"]\n";
        let text = Text { path: "Dockerfile".into(), text: text.into() };
        let found: Vec<String> = instructions(&text)
            .into_iter()
            .map(|i| format!("{} {} {}", i.line, i.name, i.rest))
            .collect();
        assert_eq!(found, ["1 FROM a", "2 RUN x && y z", "7 CMD [\"a\"]"]);
    }
}
