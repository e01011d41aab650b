//! `zagi unmount`: takes a directory away and keeps what was changed in it.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::settings::Settings;
use crate::workspace;

/// Unmount a workspace; what was changed in it is kept
///
/// `zagi mount` at the same place resumes it, `zagi discard` deletes it. A workspace that is
/// in use is left mounted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi unmount ./web\n  zagi unmount --force ./web   although something is using it"
)]
pub struct Unmount {
    /// The workspace's directory
    dir: PathBuf,
    /// Detach it although it is in use
    #[arg(long)]
    force: bool,
}

impl Unmount {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.absolute(&self.dir);
        workspace::unmount(&ctx, &dir, self.force)?;
        if !settings.quiet() {
            eprintln!("unmounted {}; resume it with `zagi mount {}`", dir.display(), dir.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
