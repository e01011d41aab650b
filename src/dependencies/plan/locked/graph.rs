//! Which packages of a lock file are reached from the manifest, and under which markers: for
//! lock files that only say what each package asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::marker::{self, Marker};
use super::normal_name;
use crate::environment::version::{Constraint, Version};

/// After so many widenings of one package's marker it is installed in any case: there are
/// cycles, and what is not needed there does no harm.
const MOST_WIDENINGS: usize = 6;

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// Normalised.
    pub name: String,
    /// Which versions; `None` where that is not understood, and all of them may.
    pub versions: Option<Constraint>,
    pub extras: Vec<String>,
    pub marker: Marker,
}

/// A pinned package and what it asks for.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Normalised.
    pub name: String,
    pub version: String,
    /// The Pythons that it works with, as PEP 440 has them.
    pub pythons: String,
    pub needs: Vec<Edge>,
    /// What it asks for besides, by extra.
    pub extras: BTreeMap<String, Vec<Edge>>,
}

/// The markers of all of `nodes`, by position; what is not reached is left out.
pub(super) fn reached(nodes: &[Node], roots: &[Edge]) -> BTreeMap<usize, Marker> {
    let mut found: BTreeMap<usize, (Marker, BTreeSet<String>, usize)> = BTreeMap::new();
    let mut queue: VecDeque<Edge> = roots.iter().cloned().collect();
    while let Some(edge) = queue.pop_front() {
        for (at, pythons) in candidates(nodes, &edge) {
            let marker = edge.marker.clone().and(pythons);
            if marker == Marker::Known(false) {
                continue;
            }
            let entry = found.entry(at).or_insert((Marker::Known(false), BTreeSet::new(), 0));
            let mut wider = entry.0.clone().or(marker);
            let more = edge.extras.iter().any(|extra| !entry.1.contains(extra));
            if wider == entry.0 && !more {
                continue;
            }
            entry.2 += 1;
            if entry.2 > MOST_WIDENINGS {
                wider = Marker::Known(true);
            }
            entry.0 = wider.clone();
            entry.1.extend(edge.extras.iter().cloned());
            let extras = entry.1.iter().filter_map(|extra| nodes[at].extras.get(extra)).flatten();
            for need in nodes[at].needs.iter().chain(extras) {
                let marker = need.marker.clone().and(wider.clone());
                queue.push_back(Edge { marker, ..need.clone() });
            }
        }
    }
    found.into_iter().map(|(at, (marker, _, _))| (at, marker)).collect()
}

/// Packages that may be meant, each with the Pythons for which it is, where there are
/// several: the newest that works.
fn candidates(nodes: &[Node], edge: &Edge) -> Vec<(usize, Marker)> {
    let named = nodes.iter().enumerate().filter(|(_, node)| node.name == edge.name);
    let named: Vec<(usize, &Node)> = named.collect();
    let fits = |node: &Node| match (&edge.versions, Version::parse(&node.version)) {
        (Some(versions), Ok(version)) => version.is_prerelease() || versions.matches(&version),
        _ => true,
    };
    let mut fitting: Vec<(usize, &Node)> =
        named.iter().copied().filter(|(_, node)| fits(node)).collect();
    if fitting.is_empty() {
        fitting = named;
    }
    if let [(at, _)] = fitting.as_slice() {
        return vec![(*at, Marker::Known(true))];
    }
    fitting.sort_by_key(|(_, node)| std::cmp::Reverse(Version::parse(&node.version).ok()));
    let mut others = Marker::Known(true);
    let mut found = Vec::new();
    for (at, node) in fitting {
        let (works, does_not) = pythons(&node.pythons);
        found.push((at, others.clone().and(works)));
        others = others.and(does_not);
    }
    found
}

/// `>=3.9,<4` as a marker, and as its opposite. Parts that exclude single versions are left
/// out.
fn pythons(said: &str) -> (Marker, Marker) {
    let (mut works, mut does_not) = (Marker::Known(true), Marker::Known(false));
    for part in said.split(',').map(str::trim) {
        let Some((sign, opposite, version)) = [(">=", "<"), ("<=", ">"), ("<", ">="), (">", "<=")]
            .iter()
            .find_map(|(sign, opposite)| Some((*sign, *opposite, part.strip_prefix(*sign)?)))
        else {
            continue;
        };
        let variable = match version.matches('.').count() {
            0 | 1 => "python_version",
            _ => "python_full_version",
        };
        let say = |sign| Marker::Atom(format!("{variable} {sign} \"{}\"", version.trim()));
        works = works.and(say(sign));
        does_not = does_not.or(say(opposite));
    }
    (works, does_not)
}

/// A requirement as PEP 508 has it: `name[extra] (>=1,<2) ; marker`.
pub(super) fn requirement(text: &str, extras: &BTreeSet<String>) -> Edge {
    let (before, marker) = text.split_once(';').unwrap_or((text, ""));
    let end = before.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
    let (name, rest) = before.trim().split_at(end.unwrap_or(before.trim().len()));
    let (asked, versions) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or((rest, "")),
        None => ("", rest),
    };
    let versions = versions.trim().trim_start_matches('(').trim_end_matches(')');
    Edge {
        name: normal_name(name),
        versions: Constraint::from_pep440(versions).ok(),
        extras: asked.split(',').map(normal_name).filter(|e| !e.is_empty()).collect(),
        marker: match marker.trim() {
            "" => Marker::Known(true),
            marker => marker::read(marker, extras),
        },
    }
}
