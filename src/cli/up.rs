//! `zagi up` and `zagi down`: a workspace's services.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::error::CommandError;
use super::settings::Settings;
use crate::services::keep;
use crate::workspace;
use crate::workspace::services::Services;

/// Start the services that the workspace asks for
///
/// Each is ready when this returns: its data is made where there is none, and it has answered.
/// They listen at sockets that only you can use (and at a port of 127.0.0.1 where `env.toml`
/// asks for one); `zagi exec`, `zagi shell` and the shell hook set the variables by which
/// programs find them. They run until `zagi down`, `zagi unmount` or `zagi discard`. What runs
/// already is left alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi add postgres@16 && zagi up\n  zagi up redis\n  zagi up && zagi exec -- psql -c 'select 1'"
)]
pub struct Up {
    /// Services; all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// A directory in the workspace; the current one if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Stop services; their data stays
///
/// Each is told to stop in its own way, and killed if it has not within half a minute.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi down\n  zagi down redis")]
pub struct Down {
    /// Services; all that run if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// A directory in the workspace; the current one if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Becomes a service's keeper where this program was started as one. To be called first of
/// all: it may have no other thread.
pub(super) fn keep_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = arguments.next().filter(|first| first == keep::ARGUMENT).and(arguments.next())?;
    Some(match keep::run(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

impl Up {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let found = workspace::ready(&ctx, &settings.directory(self.dir))?;
        let services = Services::of_description(&ctx, found)?;
        if services.up(&ctx, &self.names)? == 0 && !settings.quiet() {
            eprintln!("no services are asked for; `zagi add postgres` asks for one");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Down {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let stopped = Services::of(&ctx, &settings.directory(self.dir))?.down(&self.names)?;
        if !settings.quiet() {
            match stopped.is_empty() {
                true => eprintln!("nothing ran"),
                false => eprintln!("stopped {}", stopped.join(", ")),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
