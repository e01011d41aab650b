//! What programs of a Nix store see at `/nix/store`: of one tool its own tree; where several
//! of an environment come from Nix, a tree with the closures of all of them, since a
//! process sees one store, and starts programs of the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::fetch::{self, Packages};
use super::launch::View;
use super::lock::{Fixups, Part};
use super::place::Place;
use super::tree::{self, TreeError};
use super::words::Words;
use crate::context::Context;
use crate::store::{Store, StoreError};

/// The tree of an environment that is shown.
pub(super) struct Shown<'a> {
    /// Where it is, or will be.
    pub(super) root: PathBuf,
    key: String,
    /// What it is made of, where it is no tool's own tree.
    parts: Vec<&'a Part>,
}

impl<'a> Shown<'a> {
    /// That of these tools; `None` where none comes from Nix.
    pub(super) fn of(ctx: &Context, plans: &[Place<'a>]) -> Option<Shown<'a>> {
        let of_nix: Vec<&Place<'a>> = plans.iter().filter(|p| p.is_viewed()).collect();
        if let [only] = of_nix.as_slice() {
            let (root, key) = (only.root.clone(), only.key.clone());
            return Some(Shown { root, key, parts: Vec::new() });
        }
        of_nix.first()?;
        let mut hasher = blake3::Hasher::new_derive_key("zagi 2026 farm tree of a view v1");
        let mut parts = BTreeMap::new();
        for place in &of_nix {
            hasher.update(place.key.as_bytes()).update(b"\n");
            let own = place.tool.parts.iter().filter(|part| part.nar.is_some());
            parts.extend(own.map(|part| (fetch::reference(part), part)));
        }
        let key = format!("nix-{}", &hasher.finalize().to_hex()[..16]);
        let root = ctx.home.store().join("farm/trees").join(&key);
        Some(Shown { root, key, parts: parts.into_values().collect() })
    }

    /// What must be fetched to build it.
    pub(super) fn missing(&self) -> &[&'a Part] {
        if self.root.is_dir() { &[] } else { &self.parts }
    }

    /// Builds it, where it is not there and no tool's own.
    pub(super) fn build(&self, store: &Store, packages: &Packages) -> Result<(), StoreError> {
        if self.missing().is_empty() {
            return Ok(());
        }
        let ids = packages.all(self.parts.iter().copied());
        let build = &mut |dest: &std::path::Path| {
            let built = tree::build(store, &ids, &Fixups::default(), &Words::default(), dest);
            built.map_err(|e: TreeError| e.into())
        };
        store.farm_tree(&self.key, build).map(drop)
    }

    /// What launchers say about it.
    pub(super) fn view(&self, ctx: &Context) -> View {
        View { store: self.root.join("nix/store"), zagi: ctx.program.clone() }
    }
}
