//! Tasks of mise and devbox, targets of make and just, a Procfile and an image's command: for
//! what no ecosystem has a command for.

use serde_json::Value as Json;

use super::any::{devbox, docker, mise};
use super::commands::{Purpose, quoted};
use super::survey::{Place, Survey, Text};
use super::types::{Ecosystem, Strength};

/// Reads the root's.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    tasks(survey, root);
    makefile(survey, root);
    justfile(survey, root);
    procfile(survey, root);
    image(survey, root);
    script(survey, root);
}

/// What a command is for, and the names that are usual for it.
const NAMES: [(Purpose, &[&str]); 3] = [
    (Purpose::Test, &["test", "check", "tests"]),
    (Purpose::Build, &["build", "all"]),
    (Purpose::Start, &["start", "run", "serve", "dev"]),
];

/// Tasks of mise and scripts of devbox that are plain commands.
fn tasks(survey: &mut Survey<'_>, root: &Place) {
    if let Some(toml) = mise::file(survey, root) {
        for (purpose, names) in NAMES {
            let plain = |name: &&&str| {
                let task = toml.get(&["tasks", name])?;
                let run = task.as_str().or(task.get("run").and_then(|run| run.as_str()))?;
                (!run.contains('\n') && !run.contains("{{")).then(|| run.to_owned())
            };
            let found = names.iter().find_map(|name| Some((name, plain(&name)?)));
            if let Some((name, run)) = found.filter(|_| !survey.commands.has(purpose)) {
                let evidence = toml.evidence(&["tasks", name], *name, Strength::Manifest);
                survey.commands.add(purpose, root, &run, evidence);
            }
        }
    }
    if let Some((text, json)) = devbox::file(survey, root) {
        for (purpose, names) in NAMES {
            let scripts = &json["shell"]["scripts"];
            let plain = |name: &&&str| match &scripts[**name] {
                Json::String(run) => Some(run.clone()),
                Json::Array(lines) => {
                    let lines: Option<Vec<&str>> = lines.iter().map(Json::as_str).collect();
                    lines.map(|lines| lines.join(" && "))
                }
                _ => None,
            };
            let found = names.iter().find_map(|name| Some((name, plain(&name)?)));
            if let Some((name, run)) = found.filter(|_| !survey.commands.has(purpose)) {
                let line = text.line_of_key(&["scripts", name]);
                survey.commands.add(
                    purpose,
                    root,
                    &run,
                    text.evidence(line, *name, Strength::Manifest),
                );
            }
        }
    }
}

fn makefile(survey: &mut Survey<'_>, root: &Place) {
    let makefile = ["GNUmakefile", "Makefile", "makefile"].into_iter().find(|name| root.has(name));
    let Some(text) = makefile.and_then(|name| survey.text(name)) else { return };
    // Of C's conventions, `check` is for whoever builds it (GNU coding standards); where there is
    // a `test` beside it, that is all that its makers try. Elsewhere `check` is as often a linter.
    let is_c = survey.projects.iter().all(|project| project.ecosystem == Ecosystem::C);
    for (purpose, names) in NAMES {
        if survey.commands.has(purpose) {
            continue;
        }
        let first = ["check"].iter().filter(|_| is_c && purpose == Purpose::Test);
        let mut names = first.chain(names);
        if let Some((target, line)) = names.find_map(|t| Some((t, target(&text, t)?))) {
            let evidence = text.evidence(line, format!("{target}:"), Strength::Manifest);
            survey.claims.need_undated("make", evidence.clone());
            survey.commands.add(purpose, root, &format!("make {target}"), evidence);
        }
    }
}

fn justfile(survey: &mut Survey<'_>, root: &Place) {
    let justfile = ["justfile", "Justfile", ".justfile"].into_iter().find(|name| root.has(name));
    let Some(text) = justfile.and_then(|name| survey.text(name)) else { return };
    for (purpose, names) in NAMES {
        if survey.commands.has(purpose) {
            continue;
        }
        let Some((recipe, line)) = names.iter().find_map(|t| Some((t, target(&text, t)?))) else {
            continue;
        };
        let evidence = text.evidence(line, format!("{recipe}:"), Strength::Manifest);
        survey.claims.need_undated("just", evidence.clone());
        if survey.known.contains("just") {
            survey.commands.add(purpose, root, &format!("just {recipe}"), evidence);
        }
    }
}

fn procfile(survey: &mut Survey<'_>, root: &Place) {
    let Some(text) = root.has("Procfile").then(|| survey.text("Procfile")).flatten() else {
        return;
    };
    let of = |process: &str| {
        let rest = |line: &str| Some(line.strip_prefix(process)?.trim().to_owned());
        text.lines().find_map(|(number, line)| Some((number, rest(line)?)))
    };
    let found =
        of("web:").map(|found| ("web", found)).or(of("worker:").map(|found| ("worker", found)));
    if let Some((process, (line, command))) = found {
        let evidence = text.evidence(line, process, Strength::Manifest);
        // It was written for just that; the others are conventions.
        survey.commands.add_first(Purpose::Start, root, &command, evidence);
    }
}

/// `CMD` of the last image that a Dockerfile makes, where nothing else says how to start it.
fn image(survey: &mut Survey<'_>, root: &Place) {
    let Some(path) = docker::files(root).into_iter().next() else { return };
    if survey.commands.has(Purpose::Start) {
        return;
    }
    let Some(text) = survey.text(&path) else { return };
    let instructions = docker::instructions(&text);
    let last = instructions.iter().rposition(|i| i.name == "FROM").unwrap_or(0);
    let stage = &instructions[last..];
    if stage.iter().any(|i| i.name == "ENTRYPOINT") {
        return;
    }
    let Some(command) = stage.iter().rfind(|i| i.name == "CMD") else { return };
    let words: Option<Vec<String>> = serde_json::from_str(&command.rest).ok();
    let said = match words {
        Some(words) => words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "),
        None => command.rest.clone(),
    };
    // Paths and variables of the image are not the workspace's.
    let foreign =
        said.split_whitespace().any(|word| word.trim_matches(['"', '\'']).starts_with('/'));
    if !said.is_empty() && !foreign && !said.contains('$') {
        let evidence = text.evidence(command.line, "CMD", Strength::Tested);
        survey.commands.add(Purpose::Start, root, &said, evidence);
    }
}

/// `start.sh`, by the shell that its first line names.
fn script(survey: &mut Survey<'_>, root: &Place) {
    if survey.commands.has(Purpose::Start) || !root.has("start.sh") {
        return;
    }
    let Some(text) = survey.head("start.sh") else { return };
    let first = text.text.lines().next().unwrap_or_default();
    let shell = if first.contains("bash") { "bash" } else { "sh" };
    let evidence = text.evidence(1, "start.sh", Strength::Manifest);
    survey.commands.add(Purpose::Start, root, &format!("{shell} start.sh"), evidence);
}

/// The line of a rule for `name`: at the margin, before a colon that assigns nothing.
fn target(text: &Text, name: &str) -> Option<u32> {
    text.lines().find_map(|(number, line)| {
        let (targets, after) = line.split_once(':')?;
        let rule = !line.starts_with([' ', '\t', '#', '.']) && !after.starts_with('=');
        (rule && targets.split_whitespace().any(|target| target == name)).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_make() {
        let text = "CC := cc\n.PHONY: test\n# test: no\nall check: x\n\ttest: y\ntest::\n";
        let text = Text { path: "Makefile".into(), text: text.into() };
        assert_eq!(target(&text, "test"), Some(6));
        assert_eq!(target(&text, "check"), Some(4));
        assert_eq!(target(&text, "CC"), None);
    }
}
