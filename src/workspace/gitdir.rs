//! The workspace's own `.git`: private configuration, objects borrowed from the shared
//! clone, nothing that grows with the repository.
//!
//! What it starts with lies in `workspaces/<id>/own/`, with the link to the environment, and
//! is a layer like all else; what git then writes is in the delta.

use std::io;
use std::path::Path;

use super::description::{self, DependencyRecord, Description};
use super::error::{WorkspaceError, at};
use super::fsmonitor;
use crate::context::Context;
use crate::environment::activate::LINK;
use crate::source::{DotGit, Resolved};

/// Writes them below `workspace`, the workspace's directory under the home.
pub fn write(
    ctx: &Context,
    resolved: &Resolved,
    description: &Description,
    workspace: &Path,
) -> Result<(), WorkspaceError> {
    let own = description::own(workspace);
    let git = own.join(".git");
    std::fs::create_dir_all(&git).map_err(at(&git))?;
    let mut start = DotGit::of(resolved, &exclude(resolved, &description.dependencies));
    // Settings are text.
    if let Some(program) = fsmonitor::program(ctx, &description.id).to_str() {
        start.ask(program);
    }
    for name in &start.directories {
        let path = git.join(name);
        std::fs::create_dir(&path).map_err(at(&path))?;
    }
    for (name, bytes) in &start.files {
        let path = git.join(name);
        std::fs::write(&path, bytes).map_err(at(&path))?;
    }
    match description.environment_in(&ctx.home) {
        Some(environment) => link_environment(&environment, &own).map_err(at(&own)),
        None => Ok(()),
    }
}

/// Links the realised environment into the workspace at `root`.
pub fn link_environment(environment: &Path, root: &Path) -> io::Result<()> {
    let link = root.join(LINK);
    std::fs::create_dir_all(link.parent().expect("the link is below the root"))?;
    std::os::unix::fs::symlink(environment, link)
}

/// Links another environment in place of the one that is there, or none.
pub fn relink_environment(environment: Option<&Path>, root: &Path) -> io::Result<()> {
    let link = root.join(LINK);
    let Some(environment) = environment else {
        return match std::fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    };
    // Nobody shall find it missing.
    let new = link.with_extension("new");
    let _ = std::fs::remove_file(&new);
    std::os::unix::fs::symlink(environment, &new)?;
    std::fs::rename(&new, &link)
}

/// Directories that builds and tests make and that no repository keeps.
pub const BUILT: [&str; 7] = [
    "target",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".zig-cache",
    "zig-out",
    "*.egg-info",
];

/// What git does not see here: the environment and what managers installed. What `zagi
/// init` writes may be committed. A published package comes without its `.gitignore`; there
/// what builds make is left out, too.
pub fn exclude(source: &Resolved, dependencies: &[DependencyRecord]) -> Vec<String> {
    let fixed = [
        "/.zagi/*",
        "!/.zagi/env.toml",
        "!/.zagi/env.lock",
        "!/.zagi/agents.toml",
        "!/.zagi/secrets.enc",
    ];
    let directories = dependencies.iter().flat_map(|d| &d.directories);
    let own = directories.filter(|d| !d.starts_with(".zagi/")).map(|d| format!("/{d}"));
    let built = BUILT.iter().filter(|_| source.is_package()).map(|d| format!("{d}/"));
    fixed.into_iter().map(str::to_owned).chain(own).chain(built).collect()
}
