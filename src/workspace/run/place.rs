//! The workspace that an app runs in, and whose it is.
//!
//! In system mode it is another user's, who names what is read and shown: directories of the
//! workspace, of its environment, of their home. Any of these may be a link, or become one between
//! a look and the next, that leads to what is the broker's: its state, or the processes of other users'
//! apps, which run as its own user. So whatever they name is looked at by a thread that can read none of
//! that ([`zagi_sandbox::without`]), and shown by a sandbox in which it is not there
//! ([`zagi_sandbox::Hidden`]).

use std::io;
use std::path::{Path, PathBuf};

use zagi_sandbox::{Hidden, Plan};

use crate::context::Context;
use crate::workspace::description::Description;
use crate::workspace::error::{WorkspaceError, at};
use crate::workspace::{checkout, confined, theirs};

/// The workspace, and the home that it is of: another than the run's own where the broker of system
/// mode runs it.
pub struct Place {
    /// That home.
    pub of: Context,
    /// The workspace.
    pub description: Description,
    /// For whom the broker runs it.
    user: Option<u32>,
}

impl Place {
    /// One of the home that `ctx` is of.
    pub fn own(ctx: &Context, description: Description) -> Result<Place, WorkspaceError> {
        confined::check(ctx, &description.path)?;
        Ok(Place { of: ctx.clone(), description, user: None })
    }

    /// The one at `root` of `user`'s home, which `of` is of, around `cwd`; for the broker, whose context
    /// is `ctx`.
    pub fn lent(
        ctx: &Context,
        of: Context,
        user: u32,
        (root, cwd): (&Path, &Path),
    ) -> Result<Place, WorkspaceError> {
        let look = || {
            let found = checkout::found(&of.home, cwd)?;
            // It is the one that the broker has looked at.
            let right = found.filter(|found| found.path.canonicalize().is_ok_and(|at| at == root));
            let found = right.ok_or_else(|| WorkspaceError::NotAWorkspace(cwd.to_owned()))?;
            confined::check(&of, &found.path)?;
            Ok(found)
        };
        let description = apart(&state(ctx)?, &[], look)?;
        Ok(Place { of, description, user: Some(user) })
    }

    /// Whose it is, where it is another user's.
    pub fn user(&self) -> Option<u32> {
        self.user
    }

    /// What is kept from that user.
    pub(super) fn state(&self, ctx: &Context) -> Result<Option<PathBuf>, WorkspaceError> {
        self.user.map(|_| state(ctx)).transpose()
    }

    /// Looks at what they name, where nothing of the broker's can be read but what is below `own`.
    pub(super) fn look<T: Send>(
        &self,
        ctx: &Context,
        own: &[&Path],
        look: impl FnOnce() -> Result<T, WorkspaceError> + Send,
    ) -> Result<T, WorkspaceError> {
        match self.state(ctx)? {
            None => look(),
            Some(state) => apart(&state, own, look),
        }
    }

    /// Refuses to show what is the broker's own or has it below. This look is for a message: what
    /// holds is [`Place::hide`].
    pub(super) fn keep_apart(&self, ctx: &Context, shown: &Path) -> Result<(), WorkspaceError> {
        let Some(state) = self.state(ctx)? else { return Ok(()) };
        // What is not there is not shown.
        let Ok(shown) = shown.canonicalize() else { return Ok(()) };
        match shown.starts_with(&state) || state.starts_with(&shown) {
            true => Err(at(&shown)(io::ErrorKind::PermissionDenied.into())),
            false => Ok(()),
        }
    }

    /// Hides what is the broker's from the app, but the sources of the binds from `own` on, `files`, and the
    /// copies in its store. All others must be their user's.
    pub(super) fn hide(
        &self,
        ctx: &Context,
        plan: &mut Plan,
        own: usize,
        files: &Path,
    ) -> Result<(), WorkspaceError> {
        let Some(user) = self.user else { return Ok(()) };
        let path = state(ctx)?;
        let (theirs, ours) = plan.binds.split_at(own);
        // Nothing that they name has such a path: it was refused.
        let copies = theirs.iter().filter(|bind| bind.source.starts_with(ctx.home.store()));
        let but = copies.chain(ours).map(|bind| bind.source.clone());
        let but: Vec<PathBuf> = but.chain([files.to_owned()]).collect();
        let named = plan.binds.iter().map(|bind| &bind.source).filter(|at| !but.contains(at));
        let only = self.look(ctx, &[], || theirs::of(user, named))?;
        plan.hidden = Some(Hidden { path, but, only });
        Ok(())
    }
}

/// Where the broker keeps what is its users': `<state>/users/<uid>/home/.zagi` is the home of one.
fn state(ctx: &Context) -> Result<PathBuf, WorkspaceError> {
    let home = ctx.home.root();
    let state = home.ancestors().nth(4).unwrap_or(home);
    state.canonicalize().map_err(at(state))
}

fn apart<T: Send>(
    state: &Path,
    own: &[&Path],
    look: impl FnOnce() -> Result<T, WorkspaceError> + Send,
) -> Result<T, WorkspaceError> {
    let looked = zagi_sandbox::without(state, own, look);
    looked.map_err(|source| WorkspaceError::Agent { source })?
}
