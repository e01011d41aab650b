//! cargo: its downloads, at `.zagi/cargo` in the workspace.

use toml_edit::{DocumentMut, Item, TableLike};

use super::{Draft, Step, join, strings};
use crate::config::Addresses;
use crate::context::Platform;
use crate::environment::detect::Project;
use crate::environment::files::Files;

/// `CARGO_HOME`, relative to the workspace.
pub(in crate::dependencies) const CARGO_HOME: &str = ".zagi/cargo";

pub(super) fn draft(
    project: &Project,
    source: &dyn Files,
    addresses: &Addresses,
    platform: &Platform,
) -> Option<Draft> {
    let lock_file = project.lock.clone().unwrap_or_else(|| join(&project.root, "Cargo.lock"));
    match source.read(&lock_file) {
        // Packages of the project itself have no source.
        Some(lock) if !String::from_utf8_lossy(&lock).contains("\nsource = ") => return None,
        Some(_) => {}
        None if !project.manifests.iter().any(|file| has_dependencies(file, source)) => {
            return None;
        }
        None => {}
    }
    let mut draft = Draft {
        directories: ["registry", "git", "config.toml"].map(|name| join(CARGO_HOME, name)).to_vec(),
        caches: vec!["cargo".into()],
        ..Draft::default()
    };
    for dir in ["", project.root.as_str()] {
        let names = [
            ".cargo/config.toml",
            ".cargo/config",
            "rust-toolchain",
            "rust-toolchain.toml",
            "Cargo.lock",
        ];
        draft.inputs.extend(names.map(|name| join(dir, name)));
    }
    draft.place("CARGO_HOME", CARGO_HOME);
    draft.env("CARGO_TERM_COLOR", "never");
    if let Some(configuration) = configuration(addresses) {
        draft.files.insert(join(CARGO_HOME, "config.toml"), configuration);
    }
    if source.read(&lock_file).is_none() {
        // Made where the project has none, and kept: every test runs with the same.
        draft.env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
        draft.directories.push(lock_file);
        draft.steps.push(Step::new(["cargo", "generate-lockfile"]));
    }
    let mut fetch = strings(["cargo", "fetch", "--locked"]);
    if let Some(target) = target(platform) {
        fetch.extend(strings(["--target", target]));
    }
    draft.steps.push(Step { argv: fetch, otherwise: Vec::new() });
    Some(draft)
}

/// What `$CARGO_HOME/config.toml` has to say. A mirror must be named there, since cargo
/// looks its downloads up under the registry's address.
fn configuration(addresses: &Addresses) -> Option<String> {
    let mirror = addresses.crates_index != Addresses::default().crates_index;
    let registry = toml_edit::Value::from(format!("sparse+{}/", addresses.crates_index));
    mirror.then(|| {
        format!(
            "[source.crates-io]\nreplace-with = \"mirror\"\n\n\
             [source.mirror]\nregistry = {registry}\n"
        )
    })
}

/// What rustc calls the platform.
fn target(platform: &Platform) -> Option<&'static str> {
    match (platform.os.as_str(), platform.arch.as_str()) {
        ("linux", "x86_64") => Some("x86_64-unknown-linux-gnu"),
        ("linux", "aarch64") => Some("aarch64-unknown-linux-gnu"),
        ("macos", "x86_64") => Some("x86_64-apple-darwin"),
        ("macos", "aarch64") => Some("aarch64-apple-darwin"),
        _ => None,
    }
}

/// Whether the manifest `file` names any dependency, of any kind.
fn has_dependencies(file: &str, source: &dyn Files) -> bool {
    if !file.ends_with("Cargo.toml") {
        return false;
    }
    let text = source.read(file).unwrap_or_default();
    match String::from_utf8_lossy(&text).parse::<DocumentMut>() {
        Ok(manifest) => names_dependencies(manifest.as_table()),
        // Cargo says what is wrong with it.
        Err(_) => true,
    }
}

fn names_dependencies(table: &dyn TableLike) -> bool {
    table.iter().any(|(name, item)| match item.as_table_like() {
        Some(below) if name.ends_with("dependencies") => !below.is_empty(),
        Some(below) if matches!(name, "target" | "workspace") || name.starts_with("cfg(") => {
            names_dependencies(below)
        }
        Some(below) => below.iter().any(|(key, item): (&str, &Item)| {
            key.ends_with("dependencies") && item.as_table_like().is_some_and(|t| !t.is_empty())
        }),
        None => false,
    })
}
