//! Arguments, environment variables and files, resolved once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CommandError;
use super::report;
use crate::config::Config;
use crate::context::{Context, Platform};
use crate::home::Home;
use crate::store::Store;
use crate::system::Lent;

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Name each thing that is worked on
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Never use the network; name what is missing
    #[arg(long, global = true)]
    offline: bool,
}

/// What every command is given.
pub struct Settings {
    /// Where the command was started.
    pub cwd: PathBuf,
    /// `$ZAGI_HOME`, not yet opened.
    pub home: PathBuf,
    /// For whom the broker of system mode runs this, if it does.
    pub lent: Option<Lent>,
    offline: bool,
    quiet: bool,
    verbose: bool,
}

impl Settings {
    pub(super) fn new(global: &Global, lent: Option<Lent>) -> Result<Settings, CommandError> {
        let cwd = std::env::current_dir().map_err(|e| {
            CommandError::failed(format!("cannot tell the current directory: {e}"))
                .hint("it may have been deleted or unmounted; `cd` to one that is there")
        })?;
        let home = match std::env::var_os("ZAGI_HOME").filter(|v| !v.is_empty()) {
            Some(home) => cwd.join(home),
            None => match std::env::var_os("HOME").filter(|v| !v.is_empty()) {
                Some(home) => Path::new(&home).join(".zagi"),
                None => {
                    return Err(CommandError::failed("neither HOME nor ZAGI_HOME is set")
                        .hint("set ZAGI_HOME to a directory of your own"));
                }
            },
        };
        Ok(Settings {
            cwd,
            home,
            lent,
            offline: global.offline,
            quiet: global.quiet,
            verbose: global.verbose,
        })
    }

    /// Opens the home and gathers what the library is given; progress is drawn on standard
    /// error.
    pub fn context(&self) -> Result<Context, CommandError> {
        self.context_at(&self.home)
    }

    /// The same for another home: the daemon's processes are told theirs.
    pub fn context_at(&self, home: &Path) -> Result<Context, CommandError> {
        let home = Home::open(home)?;
        let config = Config::load(&home.config_file())?;
        let program = std::env::current_exe()
            .map_err(|e| CommandError::failed(format!("cannot find this program's file: {e}")))?;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs() as i64);
        Ok(Context {
            home,
            config: Arc::new(config),
            offline: self.offline,
            platform: Platform::current(),
            now,
            events: report::events(self.quiet, self.verbose),
            vars: Arc::new(std::env::vars_os().collect()),
            program,
        })
    }

    /// The home's store, whose long operations are drawn.
    pub fn store(&self) -> Result<Store, CommandError> {
        let ctx = self.context()?;
        Ok(Store::open(&ctx.home.store())?.with_events(ctx.events))
    }

    /// Whether the user asked to be told nothing but errors.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// The directory that was named, or the current one.
    pub fn directory(&self, named: Option<PathBuf>) -> PathBuf {
        named.map_or_else(|| self.cwd.clone(), |dir| self.absolute(&dir))
    }

    /// A path argument, absolute and without `.` and `..` where those need no look at the
    /// disk; its parent is resolved, so that one directory has one name.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        let joined = self.cwd.join(path);
        let mut clean = PathBuf::new();
        for part in joined.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::ParentDir => {
                    clean = clean.canonicalize().unwrap_or(clean);
                    clean.pop();
                }
                other => clean.push(other),
            }
        }
        match (clean.parent().and_then(|p| p.canonicalize().ok()), clean.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => clean,
        }
    }
}
