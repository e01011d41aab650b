//! `zagi update`: newer versions of what a project asks for.

use std::path::PathBuf;
use std::process::ExitCode;

use super::add::tell;
use super::error::CommandError;
use super::settings::Settings;
use crate::workspace::amend;

/// Lock newer versions, as far as what is asked for allows
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi update         everything\n  zagi update node    only node"
)]
pub struct Update {
    /// Tools; all of them if none is named
    #[arg(value_name = "TOOL")]
    tools: Vec<String>,
    /// The project; that of the current directory if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Update {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        tell(settings, &amend::update(&ctx, &settings.directory(self.dir), &self.tools)?);
        Ok(ExitCode::SUCCESS)
    }
}
