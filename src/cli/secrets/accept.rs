//! `zagi secrets accept`: a human says that a file is right which does not follow from the last.

use std::io::Write;

use super::ask;
use super::session::{Session, Who};
use crate::cli::error::CommandError;
use crate::cli::output::printable;
use crate::cli::settings::Settings;
use crate::secrets::Signer;
use crate::secrets::document::Document;
use crate::secrets::vault;

/// Take the secrets file as it is, though it does not follow from the one that was seen
///
/// For who has decided: to go back to an older revision, to take one of two that were written at
/// once, or another signer. What is in it and who can read it is shown first; it is asked for on a
/// terminal. Where the file is gone, what was seen is forgotten.
#[derive(Debug, clap::Args)]
pub struct Accept {
    /// Do not ask, if this is who signed it: the 64 digits of the file's `signer`
    #[arg(long, value_name = "KEY")]
    signer: Option<String>,
    #[command(flatten)]
    who: Who,
}

impl Accept {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        let session = Session::begin(settings, self.who)?;
        let place = session.place();
        let _turn = session.turn()?;
        let found = vault::inspect(&place)?.map(|(document, _)| document);
        let question = match &found {
            Some(document) => {
                show(document);
                format!("take `{}` as it is?", place.path.display())
            }
            None => format!("forget what was seen at `{}`?", place.path.display()),
        };
        let said = match (&self.signer, &found) {
            (Some(key), Some(document)) => {
                if Signer::parse(key) != Some(document.signer) {
                    return Err(CommandError::failed("it is signed by another key than that"));
                }
                true
            }
            _ => asked(&question)?,
        };
        if !said {
            return Err(CommandError::failed("nothing was changed"));
        }
        vault::accept(session.ctx.home.root(), &place, found.as_ref())?;
        session.say("taken; from now on it must follow from that");
        Ok(())
    }
}

fn show(document: &Document) {
    eprintln!("  project    {}", printable(&document.project));
    eprintln!("  revision   {}", document.revision);
    eprintln!("  signer     {}", document.signer);
    for recipient in &document.recipients {
        eprintln!("  can read   {}  {}", printable(&recipient.name), printable(&recipient.key));
    }
    let names: Vec<&str> = document.policies.keys().map(String::as_str).collect();
    eprintln!("  secrets    {}", names.join(", "));
}

fn asked(question: &str) -> Result<bool, CommandError> {
    if !ask::is_terminal() {
        return Err(CommandError::failed("there is no terminal to ask at")
            .hint("`--signer KEY` says whose file you expect"));
    }
    eprint!("{} [y/N] ", printable(question));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|e| CommandError::failed(format!("cannot read the answer: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
