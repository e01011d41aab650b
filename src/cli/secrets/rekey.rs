//! `zagi secrets rekey`: a new signing key, and who can no longer read.

use super::session::{Session, Who};
use crate::cli::error::CommandError;
use crate::cli::settings::Settings;
use crate::secrets::SecretsError;
use crate::secrets::vault::Change;

/// Sign with a new key, encrypt anew, and leave recipients out
///
/// The old key vouches for the new one, so that others follow at their next use. Whoever is left out
/// knows the old values, and can read them in git's history: rotate them where they were made.
#[derive(Debug, clap::Args)]
pub struct Rekey {
    /// Leave this recipient out, by name; may be given several times
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    #[command(flatten)]
    who: Who,
}

impl Rekey {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        let session = Session::begin(settings, self.who)?;
        let turn = session.turn()?;
        let mut vault = session.existing()?;
        let mut all = vault.document.recipients.clone();
        for name in &self.without {
            let before = all.len();
            all.retain(|recipient| recipient.name != *name);
            if all.len() == before {
                let names: Vec<&str> =
                    vault.document.recipients.iter().map(|r| r.name.as_str()).collect();
                let text = format!("no recipient is called {name}; there are {}", names.join(", "));
                return Err(SecretsError::Recipients(text).into());
            }
        }
        if all.is_empty() {
            return Err(SecretsError::Recipients("nobody could read them any more".into()).into());
        }
        let values = session.unlock(&vault)?;
        let names: Vec<String> = values.names().map(str::to_owned).collect();
        let change = Change { recipients: Some(all), rekey: true, ..Change::default() };
        session.commit(&turn, (&mut vault, &values), ("rekey", names.clone()), &change)?;
        session.say(&format!("it is signed by {} from now on", vault.document.signer.short()));
        if !self.without.is_empty() {
            session.say(&format!(
                "{} has seen these values; rotate them where they were made, then `zagi secrets \
                 set` them: {}",
                self.without.join(", "),
                names.join(", ")
            ));
        }
        Ok(())
    }
}
