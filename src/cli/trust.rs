//! `zagi trust`: a directory's variables in the user's own shell.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::settings::Settings;
use crate::environment::activate::Trust;
use crate::workspace::amend;

/// Let a directory set its variables in your own shell
///
/// What `[env]` of a repository sets is for its own processes (`zagi exec`). After this the hook
/// sets it in your shell too, while you are in there: exactly the values that are printed now.
/// When its `.zagi/env.toml` changes, none of them is set until you say so again. What would change
/// how programs are loaded or started is never set.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi trust\n  zagi trust --revoke ~/src/web")]
pub struct TrustCommand {
    /// The directory; the current one if not given
    dir: Option<PathBuf>,
    /// Take it back
    #[arg(long)]
    revoke: bool,
}

impl TrustCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let found = amend::environment(&ctx, &settings.directory(self.dir))?;
        let (home, root) = (ctx.home.root(), &found.root);
        let failed =
            |e| CommandError::failed(format!("cannot write below `{}`: {e}", home.display()));
        if self.revoke {
            let said = match Trust::take(home, root).map_err(failed)? {
                true => "is trusted no longer",
                false => "was not trusted",
            };
            eprintln!("`{}` {said}", root.display());
            return Ok(ExitCode::SUCCESS);
        }
        let (trust, never) = Trust::give(home, root, &found.detected.spec.env).map_err(failed)?;
        if !settings.quiet() {
            for (name, value) in &trust.vars {
                eprintln!("  {name}={value:?}");
            }
            for name in never {
                eprintln!("  {name} is never set: it changes how programs are started");
            }
            let vars = trust.vars.len();
            eprintln!("`{}` may set {vars} variables in your shell", root.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
