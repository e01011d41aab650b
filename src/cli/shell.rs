//! `zagi shell`: a shell in the workspace's environment.

use std::ffi::OsString;
use std::process::ExitCode;

use super::error::CommandError;
use super::exec;
use super::settings::Settings;

/// Start a shell with the workspace's tools
///
/// Your own shell, in the same clean environment that `zagi exec` gives. Leave it with
/// `exit`.
#[derive(Debug, clap::Args)]
pub struct Shell {}

impl Shell {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let inside = exec::environment(settings)?;
        let shell = inside
            .vars
            .get(&OsString::from("SHELL"))
            .filter(|shell| !shell.is_empty())
            .cloned()
            .unwrap_or_else(|| "/bin/sh".into());
        Err(exec::replace(&shell, &[], Some(&inside)))
    }
}
