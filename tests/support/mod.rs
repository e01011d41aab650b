//! What several tests need: a machine in a directory, and a web server of our own.

pub mod disk;
pub mod git;
pub mod http;
pub mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use zagi::config::Config;
use zagi::context::{Context, Platform};
use zagi::event::{Event, Events};
use zagi::home::Home;

/// The time at which every test's command begins: 2025-09-01T00:00:00Z.
pub const NOW: i64 = 1_756_684_800;

/// A home directory of its own and what was told while it was used.
pub struct Machine {
    pub dir: Place,
    pub events: Arc<Recorder>,
}

/// A machine's directory: a temporary one, or one that another process made.
pub enum Place {
    Own(tempfile::TempDir),
    Other(PathBuf),
}

impl Place {
    pub fn path(&self) -> &Path {
        match self {
            Place::Own(dir) => dir.path(),
            Place::Other(dir) => dir,
        }
    }
}

/// Keeps every event.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Events for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().expect("no test panics while it emits").push(event);
    }
}

impl Recorder {
    pub fn warnings(&self) -> Vec<String> {
        let events = self.0.lock().expect("no test panics while it emits");
        let text = |event: &Event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    }
}

impl Machine {
    pub fn new() -> Machine {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Machine { dir: Place::Own(dir), events: Arc::default() }
    }

    /// The machine that another process of this test made.
    pub fn at(dir: &Path) -> Machine {
        Machine { dir: Place::Other(dir.to_owned()), events: Arc::default() }
    }

    /// A context with no variables but PATH, whose registries all stand at `base`.
    pub fn context(&self, base: &str) -> Context {
        let mut config = Config::default();
        for (address, path) in [
            (&mut config.addresses.npm, "/npm"),
            (&mut config.addresses.pypi, "/pypi"),
            (&mut config.addresses.debian, "/debian"),
            (&mut config.addresses.crates_index, "/crates-index"),
            (&mut config.addresses.crates_files, "/crates-files"),
            (&mut config.addresses.nodejs, "/nodejs"),
            (&mut config.addresses.go, "/go"),
            (&mut config.addresses.zig, "/zig"),
            (&mut config.addresses.rust, "/rust"),
            (&mut config.addresses.python_builds, "/python-builds"),
            (&mut config.addresses.adoptium, "/adoptium"),
        ] {
            *address = format!("{base}{path}");
        }
        let path = std::env::var_os("PATH").expect("a test is run with PATH");
        Context {
            home: Home::open(&self.home()).expect("the home can be made"),
            config: Arc::new(config),
            offline: false,
            platform: Platform::current(),
            now: NOW,
            events: self.events.clone(),
            vars: Arc::new(BTreeMap::from([
                ("PATH".into(), path),
                ("HOME".into(), self.dir.path().into()),
            ])),
            program: PathBuf::from(env!("CARGO_BIN_EXE_zagi")),
        }
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("zagi-home")
    }
}
