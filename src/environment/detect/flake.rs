//! `flake.nix`: that it is there, what it is made of, and whose files its lock names. It is
//! evaluated elsewhere ([`crate::environment::flake`]): here nothing is executed.

use serde_json::Value as Json;

use super::survey::{Place, Survey};
use super::types::{Flake, Strength};

/// The specification.
pub(super) const FILE: &str = "flake.nix";
const LOCK: &str = "flake.lock";
/// Where its parts usually are, beside the root.
const PARTS: &str = "nix";

/// What `nix develop` takes, in its order.
const OUTPUTS: [&str; 4] = ["devShells", "devShell", "packages", "defaultPackage"];

/// Reads that of the root.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) -> Option<Flake> {
    if !root.has(FILE) {
        return None;
    }
    let text = survey.text(FILE)?;
    let shown = OUTPUTS.iter().find(|name| text.text.contains(**name)).unwrap_or(&"outputs");
    let line = text.line_of(shown);
    let mut evidence = vec![text.evidence(line, *shown, Strength::Pin)];
    let mut outside = None;
    if root.has(LOCK)
        && let Some((text, json)) = survey.json(LOCK)
    {
        let inputs = nodes(&json).count();
        evidence.push(text.evidence(1, format!("{inputs} inputs"), Strength::Lock));
        outside = nodes(&json).find(|(_, node)| is_outside(node)).map(|(name, _)| name.clone());
    }
    Some(Flake { digest: digest(survey, root), outside, evidence })
}

/// Of the root's Nix files, those in `nix/`, and the lock: what usually decides which tools there
/// are. 12 hexadecimal digits.
fn digest(survey: &mut Survey<'_>, root: &Place) -> String {
    let parts = survey.place(PARTS);
    let places = [root, &parts];
    let all = places.iter().flat_map(|place| place.files.iter().map(|name| place.path(name)));
    let all: Vec<String> = all.filter(|path| path.ends_with(".nix") || path == LOCK).collect();
    let mut hasher = blake3::Hasher::new_derive_key("zagi 2026 files of a flake v1");
    for path in all {
        let text = survey.text(&path).map(|text| text.text).unwrap_or_default();
        for piece in [path.as_bytes(), text.as_bytes()] {
            hasher.update(&(piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
    }
    hasher.finalize().to_hex()[..12].to_owned()
}

/// The inputs of a lock, by name.
fn nodes(lock: &Json) -> impl Iterator<Item = (&String, &Json)> {
    let nodes = lock.get("nodes").and_then(Json::as_object).into_iter().flatten();
    nodes.filter(|(_, node)| node.get("locked").is_some() || node.get("original").is_some())
}

/// Whether an input is a file of the machine that evaluates, and no part of the repository: Nix
/// would copy it to where every user reads it, and the flake could do with it what it likes.
fn is_outside(node: &Json) -> bool {
    let said = ["locked", "original"].into_iter().filter_map(|key| node.get(key));
    said.into_iter().any(|input| {
        let text = |key: &str| input.get(key).and_then(Json::as_str).unwrap_or_default();
        let climbs = |path: &str| path.starts_with('/') || path.split('/').any(|p| p == "..");
        match text("type") {
            "path" => climbs(text("path")),
            "git" | "hg" | "tarball" | "file" => {
                // What has no scheme is a path.
                let url = text("url");
                let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
                !["https", "http", "ssh", "git"].contains(&scheme)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_are_files_of_the_machine() {
        for (input, outside) in [
            (r#"{"type": "github", "owner": "NixOS", "repo": "nixpkgs"}"#, false),
            (r#"{"type": "indirect", "id": "nixpkgs"}"#, false),
            (r#"{"type": "path", "path": "./sub"}"#, false),
            (r#"{"type": "path", "path": "/home/u/.ssh"}"#, true),
            (r#"{"type": "path", "path": "../other"}"#, true),
            (r#"{"type": "git", "url": "https://example.org/r"}"#, false),
            (r#"{"type": "git", "url": "ssh://git@example.org/r"}"#, false),
            (r#"{"type": "git", "url": "file:///home/u/r"}"#, true),
            (r#"{"type": "git", "url": "/home/u/r"}"#, true),
            (r#"{"type": "git", "url": "ext::sh -c x"}"#, true),
            (r#"{"type": "tarball", "url": "file:///home/u/x.tar"}"#, true),
            (r#"{"type": "tarball", "url": "https://example.org/x.tar"}"#, false),
        ] {
            let input: Json = serde_json::from_str(input).unwrap();
            for key in ["locked", "original"] {
                assert_eq!(is_outside(&serde_json::json!({ key: input })), outside, "{input}");
            }
        }
    }
}
