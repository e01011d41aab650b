//! `zagi secrets share`: who else can read them.

use super::session::{Session, Who};
use crate::cli::error::CommandError;
use crate::cli::output::print;
use crate::cli::settings::Settings;
use crate::secrets::SecretsError;
use crate::secrets::document::{Recipient, is_recipient_name};
use crate::secrets::identity::parse_recipient;
use crate::secrets::vault::Change;

/// Let somebody read and change the secrets, or print your own recipient
///
/// RECIPIENT is what `zagi secrets share` prints for them (`age1…`), a public key of ssh
/// (`ssh-ed25519 …`, `ssh-rsa …`), or a plugin's. They can read every secret of this project, also
/// out of git's history from now on.
#[derive(Debug, clap::Args)]
pub struct Share {
    /// Whom to share with; your own recipient is printed if not given
    recipient: Option<String>,
    /// What to call them
    #[arg(long, requires = "recipient")]
    name: Option<String>,
    #[command(flatten)]
    who: Who,
}

impl Share {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        let session = Session::begin(settings, self.who)?;
        let Some(recipient) = self.recipient else {
            return print(&format!("{}\n", session.own()?));
        };
        let (key, comment) = parse_recipient(&recipient)?;
        let shortened = || key.chars().take(16).collect();
        let name = self.name.or(comment).unwrap_or_else(shortened);
        let turn = session.turn()?;
        let mut vault = session.existing()?;
        let mut all = vault.document.recipients.clone();
        let wrong = |text: String| CommandError::from(SecretsError::Recipients(text));
        if !is_recipient_name(&name) {
            return Err(wrong("a name is some letters, on one line".into()));
        }
        if let Some(there) = all.iter().find(|r| r.key == key) {
            return Err(wrong(format!("{} can read them already", there.name)));
        }
        if all.iter().any(|r| r.name == name) {
            return Err(wrong(format!("somebody else is called {name} there"))
                .hint("`--name` gives them another name"));
        }
        all.push(Recipient { name: name.clone(), key });
        let values = session.unlock(&vault)?;
        let names: Vec<String> = values.names().map(str::to_owned).collect();
        let change = Change { recipients: Some(all), ..Change::default() };
        session.commit(&turn, (&mut vault, &values), ("share", names), &change)?;
        session.say(&format!("{name} can read them once you have committed and pushed it"));
        Ok(())
    }
}
