//! The same directory of real files, for where there is no FUSE.
//!
//! Everything is a copy (a reflink, where the file system has them) and so the user's own:
//! editing a file in place never reaches the store. Built beside DIR and renamed over it.

use std::io;
use std::path::{Path, PathBuf};

use super::description::Description;
use super::error::{WorkspaceError, at};
use super::gitdir;
use super::prepare::Prepared;
use crate::context::Context;
use crate::source;
use crate::store::Store;

/// Makes DIR; says how its files came to be.
pub fn materialise(
    ctx: &Context,
    store: &Store,
    description: &Description,
    prepared: &Prepared,
) -> Result<String, WorkspaceError> {
    let dir = &description.path;
    let beside = beside(dir);
    // Left by a command that was killed here.
    remove_if_there(&beside)?;
    let built = build(ctx, store, description, prepared, &beside).and_then(|how| {
        std::fs::rename(&beside, dir).map_err(at(dir))?; // over an empty directory at most
        Ok(how)
    });
    if built.is_err() {
        let _ = std::fs::remove_dir_all(&beside);
    }
    built
}

/// Deletes the files of a materialised workspace.
pub fn remove(description: &Description) -> Result<(), WorkspaceError> {
    remove_if_there(&description.path)
}

fn remove_if_there(dir: &Path) -> Result<(), WorkspaceError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(dir)(e)),
        _ => Ok(()),
    }
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(dir.file_name().unwrap_or_default());
    name.push(".zagi-partial");
    dir.with_file_name(name)
}

fn build(
    ctx: &Context,
    store: &Store,
    description: &Description,
    prepared: &Prepared,
    dest: &Path,
) -> Result<String, WorkspaceError> {
    if let Some(parent) = dest.parent() {
        std::fs::create_dir_all(parent).map_err(at(parent))?;
    }
    let resolved = &prepared.plan.resolved;
    let exclude = gitdir::exclude(resolved, &description.dependencies);
    source::checkout(ctx, resolved, &exclude, dest)?;
    let mut how = "copy".to_owned();
    for (_, provided) in &prepared.dependencies {
        let restored = store.restore(&provided.tree, dest)?;
        how = restored.strategy.to_string();
        let place = description.path.to_string_lossy();
        provided.relocations.apply(store, &provided.tree, dest, &place)?;
    }
    if let Some(realised) = &prepared.realised {
        gitdir::link_environment(&realised.dir, dest).map_err(at(dest))?;
    }
    Ok(how)
}
