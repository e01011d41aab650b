//! What a plan makes of a repository's `flake.nix` ([`crate::environment::flake`]): when it is
//! evaluated, what is said where it cannot be, and what then is left for others to decide.
//!
//! A lock that has nothing of the flake is used as it is: who wrote it may have had no Nix, and a
//! flake that fails must not make every mount decide anew. One that was written for another
//! `flake.nix` is out of date where there is a Nix to evaluate this one, and will do where not.

use crate::context::Context;
use crate::environment::detect::{Detected, Requirement};
use crate::environment::flake::{self, FlakeError, Tree};
use crate::environment::lock::{self, Lock, Tool};
use crate::environment::resolve;
use crate::event::Event;

/// What is `kept` of a lock, with what the flake gives, where there is one and what is kept is not
/// of this very one. What is in the way is said, and no more.
pub(super) fn add(ctx: &Context, detected: &Detected, tree: &Tree<'_>, mut kept: Lock) -> Lock {
    let Some(found) = &detected.flake else { return kept };
    if flake::locked(&kept.platform(&ctx.platform), found).is_some() {
        return kept;
    }
    match flake::evaluate(ctx, found, tree) {
        Ok(tool) => {
            let platform = tool.platform.clone();
            kept.tools.retain(|old| !(old.is_flake() && old.platform == platform));
            kept.tools.push(tool);
            kept = Lock::new(kept.tools);
        }
        Err(e) => {
            let instead = "what else the repository says is used instead";
            let pins = "`zagi lock` on a machine that has Nix pins its tools for this one too";
            let text = match &e {
                FlakeError::NoNix => format!("`flake.nix` is not used: {e}; {instead}; {pins}"),
                e => format!("`flake.nix` is not used: {e}; {instead}"),
            };
            ctx.events.emit(Event::Warning(text));
        }
    }
    kept
}

/// What a lock has of a flake, of this one or of another.
pub(super) fn of<'a>(lock: &'a Lock, ctx: &Context) -> Option<&'a Tool> {
    lock.platform(&ctx.platform).into_iter().find(|tool| tool.is_flake())
}

/// Says where the lock that a tree brings is not of its flake.
pub(super) fn compare(ctx: &Context, detected: &Detected, lock: &Lock) {
    let text = match of(lock, ctx) {
        None if detected.flake.is_some() && flake::is_possible(ctx) => {
            format!("{} has nothing of `flake.nix`; `zagi lock` evaluates it", lock::PATH)
        }
        _ if is_stale(ctx, detected, lock) => {
            format!("`flake.nix` is another one than {} was written for", lock::PATH)
        }
        _ => return,
    };
    ctx.events.emit(Event::Warning(text));
}

/// Whether the lock was written for another flake.
pub(super) fn is_stale(ctx: &Context, detected: &Detected, lock: &Lock) -> bool {
    let flake = detected.flake.as_ref().zip(of(lock, ctx));
    flake.is_some_and(|(found, tool)| tool.version != found.digest)
}

/// Takes out of what was detected the tools that the flake brings: what an `env.toml` names, it
/// decides.
pub(super) fn leave_to(ctx: &Context, detected: &mut Detected, lock: &Lock) {
    let Some(flake) = of(lock, ctx) else { return };
    let (brought, tools) = std::mem::take(&mut detected.tools)
        .into_iter()
        .partition(|tool| resolve::is_answered(flake, tool));
    detected.tools = tools;
    let brought: Vec<Requirement> = brought;
    detected.spec.tools.retain(|name, _| !brought.iter().any(|tool| tool.tool == *name));
    let guessed: Vec<String> =
        detected.spec.system.iter().filter(|n| detected.is_guessed(n)).cloned().collect();
    detected.spec.system.retain(|name| !guessed.contains(name));
}
