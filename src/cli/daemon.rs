//! `zagi daemon`: the process that holds the mounts.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::event;
use crate::workspace::daemon::{Status, client, supervisor, worker};

/// Look at or end the daemon, which holds the mounts
#[derive(Debug, clap::Args)]
pub struct Daemon {
    #[command(subcommand)]
    ask: Ask,
}

#[derive(Debug, clap::Subcommand)]
enum Ask {
    /// Whether it runs, what it holds, what it costs
    Status {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Unmount everything and end it; the next command that needs one starts another
    Stop {
        /// Detach also what is in use
        #[arg(long)]
        force: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// The arguments of the daemon's own two processes.
#[derive(Debug, clap::Args)]
pub struct Process {
    home: PathBuf,
}

impl Daemon {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        match self.ask {
            Ask::Status { json } => {
                let status = client::status(&ctx)?;
                if json { print_json(&as_json(status.as_ref()))? } else { say(status.as_ref())? }
            }
            Ask::Stop { force, json } => {
                let stopped = client::stop(&ctx, force)?;
                if json {
                    print_json(&serde_json::json!({ "stopped": stopped }))?;
                } else if !stopped {
                    eprintln!("no daemon is running");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_json(status: Option<&Status>) -> serde_json::Value {
    match status {
        None => serde_json::json!({ "running": false }),
        Some(s) => serde_json::json!({
            "running": true,
            "supervisor_pid": s.supervisor_pid,
            "worker_pid": s.worker_pid,
            "starts": s.starts,
            "memory": s.memory,
            "mounts": s.mounts,
        }),
    }
}

fn say(status: Option<&Status>) -> Result<(), CommandError> {
    let Some(s) = status else {
        return print("not running; the next command that needs one starts it\n");
    };
    let mut text = format!(
        "supervisor {}, worker {} (start {}), {} of memory, {} mounted\n",
        s.supervisor_pid,
        s.worker_pid,
        s.starts,
        event::bytes(s.memory),
        s.mounts.len()
    );
    for mount in &s.mounts {
        text.push_str(&format!("  {}  {}\n", mount.id, mount.path.display()));
    }
    print(&text)
}

impl Process {
    pub(super) fn supervise(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context_at(&self.home)?;
        supervisor::run(&ctx).map_err(|e| CommandError::from_chain(&e))?;
        Ok(ExitCode::SUCCESS)
    }

    pub(super) fn work(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context_at(&self.home)?;
        worker::run(&ctx, &std::io::stdin()).map_err(|e| CommandError::from_chain(&e))?;
        Ok(ExitCode::SUCCESS)
    }
}
