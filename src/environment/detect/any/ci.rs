//! CI workflows: which versions the project is tested with. Read by lines: what is looked
//! for is one key with a value or a list, wherever it stands.

use super::super::survey::{Place, Survey, Text};
use super::super::{Strength, go, node, python};
use crate::environment::version::{Constraint, Version};

/// How many workflows are read.
const MOST_FILES: usize = 32;

/// Keys of setup actions and of matrices, and the tools that they are about.
const KEYS: [(&str, &str); 15] = [
    ("node-version", "node"),
    ("node_version", "node"),
    ("node", "node"),
    ("nodejs", "node"),
    ("python-version", "python"),
    ("python_version", "python"),
    ("python", "python"),
    ("python-versions", "python"),
    ("node-versions", "node"),
    ("node_versions", "node"),
    ("go-version", "go"),
    ("go_version", "go"),
    ("go", "go"),
    ("zig-version", "zig"),
    ("zig_version", "zig"),
];

/// GitHub's workflows, and the images of GitLab's.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    if root.directories.contains(".github") {
        let place = survey.place(".github/workflows");
        let is_workflow = |name: &&String| name.ends_with(".yml") || name.ends_with(".yaml");
        for name in place.files.iter().filter(is_workflow).take(MOST_FILES) {
            if let Some(text) = survey.text(&place.path(name)) {
                workflow(survey, &text);
            }
        }
    }
    if root.has(".travis.yml")
        && let Some(text) = survey.text(".travis.yml")
    {
        workflow(survey, &text);
    }
    if root.has(".gitlab-ci.yml")
        && let Some(text) = survey.text(".gitlab-ci.yml")
    {
        for (line, said) in text.lines() {
            if let Some(named) = said.trim().trim_start_matches("- ").strip_prefix("image:") {
                let named = named.trim().trim_matches(['"', '\'']);
                let evidence = text.evidence(line, format!("image {named}"), Strength::Tested);
                super::image(survey, named, evidence);
            }
        }
    }
}

fn workflow(survey: &mut Survey<'_>, text: &Text) {
    // The tool of the list that the lines are in, and how far its key is indented.
    let mut list: Option<(&'static str, usize)> = None;
    for (line, said) in text.lines() {
        let indent = said.len() - said.trim_start().len();
        let said = said.split(" #").next().unwrap_or(said).trim();
        if said.is_empty() || said.starts_with('#') {
            continue;
        }
        if let Some((tool, outer)) = list {
            match said.strip_prefix("- ").filter(|_| indent >= outer) {
                Some(item) => {
                    values(survey, text, line, tool, item);
                    continue;
                }
                None => list = None,
            }
        }
        let Some((key, value)) = said.trim_start_matches("- ").split_once(':') else { continue };
        let key = key.trim().trim_matches(['"', '\'']);
        let Some((_, tool)) = KEYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) else {
            continue;
        };
        match value.trim() {
            "" => list = Some((tool, indent)),
            value => values(survey, text, line, tool, value),
        }
    }
}

/// One value, or several in brackets.
fn values(survey: &mut Survey<'_>, text: &Text, line: u32, tool: &str, said: &str) {
    // An expression is another key's value, which is read where it stands.
    let said = said.trim().trim_matches(['[', ']', '|']);
    for one in said.split(',') {
        let one = one.trim().trim_matches(['"', '\'']).trim();
        if one.is_empty() || one.contains("${{") {
            continue;
        }
        let plain = one.strip_suffix(".x").unwrap_or(one);
        let plain = plain.strip_prefix("~").unwrap_or(plain);
        let constraint = match tool {
            "node" => node::node_name(plain, survey.date),
            "python" => python::python_name(plain).filter(|c| !c.is_any()),
            "go" => go::version(plain).map(|version| Constraint::prefix(&version)),
            _ => Version::parse(plain).ok().map(|version| Constraint::prefix(&version)),
        };
        // Other implementations, names of the day and `3.x` say nothing about releases.
        let vague = tool == "python" && !plain.contains('.');
        if let Some(constraint) = constraint.filter(|c| !vague && !c.is_any()) {
            let evidence = text.evidence(line, format!("{tool} {one}"), Strength::Tested);
            survey.claims.claim(tool, constraint, evidence);
        }
    }
}
