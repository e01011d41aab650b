//! Elixir: `mix.exs`.

use super::commands::Purpose;
use super::survey::{Place, Survey};
use super::types::{Ecosystem, Project, Strength};
use super::written;

/// Reads the Elixir project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    if !place.has("mix.exs") {
        return false;
    }
    let Some(text) = survey.text(&place.path("mix.exs")) else { return false };
    survey.claims.need("elixir", text.evidence(1, "an Elixir project", Strength::Default));
    for (line, said) in text.lines() {
        let Some((_, rest)) = said.split_once("elixir: \"") else { continue };
        let said = rest.split('"').next().unwrap_or(rest);
        let evidence = text.evidence(line, format!("elixir {said:?}"), Strength::Manifest);
        survey.constrain("elixir", written::pessimistic(said).ok_or(()), evidence);
    }
    let mut project = Project::new(Ecosystem::Elixir, &place.root, survey.date);
    project.manifests = place.present(&["mix.exs", "mix.lock"]);
    project.lock = place.present(&["mix.lock"]).pop();
    survey.projects.push(project);
    let evidence = text.evidence(1, "", Strength::Manifest);
    survey.commands.add(Purpose::Test, place, "mix test", evidence.clone());
    survey.commands.add(Purpose::Build, place, "mix compile", evidence.clone());
    let start = match text.text.contains("{:phoenix,") {
        true => "mix phx.server",
        false => "mix run --no-halt",
    };
    survey.commands.add(Purpose::Start, place, start, evidence);
    true
}
