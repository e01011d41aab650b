//! What stays as it is in a workspace for an agent or an app: files by which git, run by somebody else later,
//! starts programs; and what grants and secrets stand in.
//!
//! Git runs what its configuration and hooks say, and finds them by more than one way: a
//! `.git/commondir` (or that of a linked worktree) leads to another directory with others, and in a
//! repository inside the repository, where the index has one, `git status` runs by that one's own. And the
//! configuration itself may lead into the workspace ([`led`]).

mod led;

use std::fs;
use std::path::{Path, PathBuf};

use gix::index::entry::Mode;
use zagi_sandbox::Pin;

use super::agent::grants;
use crate::context::Context;
use crate::event::Event;
use crate::secrets::place;

/// Below `.git`; whether each is a directory.
const GIT: [(&str, bool); 6] = [
    ("hooks", true),
    ("modules", true),
    // Where a remote stood before there was configuration: git still looks there.
    ("remotes", true),
    ("branches", true),
    ("config", false),
    ("config.worktree", false),
];

/// By its being there, git reads it: what it says meanwhile is what holds without it.
const COMMON: (&str, &str) = ("commondir", ".\n");
/// Of a linked worktree.
const LINKED: [&str; 2] = [COMMON.0, "config.worktree"];

/// Below the workspace; no directories.
const OWN: [&str; 2] = [grants::PATH, place::PATH];

/// What stays as it is of a workspace's `files`, as they are now, where those are seen at `root`. Where git is
/// led and nothing can be kept, that is said.
pub(super) fn of(ctx: &Context, files: &Path, root: &Path) -> Vec<Pin> {
    let git = Path::new(".git");
    let mut pins = match files.join(git).symlink_metadata() {
        // A linked worktree, whose repository is elsewhere and not seen (git-worktree(1)).
        Ok(about) if about.is_file() => vec![pin(git, false)],
        _ => repository(git),
    };
    pins.extend(OWN.map(|path| pin(path, false)));
    // Worktrees that are elsewhere, whose own repositories are here.
    let worktrees = fs::read_dir(files.join(".git/worktrees")).into_iter().flatten().flatten();
    let is_file = |path: &Path| files.join(path).symlink_metadata().is_ok_and(|m| m.is_file());
    for worktree in worktrees.map(|entry| git.join("worktrees").join(entry.file_name())) {
        if is_file(&worktree.join(COMMON.0)) {
            pins.extend(LINKED.map(|name| pin(worktree.join(name), false)));
        }
    }
    let inner = repositories(files);
    let led = led::led(ctx, files, &inner);
    for inner in inner {
        let git = inner.join(".git");
        match files.join(&git).symlink_metadata() {
            Ok(about) if about.is_dir() => pins.extend(repository(&git)),
            Ok(about) if about.is_file() => pins.push(pin(git, false)),
            _ => {}
        }
    }
    led.open.into_iter().for_each(|open| ctx.events.emit(Event::Warning(open)));
    pins.extend(led.kept.into_iter().map(|(path, directory)| pin(path, directory)));
    for pin in &mut pins {
        pin.path = root.join(&pin.path);
    }
    pins
}

fn repository(git: &Path) -> Vec<Pin> {
    let mut pins: Vec<Pin> =
        GIT.iter().map(|(name, directory)| pin(git.join(name), *directory)).collect();
    pins.push(Pin { meanwhile: COMMON.1.into(), ..pin(git.join(COMMON.0), false) });
    pins
}

fn pin(path: impl Into<PathBuf>, directory: bool) -> Pin {
    Pin { path: path.into(), hidden: false, directory, meanwhile: String::new() }
}

/// The index of the repository at `root`, if it can be read.
pub(super) fn index(root: &Path) -> Option<gix::index::File> {
    let path = root.join(".git/index");
    // Whoever was here may have left a pipe.
    if !path.symlink_metadata().is_ok_and(|about| about.is_file()) {
        return None;
    }
    let options = gix::index::decode::Options::default();
    gix::index::File::at(&path, gix::hash::Kind::Sha1, true, options).ok()
}

/// The repositories inside this one that its index has (submodules), relative, where they are
/// checked out.
pub(super) fn repositories(root: &Path) -> Vec<PathBuf> {
    let Some(index) = index(root) else { return Vec::new() };
    let modules = index.entries().iter().filter(|entry| entry.mode == Mode::COMMIT);
    modules
        .filter_map(|entry| gix::path::try_from_bstr(entry.path(&index)).ok())
        .map(|path| path.into_owned())
        .filter(|path| is_plain(root, path))
        .collect()
}

/// Whether there is a repository, and no link on the way to it (git follows none, either).
fn is_plain(root: &Path, path: &Path) -> bool {
    let mut at = root.to_owned();
    path.components().all(|part| {
        at.push(part);
        at.symlink_metadata().is_ok_and(|about| about.is_dir())
    }) && at.join(".git").symlink_metadata().is_ok_and(|about| !about.is_symlink())
}
