//! Rust: `Cargo.toml`, the toolchain file, the lock file.
//!
//! An edition is never mapped to a compiler. Linking always takes a C compiler.

mod system_packages;

use super::commands::{Purpose, quoted};
use super::survey::{Place, Survey, Toml, join};
use super::{Ecosystem, Evidence, Project, Strength, services};
use crate::environment::version::{Constraint, Version};

/// Build dependencies that compile something else than Rust.
const COMPILES: [&str; 5] = ["cc", "cmake", "bindgen", "autotools", "pkg-config"];

/// Reads the Rust project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    pins(survey, place);
    if !place.has("Cargo.toml") {
        return false;
    }
    let Some(toml) = survey.toml(&place.path("Cargo.toml")) else { return false };
    let found = toml.text.evidence(1, "a Rust project", Strength::Default);
    survey.claims.need("rust", found.clone());
    survey.claims.need_undated("cc", Evidence { text: "rust links with it".into(), ..found });
    least(survey, &toml);
    let mut project = Project::new(Ecosystem::Rust, &place.root, survey.date);
    project.manager = Some("cargo".to_owned());
    project.lock = place.present(&["Cargo.lock"]).pop();
    project.manifests = inputs(survey, place, &toml);
    project.builds_native = native(survey, place, &toml);
    system_packages::survey(survey, place, &project);
    for name in toml.keys(&["dependencies"]) {
        let evidence = toml.evidence(&["dependencies", &name], &name, Strength::Manifest);
        services::client(survey, &name, &evidence);
    }
    commands(survey, place, &toml, &project.manifests);
    survey.projects.push(project);
    true
}

/// `rust-version`, of the package or of all packages of the workspace.
fn least(survey: &mut Survey<'_>, toml: &Toml) {
    for keys in [&["package", "rust-version"][..], &["workspace", "package", "rust-version"]] {
        if let Some(said) = toml.str(keys) {
            let evidence =
                toml.evidence(keys, format!("rust-version {said:?}"), Strength::Manifest);
            let read = Version::parse(said).map(|version| Constraint::at_least(&version));
            survey.constrain("rust", read, evidence);
        }
    }
}

/// `rust-toolchain.toml`, its older form without a suffix, `.rust-version`.
fn pins(survey: &mut Survey<'_>, place: &Place) {
    for name in ["rust-toolchain.toml", "rust-toolchain"] {
        if !place.has(name) {
            continue;
        }
        let path = place.path(name);
        let Some(text) = survey.text(&path) else { continue };
        if !text.text.contains('[') {
            let said = text.text.trim();
            channel(survey, said, text.evidence(1, format!("channel {said}"), Strength::Pin));
            return;
        }
        let Some(toml) = survey.toml(&path) else { continue };
        let keys = ["toolchain", "channel"];
        if let Some(said) = toml.str(&keys) {
            let evidence = toml.evidence(&keys, format!("channel {said:?}"), Strength::Pin);
            channel(survey, said, evidence);
        }
        let keys = ["toolchain", "targets"];
        let host = format!("{}-", survey.platform.arch);
        let others: Vec<String> = toml
            .strings(&keys)
            .into_iter()
            .filter(|target| !(target.starts_with(&host) && target.contains(&survey.platform.os)))
            .collect();
        if !others.is_empty() {
            let evidence = toml.evidence(&keys, others.join(", "), Strength::Pin);
            survey.note(
                "the toolchain file asks for targets of other machines, which are not provided yet",
                vec![evidence],
            );
        }
        return;
    }
    if let Some(text) =
        place.has(".rust-version").then(|| survey.text(&place.path(".rust-version"))).flatten()
    {
        let said = text.text.trim().to_owned();
        let evidence = text.evidence(1, said.clone(), Strength::Pin);
        channel(survey, &said, evidence);
    }
}

/// `1.79`, `stable`, `nightly-2024-05-01`, `1.80.0-x86_64-unknown-linux-gnu`.
pub(super) fn channel(survey: &mut Survey<'_>, said: &str, evidence: Evidence) {
    if said == "stable" || said.starts_with("stable-") || said == "latest" {
        survey.claims.claim("rust", Constraint::any(), evidence);
        return;
    }
    if said.starts_with("nightly") || said.starts_with("beta") {
        survey.claims.need("rust", evidence.clone());
        survey.note(
            format!("the toolchain `{said}` is not provided: a stable one is taken in its place"),
            vec![evidence],
        );
        return;
    }
    let number = said.split('-').next().unwrap_or(said);
    let read = Version::parse(number).map(|version| Constraint::prefix(&version));
    survey.constrain("rust", read, evidence);
}

fn inputs(survey: &mut Survey<'_>, place: &Place, toml: &Toml) -> Vec<String> {
    let mut inputs =
        place.present(&["Cargo.toml", "Cargo.lock", "rust-toolchain", "rust-toolchain.toml"]);
    if place.directories.contains(".cargo") {
        let names = [".cargo/config.toml", ".cargo/config"].map(|name| place.path(name));
        inputs.extend(names.into_iter().filter(|path| survey.exists(path)));
    }
    for pattern in toml.strings(&["workspace", "members"]) {
        for dir in survey.members(&place.root, &pattern, "Cargo.toml") {
            let path = join(&dir, "Cargo.toml");
            if let Some(member) = survey.toml(&path) {
                least(survey, &member);
            }
            inputs.push(path);
        }
    }
    inputs.sort();
    inputs.dedup();
    inputs
}

/// Whether a build script compiles C: then make is as likely to be called as the compiler.
fn native(survey: &mut Survey<'_>, place: &Place, toml: &Toml) -> bool {
    let declared = toml.keys(&["build-dependencies"]);
    let name = declared.iter().find(|name| COMPILES.contains(&name.as_str()));
    let mut evidence = name.map(|name| {
        toml.evidence(
            &["build-dependencies", name],
            format!("builds with {name}"),
            Strength::Default,
        )
    });
    if evidence.is_none()
        && place.has("Cargo.lock")
        && let Some(lock) = survey.text(&place.path("Cargo.lock"))
    {
        let is_native = |line: &str| {
            let name = line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
            name.is_some_and(|name| COMPILES[..4].contains(&name))
        };
        evidence = lock
            .lines()
            .find(|(_, line)| is_native(line))
            .map(|(number, line)| lock.evidence(number, line, Strength::Default));
    }
    let Some(evidence) = evidence else { return false };
    survey.claims.need_undated("make", evidence);
    true
}

fn commands(survey: &mut Survey<'_>, place: &Place, toml: &Toml, manifests: &[String]) {
    let evidence = toml.text.evidence(1, "", Strength::Manifest);
    survey.commands.add(Purpose::Test, place, "cargo test", evidence.clone());
    survey.commands.add(Purpose::Build, place, "cargo build", evidence.clone());
    let binaries =
        toml.get(&["bin"]).and_then(|item| item.as_array_of_tables()).map_or(0, |b| b.len());
    let main = place.directories.contains("src") && survey.exists(&place.path("src/main.rs"));
    let others = main && !survey.place(&place.path("src/bin")).files.is_empty();
    let name = toml.str(&["package", "name"]);
    match (toml.has(&["package", "default-run"]), name) {
        // With several, cargo wants to know which.
        (false, Some(name)) if others && binaries == 0 => {
            let command = format!("cargo run --bin {}", quoted(name));
            survey.commands.add(Purpose::Start, place, &command, evidence);
        }
        (default, _) if default || binaries == 1 || (main && binaries == 0) => {
            survey.commands.add(Purpose::Start, place, "cargo run", evidence);
        }
        // A workspace with one program.
        (_, None) => {
            let members = manifests.iter().filter_map(|path| path.strip_suffix("/Cargo.toml"));
            let programs = members.filter(|dir| survey.exists(&join(dir, "src/main.rs")));
            if programs.take(2).count() == 1 {
                survey.commands.add(Purpose::Start, place, "cargo run", evidence);
            }
        }
        _ => {}
    }
}
