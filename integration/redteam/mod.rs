//! The red team: every vector of the threat model, as an attack with a control, and the table of what
//! holds in which mode.
//!
//! ```text
//! vectors.toml  the 58 vectors: what each hunts, what stops it, where nothing can
//! agent.rs      attacks from inside `zagi agent`: those of `zagi doctor --attack`, and scripts
//! app.rs        attacks by what an agent writes and somebody else runs
//! node.rs       attacks on a real Node's programs: variables that are code, the inspector
//! rebind.rs     attacks by a name that leads to this machine
//! trap.rs       traps for those who read in a workspace: links that come and go, pipes
//! upstream.rs   attacks on a value that is put in on the way to its host
//! vault.rs      attacks on secrets at rest, and on a process that holds them
//! outside.rs    in system mode: attacks by the user's own processes, unconfined
//! push.rs       attacks on remotes, by what an agent pushes
//! lent.rs       the same, on what the broker takes the user's word for; and on the broker
//! closed.rs     machines that offer less: nothing may start
//! table.rs      vectors and measurements as RESULTS.md
//! ```
//!
//! Each attack has a value of its own, made for the run. Unconfined it must get it: an attack that
//! does not work shows nothing. Inside, the value may be in no byte that could be seen: what was
//! printed, what is in the workspace and in the agent's home; as it is, in base64, in hexadecimal
//! digits, backwards or in pieces.

mod agent;
mod app;
mod closed;
mod lent;
mod node;
mod outside;
mod push;
mod rebind;
pub mod table;
mod trap;
mod upstream;
mod vault;

use zagi::redteam::Verdict;

use crate::broker::Broker;
use crate::machine::{Machine, Who};

/// What one attack came to.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The vector's number.
    pub vector: u8,
    /// The attack's name.
    pub id: String,
    /// What it came to.
    pub verdict: Verdict,
    /// Why it did not work unconfined, or what it was told inside.
    pub note: String,
}

impl Shown {
    /// Of an attack that did what it should unconfined, or why not, and whether it did inside.
    fn new(vector: u8, id: &str, control: Result<(), String>, inside: Result<(), String>) -> Shown {
        let (verdict, note) = match (control, inside) {
            (_, Ok(())) => (Verdict::Failed, String::new()),
            (Ok(()), Err(note)) => (Verdict::Held, note),
            (Err(note), Err(_)) => (Verdict::NotShown, note),
        };
        Shown { vector, id: id.into(), verdict, note: note.chars().take(400).collect() }
    }
}

/// The last line of what was said.
fn ends(said: &str) -> String {
    let mut lines = said.lines().filter(|line| !line.is_empty() && !line.starts_with("hint:"));
    lines.next_back().unwrap_or_default().trim().to_owned()
}

/// Who is attacked, and how secrets are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// User mode, as root.
    Root,
    /// User mode, as an ordinary user.
    User,
    /// System mode, an ordinary user's.
    System,
}

impl Mode {
    fn who(self) -> Who {
        match self {
            Mode::Root => Who::Me,
            Mode::User | Mode::System => Who::Ordinary,
        }
    }

    /// The broker, where this mode has one.
    fn broker(self, machine: &Machine) -> Option<Broker> {
        self.broker_that_trusts(machine, None)
    }

    /// The same, which trusts `roots`, as PEM.
    fn broker_that_trusts(self, machine: &Machine, roots: Option<&str>) -> Option<Broker> {
        (self == Mode::System).then(|| Broker::start(machine, roots))
    }
}

/// All that is shown in one mode.
pub fn measure(mode: Mode) -> Vec<Shown> {
    let mut all = agent::measure(mode);
    all.extend(app::measure(mode));
    all.extend(push::measure(mode));
    all.extend(node::measure(mode));
    all.extend(rebind::measure(mode));
    all.extend(trap::measure(mode));
    all.extend(upstream::measure(mode));
    all.extend(vault::measure(mode));
    all.extend(closed::measure(mode));
    if mode == Mode::System {
        all.extend(outside::measure());
        all.extend(lent::measure());
    }
    all.sort_by(|a, b| (a.vector, &a.id).cmp(&(b.vector, &b.id)));
    all
}
