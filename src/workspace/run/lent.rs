//! What an app of the broker's (system mode) is shown of the user's besides the workspace's files: tools,
//! the environment.
//!
//! The user can change it at any time, and so can every process of theirs. So it is copied to the broker's
//! own store, it counts for an approval like the workspace's files, and the app is shown the copy. What is
//! root's is the machine's, and shown as it is. So are the objects that `.git` borrows, which are data.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zagi_sandbox::{Bind, Plan, Profile};

use super::place::Place;
use crate::context::Context;
use crate::environment::activate::Record;
use crate::event::Silent;
use crate::store::{Hold, Store, TreeId};
use crate::workspace::confined::{self, Who};
use crate::workspace::error::{WorkspaceError, at};
use crate::workspace::tools::{self, Seen};

/// In a tree of the farm.
const FILES: &str = "files";

/// A directory of the user's, in the store.
pub struct Copied {
    /// Where they have it.
    pub source: PathBuf,
    /// What was in it.
    pub tree: TreeId,
    _hold: Hold,
}

/// Copies what is shown of the user's; nothing in user mode.
pub(super) fn copied(
    ctx: &Context,
    place: &Place,
    environment: &Seen,
    store: &Store,
) -> Result<Vec<Copied>, WorkspaceError> {
    let Some(user) = place.user() else { return Ok(Vec::new()) };
    let root = &place.description.path;
    let who = Who { profile: Profile::App, argv: &[], cwd: root, files: root, home: None };
    let take = || {
        let mut all = Vec::new();
        let environment = environment.clone();
        // What is to be said is said when it starts.
        let of = Context { events: Arc::new(Silent), ..place.of.clone() };
        let plan = confined::surround_with(&of, &place.description, who, environment);
        for Bind { source, .. } in plan.binds {
            if source == *root || is_borrowed(place, &source) || is_machines(&source)? {
                continue;
            }
            if source.is_dir() {
                let captured = store.snapshot_of(&source, user)?;
                all.push(Copied { source, tree: captured.tree, _hold: captured.hold });
            }
        }
        Ok(all)
    };
    place.look(ctx, &[&ctx.home.store()], take)
}

/// Has the binds of such an app's `plan` lead to the `copies`; to the machine's own; to this program, where
/// they lead to the user's. `files` are a copy already.
pub(super) fn exchange(
    ctx: &Context,
    place: &Place,
    copies: &[Copied],
    (plan, files): (&mut Plan, &Path),
) -> Result<(), WorkspaceError> {
    if place.user().is_none() {
        return Ok(());
    }
    let store = Store::open(&ctx.home.store())?;
    for bind in plan.binds.iter_mut().filter(|bind| bind.source != files) {
        bind.source = instead(ctx, place, (copies, &store), &bind.source)?;
    }
    Ok(())
}

fn instead(
    ctx: &Context,
    place: &Place,
    (copies, store): (&[Copied], &Store),
    source: &Path,
) -> Result<PathBuf, WorkspaceError> {
    if let Some(copied) = copies.iter().find(|copied| copied.source == source) {
        let tree = &copied.tree;
        // Made once, of links to what the store's farm has; nobody else may write there.
        let farm = store.farm_tree(&format!("lent-{tree}"), &mut |dest| {
            store.link_tree(tree, &dest.join(FILES)).map(drop).map_err(Into::into)
        })?;
        return Ok(farm.join(FILES));
    }
    place.keep_apart(ctx, source)?;
    if is_borrowed(place, source) || is_machines(source)? {
        return source.canonicalize().map_err(at(source));
    }
    match source == place.of.program || is_program(place, source) {
        true => Ok(ctx.program.clone()),
        // It came meanwhile, or is no directory.
        false => Err(at(source)(io::ErrorKind::PermissionDenied.into())),
    }
}

/// The program that launchers of the environment name.
fn is_program(place: &Place, source: &Path) -> bool {
    let record = Record::read(&place.of.home.envs(), &place.description.environment);
    record.and_then(|record| record.view).is_some_and(|view| view.zagi == source)
}

fn is_borrowed(place: &Place, source: &Path) -> bool {
    tools::borrowed(&place.of, &place.description).is_some_and(|objects| objects == source)
}

/// Whether something is root's.
fn is_machines(path: &Path) -> Result<bool, WorkspaceError> {
    Ok(fs::metadata(path).map_err(at(path))?.uid() == 0)
}
