//! `zagi remove`: a project asks for fewer tools.

use std::path::PathBuf;
use std::process::ExitCode;

use super::add::tell;
use super::error::CommandError;
use super::settings::Settings;
use crate::workspace::amend;

/// Take tools and services out of `.zagi/env.toml`, and of its lock
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi remove zig")]
pub struct Remove {
    /// Tools and services
    #[arg(required = true, value_name = "TOOL")]
    tools: Vec<String>,
    /// The project; that of the current directory if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Remove {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        tell(settings, &amend::remove(&ctx, &settings.directory(self.dir), &self.tools)?);
        Ok(ExitCode::SUCCESS)
    }
}
