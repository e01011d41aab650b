//! `zagi agent`: an agent at work in a workspace, without the user's secrets.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use zagi_sandbox::Console;

use super::error::CommandError;
use super::output::{confirmed, exit_code, print, print_json, printable, words};
use super::pushes;
use super::secrets::session::{self, Session};
use super::settings::Settings;
use super::system::request;
use crate::secrets::broker::{Broker, granted};
use crate::secrets::place::Place;
use crate::system::agent::{self as lent, Link, Served, Told};
use crate::workspace::agent::{self, Entry, Secrets, What, grants};

/// Of a longer word both ends are shown, half of this each.
const WORD: usize = 200;

/// Start an agent that sees this workspace and its tools, and nothing else of yours
///
/// It may read, edit and run everything in the workspace. It has a home of its own, a network that
/// leads to registries and to hosts it is granted, and no way to your home directory, keys, agents'
/// sockets, containers or other workspaces. What others would run later (git's hooks and
/// configuration) stays as it is. It ends with everything that it started.
///
/// It commits as you do, and fetches from the repository's remotes. What it pushes to a branch that it
/// is granted is pushed with your credentials, which it does not see; any other push waits until you
/// approve it at a terminal.
///
/// Grants stand in `$ZAGI_HOME/agents.toml` by the agent's name; those that a repository asks for in
/// `.zagi/agents.toml` are shown and asked about first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi agent -- claude\n  zagi agent -- bash\n  zagi agent --name tests -- npm test\n  zagi agent --log\n  zagi agent --pushes\n  zagi agent --approve 1"
)]
pub struct AgentCommand {
    /// Its name; that of the program if not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Show what it was started as, ran, changed, reached, and was denied
    #[arg(long, group = "other")]
    log: bool,
    /// Show the pushes that wait for you
    #[arg(long, group = "other")]
    pushes: bool,
    /// Show what a push that waits would change, and push it if you say yes
    #[arg(long, value_name = "N", group = "other")]
    approve: Option<u64>,
    /// Forget a push that waits
    #[arg(long, value_name = "N", group = "other")]
    reject: Option<u64>,
    /// Print the log, or the pushes, as JSON
    #[arg(long, requires = "other", conflicts_with_all = ["approve", "reject"])]
    json: bool,
    /// The command and its arguments
    #[arg(
        required_unless_present = "other",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

impl AgentCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let argv = words(self.command)?;
        let program = argv.first().and_then(|program| Path::new(program).file_name());
        let program = program.and_then(|program| Some(program.to_str()?.to_owned()));
        let name = self.name.or_else(|| program.clone());
        if let Some(name) = name.as_ref().filter(|name| !grants::is_name(name)) {
            let error = CommandError::failed(format!("`{name}` cannot be an agent's name"));
            return Err(error.hint("give it one: `zagi agent --name NAME -- CMD`"));
        }
        if self.pushes {
            return pushes::list(&ctx, &settings.cwd, self.json);
        }
        if let Some(number) = self.approve {
            return pushes::approve(&ctx, &settings.cwd, number);
        }
        if let Some(number) = self.reject {
            return pushes::reject(&ctx, &settings.cwd, number);
        }
        if self.log {
            let all = agent::logs(&ctx, &settings.cwd, name.as_deref())?;
            return show(&all, self.json);
        }
        let name = name.expect("clap requires a command");
        let program = program.as_deref().unwrap_or_default();
        let (mut agent, asked) = agent::prepare(&ctx, &settings.cwd, &name, program)?;
        if let Some(asked) = asked {
            let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
            if terminal {
                let text = printable(asked.text());
                eprintln!("`{}` of this repository asks for:\n\n{text}", grants::PATH);
            }
            if terminal && confirmed("grant it until it is another?")? {
                agent.approve(&asked)?;
            } else {
                let path = grants::PATH;
                eprintln!(
                    "warning: what `{path}` asks for is not granted; start an agent at a terminal to be asked"
                );
            }
        }
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let console =
            Console { input: input.as_fd(), output: output.as_fd(), error: error.as_fd() };
        let secrets = secrets(settings, &name)?;
        Ok(exit_code(agent.run(&ctx, &argv, &settings.cwd, console, secrets)?))
    }
}

/// Who has the secrets that the agent is granted.
fn secrets(settings: &Settings, name: &str) -> Result<Secrets, CommandError> {
    let session = Session::begin(settings, session::Who::default())?;
    if let Some((socket, request, _)) =
        request(settings, || Ok(vec![lent::COMMAND.into(), name.into()]))?
    {
        if !Place::new(&request.root).path.exists() {
            return Ok(Secrets::None);
        }
        return Ok(match Link::begin(&socket, &request, io::stderr().as_fd()) {
            Ok(link) => link.map_or(Secrets::None, |link| Secrets::Lent(Arc::new(link))),
            Err(e) => {
                eprintln!("warning: the agent is given no secret: {e}");
                Secrets::None
            }
        });
    }
    Ok(match broker(&session, name)? {
        Some(broker) => Secrets::Own(broker),
        None => Secrets::None,
    })
}

/// Who has what the agent is granted, if it is granted anything.
fn broker(session: &Session<'_>, name: &str) -> Result<Option<Arc<Broker>>, CommandError> {
    let Some(vault) = session.vault()? else { return Ok(None) };
    if granted(&vault.document, None, Some(name)).is_empty() {
        return Ok(None);
    }
    let values = session.unlock(&vault)?;
    let (home, now) = (session.ctx.home.root(), session.ctx.now);
    Ok(Some(Broker::new(home, &vault, values, session.by(), now)))
}

/// Gives out an agent's secrets, in a process of the broker's
#[derive(Debug, clap::Args)]
pub struct Lend {
    name: String,
}

impl Lend {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let session = Session::begin(settings, session::Who::default())?;
        let failed =
            |e: io::Error| CommandError::failed(format!("nobody asks for an agent's secrets: {e}"));
        let served = Served::new(io::stdin().as_fd()).map_err(failed)?;
        match broker(&session, &self.name)? {
            None => served.tell(&Told::Granted(None)).map_err(failed)?,
            Some(broker) => agent::lend(&session.ctx, &broker, &self.name, served)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(all: &[(String, Vec<Entry>)], json: bool) -> Result<ExitCode, CommandError> {
    if json {
        let rows: Vec<_> = all
            .iter()
            .flat_map(|(name, entries)| entries.iter().map(move |e| (name, e)))
            .map(|(name, entry)| serde_json::json!({ "agent": name, "entry": entry }))
            .collect();
        print_json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    if all.iter().all(|(_, entries)| entries.is_empty()) {
        eprintln!("no agent was at work here; `zagi agent -- CMD` starts one");
    }
    let mut out = String::new();
    for (name, entries) in all {
        for entry in entries {
            out.push_str(&line(name, entry));
        }
    }
    print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn line(name: &str, entry: &Entry) -> String {
    let time = jiff::Timestamp::from_second(entry.time).map(|t| t.to_string()).unwrap_or_default();
    let what = match &entry.what {
        What::Began { argv } => format!("began     {}", argv.join(" ")),
        What::Ran { program, argv, cut } => format!("ran       {}", ran(program, argv, *cut)),
        What::RanMore { program, times } if program.is_empty() => {
            format!("ran       others, {times} times")
        }
        What::RanMore { program, times } => {
            format!("ran       {}, {times} more times", whole(program))
        }
        What::Reached { host } => format!("reached   {host}"),
        What::NotListed { host } => {
            format!("denied    {host}; {}", agent::allowing(name, host))
        }
        What::Refused { host, why } => format!("refused   {host}: {why}"),
        What::Fetched { remote } => format!("fetched   from {remote}"),
        What::Pushed { remote, reference, commit: Some(commit) } => {
            format!("pushed    {reference} to {remote}: {commit}")
        }
        What::Pushed { remote, reference, commit: None } => {
            format!("deleted   {reference} at {remote}")
        }
        What::PushAsked { remote, reference, number } => {
            format!("asked     to push {reference} to {remote}: `zagi agent --approve {number}`")
        }
        What::PushRefused { remote, reference, why } => {
            format!("refused   to push {reference} to {remote}: {why}")
        }
        What::Changed { paths, more: 0 } => format!("changed   {}", paths.join(", ")),
        What::Changed { paths, more } => {
            format!("changed   {} and others, {more} times", paths.join(", "))
        }
        What::Ended { exit } => format!("ended     {exit}"),
    };
    // An agent chooses its words; a terminal obeys some.
    let what = printable(&what).replace(['\n', '\t'], "?");
    format!("{time}  {name:<10} {what}\n")
}

/// What was executed, as somebody would have typed it; and the file first, where the words call it
/// something else.
fn ran(program: &str, argv: &[String], cut: bool) -> String {
    if program.is_empty() {
        return "something that could not be read".to_owned();
    }
    let (first, rest) = argv.split_first().map_or(("", argv), |(first, rest)| (&**first, rest));
    let name = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
    let same = match first.contains('/') {
        true => first == program,
        false => name(program).is_some_and(|name| name == *first),
    };
    let mut out = match same {
        true => whole(first),
        false => format!("{} (as {})", whole(program), word(first)),
    };
    for argument in rest {
        out.push(' ');
        out.push_str(&word(argument));
    }
    if cut {
        out.push_str(" …");
    }
    out
}

/// A word of a command, so that it looks like no other and not like several.
fn word(word: &str) -> String {
    let many = word.chars().count();
    if many <= WORD {
        return whole(word);
    }
    // What wraps commands of an agent stands at both ends of them.
    let start = word.chars().take(WORD / 2);
    let end = word.chars().skip(many - WORD / 2);
    whole(&start.chain(['…']).chain(end).collect::<String>())
}

/// The same, however long it is.
fn whole(word: &str) -> String {
    let odd = |c: char| c.is_whitespace() || "'\"`\\()".contains(c);
    match word.is_empty() || word.contains(odd) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_executed_is_shown_whatever_it_calls_itself() {
        for (program, argv, shown) in [
            ("/usr/bin/git", &["git", "push"][..], "git push"),
            ("/bin/echo", &["/bin/echo", "a"], "/bin/echo a"),
            ("./evil", &["/usr/bin/git", "push"], "./evil (as /usr/bin/git) push"),
            ("./evil", &["git", "push"], "./evil (as git) push"),
            ("./git", &["/usr/bin/git", "push"], "./git (as /usr/bin/git) push"),
            ("/bin/busybox", &["ls"], "/bin/busybox (as ls)"),
            ("/bin/true", &[], "/bin/true (as '')"),
            ("./x y", &["./x y"], "'./x y'"),
            (
                "/bin/a",
                &["a", "b c", "", "it's", "\"", "\u{2003}"],
                r#"a 'b c' '' 'it'\''s' '"' '\u{2003}'"#,
            ),
            ("./evil", &["git (as x)", "y"], "./evil (as 'git (as x)') y"),
            ("", &["git"], "something that could not be read"),
        ] {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(ran(program, &argv, false), shown.replace(r"\u{2003}", "\u{2003}"));
        }
        let deep = format!("/{}/evil", "d".repeat(WORD));
        assert_eq!(ran(&deep, &["git".to_owned()], false), format!("{deep} (as git)"));
        let (start, end) = ("b".repeat(WORD / 2), "é".repeat(WORD / 2));
        let long = ran("/bin/a", &["a".to_owned(), format!("{start}bé{end}")], true);
        assert_eq!(long, format!("a {start}…{end} …"));
    }

    #[test]
    fn a_line_is_one_and_a_terminal_obeys_nothing_of_it() {
        let argv = vec!["git".to_owned(), "\u{1b}[2J\n\u{202e}x".to_owned()];
        let what = What::Ran { program: "/usr/bin/git".to_owned(), argv, cut: false };
        let shown = line("t", &Entry { time: 0, what });
        assert!(shown.ends_with("  ran       git '?[2J??x'\n"), "{shown}");
    }
}
