//! The command line: one file a command. The only room that prints, prompts, or reads argv,
//! the environment and the terminal.
//!
//! Standard output is data, everything else goes to standard error. Exit codes: 0 done,
//! 1 failed, 2 usage, 255 internal; a launcher (`exec`, `shell`) gives the child's code, or
//! 125 could not launch, 126 not executable, 127 not found, 128+n died of signal n.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod add;
mod agent;
mod attack;
mod audit;
mod chunk;
mod daemon;
mod detect;
mod diff;
mod discard;
mod doctor;
mod env;
mod error;
mod events;
mod exec;
mod fsmonitor;
mod hints;
mod hook;
mod ide;
mod init;
mod list;
mod lock;
mod logs;
mod mount;
mod output;
mod printable;
mod ps;
mod pushes;
mod remote_helper;
mod remove;
mod report;
mod restore;
mod run;
mod secrets;
mod settings;
mod shell;
mod snapshot;
mod status;
mod store;
mod system;
mod trust;
mod unmount;
mod up;
mod update;
mod verify;
mod view;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use error::CommandError;
use settings::{Global, Settings};

use crate::system::Lent;

/// A repository as a directory that runs.
///
/// `zagi mount REPO DIR` gives a directory in which the repository works at once: the right
/// compilers, runtimes and packages, at the right versions, with no install step.
#[derive(Debug, Parser)]
#[command(name = "zagi", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  zagi mount pypi:jinja2 ~/jinja2          a published package's source
  zagi mount github.com/owner/repo@v1.2    a git repository at a tag
  cd ~/jinja2 && zagi exec -- pytest       run its tests
  zagi run -- npm start                    run an app, with its services and secrets
  eval \"$(zagi hook bash)\"                 in ~/.bashrc: tools on PATH at `cd`";

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::Mount),
    Unmount(unmount::Unmount),
    Discard(discard::Discard),
    List(list::List),
    Status(status::Status),
    Events(events::Events),
    Snapshot(snapshot::Snapshot),
    Chunk(chunk::Chunk),
    Exec(exec::Exec),
    Run(run::Run),
    Broker(system::BrokerCommand),
    Agent(agent::AgentCommand),
    #[command(name = "__agent", hide = true)]
    Lend(agent::Lend),
    Shell(shell::Shell),
    Detect(detect::Detect),
    Why(why::Why),
    Env(env::Env),
    Init(init::Init),
    Add(add::Add),
    Remove(remove::Remove),
    Update(update::Update),
    Verify(verify::Verify),
    Lock(lock::Lock),
    Up(up::Up),
    Down(up::Down),
    Ps(ps::Ps),
    Logs(logs::Logs),
    Trust(trust::TrustCommand),
    Secrets(secrets::Secrets),
    Ide(ide::Ide),
    Hook(hook::Hook),
    #[command(hide = true)]
    HookEnv(hook::HookEnv),
    Restore(restore::Restore),
    Diff(diff::Diff),
    Store(store::Store),
    Doctor(doctor::Doctor),
    Daemon(daemon::Daemon),
    #[command(name = "__supervise", hide = true)]
    Supervise(daemon::Process),
    #[command(name = "__work", hide = true)]
    Work(daemon::Process),
}

/// Runs the program; the exit code is its answer.
pub fn main() -> ExitCode {
    let asked = fsmonitor::main_if_asked().or_else(view::main_if_asked);
    if let Some(answered) = asked.or_else(remote_helper::main_if_asked) {
        return answered;
    }
    zagi_sandbox::main_if_asked();
    if let Some(tried) = attack::main_if_asked() {
        return tried;
    }
    if let Some(kept) = up::keep_if_asked() {
        return kept;
    }
    let (lent, arguments) = match system::lent_if_asked() {
        None => (None, std::env::args_os().collect()),
        Some(Ok((lent, arguments))) => (Some(lent), arguments),
        Some(Err(e)) => {
            e.print();
            return e.exit_code();
        }
    };
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match run(arguments, lent) {
        Ok(code) => code,
        Err(e) => {
            e.print();
            e.exit_code()
        }
    }
}

/// The whole definition, for parsing and for what is generated from it.
fn command() -> clap::Command {
    Arguments::command()
}

fn run(arguments: Arguments, lent: Option<Lent>) -> Result<ExitCode, CommandError> {
    let settings = Settings::new(&arguments.global, lent)?;
    let of_secrets = matches!(arguments.command, Command::Run(_) | Command::Secrets(_));
    // What the broker is asked to run, and nobody else.
    let of_broker = matches!(arguments.command, Command::Lend(_));
    if of_broker && settings.lent.is_none() || !(of_secrets || of_broker) && settings.lent.is_some()
    {
        return Err(CommandError::failed("the broker runs this command or none"));
    }
    let runs = matches!(arguments.command, Command::Run(_));
    if of_secrets && let Some(code) = system::forwarded(&settings, runs)? {
        return Ok(code);
    }
    match arguments.command {
        Command::Mount(c) => c.run(&settings),
        Command::Unmount(c) => c.run(&settings),
        Command::Discard(c) => c.run(&settings),
        Command::List(c) => c.run(&settings),
        Command::Status(c) => c.run(&settings),
        Command::Events(c) => c.run(&settings),
        Command::Snapshot(c) => c.run(&settings),
        Command::Chunk(c) => c.run(&settings),
        Command::Exec(c) => c.run(&settings),
        Command::Run(c) => c.run(&settings),
        Command::Broker(c) => c.run(),
        Command::Agent(c) => c.run(&settings),
        Command::Lend(c) => c.run(&settings),
        Command::Shell(c) => c.run(&settings),
        Command::Detect(c) => c.run(&settings),
        Command::Why(c) => c.run(&settings),
        Command::Env(c) => c.run(&settings),
        Command::Init(c) => c.run(&settings),
        Command::Add(c) => c.run(&settings),
        Command::Remove(c) => c.run(&settings),
        Command::Update(c) => c.run(&settings),
        Command::Verify(c) => c.run(&settings),
        Command::Lock(c) => c.run(&settings),
        Command::Up(c) => c.run(&settings),
        Command::Down(c) => c.run(&settings),
        Command::Ps(c) => c.run(&settings),
        Command::Logs(c) => c.run(&settings),
        Command::Trust(c) => c.run(&settings),
        Command::Secrets(c) => c.run(&settings),
        Command::Ide(c) => c.run(&settings),
        Command::Hook(c) => c.run(&settings),
        Command::HookEnv(c) => c.run(&settings),
        Command::Restore(c) => c.run(&settings),
        Command::Diff(c) => c.run(&settings),
        Command::Store(c) => c.run(&settings),
        Command::Doctor(c) => c.run(&settings),
        Command::Daemon(c) => c.run(&settings),
        Command::Supervise(c) => c.supervise(&settings),
        Command::Work(c) => c.work(&settings),
    }
}
