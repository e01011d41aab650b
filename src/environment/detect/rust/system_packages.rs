//! Which libraries of the system the crates link: by the lock file, or by what the manifests
//! depend on; and what `build.rs` asks pkg-config for.

use super::super::survey::{Place, Survey, Text};
use super::super::system;
use super::super::types::{Project, Strength};

/// Takes what the project in `place` asks for.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place, project: &Project) {
    let manifests = project.manifests.iter().filter(|path| path.ends_with("Cargo.toml"));
    let manifests: Vec<&String> = manifests.collect();
    match project.lock.clone().and_then(|path| survey.text(&path)) {
        Some(lock) => {
            let is_choice = manifests.iter().any(|path| brings_by_choice(survey, path));
            locked(survey, &lock, is_choice);
        }
        None => manifests.iter().for_each(|path| declared(survey, path)),
    }
    if let Some(text) =
        place.has("build.rs").then(|| survey.text(&place.path("build.rs"))).flatten()
    {
        probed(survey, &text);
    }
}

/// Whether the crate has a feature that brings a library along, and that is off as a rule: a lock
/// file lists what all features of its own crates need.
fn brings_by_choice(survey: &mut Survey<'_>, path: &str) -> bool {
    let says = |text: &str| {
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words.any(|word| matches!(word, "bundled" | "vendored" | "static"))
    };
    let Some(toml) = survey.toml(path) else { return false };
    let brings = |feature: &String| {
        says(feature) || toml.strings(&["features", feature]).iter().any(|part| says(part))
    };
    let default = toml.strings(&["features", "default"]);
    toml.keys(&["features"]).iter().any(brings) && !default.iter().any(brings)
}

/// The crates of a lock file. It lists only dependencies that some feature turns on, so it
/// shows who brings a library along, unless that `is_choice`.
fn locked(survey: &mut Survey<'_>, text: &Text, is_choice: bool) {
    let mut packages: Vec<(u32, &str, Vec<&str>)> = Vec::new();
    for (line, said) in text.lines() {
        if let Some(name) = said.strip_prefix("name = \"") {
            packages.push((line, name.trim_end_matches('"'), Vec::new()));
        } else if let Some(dependency) = said.strip_prefix(" \"")
            && let Some((_, _, dependencies)) = packages.last_mut()
        {
            dependencies.extend(dependency.split(['"', ' ']).next());
        }
    }
    for (line, name, mut dependencies) in packages {
        if is_choice {
            dependencies.clear();
        }
        for need in system::of_crate(name, &dependencies) {
            system::add(survey, need, text.evidence(line, name, Strength::Lock));
        }
    }
}

/// The crate of a manifest itself, and its dependencies; features that bring a library are not to be seen here.
fn declared(survey: &mut Survey<'_>, path: &str) {
    let Some(toml) = survey.toml(path) else { return };
    let keys = ["package", "name"];
    for need in toml.str(&keys).map_or(&[][..], |name| system::of_crate(name, &[])) {
        system::add(survey, need, toml.evidence(&keys, "is what links it", Strength::Manifest));
    }
    let mut tables = vec![Vec::new()];
    // `[target.'cfg(unix)'.dependencies]`: all but those of other systems.
    let others = ["windows", "macos", "apple", "wasm", "android"];
    tables.extend(toml.keys(&["target"]).into_iter().filter_map(|target| {
        let here = target.contains("not(") || !others.iter().any(|other| target.contains(other));
        here.then(|| vec!["target".to_owned(), target])
    }));
    for (table, kind) in
        tables.iter().flat_map(|t| [(t, "dependencies"), (t, "build-dependencies")])
    {
        let at: Vec<&str> = table.iter().map(String::as_str).chain([kind]).collect();
        for name in toml.keys(&at) {
            let key = [&at[..], &[&name]].concat();
            let features = toml.strings(&[&key[..], &["features"]].concat());
            if features.iter().any(|f| matches!(f.as_str(), "bundled" | "vendored" | "static")) {
                continue;
            }
            for need in system::of_crate(&name, &[]) {
                system::add(survey, need, toml.evidence(&key, &name, Strength::Manifest));
            }
        }
    }
}

/// `pkg_config::probe_library("x")`, `Config::new().probe("x")`.
fn probed(survey: &mut Survey<'_>, text: &Text) {
    for (line, said) in text.lines() {
        for call in ["probe_library(\"", ".probe(\""] {
            let Some((_, rest)) = said.split_once(call) else { continue };
            let module = rest.split('"').next().unwrap_or(rest);
            let evidence = text.evidence(line, format!("pkg-config {module}"), Strength::Manifest);
            system::module(survey, module, evidence);
        }
    }
}
