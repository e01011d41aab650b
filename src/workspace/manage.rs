//! Workspaces that are there: listed, found, unmounted, discarded.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::daemon::{PathEvent, client};
use super::description::{self, Description, Presentation};
use super::error::{WorkspaceError, at};
use super::{checkout, flakes, materialise, mounts, prepare};
use crate::context::Context;
use crate::environment::{lock, spec};
use crate::event::Event;
use crate::services;

/// A workspace, and whether it can be entered now.
#[derive(Debug)]
pub struct Listed {
    /// What it is.
    pub description: Description,
    /// It is mounted, or it is real files.
    pub mounted: bool,
}

/// The workspaces of this home, by path. A daemon that died is started again first, so that
/// what it held is back.
pub fn list(ctx: &Context) -> Result<Vec<Listed>, WorkspaceError> {
    let all = Description::all(&ctx.home)?;
    for description in &all {
        recover(ctx, description)?;
    }
    let mounts = mounts::ours().map_err(at(Path::new("/proc/self/mountinfo")))?;
    let listed = all.into_iter().map(|description| {
        let mounted = match description.presented {
            Presentation::Fuse => mounts.contains(&description.path),
            Presentation::Nfs => description.is_mounted(&ctx.home),
            Presentation::Materialised => description.path.is_dir(),
        };
        Listed { description, mounted }
    });
    Ok(listed.collect())
}

/// The workspace that `path` is in.
pub fn around(ctx: &Context, path: &Path) -> Result<Description, WorkspaceError> {
    let found = Description::around(&ctx.home, path)?
        .ok_or_else(|| WorkspaceError::NotAWorkspace(path.to_owned()))?;
    recover(ctx, &found)?;
    Ok(found)
}

/// The same, or else the ordinary checkout that `path` is in: its tools are not made ready.
pub fn known(ctx: &Context, path: &Path) -> Result<Description, WorkspaceError> {
    let found = checkout::found(&ctx.home, path)?
        .ok_or_else(|| WorkspaceError::NotAWorkspace(path.to_owned()))?;
    recover(ctx, &found)?;
    Ok(found)
}

/// A workspace's own directory under the home.
pub fn directory(ctx: &Context, description: &Description) -> PathBuf {
    description::directory(&ctx.home, &description.id)
}

/// Brings a mount back whose daemon died: starting a daemon is all it takes.
pub(super) fn recover(ctx: &Context, description: &Description) -> Result<(), WorkspaceError> {
    if description.presented != Presentation::Materialised
        && description.is_mounted(&ctx.home)
        && client::status(ctx)?.is_none()
    {
        client::mount(ctx, &description.id)?;
    }
    Ok(())
}

/// Follows what changes in the mounted workspace that `dir` is in; see [`client::events`].
pub fn follow(
    ctx: &Context,
    dir: &Path,
    output: &impl AsFd,
    each: &mut dyn FnMut(&[PathEvent]) -> bool,
) -> Result<(), WorkspaceError> {
    let found = around(ctx, dir)?;
    if found.presented == Presentation::Materialised {
        return Err(WorkspaceError::NotFollowed(found.path));
    }
    if !mounts::is_there(&ctx.home, &found).map_err(at(&found.path))? {
        return Err(WorkspaceError::NotMounted(found.path));
    }
    Ok(client::events(ctx, &found.id, output, each)?)
}

/// Takes the mount at `dir` away; the delta stays.
pub fn unmount(ctx: &Context, dir: &Path, force: bool) -> Result<(), WorkspaceError> {
    let found = exactly(ctx, dir)?;
    if found.presented == Presentation::Materialised {
        return Err(WorkspaceError::Materialised(dir.to_owned()));
    }
    if !mounts::is_there(&ctx.home, &found).map_err(at(dir))? {
        return Err(WorkspaceError::NotMounted(dir.to_owned()));
    }
    recover(ctx, &found)?;
    client::unmount(ctx, &found.id, force)?;
    // Not before: what is refused as busy goes on whole.
    stop_services(ctx, &found)
}

/// Deletes the workspace at `dir` with everything that was changed in it.
pub fn discard(ctx: &Context, dir: &Path, force: bool) -> Result<(), WorkspaceError> {
    let found = exactly(ctx, dir)?;
    match found.presented {
        Presentation::Materialised => materialise::remove(&found)?,
        _ if mounts::is_there(&ctx.home, &found).map_err(at(dir))? => {
            recover(ctx, &found)?;
            client::unmount(ctx, &found.id, force)?;
        }
        _ => {}
    }
    stop_services(ctx, &found)?;
    for place in service_places(ctx, &found) {
        services::forget(&place);
    }
    found.unlink(&ctx.home);
    // Out of sight first: a removal that is interrupted leaves no half workspace.
    let place = description::directory(&ctx.home, &found.id);
    let grave = ctx.home.tmp().join(format!("discarded-{}", found.id));
    std::fs::rename(&place, &grave).map_err(at(&place))?;
    std::fs::remove_dir_all(&grave).map_err(at(&grave))?;
    let _ = std::fs::remove_dir(dir); // only if it is empty
    Ok(())
}

/// Services end with their workspace.
fn stop_services(ctx: &Context, found: &Description) -> Result<(), WorkspaceError> {
    for place in service_places(ctx, found) {
        for name in services::down_all(&place)? {
            ctx.events.emit(Event::Warning(format!("{name} ran, and was stopped")));
        }
    }
    Ok(())
}

/// The directories below which its services are: its own, and those of its agents.
fn service_places(ctx: &Context, found: &Description) -> Vec<PathBuf> {
    let own = description::directory(&ctx.home, &found.id);
    let agents = std::fs::read_dir(own.join("agents")).into_iter().flatten().flatten();
    let agents: Vec<PathBuf> = agents.map(|entry| entry.path()).collect();
    [own].into_iter().chain(agents).collect()
}

pub(super) fn exactly(ctx: &Context, dir: &Path) -> Result<Description, WorkspaceError> {
    Description::at(&ctx.home, dir)?.ok_or_else(|| WorkspaceError::NotAWorkspace(dir.to_owned()))
}

/// Writes `env.toml` and `env.lock` into the tree at `dir`, and says where. Both or neither:
/// one that is there already stops it, unless `force`. What is no workspace has its tools then
/// as well, in place.
pub fn init(ctx: &Context, dir: &Path, force: bool) -> Result<Vec<PathBuf>, WorkspaceError> {
    let mut own = None;
    let (root, toml, lock) = match Description::around(&ctx.home, dir)? {
        Some(found) => {
            recover(ctx, &found)?;
            let kept = description::directory(&ctx.home, &found.id);
            let read = |name: &str| {
                let path = kept.join(name);
                std::fs::read_to_string(&path).map_err(at(&path))
            };
            (found.path.clone(), read("env.toml")?, read("env.lock")?)
        }
        None => {
            let (mut detected, lock) = prepare::environment_of(ctx, dir)?;
            flakes::leave_to(ctx, &mut detected, &lock);
            let comments = prepare::comments(&detected);
            let texts = (detected.spec.render(&comments), lock.render());
            own = Some((detected, lock));
            (dir.to_owned(), texts.0, texts.1)
        }
    };
    let files = [(spec::PATH, toml), (lock::PATH, lock)];
    let paths = files.each_ref().map(|(name, _)| root.join(name));
    if let Some(path) = paths.iter().find(|path| path.exists() && !force) {
        return Err(WorkspaceError::Exists(path.clone()));
    }
    for (name, text) in &files {
        write_into(&root, name, text)?;
    }
    if let Some((detected, lock)) = own {
        checkout::attach(ctx, &root, &detected, &lock)?;
    }
    Ok(paths.into())
}

/// Writes the file `name`, which lies in a directory below `root`, whole. That directory came with
/// the repository, and must not lead elsewhere.
pub(super) fn write_into(root: &Path, name: &str, text: &str) -> Result<(), WorkspaceError> {
    let path = root.join(name);
    let place = path.parent().expect("it is below the root");
    if place.is_symlink() {
        return Err(WorkspaceError::Linked(place.to_owned()));
    }
    std::fs::create_dir_all(place).map_err(at(place))?;
    description::write_whole(&path, text.as_bytes()).map_err(at(&path))
}
