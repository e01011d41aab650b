//! `zagi hook` and what it evaluates, `zagi hook-env`.

use std::process::ExitCode;

use super::error::CommandError;
use super::output::print_bytes;
use super::settings::Settings;
use crate::environment::activate;

/// Print the shell hook that puts a workspace's tools on PATH at `cd`
///
/// Add the line to your shell's start-up file. On entering a workspace its tools and
/// variables come; on leaving it exactly those go.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eval \"$(zagi hook bash)\"    in ~/.bashrc\n  eval \"$(zagi hook zsh)\"     in ~/.zshrc\n  zagi hook fish | source      in ~/.config/fish/config.fish\n  zagi hook direnv > ~/.config/direnv/lib/zagi.sh    then `use zagi` in an .envrc"
)]
pub struct Hook {
    shell: Shell,
}

/// What the hook evaluates
#[derive(Debug, clap::Args)]
pub struct HookEnv {
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Direnv,
}

impl From<Shell> for activate::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => activate::Shell::Bash,
            Shell::Zsh => activate::Shell::Zsh,
            Shell::Fish => activate::Shell::Fish,
            Shell::Direnv => activate::Shell::Direnv,
        }
    }
}

impl Hook {
    pub(super) fn run(self, _: &Settings) -> Result<ExitCode, CommandError> {
        let program = std::env::current_exe()
            .map_err(|e| CommandError::failed(format!("cannot find this program's file: {e}")))?;
        print_bytes(&activate::hook(self.shell.into(), &program))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl HookEnv {
    /// Runs at every prompt: it opens no home, reads one small file at most.
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let vars = std::env::vars_os().collect();
        let envs = settings.home.join("envs");
        print_bytes(&activate::hook_env(self.shell.into(), &envs, &settings.cwd, &vars))?;
        Ok(ExitCode::SUCCESS)
    }
}
