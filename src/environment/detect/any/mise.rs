//! mise.toml and .tool-versions: tools, plain variables. (Its tasks: `run`.)

use toml_edit::{Item, Value};

use super::super::names;
use super::super::survey::{Place, Survey, Toml};
use super::super::types::Strength;
use super::super::variables;

/// Names of mise, where there are several in one tree the first wins.
const MISE: [&str; 6] = [
    "mise.toml",
    ".mise.toml",
    "mise/config.toml",
    ".mise/config.toml",
    ".config/mise.toml",
    ".config/mise/config.toml",
];

/// The file of mise, if there is one.
pub(in super::super) fn file(survey: &mut Survey<'_>, root: &Place) -> Option<Toml> {
    let found = MISE.into_iter().find(|path| match path.split_once('/') {
        None => root.has(path),
        Some((dir, _)) => root.directories.contains(dir) && survey.exists(path),
    });
    survey.toml(found?)
}

/// Reads mise's own file.
pub(super) fn mise(survey: &mut Survey<'_>, root: &Place) {
    let Some(toml) = file(survey, root) else { return };
    let mut others = Vec::new();
    for name in toml.keys(&["tools"]) {
        let Some(tool) = names::tool(survey, &name) else {
            others.push(name);
            continue;
        };
        let keys = ["tools", &name];
        if let Some(said) = toml.get(&keys).and_then(first_version) {
            let evidence = toml.evidence(&keys, format!("{name} {said:?}"), Strength::Pin);
            names::named(survey, &tool, &said, evidence);
        }
    }
    if !others.is_empty() {
        let evidence = toml.evidence(&["tools"], others.join(", "), Strength::Pin);
        let text = format!("{} in `{}`: not provided yet", others.join(", "), toml.text.path);
        survey.note(text, vec![evidence]);
    }
    for name in toml.keys(&["env"]) {
        let keys = ["env", name.as_str()];
        // A table is about files and templates; `_` is one of them.
        let value = toml.get(&keys).and_then(|item| match item.as_value()? {
            Value::String(text) => Some(text.value().clone()),
            Value::Integer(number) => Some(number.value().to_string()),
            _ => None,
        });
        let Some(value) = value.filter(|value| !value.contains("{{")) else { continue };
        let evidence = toml.evidence(&keys, name.clone(), Strength::Pin);
        variables::set(survey, &name, &value, evidence);
    }
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

/// Reads `.tool-versions`.
pub(super) fn tool_versions(survey: &mut Survey<'_>, root: &Place) {
    let Some(text) = root.has(".tool-versions").then(|| survey.text(".tool-versions")).flatten()
    else {
        return;
    };
    for (line, said) in text.lines() {
        let mut words = said.split('#').next().unwrap_or("").split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let evidence = text.evidence(line, format!("{name} {version}"), Strength::Pin);
        match names::tool(survey, name) {
            Some(tool) => names::named(survey, &tool, version, evidence),
            None => {
                survey.note(format!("{name} in `.tool-versions`: not provided yet"), vec![evidence])
            }
        }
    }
}
