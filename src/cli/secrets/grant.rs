//! `zagi secrets grant`: for whom a secret is.

use super::session::{Session, Who, check_name};
use crate::cli::error::CommandError;
use crate::cli::settings::Settings;
use crate::secrets::SecretsError;
use crate::secrets::policy::Release;
use crate::secrets::vault::Change;

/// Say which commands and which agents get a secret
///
/// With a command it is for that one only, and for others that are granted it; without any, for
/// whatever you run. Agents get it by name, and none without. It stands in the file in clear, beside
/// what else the secret may be used for, and is signed with it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi secrets grant STRIPE_KEY --command 'npm start'\n  zagi secrets grant STRIPE_TEST_KEY --agent claude\n  zagi secrets grant STRIPE_TEST_KEY --agent claude --revoke"
)]
pub struct Grant {
    /// The secret's name
    name: String,
    /// This command, all its words with a space between; may be given several times
    #[arg(long)]
    command: Vec<String>,
    /// This agent, by name; may be given several times
    #[arg(long, required_unless_present = "command")]
    agent: Vec<String>,
    /// Take it back from them
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    who: Who,
}

impl Grant {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        check_name(&self.name)?;
        let session = Session::begin(settings, self.who)?;
        let turn = session.turn()?;
        let mut vault = session.existing()?;
        let values = session.unlock(&vault)?;
        values.require(&self.name)?;
        let mut policy = vault.document.policies.get(&self.name).cloned().unwrap_or_default();
        if policy.release() == Release::None {
            return Err(CommandError::failed(format!("no app gets {} yet", self.name)).hint(
                format!(
                    "say how first: `zagi secrets set {} --keep --raw`, or `--host` and `--header`",
                    self.name
                ),
            ));
        }
        policy.grant("command", self.command, self.revoke);
        policy.grant("agent", self.agent, self.revoke);
        let wrong = |reason| SecretsError::Policy { name: self.name.clone(), reason };
        policy.check().map_err(wrong)?;
        let mut change = Change::default();
        change.policies.insert(self.name.clone(), policy);
        session.commit(&turn, (&mut vault, &values), ("grant", vec![self.name]), &change)
    }
}
