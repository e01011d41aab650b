//! How a Python program is started, where no other file says: Django's `manage.py`, an
//! application object, a file with the usual name.

use super::super::commands::Purpose;
use super::super::survey::{Place, Survey};
use super::super::types::{Evidence, Strength};
use super::Python;

/// Files that are programs by their name, the likeliest first.
const PROGRAMS: [&str; 6] = ["main.py", "app.py", "__main__.py", "server.py", "bot.py", "run.py"];

/// Reads the directory.
pub(super) fn survey(survey: &mut Survey<'_>, python: &Python<'_>) {
    let place = python.place;
    if let Some(toml) =
        place.has("pyproject.toml").then(|| survey.toml(&place.path("pyproject.toml"))).flatten()
        && let [only] = toml.keys(&["project", "scripts"]).as_slice()
        && !PROGRAMS.iter().any(|name| place.has(name))
        && !place.has("manage.py")
    {
        let evidence = toml.evidence(&["project", "scripts"], "", Strength::Manifest);
        survey.commands.add(Purpose::Start, place, only, evidence);
        return;
    }
    let django = place.has("manage.py").then_some("manage.py");
    let Some(name) = django.or(PROGRAMS.into_iter().find(|name| place.has(name))) else { return };
    let Some(text) = survey.head(&place.path(name)) else { return };
    let module = name.trim_end_matches(".py");
    // The object that a server takes: `app = FastAPI()`.
    let object = |class: &str| {
        text.lines().find_map(|(line, said)| {
            let (object, rest) = said.split_once(" = ")?;
            let plain = object.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            (plain && rest.starts_with(class)).then(|| (line, object.to_owned()))
        })
    };
    let runs = text.text.contains("__main__");
    let (line, command) = match (object("FastAPI("), object("Flask(")) {
        _ if django.is_some() => (1, "python manage.py runserver".to_owned()),
        (Some((line, object)), _)
            if python.has_package("uvicorn") || python.has_package("fastapi") =>
        {
            (line, format!("uvicorn {module}:{object}"))
        }
        (_, Some((line, object))) if !runs => (line, format!("flask --app {module}:{object} run")),
        _ if name == "__main__.py" => (1, "python .".to_owned()),
        _ => (1, format!("python {name}")),
    };
    let evidence = text.evidence(line, "", Strength::Manifest);
    survey.commands.add(Purpose::Start, place, &command, evidence);
}

/// A program of one file, without a manifest.
pub(super) fn alone(survey: &mut Survey<'_>, place: &Place) {
    let Some(name) = PROGRAMS.into_iter().find(|name| place.has(name)) else { return };
    let path = place.path(name);
    let evidence = Evidence {
        file: path,
        line: 1,
        text: "a Python program".into(),
        strength: Strength::Default,
    };
    survey.claims.need("python", evidence.clone());
    let evidence = Evidence { strength: Strength::Manifest, ..evidence };
    survey.commands.add(Purpose::Start, place, &format!("python {name}"), evidence);
}
