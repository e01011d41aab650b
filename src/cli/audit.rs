//! `zagi env audit`: what an environment takes on trust.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::workspace::audit::{Audit, Voucher, audit};

/// Show who vouches for the tools, what is this machine's own, and which packages have scripts
///
/// Every byte has its address and hash in `.zagi/env.lock`; this says who gives that hash where the
/// lock is made. A lock that came with a repository was made by its authors: `zagi update` makes it
/// anew. Scripts of packages run once, in a sandbox, when dependencies are installed; the packages
/// that have some are listed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi env audit\n  zagi env audit --json | jq .scripts")]
pub struct AuditCommand {
    /// The project; that of the current directory if not given
    dir: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl AuditCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let found = audit(&ctx, &settings.directory(self.dir))?;
        match self.json {
            true => print_json(&found)?,
            false => print(&text(&found))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(found: &Audit) -> String {
    let mut out = String::new();
    for source in &found.sources {
        let by = match source.voucher {
            Voucher::Signed => format!("signed index of {}", source.provider),
            Voucher::Registry => format!("hash of {}, not signed", source.provider),
            Voucher::Flake => "the Nix of whoever made the lock, by flake.nix".into(),
            Voucher::Machine => {
                let paths: Vec<String> =
                    source.adopted.iter().map(|path| path.display().to_string()).collect();
                format!("this machine's: {}", paths.join(", "))
            }
        };
        out.push_str(&format!("{:<10} {:<14} {by}\n", source.tool, source.version));
    }
    out.push_str(match found.portable {
        true => "the lock holds on any machine of its platforms\n",
        false => "the lock holds on this machine only: it has tools that are this machine's\n",
    });
    match found.scripts.len() {
        0 => {
            out.push_str("no installed package of node's has a script that its installation runs\n")
        }
        n => out.push_str(&format!(
            "{n} installed packages have scripts that their installation runs, in the sandbox:\n"
        )),
    }
    for scripted in &found.scripts {
        out.push_str(&format!("  {}: {}\n", scripted.package, scripted.scripts.join(", ")));
    }
    out
}
