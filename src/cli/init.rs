//! `zagi init`: what was inferred, written into the tree.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::settings::Settings;
use crate::workspace;

/// Write `.zagi/env.toml` and `.zagi/env.lock` into the tree, to be committed
///
/// In a workspace these are what it was mounted with; elsewhere the directory is read as it
/// is and resolved now, and has its tools in `.zagi/env`: the hook, `zagi exec` and `zagi shell` work
/// in it. A file that is there already is left alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi init\n  zagi init ~/src/web && git -C ~/src/web add .zagi"
)]
pub struct Init {
    /// The directory; the current one if not given
    dir: Option<PathBuf>,
    /// Write anew what is there already
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.directory(self.dir);
        for path in workspace::init(&ctx, &dir, self.force)? {
            if !settings.quiet() {
                eprintln!("wrote {}", path.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
