//! Progress, as events. The library emits them; only `cli` draws them.

use std::time::Duration;

/// One thing worth telling while a command runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A step began ("source", "environment", "dependencies", "mounted", "served").
    Begin {
        /// The step's name, as it will stand at the start of its line.
        step: &'static str,
    },
    /// How far the current step is. `total` is `None` where nobody knows it.
    Progress {
        /// What is being worked on ("node 22.19.0", "jinja2-3.1.6.tar.gz").
        what: String,
        /// Units done (bytes for downloads, files for unpacking).
        done: u64,
        /// Units in all.
        total: Option<u64>,
    },
    /// A step ended.
    End {
        /// The step's name.
        step: &'static str,
        /// What came of it ("acme/web@3f2c1d7").
        detail: String,
        /// How ("cached", "fetched 4.1 MB").
        note: String,
        /// How long it took.
        took: Duration,
    },
    /// Something that the user must know and that does not stop the command.
    Warning(String),
}

/// Where events go. Called from several threads.
pub trait Events: Send + Sync {
    /// Takes one event. Must not block for long.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _: Event) {}
}

/// Human form of a number of bytes, in powers of 1000 as `ls --si` has it.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} KB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}
