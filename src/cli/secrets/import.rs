//! `zagi secrets import`: a `.env` file's values.

use std::fs::File;
use std::path::PathBuf;

use super::ask;
use super::session::{Session, Who};
use crate::cli::error::CommandError;
use crate::cli::settings::Settings;
use crate::cli::system::no_file_if_lent;
use crate::secrets::policy::Policy;
use crate::secrets::vault::Change;
use crate::secrets::{Pages, SecretsError, dotenv};

/// Take over the values of a `.env` file
///
/// Lines are NAME=value; quotes and several lines in them are as in a shell, and nothing is
/// expanded. Empty values are left out. The file itself stays; delete it once you have looked.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// The file; `-` for standard input
    file: PathBuf,
    /// Replace secrets that are there already
    #[arg(long)]
    replace: bool,
    /// The app gets the values themselves
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    who: Who,
}

impl Import {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        let session = Session::begin(settings, self.who)?;
        let text = if self.file.as_os_str() == "-" {
            ask::standard_input()?
        } else {
            no_file_if_lent(settings, &self.file)?;
            let path = settings.absolute(&self.file);
            let failed = |e: std::io::Error| {
                CommandError::failed(format!("cannot read `{}`: {e}", path.display()))
            };
            let mut file = File::open(&path).map_err(failed)?;
            let mut text = Pages::new(4096).map_err(failed)?;
            text.read(&mut file, 4 << 20).map_err(failed)?;
            text
        };
        let read = dotenv::parse(text.bytes())
            .map_err(|e| CommandError::failed(format!("`{}`: {e}", self.file.display())))?;
        let mut change = Change::default();
        for (name, value) in read.into_iter().filter(|(_, value)| !value.bytes().is_empty()) {
            if value.bytes().contains(&0) {
                let reason = "a variable cannot hold a NUL".into();
                return Err(SecretsError::Value { name, reason }.into());
            }
            if self.raw {
                let mut policy = Policy::default();
                policy.set("raw", vec!["true".into()]);
                change.policies.insert(name.clone(), policy);
            }
            change.values.insert(name, Some(value));
        }
        let names: Vec<String> = change.values.keys().cloned().collect();
        if names.is_empty() {
            return Err(CommandError::failed(format!("`{}` has no values", self.file.display())));
        }
        let turn = session.turn()?;
        let (mut vault, values) = session.opened_or_new()?;
        let there: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| values.require(name).is_ok()).collect();
        if !there.is_empty() && !self.replace {
            return Err(CommandError::failed(format!("there are already {}", there.join(", ")))
                .hint("add `--replace` to give them the file's values"));
        }
        session.say(&format!("{} secrets: {}", names.len(), names.join(", ")));
        session.commit(&turn, (&mut vault, &values), ("import", names), &change)?;
        session.say(&format!(
            "`{}` still holds them in clear; delete it, and whatever git has of it",
            self.file.display()
        ));
        Ok(())
    }
}
