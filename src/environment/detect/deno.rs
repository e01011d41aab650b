//! Deno: `deno.json`, `deno.jsonc`.

use serde_json::Value as Json;

use super::commands::Purpose;
use super::survey::{Place, Survey};
use super::types::{Ecosystem, Project, Strength};

/// Programs that are started where no task says how.
const PROGRAMS: [&str; 4] = ["main.ts", "server.ts", "mod.ts", "index.ts"];

/// Reads the Deno project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let name = ["deno.json", "deno.jsonc", "deno.lock"].into_iter().find(|name| place.has(name));
    let Some(name) = name else { return false };
    let Some((text, json)) = survey.json_with_comments(&place.path(name)) else { return false };
    survey.claims.need("deno", text.evidence(1, "a Deno project", Strength::Default));
    let mut project = Project::new(Ecosystem::Deno, &place.root, survey.date);
    project.manifests = place.present(&["deno.json", "deno.jsonc", "deno.lock"]);
    project.lock = place.present(&["deno.lock"]).pop();
    survey.projects.push(project);
    let tasks = json["tasks"].as_object();
    let has = |task: &str| tasks.is_some_and(|tasks| tasks.contains_key(task));
    let add = |survey: &mut Survey<'_>, purpose, task: &str, command: &str| {
        let line = text.line_of_key(&["tasks", task]);
        let evidence = text.evidence(line, "", Strength::Manifest);
        survey.commands.add(purpose, place, command, evidence);
    };
    // The scripts of a package.json are those of Node.
    let alone = !place.has("package.json");
    match has("test") {
        true => add(survey, Purpose::Test, "test", "deno task test"),
        false if alone => add(survey, Purpose::Test, "test", "deno test"),
        false => {}
    }
    if has("build") {
        add(survey, Purpose::Build, "build", "deno task build");
    }
    let task = ["start", "serve", "dev"].into_iter().find(|task| has(task));
    let program = PROGRAMS.into_iter().find(|name| place.has(name)).filter(|_| alone);
    match (task, program) {
        (Some(task), _) => add(survey, Purpose::Start, task, &format!("deno task {task}")),
        (None, Some(program)) => {
            let flags = if json["permissions"] == Json::Null { "-A " } else { "" };
            add(survey, Purpose::Start, "start", &format!("deno run {flags}{program}"));
        }
        (None, None) => {}
    }
    true
}
