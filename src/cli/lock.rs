//! `zagi lock`: `env.lock` brought up to what is asked for.

use std::path::PathBuf;
use std::process::ExitCode;

use super::add::tell;
use super::error::CommandError;
use super::settings::Settings;
use crate::workspace::amend;

/// Write `.zagi/env.lock`: exactly which tools, from where, with their hashes
///
/// What it has already stays as long as it is what is asked for; `zagi update` takes newer ones.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi lock\n  zagi lock --check    in CI: fails where the lock is behind"
)]
pub struct Lock {
    /// The project; that of the current directory if not given
    dir: Option<PathBuf>,
    /// Write nothing, ask nobody; fail where the file has not what is asked for
    #[arg(long)]
    check: bool,
}

impl Lock {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.directory(self.dir);
        if !self.check {
            tell(settings, &amend::lock(&ctx, &dir)?);
            return Ok(ExitCode::SUCCESS);
        }
        let missing = amend::unlocked(&ctx, &dir)?;
        let Some(first) = missing.first() else { return Ok(ExitCode::SUCCESS) };
        let said = first.evidence.first();
        let said = said.map_or_else(String::new, |e| format!(" ({}:{})", e.file, e.line));
        let more = match missing.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        Err(CommandError::failed(format!(
            ".zagi/env.lock has no {} {}{said}{more}",
            first.tool, first.constraint
        ))
        .hint("`zagi lock` brings it up to date"))
    }
}
