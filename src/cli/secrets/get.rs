//! `zagi secrets get`: one value, to a person.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use super::session::{Session, Who, check_name};
use crate::cli::error::CommandError;
use crate::cli::settings::Settings;

/// Show a secret's value, on the terminal
#[derive(Debug, clap::Args)]
pub struct Get {
    /// Its name
    name: String,
    /// Print it also to what is no terminal, byte for byte
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    who: Who,
}

impl Get {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        check_name(&self.name)?;
        let terminal = io::stdout().is_terminal();
        if !terminal && !self.reveal {
            return Err(CommandError::failed(
                "standard output is no terminal: the value would be in a file or another program",
            )
            .hint("add `--reveal` if that is what you want"));
        }
        let session = Session::begin(settings, self.who)?;
        let vault = session.existing()?;
        let values = session.unlock(&vault)?;
        values.require(&self.name)?;
        let receipt = session.record("get", &vault, vec![self.name.clone()])?;
        let value = values.expose(&self.name, &receipt)?;
        let drives = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t' | b'\r');
        if terminal && !self.reveal && value.iter().any(drives) {
            return Err(CommandError::failed("the value is no text that a terminal can show")
                .hint("`--reveal` prints it all the same; `> FILE` keeps it"));
        }
        let failed =
            |e: io::Error| CommandError::failed(format!("cannot write to standard output: {e}"));
        // Not through the buffer of standard output, which would keep a copy.
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
        out.write_all(value).map_err(failed)?;
        if terminal && !value.ends_with(b"\n") {
            out.write_all(b"\n").map_err(failed)?;
        }
        Ok(())
    }
}
