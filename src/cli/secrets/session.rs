//! What every command about secrets begins with.

use std::path::{Path, PathBuf};

use age::Identity;

use super::ask::Ask;
use crate::cli::error::CommandError;
use crate::cli::output::printable;
use crate::cli::settings::Settings;
use crate::cli::system::no_file_if_lent;
use crate::context::Context;
use crate::secrets::audit::{Log, Receipt, Use};
use crate::secrets::document::{Recipient, is_name, is_recipient_name};
use crate::secrets::identity::{self, Plugins};
use crate::secrets::pins::Sight;
use crate::secrets::place::Place;
use crate::secrets::vault::{self, Change, Turn, Values, Vault};
use crate::secrets::{Kept, SecretsError, process};
use crate::workspace::amend;

/// Which project, and who is asking.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Who {
    /// The project; that of the current directory if not given
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Open it with this file of identities or ssh key, instead of your own
    #[arg(long, value_name = "FILE")]
    identity: Vec<PathBuf>,
}

/// A command at work.
pub struct Session<'a> {
    settings: &'a Settings,
    pub ctx: Context,
    /// The project's root, without links.
    pub root: PathBuf,
    identities: Vec<PathBuf>,
    plugins: Plugins,
    ask: Ask,
}

impl<'a> Session<'a> {
    /// Nothing is read before the process is one that cannot be dumped.
    pub fn begin(settings: &'a Settings, who: Who) -> Result<Session<'a>, CommandError> {
        process::harden()?;
        if let Some(file) = who.identity.first() {
            no_file_if_lent(settings, file)?;
        }
        let ctx = settings.context()?;
        let root = match &settings.lent {
            Some(lent) => lent.place.clone(),
            None => amend::root(&ctx, &settings.directory(who.dir))?,
        };
        let root = root.canonicalize().map_err(|e| {
            CommandError::failed(format!("cannot use the directory `{}`: {e}", root.display()))
        })?;
        let plugins = Plugins {
            path: ctx.var("PATH").map(ToOwned::to_owned),
            distrusted: vec![root.clone(), ctx.home.envs(), ctx.home.store()],
        };
        let identities = who.identity.iter().map(|file| settings.absolute(file)).collect();
        Ok(Session { settings, ctx, root, identities, plugins, ask: Ask::default() })
    }

    /// Where the file is.
    pub fn place(&self) -> Place {
        let place = Place::new(&self.root);
        match &self.settings.lent {
            Some(lent) => place.called(&lent.root),
            None => place,
        }
    }

    /// Says something that is no data.
    pub fn say(&self, text: &str) {
        if !self.settings.quiet() {
            eprintln!("{}", printable(text));
        }
    }

    /// Lets no other command of this home write meanwhile.
    pub fn turn(&self) -> Result<Turn, CommandError> {
        Ok(vault::turn(self.ctx.home.root())?)
    }

    /// The file, if there is one.
    pub fn vault(&self) -> Result<Option<Vault>, CommandError> {
        let Some(vault) = Vault::open(self.ctx.home.root(), self.place())? else { return Ok(None) };
        if vault.sight == Sight::First {
            let document = &vault.document;
            let names: Vec<&str> = document.recipients.iter().map(|r| r.name.as_str()).collect();
            self.say(&format!(
                "first seen here: `{}`, revision {}, signed by {}, for {}; from now on it must \
                 follow from that",
                vault.place.path.display(),
                document.revision,
                document.signer.short(),
                names.join(", ")
            ));
        }
        Ok(Some(vault))
    }

    /// The file; an error where there is none.
    pub fn existing(&self) -> Result<Vault, CommandError> {
        let none = || SecretsError::None(self.root.clone()).into();
        self.vault()?.ok_or_else(none)
    }

    /// The file and its values; a new one where there is none.
    pub fn opened_or_new(&self) -> Result<(Vault, Values), CommandError> {
        if let Some(vault) = self.vault()? {
            let values = self.unlock(&vault)?;
            return Ok((vault, values));
        }
        let user = self.ctx.var("USER").and_then(|name| name.to_str()).unwrap_or("me");
        let name = if is_recipient_name(user) { user } else { "me" };
        let recipient = Recipient { name: name.to_owned(), key: self.own()? };
        Ok(Vault::create(self.ctx.home.root(), self.place(), recipient)?)
    }

    /// One's own recipient; the identity is made if there is none.
    pub fn own(&self) -> Result<String, CommandError> {
        let (identity, made) = identity::own(self.ctx.home.root())?;
        let recipient = identity::own_recipient(&identity);
        if made {
            self.say(&format!("made your identity; its recipient is {recipient}"));
        }
        Ok(recipient)
    }

    /// Decrypts with one's identities.
    pub fn unlock(&self, vault: &Vault) -> Result<Values, CommandError> {
        let mut all: Vec<Box<dyn Identity>> = Vec::new();
        let mut files = self.identities.clone();
        if files.is_empty() {
            if identity::known(self.ctx.home.root())?.is_some() {
                all.push(Box::new(identity::own(self.ctx.home.root())?.0));
            }
            files.extend(self.ctx.config.secrets.identities.iter().map(|file| self.expand(file)));
        }
        for file in files {
            all.extend(identity::load(&file, &self.plugins, &self.ask)?);
        }
        let values = vault.unlock(&all)?;
        if values.kept() == Kept::Swappable {
            eprintln!(
                "warning: this machine may write the values to swap; raise the limit of locked \
                 memory (`ulimit -l`)"
            );
        }
        Ok(values)
    }

    fn expand(&self, file: &Path) -> PathBuf {
        match (file.strip_prefix("~"), self.ctx.var("HOME")) {
            (Ok(rest), Some(home)) => Path::new(home).join(rest),
            _ => self.settings.absolute(file),
        }
    }

    /// The program that started this one, as it calls itself.
    pub fn by(&self) -> String {
        let parent = format!("/proc/{}/comm", nix::unistd::getppid());
        let by = std::fs::read_to_string(parent).unwrap_or_default();
        by.trim_end().chars().filter(|c| !c.is_control()).collect()
    }

    /// A row in the audit log.
    pub fn record(
        &self,
        action: &str,
        vault: &Vault,
        names: Vec<String>,
    ) -> Result<Receipt, CommandError> {
        let of = Use {
            action: action.to_owned(),
            names,
            to: String::new(),
            file: vault.place.path.to_string_lossy().into_owned(),
            project: vault.document.project.clone(),
            revision: vault.document.revision,
            uid: nix::unistd::getuid().as_raw(),
            pid: std::process::id(),
            by: self.by(),
        };
        Ok(Log::new(self.ctx.home.root()).append(self.ctx.now, of)?)
    }

    /// Seals and writes. What is encrypted anew is released to the recipients, so the row, under
    /// `action`, comes first; it is about `names`.
    pub fn commit(
        &self,
        turn: &Turn,
        (vault, values): (&mut Vault, &Values),
        (action, names): (&str, Vec<String>),
        change: &Change,
    ) -> Result<(), CommandError> {
        let is_new = vault.document.revision == 0;
        let receipt = self.record(action, vault, names)?;
        vault.commit(turn, values, change, &receipt, (&self.plugins, &self.ask))?;
        let path = vault.place.path.display();
        match is_new {
            true => self.say(&format!("made `{path}`, for you alone; commit it")),
            false => self.say(&format!("`{path}` is at revision {}", vault.document.revision)),
        }
        Ok(())
    }
}

/// Refuses an argument that is no secret's name. It is not repeated: it may be a value.
pub fn check_name(text: &str) -> Result<(), CommandError> {
    if text.contains('=') {
        return Err(CommandError::failed(
            "a value is not taken from the command line: other processes and the shell's history \
             can read it",
        )
        .hint("leave it out, and it is asked for; give it another value"));
    }
    match is_name(text) {
        true => Ok(()),
        false => Err(CommandError::failed(
            "a secret's name is letters, digits and `_`, and begins with no digit",
        )),
    }
}
