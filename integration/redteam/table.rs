//! The vectors, and what was shown of them, as a table.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;
use zagi::redteam::Verdict;

use super::{Mode, Shown};

const VECTORS: &str = include_str!("vectors.toml");

/// What the broker refuses to the user's own shell, too: there is no control.
const REFUSED: [&str; 1] = ["forged-user"];

/// One vector of the threat model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Its number.
    pub number: u8,
    /// `A` to `E`.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What it is after.
    #[serde(default)]
    pub hunts: String,
    /// What stops it.
    #[serde(default)]
    pub by: String,
    /// The attacks that show that it is stopped.
    #[serde(default)]
    pub shown: Vec<String>,
    /// Those of them that a kernel may refuse to everybody.
    #[serde(default)]
    pub depends: Vec<String>,
    /// The attacks that show where it is not.
    #[serde(default)]
    pub open: Vec<String>,
    /// Why not.
    #[serde(default)]
    pub why: String,
    /// The attacks of the user's own processes that system mode stops.
    #[serde(default)]
    pub outside: Vec<String>,
    /// Why some of `shown` is not tried again in system mode.
    #[serde(default)]
    pub system: String,
    /// What it waits for.
    #[serde(default)]
    pub later: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[allow(dead_code)]
    version: u32,
    vector: Vec<Vector>,
}

/// All vectors.
///
/// # Panics
/// Where the file is not what it should be.
pub fn vectors() -> Vec<Vector> {
    toml_edit::de::from_str::<File>(VECTORS).expect("it is the project's own").vector
}

/// What is wrong with what was shown: an attack that worked and should not, one that shows nothing,
/// one that the table does not know or that was not made.
/// In system mode what is another's there is not tried again, and what is refused to everybody needs no
/// sandbox.
pub fn wrong(shown: &[Shown], mode: Mode) -> Vec<String> {
    let vectors = vectors();
    let system = mode == Mode::System;
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for vector in &vectors {
        let outside = vector.outside.iter().filter(|_| system);
        for id in vector.shown.iter().chain(&vector.open).chain(outside) {
            known.insert((vector.number, id.as_str()));
            let Some(one) = shown.iter().find(|s| s.vector == vector.number && s.id == *id) else {
                if vector.system.is_empty() || !system || vector.outside.contains(id) {
                    wrong.push(format!("{} {id} was not tried", vector.number));
                }
                continue;
            };
            let right = match one.verdict {
                Verdict::Held => vector.shown.contains(id) || vector.outside.contains(id),
                Verdict::NotShown if system && REFUSED.contains(&id.as_str()) => true,
                Verdict::Failed => vector.open.contains(id),
                Verdict::NotShown => vector.depends.contains(id),
            };
            if !right {
                wrong.push(format!("{} {id}: {:?}: {}", vector.number, one.verdict, one.note));
            }
        }
    }
    for vector in vectors.iter().filter(|vector| system && !vector.system.is_empty()) {
        if left_out(vector, shown).is_empty() {
            wrong.push(format!("{}: all of it was tried in system mode", vector.number));
        }
    }
    let unknown = shown.iter().filter(|one| !known.contains(&(one.vector, one.id.as_str())));
    wrong.extend(unknown.map(|one| format!("{} {} is not in the table", one.vector, one.id)));
    wrong
}

/// One vector in one mode.
fn cell(vector: &Vector, shown: &[Shown]) -> String {
    if !vector.later.is_empty() {
        return "not shown".into();
    }
    let of = |ids: &[String], verdict: Verdict| -> Vec<&Shown> {
        let is = |one: &&Shown| {
            one.vector == vector.number && ids.contains(&one.id) && one.verdict == verdict
        };
        shown.iter().filter(is).collect()
    };
    let mut parts = Vec::new();
    let held = of(&[&vector.shown[..], &vector.outside].concat(), Verdict::Held);
    if !held.is_empty() {
        parts.push("held".to_owned());
    }
    for one in of(&vector.shown, Verdict::NotShown) {
        if REFUSED.contains(&one.id.as_str()) {
            parts.push("refused to everybody but root".to_owned());
            continue;
        }
        parts.push(format!("not shown: `{}` ({})", one.id, plain(&one.note, 60)));
    }
    for one in of(&[&vector.shown[..], &vector.open].concat(), Verdict::Failed) {
        parts.push(format!("**open**: `{}`", one.id));
    }
    parts.join("; ")
}

/// The table, of what root and an ordinary user showed in user mode, and that user in system mode,
/// under a line that says where.
pub fn render([root, user, system]: [&[Shown]; 3], about: &str) -> String {
    let vectors = vectors();
    let mut out = format!(
        "# The red team's matrix\n\n\
         Made by `ZAGI_REDTEAM_RESULTS=1 cargo test --workspace --locked --test integration -- redteam::`; see\n\
         [mod.rs](mod.rs). {about}\n\n\
         Each attack has a value of its own. Unconfined it gets it; \"held\" says that inside `zagi agent`, or of an app in\n\
         `zagi run`, it was in no byte that could be seen, or the change was not made. \"Open\" is not stopped, and shown not to be. What a process\n\
         of the same user does *outside* every sandbox nothing stops in user mode: it can read the identity and the\n\
         app. In system mode another user has both: `outside-…` are attacks by the user's own processes there, unconfined; the\n\
         others are an agent's, or of an app that the broker runs.\n\n"
    );
    let all = |verdict| {
        let is = |one: &&Shown| one.verdict == verdict;
        [root, user].map(|shown| shown.iter().filter(is).count())
    };
    let ([held, of], [open, also]) = (all(Verdict::Held), all(Verdict::Failed));
    let waiting = vectors.iter().filter(|vector| !vector.later.is_empty()).count();
    let _ = write!(
        out,
        "{} vectors, {waiting} of which are not shown yet; {held} attacks held and {open} open as root, {of} and {also} as an\n\
         ordinary user.\n",
        vectors.len()
    );
    for group in ["A", "B", "C", "D", "E"] {
        let name = match group {
            "A" => "Through the app",
            "B" => "Into the process",
            "C" => "Through files",
            "D" => "IPC and network",
            _ => "Staying and policy",
        };
        let _ = write!(
            out,
            "\n## {group}. {name}\n\n\
             | | vector | hunts | user mode, root | user mode, ordinary user | system mode | by |\n\
             |--:|---|---|---|---|---|---|\n"
        );
        for vector in vectors.iter().filter(|vector| vector.group == group) {
            let by = [vector.by.as_str(), vector.later.as_str(), vector.why.as_str()];
            let by = by.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {by} |",
                vector.number,
                vector.name,
                vector.hunts,
                cell(vector, root),
                cell(vector, user),
                again(cell(vector, system), vector, system),
            );
        }
    }
    out.push_str("\n## Attacks, and what they were told inside\n\n| | attack | as root | as an ordinary user |\n|--:|---|---|---|\n");
    for one in root {
        let other = user.iter().find(|other| other.id == one.id && other.vector == one.vector);
        let told = |one: &Shown| match one.verdict {
            Verdict::Held => plain(&one.note, 110),
            Verdict::Failed => "**it works**".into(),
            Verdict::NotShown => format!("not shown: unconfined, {}", plain(&one.note, 90)),
        };
        let other = other.map(told).unwrap_or_default();
        let _ = writeln!(out, "| {} | {} | {} | {other} |", one.vector, one.id, told(one));
    }
    for one in system.iter().filter(|one| root.iter().all(|other| other.id != one.id)) {
        let (number, id, told) = (one.vector, &one.id, plain(&one.note, 110));
        let _ = writeln!(out, "| {number} | {id} | - | in system mode: {told} |");
    }
    out
}

/// What is not tried again in system mode.
fn left_out(vector: &Vector, shown: &[Shown]) -> Vec<String> {
    let tried = |id: &String| shown.iter().any(|s| s.vector == vector.number && s.id == *id);
    vector.shown.iter().filter(|id| !tried(id)).map(|id| format!("`{id}`")).collect()
}

/// With what was not tried in system mode, and why.
fn again(cell: String, vector: &Vector, shown: &[Shown]) -> String {
    match left_out(vector, shown) {
        left if left.is_empty() => cell,
        left => format!("{cell}; not tried again: {} ({})", left.join(", "), vector.system),
    }
}

/// In one line of so many letters, without what is another at each run.
fn plain(note: &str, most: usize) -> String {
    let words = note.split_whitespace().filter(|word| !word.starts_with("---"));
    let word = |word: &str| match word.find("/tmp/zagi-") {
        Some(at) => {
            let rest = &word[at + "/tmp/zagi-".len()..];
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            let rest = rest.strip_prefix("/work").unwrap_or(rest);
            format!("{}…{rest}", &word[..at])
        }
        None => word.to_owned(),
    };
    let line =
        words.map(word).collect::<Vec<_>>().join(" ").replace('|', "/").replace("(os error ", "(");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
