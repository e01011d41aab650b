//! `devbox.json`: packages of nixpkgs with versions, variables. (Its scripts: `run`.)

use serde_json::Value as Json;

use super::super::survey::{Place, Survey, Text};
use super::super::types::Strength;
use super::super::{names, system, variables};

/// The file, if there is one.
pub(in super::super) fn file(survey: &mut Survey<'_>, root: &Place) -> Option<(Text, Json)> {
    root.has("devbox.json").then(|| survey.json_with_comments("devbox.json")).flatten()
}

/// Reads it.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let Some((text, json)) = file(survey, root) else { return };
    let mut others = Vec::new();
    for (name, said) in packages(&json["packages"]) {
        let line = text.line_of(&format!("\"{name}"));
        let evidence = text.evidence(line, format!("{name} {said}"), Strength::Pin);
        let (plain, own) = split(&name);
        let said = if said == "latest" && !own.is_empty() { &own } else { &said };
        if let Some(tool) = names::tool(survey, plain) {
            names::named(survey, &tool, said, evidence);
        } else if system::known(plain) {
            system::add(survey, plain, evidence);
        } else {
            others.push(evidence);
        }
    }
    if !others.is_empty() {
        let names: Vec<&str> =
            others.iter().filter_map(|e| e.text.split_whitespace().next()).collect();
        let said = format!("{} in `devbox.json`: not provided yet", names.join(", "));
        survey.note(said, others);
    }
    for (name, value) in json["env"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_str() {
            let line = text.line_of_key(&["env", name]);
            variables::set(survey, name, value, text.evidence(line, name, Strength::Pin));
        }
    }
    if !json["shell"]["init_hook"].is_null() {
        let evidence = text.evidence(text.line_of_key(&["init_hook"]), "init_hook", Strength::Pin);
        survey.note("`devbox.json` has an `init_hook`, which is not run", vec![evidence]);
    }
}

/// `["nodejs@22"]`, `{"nodejs": "22"}`, `{"nodejs": {"version": "22"}}`: names and versions.
fn packages(json: &Json) -> Vec<(String, String)> {
    if let Some(list) = json.as_array() {
        let split = |said: &Json| {
            let said = said.as_str()?;
            let (name, version) = said.split_once('@').unwrap_or((said, "latest"));
            Some((name.to_owned(), version.to_owned()))
        };
        return list.iter().filter_map(split).collect();
    }
    let version =
        |json: &Json| json.as_str().or(json["version"].as_str()).unwrap_or("latest").to_owned();
    let map = json.as_object();
    map.into_iter().flatten().map(|(name, said)| (name.clone(), version(said))).collect()
}

/// nixpkgs has versions in names: `nodejs_22`, `python312`, `go_1_22`, `postgresql_16`.
fn split(name: &str) -> (&str, String) {
    let at = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (plain, digits) = name.split_at(at);
    let number = digits.split('-').next().unwrap_or(digits);
    match plain {
        "nodejs_" | "go_" | "postgresql_" | "ruby_" | "jdk" | "openjdk" | "zulu" => {
            (plain.trim_end_matches('_'), number.replace('_', "."))
        }
        // `python312`: the first digit is the major version.
        "python" | "php" if number.len() > 1 && number.bytes().all(|b| b.is_ascii_digit()) => {
            (plain, format!("{}.{}", &number[..1], &number[1..]))
        }
        _ => (name, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nixpkgs() {
        for (name, expected) in [
            ("nodejs_22", ("nodejs", "22")),
            ("python312", ("python", "3.12")),
            ("go_1_22", ("go", "1.22")),
            ("nodejs", ("nodejs", "")),
            ("libgit2", ("libgit2", "")),
            ("jdk21", ("jdk", "21")),
        ] {
            let (plain, version) = split(name);
            assert_eq!((plain, version.as_str()), expected);
        }
    }
}
