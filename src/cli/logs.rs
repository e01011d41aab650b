//! `zagi logs`: what a workspace's services said.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_bytes};
use super::settings::Settings;
use crate::services::log;
use crate::workspace::services::Services;

/// Show what services said
///
/// The last two megabytes of each are kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi logs\n  zagi logs postgres -n 200\n  zagi logs -f redis")]
pub struct Logs {
    /// A service; all if none is named
    name: Option<String>,
    /// How many lines of each, from the end
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    lines: usize,
    /// Show also what comes from now on, until you press Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// A directory in the workspace; the current one if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Logs {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let services = Services::of(&ctx, &settings.directory(self.dir))?;
        let names: Vec<String> = self.name.into_iter().collect();
        let logs = services.logs(&names)?;
        for (name, dir) in &logs {
            // One alone is given as it is, for other programs.
            let mark = if logs.len() > 1 { format!("{name}: ") } else { String::new() };
            for line in log::tail(dir, self.lines) {
                print(&format!("{mark}{line}\n"))?;
            }
        }
        match (self.follow, logs.as_slice()) {
            (false, _) => Ok(ExitCode::SUCCESS),
            (true, [(name, dir)]) => {
                let mut failed = None;
                let followed = log::follow(dir, &mut |bytes| {
                    failed = print_bytes(bytes).err();
                    failed.is_none()
                });
                followed.map_err(|e| {
                    CommandError::failed(format!("cannot read the log of {name}: {e}"))
                })?;
                failed.map_or(Ok(ExitCode::SUCCESS), Err)
            }
            (true, _) => Err(CommandError::failed("one log is followed at a time")
                .hint("name the service, as in `zagi logs -f postgres`")),
        }
    }
}
