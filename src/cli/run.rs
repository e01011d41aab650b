//! `zagi run`: the workspace's app, with its services and secrets.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;

use zagi_sandbox::Console;

use super::error::CommandError;
use super::exec::replace_with;
use super::output::{confirmed, exit_code, printable, words};
use super::secrets::asked;
use super::secrets::session::{Session, Who};
use super::settings::Settings;
use super::system::{lender, only_root};
use crate::secrets::broker::{Broker, Granted, granted};
use crate::workspace::run::{self, Place, Release, approval};
use crate::workspace::{self, session};

/// Run the workspace's app, with its services and its secrets
///
/// Also in an ordinary checkout with `.zagi/env.toml`.
///
/// Services are started. The app runs in a sandbox of its own: it sees the workspace and its tools,
/// reaches other hosts by a proxy, and what it listens on is at the same port of 127.0.0.1.
///
/// A secret that is for a host (`zagi secrets set NAME --host …`) the app never has: it gets a
/// placeholder, and the value is put in on the way to that host. One that is raw it gets when you
/// have approved just this code, which is asked for at a terminal; it then runs from a copy of it,
/// and what it writes to the workspace is not kept. Values are taken out of what it prints.
///
/// Inside an agent it gives the command what that agent is granted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi run -- npm start\n  zagi run -- ./manage.py runserver")]
pub struct Run {
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        if session::is_inside() {
            return Err(inside(&self.command));
        }
        let argv = words(self.command)?;
        let session = Session::begin(settings, Who::default())?;
        let place = place(settings, &session)?;
        let release = release(settings, &session, &place, &argv)?;
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let console =
            Console { input: input.as_fd(), output: output.as_fd(), error: error.as_fd() };
        let cwd = settings.lent.as_ref().map_or(&settings.cwd, |lent| &lent.cwd);
        let exit = run::run(&session.ctx, &place, (&argv, cwd), console, &release)?;
        Ok(exit_code(exit))
    }
}

/// In an agent: the command with what the agent is granted, in the same sandbox.
fn inside(command: &[OsString]) -> CommandError {
    let run = || {
        let argv = words(command.to_vec())?;
        session::ask(&argv).map_err(|e| {
            CommandError::failed(format!("this agent is given no secret: {e}"))
                .hint("`zagi exec -- CMD` runs it without")
        })
    };
    match run() {
        Err(e) => e,
        Ok(vars) => {
            let (program, arguments) = command.split_first().expect("clap requires one");
            replace_with(program, arguments, &vars)
        }
    }
}

/// The workspace, and whose it is.
fn place(settings: &Settings, session: &Session<'_>) -> Result<Place, CommandError> {
    let ctx = &session.ctx;
    Ok(match &settings.lent {
        None => Place::own(ctx, workspace::ready(ctx, &settings.cwd)?)?,
        Some(lent) => Place::lent(ctx, lender(ctx, lent), lent.user, (&lent.root, &lent.cwd))?,
    })
}

/// What the command gets of the secrets; asks, where it must be asked.
fn release(
    settings: &Settings,
    session: &Session<'_>,
    place: &Place,
    argv: &[String],
) -> Result<Release, CommandError> {
    let mut release = Release::default();
    let vault = session.vault()?;
    if let Some(vault) = &vault {
        release.granted = granted(&vault.document, Some(argv), None);
    }
    let raw: Vec<Granted> = release.granted.iter().filter(|g| g.is_raw()).cloned().collect();
    if raw.is_empty() && settings.lent.is_some() {
        // Another user's directory cannot be written to: it is always a copy.
        release.frozen = Some(approval::freeze(&session.ctx, place, argv, &[])?.0);
    }
    if settings.lent.is_none() {
        asked::say_missing(session, vault.as_ref());
    }
    let Some(vault) = vault.filter(|_| !release.granted.is_empty()) else { return Ok(release) };
    if !raw.is_empty() {
        let (frozen, asked) = approval::freeze(&session.ctx, place, argv, &raw)?;
        if let Some(asked) = asked {
            only_root(settings, "an approval")?;
            approve(&asked, argv, &raw)?;
            frozen.approve()?;
        }
        session.say("runs from a copy of the workspace: what it writes there is not kept");
        release.frozen = Some(frozen);
    }
    let values = session.unlock(&vault)?;
    let (home, now) = (session.ctx.home.root(), session.ctx.now);
    release.broker = Some(Broker::new(home, &vault, values, session.by(), now));
    Ok(release)
}

/// Asks whether just this code may have the values.
fn approve(asked: &approval::Asked, argv: &[String], raw: &[Granted]) -> Result<(), CommandError> {
    let names: Vec<&str> = raw.iter().map(|granted| granted.name.as_str()).collect();
    let (names, command) = (printable(&names.join(", ")), printable(&argv.join(" ")));
    let refused = |what: &str| {
        CommandError::failed(format!("`{command}` is not approved to have {names}: {what}"))
    };
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(refused("there is no terminal to ask at").hint(
            "run it at a terminal once; or let the value go to its host alone: `zagi secrets set NAME --host …`",
        ));
    }
    match asked.first {
        true => eprintln!("`{command}` would get the values of {names}, for the first time."),
        false => {
            eprintln!("{}", printable(&asked.diff));
            eprintln!(
                "`{command}` would get the values of {names}. Since you approved it last, {} differ.",
                match asked.differing {
                    0 => "no files, but its tools, variables or policies,".to_owned(),
                    1 => "1 file".to_owned(),
                    n => format!("{n} files"),
                }
            );
        }
    }
    match confirmed("approve just this code?")? {
        true => Ok(()),
        false => Err(refused("you said no")),
    }
}
