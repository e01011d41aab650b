//! `zagi secrets set`: a value, and what it may be used for.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use super::ask;
use super::asked;
use super::session::{Session, Who, check_name};
use crate::cli::error::CommandError;
use crate::cli::output::{confirmed, printable};
use crate::cli::settings::Settings;
use crate::environment::spec;
use crate::secrets::Pages;
use crate::secrets::SecretsError;
use crate::secrets::policy::{Policy, Release};
use crate::secrets::vault::Change;

/// Set a secret, asked for without an echo, or read from standard input
///
/// With `--host` and `--header` it is brokered: the app gets a placeholder, and the value goes to
/// that host only. With `--raw` the app gets the value in a variable, with `--file` in a file. With
/// none of them, what was said before stays; of a new secret, no app gets it yet, unless
/// `.zagi/env.toml` asks for it in one of these ways and you say yes to that.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// Its name, which is the variable's
    name: String,
    #[command(flatten)]
    rules: Rules,
    /// Leave the value as it is, and change only what it may be used for
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    who: Who,
    /// Caught, to say that it is not taken.
    #[arg(hide = true, allow_hyphen_values = true)]
    value: Vec<OsString>,
}

/// What a secret may be used for.
#[derive(Debug, clap::Args)]
struct Rules {
    /// The one host that it goes to
    #[arg(long)]
    host: Option<String>,
    /// The header that it goes in
    #[arg(long, requires = "host")]
    header: Option<String>,
    /// What the header holds, `{}` being the value
    #[arg(long, requires = "host")]
    format: Option<String>,
    /// Only with this method; may be given several times
    #[arg(long, requires = "host")]
    method: Vec<String>,
    /// Only to this path, or with `*` at its end to those that begin so
    #[arg(long, requires = "host")]
    path: Option<String>,
    /// The app gets the value itself
    #[arg(long, conflicts_with_all = ["host", "file"])]
    raw: bool,
    /// The app gets a file of this name
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    file: Option<String>,
}

impl Rules {
    /// As a policy; `None` where nothing was said.
    fn policy(&self, name: &str) -> Result<Option<Policy>, SecretsError> {
        let mut policy = Policy::default();
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        policy.set("host", one(&self.host));
        policy.set("header", one(&self.header));
        policy.set("format", one(&self.format));
        policy.set("method", self.method.clone());
        policy.set("path", one(&self.path));
        policy.set("file", one(&self.file));
        policy.set("raw", if self.raw { vec!["true".into()] } else { Vec::new() });
        let wrong = |reason| SecretsError::Policy { name: name.to_owned(), reason };
        policy.check().map_err(wrong)?;
        Ok((policy != Policy::default()).then_some(policy))
    }
}

impl Set {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        check_name(&self.name)?;
        if !self.value.is_empty() {
            return Err(CommandError::failed(
                "a value is not taken from the command line: other processes and the shell's \
                 history can read it",
            )
            .hint(format!("`zagi secrets set {}` asks for it; give it another value", self.name)));
        }
        let session = Session::begin(settings, self.who)?;
        let mut policy = self.rules.policy(&self.name)?;
        let mut wish = None;
        if policy.is_none() && settings.lent.is_none() {
            wish = asked::asked(&session).remove(&self.name);
            wish = wish.filter(|wish| wish.release() != Release::None);
            if let Some(wish) = &wish
                && wished(&session, &self.name, wish)?
            {
                policy = Some(wish.clone());
            }
        }
        let mut change = Change::default();
        if !self.keep {
            let is_file = policy.as_ref().is_some_and(|p| p.release() == Release::File);
            let value = value(&self.name, is_file)?;
            change.values.insert(self.name.clone(), Some(value));
        } else if policy.is_none() {
            return Err(CommandError::failed("`--keep` alone changes nothing")
                .hint("say what it may be used for: `--host` and `--header`, `--raw`, `--file`"));
        }
        let turn = session.turn()?;
        let (mut vault, values) = session.opened_or_new()?;
        if let Some(mut policy) = policy {
            // Another way to the same people.
            if let Some(before) = vault.document.policies.get(&self.name) {
                policy.inherit(before);
            }
            change.policies.insert(self.name.clone(), policy);
        }
        if self.keep {
            values.require(&self.name)?;
        }
        let row = ("set", vec![self.name.clone()]);
        session.commit(&turn, (&mut vault, &values), row, &change)?;
        let policy = vault.document.policies.get(&self.name);
        if policy.is_none_or(|policy| policy.release() == Release::None) {
            session.say(&format!(
                "no app gets {0} yet; say how: `zagi secrets set {0} --keep --raw`, or `--host` \
                 and `--header`",
                self.name
            ));
            if let Some(wish) = &wish {
                let (file, options) = (spec::PATH, asked::options(wish));
                session.say(&format!("{file} asks for it by `--keep{options}`"));
            }
        }
        Ok(())
    }
}

/// Whether somebody at a terminal says yes to how the project asks for a new secret. What a stranger
/// wrote is shown before the question, which ends with what matters.
fn wished(session: &Session<'_>, name: &str, wish: &Policy) -> Result<bool, CommandError> {
    let before = session.vault()?.and_then(|vault| vault.document.policies.get(name).cloned());
    if before.is_some_and(|before| before.release() != Release::None)
        || !(ask::is_terminal() && io::stderr().is_terminal())
    {
        return Ok(false);
    }
    eprintln!("{} asks for it so:{}", spec::PATH, printable(&asked::options(wish)));
    let question = match (wish.get("host"), wish.get("header")) {
        (Some(host), Some(header)) => format!("let {name} go to {host}, in {header}?"),
        _ => format!("let the app have the value of {name}?"),
    };
    confirmed(&question)
}

/// The value of a variable has no NUL, and not the end of line that `echo` adds; a file is taken as
/// it is.
fn value(name: &str, is_file: bool) -> Result<Pages, CommandError> {
    let mut value = match ask::is_terminal() {
        true => ask::line(&format!("value of {name}"))?,
        false => ask::standard_input()?,
    };
    if !is_file {
        let bytes = value.bytes();
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let length = line.strip_suffix(b"\r").unwrap_or(line).len();
        value.truncate(length);
        if value.bytes().contains(&0) {
            let reason = "a variable cannot hold a NUL; `--file NAME` makes it a file".into();
            return Err(SecretsError::Value { name: name.to_owned(), reason }.into());
        }
    }
    if value.bytes().is_empty() {
        let reason = "the value is empty".into();
        return Err(SecretsError::Value { name: name.to_owned(), reason }.into());
    }
    Ok(value)
}
