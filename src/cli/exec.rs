//! `zagi exec`: one command in the workspace's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::error::CommandError;
use super::settings::Settings;
use crate::environment::activate::{Activation, Record, read_own};
use crate::workspace;

/// Run a command with the workspace's tools
///
/// In an ordinary checkout with `.zagi/env.toml` or `.zagi/env.lock` too: its tools are made
/// ready first.
///
/// The environment is clean and complete: the workspace's tools and variables, your HOME,
/// USER, TERM and locale, and nothing else that could make a test pass or fail here only.
/// Exits with the command's own code; 127 if there is no such command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi exec -- pytest -x\n  zagi exec -- sh -c 'cargo build && ls target'"
)]
pub struct Exec {
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

impl Exec {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let inside = environment(settings)?;
        let (program, arguments) = self.command.split_first().expect("clap requires one");
        Err(replace(program, arguments, Some(&inside)))
    }
}

/// What a command is started in.
pub(super) struct Inside {
    /// All its variables.
    pub(super) vars: BTreeMap<OsString, OsString>,
    /// The launcher that it must be started by, to see what the environment's programs see.
    enter: Option<PathBuf>,
}

/// The environment of the workspace that the command was started in.
pub(super) fn environment(settings: &Settings) -> Result<Inside, CommandError> {
    let ctx = settings.context()?;
    let found = workspace::ready(&ctx, &settings.cwd)?;
    let envs = ctx.home.envs();
    let (mut activation, enter) = match found.environment.as_str() {
        "" => (Activation::default(), None),
        key => {
            let record = Record::read(&envs, key).ok_or_else(|| {
                CommandError::failed(format!("the environment `{key}` is not in this home"))
                    .hint("`zagi lock` makes it again")
            })?;
            let enter = record.enter(&envs);
            (record.activation, enter)
        }
    };
    // What the project says itself goes before what its services are found by.
    activation.project.extend(read_own(&workspace::directory(&ctx, &found)));
    activation.project.extend(found.env);
    activation.vars.extend(found.dependencies.into_iter().flat_map(|d| d.vars));
    Ok(Inside { vars: activation.environment(&found.path, &ctx.vars), enter })
}

/// Becomes the command, `inside` of an environment or with the variables that there are;
/// returns only what went wrong.
pub(super) fn replace(
    program: &OsString,
    arguments: &[OsString],
    inside: Option<&Inside>,
) -> CommandError {
    let enter = inside.and_then(|inside| inside.enter.as_ref());
    let mut command = Command::new(enter.map_or(program.as_os_str(), |enter| enter.as_os_str()));
    command.args(enter.map(|_| program)).args(arguments);
    if let Some(inside) = inside {
        command.env_clear().envs(&inside.vars);
    }
    // Looked for on the new PATH, as the shell in the workspace would.
    became(command, program)
}

/// Becomes the command, with more variables than there are; returns only what went wrong.
pub(super) fn replace_with(
    program: &OsString,
    arguments: &[OsString],
    more: &BTreeMap<String, String>,
) -> CommandError {
    let mut command = Command::new(program);
    command.args(arguments).envs(more);
    became(command, program)
}

fn became(mut command: Command, program: &OsString) -> CommandError {
    CommandError::not_started(&program.to_string_lossy(), &command.exec())
}
