//! The tools of a workspace, as a sandbox sees them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::description::Description;
use crate::context::Context;
use crate::dependencies::Tools;
use crate::environment::activate::Activation;
use crate::environment::realise;

/// The environment of a workspace, as it was when somebody looked.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// What a sandbox shows of it.
    pub tools: Tools,
    /// The object directories that its `.git` borrows from.
    pub borrowed: Vec<PathBuf>,
    /// The variables of a process in the workspace, but the user's own.
    pub own: BTreeMap<OsString, OsString>,
}

/// What the workspace at `path` has now.
pub(super) fn of(ctx: &Context, description: &Description, path: &Path) -> Seen {
    let home = &ctx.home;
    let realised = realise::look_up(ctx, &description.environment);
    let (dir, trees, view, activation) = match realised {
        Some(r) => (r.dir, r.trees, r.view, r.activation),
        None => (home.envs().join("none"), Vec::new(), None, Activation::default()),
    };
    let activation = with_projects(activation, description);
    let own = activation.environment(path, &BTreeMap::new());
    let vars = activation.environment(path, &ctx.vars).into_iter();
    // What is no text belongs to a path that the sandbox will refuse by name.
    let vars = vars
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let tools = Tools { dir, trees, vars: vars.collect(), view };
    Seen { tools, borrowed: borrowed(ctx, description).into_iter().collect(), own }
}

/// The objects that the workspace's `.git` borrows. What a checkout's says that it borrows, an agent may
/// have written.
pub(super) fn borrowed(ctx: &Context, description: &Description) -> Option<PathBuf> {
    let clone = Some(&description.source.clone).filter(|clone| !clone.as_os_str().is_empty())?;
    Some(ctx.home.root().join(clone).join("objects"))
}

/// What the environment sets, and what the project and its dependencies set besides.
fn with_projects(mut activation: Activation, description: &Description) -> Activation {
    activation.project.extend(description.env.clone());
    for dependencies in &description.dependencies {
        activation.vars.extend(dependencies.vars.clone());
    }
    activation
}
