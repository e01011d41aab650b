//! System mode: commands about secrets are run by the broker, where there is one.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{Uid, User, geteuid};

use super::error::CommandError;
use super::output::words;
use super::settings::Settings;
use crate::context::Context;
use crate::home::Home;
use crate::secrets::place::Place;
use crate::system::{self, ARGUMENT, Lent, Reply, Request};
use crate::workspace::{self, amend, session};

/// Keep the secrets of this machine's users, and run their apps (system mode)
///
/// A service of the system's, under a user of its own: packaging/system-mode sets it up. `zagi run`
/// and `zagi secrets` then ask it, and no process of the user's, confined or not, can look into
/// what it holds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sudo packaging/system-mode setup alice")]
pub struct BrokerCommand {
    /// Where it is asked
    #[arg(long, default_value = system::SOCKET, value_name = "SOCKET")]
    socket: PathBuf,
    /// Where it keeps what is its users'
    #[arg(long, default_value = system::STATE, value_name = "DIR")]
    state: PathBuf,
}

impl BrokerCommand {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let program = std::env::current_exe()
            .map_err(|e| CommandError::failed(format!("cannot find this program's file: {e}")))?;
        let vars = std::env::vars_os().collect();
        system::serve(&program, &self.state, &self.socket, &vars).map_err(|e| {
            CommandError::failed(format!("cannot serve at `{}`: {e}", self.socket.display()))
                .hint("`packaging/system-mode setup USER` makes its user and directories")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What this process runs for somebody else, if it was started by the broker; and the command's own
/// words.
pub(super) fn lent_if_asked() -> Option<Result<(Lent, Vec<std::ffi::OsString>), CommandError>> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    let lent = arguments.next().filter(|first| first == ARGUMENT).and(arguments.next())?;
    let parsed = lent.to_str().and_then(|text| serde_json::from_str(text).ok());
    let parsed = parsed.ok_or_else(|| CommandError::internal("what the broker said is not clear"));
    Some(parsed.map(|lent| (lent, [program].into_iter().chain(arguments).collect())))
}

/// What the broker is asked, where there is one, and where; the project's root.
pub(super) fn request(
    settings: &Settings,
    argv: impl FnOnce() -> Result<Vec<String>, CommandError>,
) -> Result<Option<(PathBuf, Request, PathBuf)>, CommandError> {
    let (user, home, theirs) = caller(settings);
    if theirs && !home.is_dir() {
        return Ok(None);
    }
    let ctx = settings.context_at(&home)?;
    // By `sudo` the user's configuration does not say to whom root speaks.
    let config = Some(&*ctx.config).filter(|_| !theirs);
    let Some(socket) = system::broker(config) else { return Ok(None) };
    let argv = argv()?;
    let root = root(&ctx, &settings.cwd)?;
    let mut request = Request::new(user, home, root.clone(), settings.cwd.clone(), argv);
    let text = |name: &std::ffi::OsString, value: &std::ffi::OsString| {
        Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
    };
    request.vars = ctx.vars.iter().filter_map(|(name, value)| text(name, value)).collect();
    Ok(Some((socket, request, root)))
}

/// Has the broker run this command, where there is one: its exit code. What `runs` is to find its tools.
pub(super) fn forwarded(settings: &Settings, runs: bool) -> Result<Option<ExitCode>, CommandError> {
    if settings.lent.is_some() || session::is_inside() {
        return Ok(None);
    }
    let argv = || {
        let argv = words(std::env::args_os().skip(1).collect())?;
        if argv.iter().any(|word| word == "--dir" || word.starts_with("--dir=")) {
            let error = CommandError::failed("the broker of this machine knows no `--dir`");
            return Err(error.hint("`cd` to the project first"));
        }
        Ok(argv)
    };
    let Some((socket, request, root)) = request(settings, argv)? else { return Ok(None) };
    if runs && !geteuid().is_root() {
        workspace::ready(&settings.context()?, &settings.cwd)?;
    }
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    let failed = |e: io::Error| {
        let at = socket.display();
        CommandError::failed(format!("the broker at `{at}` does not answer: {e}"))
            .hint("`systemctl status zagi-broker` says what became of it")
    };
    match system::ask(&socket, &request, streams).map_err(failed)? {
        Reply::Refused(why) => Err(CommandError::failed(why)),
        Reply::Ended { code, changed } => {
            if let Some((before, after)) = changed {
                Place::new(&root).replace(&after, before.as_deref())?;
            }
            Ok(Some(ExitCode::from(code)))
        }
    }
}

/// Who asks, and their home: of root by `sudo`, the user it was, unless a home is named. Whether that
/// home is another's.
fn caller(settings: &Settings) -> (u32, PathBuf, bool) {
    let by_sudo = std::env::var("SUDO_UID").ok().filter(|_| geteuid().is_root());
    let user = by_sudo.and_then(|uid| User::from_uid(Uid::from_raw(uid.parse().ok()?)).ok()?);
    match user {
        Some(user) => {
            let named = std::env::var_os("ZAGI_HOME").is_some_and(|home| !home.is_empty());
            let home = if named { settings.home.clone() } else { user.dir.join(".zagi") };
            (user.uid.as_raw(), home, !named)
        }
        None => (geteuid().as_raw(), settings.home.clone(), false),
    }
}

/// The project around a directory, which of root's may be another user's.
fn root(ctx: &Context, dir: &Path) -> Result<PathBuf, CommandError> {
    let root = match geteuid().is_root() {
        true => amend::root_of_another(&ctx.home, dir),
        false => amend::root(ctx, dir)?,
    };
    root.canonicalize()
        .map_err(|e| CommandError::failed(format!("cannot use `{}`: {e}", root.display())))
}

/// The context of the home that a lent command's workspace is of.
pub(super) fn lender(ctx: &Context, lent: &Lent) -> Context {
    Context { home: Home::of_another(&lent.home), ..ctx.clone() }
}

/// Refuses a file that is named to the broker: it would be read with the broker's rights, not with
/// those of who names it.
pub(super) fn no_file_if_lent(settings: &Settings, file: &Path) -> Result<(), CommandError> {
    if settings.lent.is_none() {
        return Ok(());
    }
    let error = format!("the broker reads no file of yours: `{}`", file.display());
    Err(CommandError::failed(error)
        .hint("`zagi secrets import - < FILE` hands it the values; the identity is its own"))
}

/// Refuses what only root may ask of the broker.
pub(super) fn only_root(settings: &Settings, what: &str) -> Result<(), CommandError> {
    match &settings.lent {
        Some(lent) if !lent.root_asked => {
            let error = CommandError::failed(format!(
                "{what} shows a value or gives it to others: in system mode that is root's to ask"
            ));
            Err(error.hint("say it with `sudo`"))
        }
        _ => Ok(()),
    }
}
