//! `pdm.lock`: TOML. With the strategy `inherit_metadata` each package has its groups and its
//! marker; without, what each asks for.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{DocumentMut, Table};

use super::graph::{self, Edge, Node};
use super::marker::{self, Marker};
use super::{Chosen, From, Pin, Read, hashes_of, normal_name, packages, path_of};
use super::{strings_of, table, text_of};

pub(super) fn read(lock: &str, manifest: &DocumentMut, chosen: &Chosen) -> Result<Read, String> {
    let (document, packages) = packages(lock)?;
    if packages.is_empty() && document.get("metadata").is_none() {
        return Err("it is no lock file of pdm".to_owned());
    }
    let groups = Groups::of(manifest, chosen);
    // Packages with extras are listed again under each.
    let is_plain = |package: &&Table| package.get("extras").is_none();
    let inherits = packages.iter().any(|package| package.contains_key("groups"));
    let roots: Vec<Edge> =
        groups.asked.iter().map(|text| graph::requirement(text, &chosen.extras)).collect();
    let mut read = Read { asked: names(&roots), ..Read::default() };
    if inherits {
        for package in packages.iter().filter(is_plain) {
            let listed = strings_of(package.get("groups"));
            if listed.iter().any(|group| groups.wanted(group)) {
                let marker = text_of(package, "marker");
                let marker = marker.map(|text| marker::read(text, &chosen.extras));
                read.pins.push(pin(package, marker.unwrap_or(Marker::Known(true))));
            }
        }
        return Ok(read);
    }
    let nodes: Vec<Node> = nodes(&packages);
    let reached = graph::reached(&nodes, &roots);
    let plain: Vec<&Table> = packages.iter().filter(is_plain).collect();
    read.pins.extend(reached.into_iter().map(|(at, marker)| pin(plain[at], marker)));
    Ok(read)
}

/// The names of what is asked for on every machine.
fn names(roots: &[Edge]) -> Vec<String> {
    let always = roots.iter().filter(|root| root.marker == Marker::Known(true));
    always.map(|root| root.name.clone()).collect()
}

/// What the manifest asks for, in the groups that are wanted.
struct Groups<'a> {
    chosen: &'a Chosen,
    extras: BTreeSet<String>,
    asked: Vec<String>,
}

impl<'a> Groups<'a> {
    fn of(manifest: &DocumentMut, chosen: &'a Chosen) -> Groups<'a> {
        let mut groups = Groups { chosen, extras: BTreeSet::new(), asked: Vec::new() };
        let project = table(manifest, &["project"]);
        groups.asked.extend(strings_of(project.and_then(|p| p.get("dependencies"))));
        let extras = table(manifest, &["project", "optional-dependencies"]);
        for (name, item) in extras.into_iter().flat_map(|t| t.iter()) {
            groups.extras.insert(normal_name(name));
            if groups.wanted(name) {
                groups.asked.extend(strings_of(Some(item)));
            }
        }
        for keys in [&["dependency-groups"][..], &["tool", "pdm", "dev-dependencies"]] {
            let below = table(manifest, keys);
            for (_, item) in below.into_iter().flat_map(|t| t.iter()) {
                // What is installed from a directory is not asked of the lock file by name.
                let plain = strings_of(Some(item)).into_iter();
                groups.asked.extend(plain.filter(|r| !r.starts_with("-e") && !r.contains(" @ ")));
            }
        }
        groups
    }

    /// Everything but the extras that nobody chose.
    fn wanted(&self, group: &str) -> bool {
        let name = normal_name(group);
        !self.extras.contains(&name) || self.chosen.extras.contains(&name)
    }
}

fn pin(package: &Table, marker: Marker) -> Pin {
    let text = |key: &str| text_of(package, key);
    let name = normal_name(text("name").unwrap_or_default());
    let editable = package.get("editable").and_then(toml_edit::Item::as_bool) == Some(true);
    let from = match (text("git"), text("url"), text("path")) {
        (Some(git), _, _) => {
            let revision = text("revision").or(text("ref"));
            let revision = revision.map_or(String::new(), |r| format!("@{r}"));
            let below =
                text("subdirectory").map_or(String::new(), |d| format!("#subdirectory={d}"));
            From::Direct(format!("git+{git}{revision}{below}"))
        }
        (None, Some(url), _) => From::Direct(url.to_owned()),
        (None, None, Some(path)) if editable => From::Editable(path_of(path)),
        (None, None, Some(path)) => From::Direct(path_of(path)),
        (None, None, None) => From::Index,
    };
    Pin {
        name,
        version: text("version").unwrap_or_default().to_owned(),
        hashes: hashes_of(package.get("files")),
        marker,
        from,
    }
}

/// The packages without extras; what those with extras ask for, by extra.
fn nodes(packages: &[Table]) -> Vec<Node> {
    let edges = |package: &Table| -> Vec<Edge> {
        let listed = strings_of(package.get("dependencies"));
        listed.iter().map(|text| graph::requirement(text, &BTreeSet::new())).collect()
    };
    let text = |package: &Table, key: &str| text_of(package, key).unwrap_or_default().to_owned();
    let mut nodes: Vec<Node> = Vec::new();
    for package in packages.iter().filter(|package| package.get("extras").is_none()) {
        nodes.push(Node {
            name: normal_name(&text(package, "name")),
            version: text(package, "version"),
            pythons: text(package, "requires_python"),
            needs: edges(package),
            extras: BTreeMap::new(),
        });
    }
    for package in packages {
        let name = normal_name(&text(package, "name"));
        for extra in strings_of(package.get("extras")) {
            for node in nodes.iter_mut().filter(|node| node.name == name) {
                node.extras.entry(normal_name(&extra)).or_default().extend(edges(package));
            }
        }
    }
    nodes
}
