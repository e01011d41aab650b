//! `zagi secrets remove`.

use super::session::{Session, Who, check_name};
use crate::cli::error::CommandError;
use crate::cli::settings::Settings;
use crate::secrets::vault::Change;

/// Remove secrets, and what they may be used for
///
/// What git has of them stays in its history, readable to whoever could read it then.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    who: Who,
}

impl Remove {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        self.names.iter().try_for_each(|name| check_name(name))?;
        let session = Session::begin(settings, self.who)?;
        let turn = session.turn()?;
        let mut vault = session.existing()?;
        let values = session.unlock(&vault)?;
        let mut change = Change::default();
        for name in &self.names {
            values.require(name)?;
            change.values.insert(name.clone(), None);
        }
        session.commit(&turn, (&mut vault, &values), ("remove", self.names), &change)
    }
}
