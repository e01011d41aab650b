//! `zagi verify`: build and test, and add what is missing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::error::CommandError;
use super::output::print_json;
use super::report;
use super::settings::Settings;
use crate::environment::spec;
use crate::workspace::verify::{self, Verified};

/// Build and test a workspace, and add to its environment what they fail for want of
///
/// Runs the project's build and its tests (as `zagi detect` shows them) in the sandbox that
/// dependencies are installed in: without your home directory, with the network, at most half an
/// hour each. They run in the workspace itself, so the files that they write stay.
///
/// Where they fail for want of a module, header, library, command or version, it is added and they
/// run again. What was added when everything passes stays in `.zagi/env.toml`, with the reason;
/// else the environment is as it was. Exits with 1 if something fails.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi verify\n  zagi verify ./web --json | jq .added\n  zagi mount --verify REPO        mount, then verify"
)]
pub struct Verify {
    /// The workspace; that of the current directory if not given
    dir: Option<PathBuf>,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let begun = Instant::now();
        let ctx = settings.context()?;
        let verified = verify::verify(&ctx, &settings.directory(self.dir))?;
        if self.json {
            print_json(&verified)?;
            return Ok(ExitCode::from(u8::from(!verified.passed)));
        }
        tell(settings, &verified, begun)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what came of it; an error where something fails.
pub(super) fn tell(
    settings: &Settings,
    verified: &Verified,
    begun: Instant,
) -> Result<(), CommandError> {
    if !settings.quiet() {
        for tried in &verified.tried {
            eprintln!("  tried    {} ({}): {}", tried.what, tried.why, tried.outcome);
        }
        for added in &verified.added {
            eprintln!("  added    {} ({})", added.what, added.why);
        }
    }
    let Some(failed) = &verified.failed else {
        if !settings.quiet() {
            let steps: Vec<&str> = verified.commands.iter().map(|(step, _)| *step).collect();
            let took = report::seconds(begun.elapsed());
            eprintln!("verified in {took}: {} passed", steps.join(" and "));
            if !verified.added.is_empty() {
                eprintln!("written: {}", verified.path.join(spec::PATH).display());
            }
        }
        return Ok(());
    };
    let what = format!("`{}` failed ({}):\n{}", failed.command, failed.exit, failed.tail);
    let known = match verified.tried.is_empty() {
        true => "no remedy is known for it",
        false => "nothing that was tried helped, and all is as it was",
    };
    Err(CommandError::failed(what)
        .hint(format!("{known}; the whole log is in `{}`", verified.log.display())))
}
