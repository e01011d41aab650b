//! The tools of a workspace, as a sandbox sees them.

use std::path::{Path, PathBuf};

use super::description::Description;
use crate::context::Context;
use crate::dependencies::Tools;
use crate::environment::activate::Activation;
use crate::environment::realise;

/// The environment that the workspace at `path` has now, and the object directories that its
/// `.git` borrows from.
pub(super) fn of(ctx: &Context, description: &Description, path: &Path) -> (Tools, Vec<PathBuf>) {
    let home = &ctx.home;
    let realised = realise::look_up(ctx, &description.environment);
    let (dir, trees, view, mut activation) = match realised {
        Some(r) => (r.dir, r.trees, r.view, r.activation),
        None => (home.envs().join("none"), Vec::new(), None, Activation::default()),
    };
    activation.project.extend(description.env.clone());
    for dependencies in &description.dependencies {
        activation.vars.extend(dependencies.vars.clone());
    }
    let vars = activation.environment(path, &ctx.vars).into_iter();
    // What is no text belongs to a path that the sandbox will refuse by name.
    let vars = vars
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let objects = home.root().join(&description.source.clone).join("objects");
    (Tools { dir, trees, vars: vars.collect(), view }, vec![objects])
}
