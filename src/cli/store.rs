//! `zagi store`: the store of this home, looked at and looked after.

use std::process::ExitCode;

use super::error::CommandError;
use super::output::print;
use super::settings::Settings;

/// Look at and after the store, which holds every content once
#[derive(Debug, clap::Args)]
pub struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the store's directory
    Path,
}

impl Store {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        match self.command {
            Command::Path => print(&format!("{}\n", ctx.home.store().display()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
