//! `zagi discard`: deletes a workspace, after saying what would be lost.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{confirmed, quoted};
use super::settings::Settings;
use crate::event;
use crate::workspace::{self, Loss};

/// How many paths are named before «and N more».
const NAMED: usize = 10;

/// Delete a workspace and everything that was changed in it
///
/// Says what would be lost and asks. Without a terminal it does not ask: it fails and names
/// `--yes`, unless there is nothing to lose.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi discard --dry-run ./web   what would be lost\n  zagi discard --yes ./web"
)]
pub struct Discard {
    /// The workspace's directory
    dir: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only say what would be lost
    #[arg(long)]
    dry_run: bool,
    /// Detach it although it is in use
    #[arg(long)]
    force: bool,
}

impl Discard {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.absolute(&self.dir);
        let loss = workspace::loss(&ctx, &dir)?;
        say(&loss);
        if self.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        if !loss.is_nothing() && !self.yes && !ask(&dir)? {
            return Err(CommandError::failed("nothing was discarded"));
        }
        workspace::discard(&ctx, &dir, self.force)?;
        if !settings.quiet() {
            eprintln!("discarded {}", dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn say(loss: &Loss) {
    if loss.is_nothing() {
        eprintln!("nothing was changed in it");
        return;
    }
    eprintln!("this would be lost:");
    for change in loss.changes.iter().take(NAMED) {
        eprintln!("  {} {}", change.kind.letter(), quoted(change.path.as_bytes()).0);
    }
    if loss.changes.len() > NAMED {
        eprintln!("  … and {} more", loss.changes.len() - NAMED);
    }
    if loss.generated > 0 {
        eprintln!("  {} in dependency and build directories", files(loss.generated));
    }
    for commit in &loss.commits {
        eprintln!("  commit {commit}");
    }
    eprintln!("  {} in all", event::bytes(loss.bytes));
}

fn files(n: usize) -> String {
    if n == 1 { "1 path".into() } else { format!("{n} paths") }
}

fn ask(dir: &std::path::Path) -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::failed(format!(
            "`{}` holds changes, and there is no terminal to ask at",
            dir.display()
        ))
        .hint("add `--yes` to discard them"));
    }
    confirmed(&format!("discard `{}`?", dir.display()))
}
