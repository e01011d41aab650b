//! What the library would otherwise read from the world: passed in, so that a test can
//! pass something else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::event::Events;
use crate::home::Home;

/// The machine a plan is for. Its text form, `linux-x86_64`, is part of keys and of
/// `env.lock`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`, `macos`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
}

impl Platform {
    /// The machine this program was built for.
    pub fn current() -> Platform {
        Platform { os: std::env::consts::OS.into(), arch: std::env::consts::ARCH.into() }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.os, self.arch)
    }
}

/// Everything a command was given besides its arguments. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// `$ZAGI_HOME`.
    pub home: Home,
    /// `config.toml`, after the environment's overrides.
    pub config: Arc<Config>,
    /// The network may not be used.
    pub offline: bool,
    /// The machine.
    pub platform: Platform,
    /// Seconds since the epoch when the command began.
    pub now: i64,
    /// Where progress goes.
    pub events: Arc<dyn Events>,
    /// The user's environment variables, as this process was given them.
    pub vars: Arc<BTreeMap<OsString, OsString>>,
    /// This program's own file, for the helpers that are started from it.
    pub program: PathBuf,
}

impl Context {
    /// For a test: with this home, at the epoch, offline, with these variables and no others.
    #[cfg(test)]
    pub(crate) fn of_test(home: &std::path::Path, vars: BTreeMap<OsString, OsString>) -> Context {
        Context {
            home: Home::open(home).expect("it can be made"),
            config: Arc::new(Config::default()),
            offline: true,
            platform: Platform { os: "linux".into(), arch: "x86_64".into() },
            now: 0,
            events: Arc::new(crate::event::Silent),
            vars: Arc::new(vars),
            program: "/no/program".into(),
        }
    }

    /// One of the user's variables, if it is set and not empty.
    pub fn var(&self, name: &str) -> Option<&std::ffi::OsStr> {
        self.vars.get(std::ffi::OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }
}
