//! `zagi ps`: how a workspace's services are.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::services::{Health, Shown};
use crate::workspace::services::Services;

/// Show the workspace's services: which run, whether they answer, where they listen
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi ps\n  zagi ps --json | jq -r '.[].socket'")]
pub struct Ps {
    /// A directory in the workspace; the current one if not given
    dir: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Ps {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let all = Services::of(&ctx, &settings.directory(self.dir))?.show()?;
        if self.json {
            print_json(&all)?;
        } else if all.is_empty() {
            eprintln!("no services are asked for; `zagi add postgres` asks for one");
        } else {
            print(&all.iter().map(line).collect::<String>())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(shown: &Shown) -> String {
    let health = match shown.health {
        Health::Ready => "ready",
        Health::Silent => "silent",
        Health::Stopped => "stopped",
        Health::Died => "died",
    };
    let version = shown.version.as_deref().unwrap_or("-");
    let more = match (&shown.ended, shown.pid) {
        (_, Some(pid)) => {
            let port = shown.port.map_or(String::new(), |port| format!(" and 127.0.0.1:{port}"));
            format!("process {pid}, at {}{port}", shown.socket.display())
        }
        (Some(end), None) if shown.health == Health::Died => {
            format!("{end}; `zagi logs {}` has its last words", shown.name)
        }
        _ => String::new(),
    };
    let line = format!("{:<10} {version:<9} {health:<8} {more}", shown.name);
    format!("{}\n", line.trim_end())
}
