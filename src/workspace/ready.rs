//! What a command works in: a workspace, or an ordinary checkout, whose tools are made ready where a fresh
//! clone brings an `env.toml`, or a pull another lock.

use std::path::{Path, PathBuf};

use super::checkout::{self, Checkout};
use super::description::{self, Description, write_whole};
use super::error::{WorkspaceError, at};
use super::{amend, manage, services};
use crate::context::Context;
use crate::environment::files::{Directory, Files};
use crate::environment::lock::{self, Lock};
use crate::environment::spec;

/// The workspace that `dir` is in, or else the ordinary checkout, with the tools that its files ask for now.
pub fn ready(ctx: &Context, dir: &Path) -> Result<Description, WorkspaceError> {
    if let Some(found) = Description::around(&ctx.home, dir)? {
        manage::recover(ctx, &found)?;
        return Ok(found);
    }
    let none = || WorkspaceError::NotAWorkspace(dir.to_owned());
    let root = checkout::root(dir).ok_or_else(none)?;
    let known = || Checkout::known(&ctx.home, root).ok_or_else(none);
    let mut found = known()?;
    let mut asks = Asks::of(ctx, &found);
    let is_current = match found.environment.as_str() {
        "" => asks.differing.is_empty() && asks.no_tools(ctx),
        _ => found.is_current(&ctx.home),
    };
    if !is_current {
        amend::lock(ctx, root)?;
        found = known()?;
        asks = Asks::of(ctx, &found);
    }
    settled(ctx, &found, asks)
}

/// What a checkout's tree asks for, which is kept as workspaces keep it.
struct Asks {
    /// `env.toml`.
    text: String,
    /// `env.lock`.
    lock: String,
    /// The files that are to be kept, where what is kept is another.
    differing: Vec<(PathBuf, Vec<u8>)>,
}

impl Asks {
    fn of(ctx: &Context, found: &Checkout) -> Asks {
        let place = description::directory(&ctx.home, &found.description().id);
        let files = Directory::new(&found.path);
        let [toml, lock] =
            [spec::PATH, lock::PATH].map(|path| files.read(path).unwrap_or_default());
        let [text, locked] =
            [&toml, &lock].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let differing = [("env.toml", toml), ("env.lock", lock)].into_iter();
        let differing = differing.map(|(name, now)| (place.join(name), now));
        let differing = differing
            .filter(|(kept, now)| !std::fs::read(kept).is_ok_and(|kept| kept == *now))
            .collect();
        Asks { text, lock: locked, differing }
    }

    /// Whether the lock has no tools for this machine.
    fn no_tools(&self, ctx: &Context) -> bool {
        Lock::parse(lock::PATH, &self.lock)
            .is_ok_and(|lock| lock.platform(&ctx.platform).is_empty())
    }
}

/// A checkout, which is locked, with what is kept of it.
fn settled(ctx: &Context, found: &Checkout, asks: Asks) -> Result<Description, WorkspaceError> {
    let mut description = found.description();
    let place = description::directory(&ctx.home, &description.id);
    let asked = spec::Spec::parse(spec::PATH, &asks.text)?;
    if !asks.differing.is_empty() {
        std::fs::create_dir_all(&place).map_err(at(&place))?;
        services::settle(ctx, &description.id, &asked, &place)?;
    }
    for (path, now) in asks.differing {
        write_whole(&path, &now).map_err(at(&path))?;
    }
    // Also where it asks for no tools.
    description.env = asked.env;
    Ok(description)
}
