//! What other programs call the catalogue's tools, and how they write versions.

use super::survey::Survey;
use super::written::release;
use super::{Evidence, go, node, python, rust};
use crate::environment::version::{Constraint, Version};

/// Names that differ from the catalogue's.
const ALIASES: [(&str, &str); 33] = [
    ("amazoncorretto", "java"),
    ("bazel-bazelisk", "bazel"),
    ("bazelisk", "bazel"),
    ("cimg-go", "go"),
    ("clang", "cc"),
    ("conda-python", "python"),
    ("dotnet-core", "dotnet"),
    ("dotnet-sdk", "dotnet"),
    ("eclipse-temurin", "java"),
    ("g++", "cc"),
    ("gcc", "cc"),
    ("gnumake", "make"),
    ("golang", "go"),
    ("gxx", "cc"),
    ("jdk", "java"),
    ("jre", "java"),
    ("mysql-server", "mysql"),
    ("ninja-build", "ninja"),
    ("nodejs", "node"),
    ("npm:npm", "npm"),
    ("npm:pnpm", "pnpm"),
    ("npm:yarn", "yarn"),
    ("openjdk", "java"),
    ("pip:uv", "uv"),
    ("pipx:poetry", "poetry"),
    ("pipx:uv", "uv"),
    ("pkgconf", "pkg-config"),
    ("postgresql", "postgres"),
    ("python3", "python"),
    ("rust-toolchain", "rust"),
    ("rustc", "rust"),
    ("temurin", "java"),
    ("zulu-openjdk", "java"),
];

/// Tools that are published a line at a time: where the very release that is named cannot
/// be had, another of its line will do.
const BY_LINE: [&str; 5] = ["dotnet", "elixir", "java", "php", "ruby"];

/// The catalogue's name of what others call so, if the catalogue has it.
pub(super) fn tool(survey: &Survey<'_>, name: &str) -> Option<String> {
    let name = name.strip_prefix("core:").unwrap_or(name).to_ascii_lowercase();
    let known = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = known.map_or(name, |(_, tool)| (*tool).to_owned());
    survey.known.contains(&name).then_some(name)
}

/// Takes `said`, in the tool's own way of naming versions.
pub(super) fn named(survey: &mut Survey<'_>, tool: &str, said: &str, evidence: Evidence) {
    let said = said.trim().trim_start_matches("prefix:");
    if matches!(said, "latest" | "system" | "ref:HEAD" | "*" | "lts") && tool != "node" {
        survey.claims.claim(tool, Constraint::any(), evidence);
        return;
    }
    if tool == "rust" {
        return rust::channel(survey, said, evidence);
    }
    if BY_LINE.contains(&tool) {
        return line(survey, tool, said, evidence);
    }
    survey.constrain(tool, constraint(survey.date, tool, said).ok_or(()), evidence);
}

/// The versions that `said` names.
pub(super) fn constraint(date: i64, tool: &str, said: &str) -> Option<Constraint> {
    match tool {
        "node" if said == "latest" => Some(Constraint::any()),
        "node" => node::node_name(said, date),
        "python" => python::python_name(said),
        "go" => go::version(said).map(|version| Constraint::prefix(&version)),
        _ => release(said).map(|version| Constraint::prefix(&version)),
    }
}

/// A release of a tool of which only the line must be met.
pub(super) fn line(survey: &mut Survey<'_>, tool: &str, said: &str, evidence: Evidence) {
    let Some(version) = release(said) else {
        return survey.constrain(tool, Err(()), evidence);
    };
    let (mut first, mut second) = (version.number(0), version.number(1));
    // Until 8 the first number was 1.
    if tool == "java" && first == 1 && second > 0 {
        (first, second) = (second, 0);
    }
    let major = Constraint::prefix(&Version::from_numbers(&[first]));
    survey.claims.claim(tool, major, evidence.clone());
    let exact = if first == version.number(0) { version } else { Version::from_numbers(&[first]) };
    let mut preferences = vec![Constraint::prefix(&exact)];
    if second > 0 {
        preferences.push(Constraint::prefix(&Version::from_numbers(&[first, second])));
    }
    survey.claims.prefer(tool, preferences, evidence);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_sorted() {
        assert!(ALIASES.is_sorted());
    }
}
