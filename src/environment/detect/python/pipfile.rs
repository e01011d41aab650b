//! `Pipfile`: pipenv's manifest.

use toml_edit::Item;

use super::super::Strength;
use super::super::survey::{Survey, Toml};
use super::wanted::{Tier, What, is_requirement};
use super::{Python, python_name};

/// Reads the file, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    if !python.place.has("Pipfile") {
        return;
    }
    let path = python.place.path("Pipfile");
    let Some(toml) = survey.toml(&path) else { return };
    python.inputs.insert(path);
    for key in ["python_full_version", "python_version"] {
        let keys = ["requires", key];
        if let Some(said) = toml.str(&keys) {
            let evidence = toml.evidence(&keys, format!("{key} {said:?}"), Strength::Pin);
            survey.constrain("python", python_name(said).ok_or(()), evidence);
            break;
        }
    }
    let main = requirements(&toml, "packages");
    python.declared.extend(main.iter().cloned());
    python.project.packages.extend(main);
    let listed = requirements(&toml, "dev-packages");
    if !listed.is_empty() {
        let evidence = toml.evidence(&["dev-packages"], "dev-packages", Strength::Manifest);
        python.wanted.add(Tier::Development, What::Packages, listed, evidence);
    }
    let keys = ["scripts", "test"];
    if let Some(command) = toml.str(&keys) {
        let evidence =
            toml.evidence(&keys, format!("scripts.test {command:?}"), Strength::Manifest);
        python.commands.push((command.to_owned(), evidence));
    }
}

/// The packages of a table that have a version, as requirements.
fn requirements(toml: &Toml, table: &str) -> Vec<String> {
    let mut listed = Vec::new();
    for name in toml.keys(&[table]).into_iter().filter(|name| is_requirement(name)) {
        let Some(item) = toml.get(&[table, &name]) else { continue };
        let version = item.as_str().or_else(|| item.get("version").and_then(Item::as_str));
        let Some(version) = version else { continue };
        let version = if version == "*" { "" } else { version };
        let extras = item.get("extras").map(super::super::survey::strings).unwrap_or_default();
        let extras =
            if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
        let marker = item.get("markers").and_then(Item::as_str);
        let marker = marker.map_or(String::new(), |marker| format!(" ; {marker}"));
        listed.push(format!("{name}{extras}{version}{marker}"));
    }
    listed
}
