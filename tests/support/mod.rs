//! What several tests need: a machine in a directory, and a web server of our own.

pub mod http;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use zagi::config::Config;
use zagi::context::{Context, Platform};
use zagi::event::{Event, Events};
use zagi::home::Home;

/// The time at which every test's command begins: 2025-09-01T00:00:00Z.
pub const NOW: i64 = 1_756_684_800;

/// A home directory of its own and what was told while it was used.
pub struct Machine {
    pub dir: tempfile::TempDir,
    pub events: Arc<Recorder>,
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
        Machine { dir, events: Arc::default() }
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
