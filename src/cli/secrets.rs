//! `zagi secrets`: values for the app, encrypted in the tree.

mod accept;
mod ask;
pub(super) mod asked;
mod edit;
mod get;
mod grant;
mod import;
mod list;
mod log;
mod rekey;
mod remove;
pub(super) mod session;
mod set;
mod share;

use std::process::ExitCode;

use super::error::CommandError;
use super::settings::Settings;
use super::system::only_root;
use crate::workspace::session as session_of_agent;

/// Keep secrets in the tree, encrypted to whom you name, and record each use
///
/// `.zagi/secrets.enc` holds them: committed, encrypted with age, signed, and refused where it was
/// forged or rolled back. What each may be used for stands beside it in clear, for review. Your
/// identity is in $ZAGI_HOME/secrets; `[secrets] identities` in config.toml names others, as ssh
/// keys. Every use is a row in the audit log before it happens.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Secrets {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  zagi secrets set STRIPE_KEY --host api.stripe.com --header Authorization --format 'Bearer {}'
  zagi secrets set GOOGLE_KEY --file sa.json < sa.json
  zagi secrets share                       your recipient, to be sent to a colleague
  zagi secrets share age1… --name alice    let a colleague read them";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Set(set::Set),
    Get(get::Get),
    Edit(edit::Edit),
    List(list::List),
    Remove(remove::Remove),
    Import(import::Import),
    Grant(grant::Grant),
    Share(share::Share),
    Rekey(rekey::Rekey),
    Accept(accept::Accept),
    Log(log::Log),
}

impl Secrets {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        if session_of_agent::is_inside() {
            let error = CommandError::failed("an agent reads no secrets file");
            return Err(error.hint("`zagi run -- CMD` gives a command what this agent is granted"));
        }
        let what = match &self.command {
            Command::Get(_) => Some("`get`"),
            Command::Edit(_) => Some("`edit`"),
            Command::Share(_) => Some("`share`"),
            Command::Grant(_) => Some("`grant`"),
            Command::Accept(_) => Some("`accept`"),
            // It could go to another host from now on.
            Command::Set(set) if set.keep => Some("`set --keep`"),
            _ => None,
        };
        if let Some(what) = what {
            only_root(settings, what)?;
        }
        match self.command {
            Command::Set(c) => c.run(settings),
            Command::Get(c) => c.run(settings),
            Command::Edit(c) => c.run(settings),
            Command::List(c) => c.run(settings),
            Command::Remove(c) => c.run(settings),
            Command::Import(c) => c.run(settings),
            Command::Grant(c) => c.run(settings),
            Command::Share(c) => c.run(settings),
            Command::Rekey(c) => c.run(settings),
            Command::Accept(c) => c.run(settings),
            Command::Log(c) => c.run(settings),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
