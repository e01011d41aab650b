//! Raw secrets go to code that a human has approved: just that code, and no other.
//!
//! What is approved is a hash of all that decides what the app does: every file of the workspace
//! (sources, lock files, dependencies) but git's own, the environment and the variables that it and
//! the project set, the command, and which secrets it gets by which policy. The app then runs from a
//! copy of exactly those files, out of the store. Any change asks again, and shows what differs from
//! what was approved last.
//!
//! Variables are code, too (`NODE_OPTIONS`, `LD_PRELOAD`), and are not the files': what `.zagi/env.toml`
//! once said holds until the next `zagi lock`, whatever the file says now.
//!
//! An approval is `workspaces/<id>/approvals/<command>.json` under `$ZAGI_HOME`, where no agent can
//! be; and it is asked for at the user's terminal, which no agent has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::context::Context;
use crate::secrets::broker::Granted;
use crate::store::{Entry, Hold, Kind, Store, TreeId};
use crate::workspace::description;
use crate::workspace::error::{WorkspaceError, at};
use crate::workspace::run::lent::{self, Copied};
use crate::workspace::tools::{self, Seen};

const VERSION: u32 = 2;
/// How long what was approved stays in the store to be compared with, in seconds.
const STAYS: i64 = 365 * 24 * 60 * 60;
/// How many files are shown with what changed in them.
const SHOWN_FILES: usize = 100;
/// How many lines of that are shown.
const SHOWN_LINES: usize = 400;
/// Of a file that is compared, in bytes.
const LARGEST: u64 = 1 << 20;
/// What changes without the app's code being another.
const GITS: &[u8] = b".git";
/// What leads git, below that, to programs.
const LEADS: [&[u8]; 6] =
    [b"config", b"config.worktree", b"commondir", b"hooks", b"info", b"modules"];

/// By name, as text that can be shown.
type Variables = BTreeMap<String, String>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    version: u32,
    /// Of all that was approved.
    hash: String,
    /// The files.
    tree: String,
    /// The variables, but the user's own.
    variables: Variables,
    /// When, in seconds since the epoch.
    time: i64,
}

/// The files of a workspace as they were when it was asked for them.
pub struct Frozen {
    /// In the store.
    pub tree: TreeId,
    /// The environment, as it was then.
    pub(super) environment: Seen,
    /// What else of another user's is shown, as it was then.
    pub(super) copies: Vec<Copied>,
    hash: String,
    variables: Variables,
    file: PathBuf,
    now: i64,
    store: Store,
    /// They stay in the store as long as it lives.
    _hold: Hold,
}

/// What is to be approved.
#[derive(Debug)]
pub struct Asked {
    /// Whether nothing was ever approved for this command.
    pub first: bool,
    /// How many files differ from what was approved last.
    pub differing: usize,
    /// What differs: variables, then the files, those first that speak of the secrets.
    pub diff: String,
}

/// Puts the files of a workspace into the store; what is to be approved, if they are not yet.
pub fn freeze(
    ctx: &Context,
    place: &Place,
    argv: &[String],
    granted: &[Granted],
) -> Result<(Frozen, Option<Asked>), WorkspaceError> {
    let description = &place.description;
    let store = Store::open(&ctx.home.store())?.with_events(ctx.events.clone());
    let take = || match place.user() {
        // The broker can read what that user cannot: directories of others.
        Some(user) => Ok(store.snapshot_of(&description.path, user)?),
        None => Ok(store.snapshot(&description.path)?),
    };
    let captured = place.look(ctx, &[&ctx.home.store()], take)?;
    let mut hash = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"zagi approval 2");
    files(&store, &captured.tree, place.user().is_some(), &mut part)?;
    part(description.environment.as_bytes());
    let look = || Ok(tools::of(&place.of, description, &description.path));
    let environment = place.look(ctx, &[], look)?;
    let variables = environment.own.clone();
    for (name, value) in &variables {
        part(name.as_encoded_bytes());
        part(value.as_encoded_bytes());
    }
    let copies = lent::copied(ctx, place, &environment, &store)?;
    for copied in &copies {
        part(copied.source.as_os_str().as_encoded_bytes());
        part(copied.tree.to_string().as_bytes());
    }
    // So that nothing of what follows is taken for one of them.
    part(b"");
    argv.iter().for_each(|word| part(word.as_bytes()));
    for granted in granted {
        part(granted.name.as_bytes());
        for (field, values) in granted.policy.fields() {
            part(field.as_bytes());
            values.iter().for_each(|value| part(value.as_bytes()));
        }
    }
    let hash = hash.finalize().to_hex().to_string();
    let command = blake3::hash(argv.join("\0").as_bytes()).to_hex();
    let dir = description::directory(&ctx.home, &description.id).join("approvals");
    let file = dir.join(format!("{}.json", &command[..32]));
    let last = read(&file)?;
    let frozen = Frozen {
        tree: captured.tree,
        environment,
        copies,
        hash,
        variables: shown(variables),
        file,
        now: ctx.now,
        store,
        _hold: captured.hold,
    };
    match last {
        Some(last) if last.hash == frozen.hash => Ok((frozen, None)),
        last => {
            let asked = asked(ctx, &frozen, last.as_ref(), granted)?;
            Ok((frozen, Some(asked)))
        }
    }
}

/// The parts of the hash that are a workspace's files; of another user's also what leads git to programs.
fn files(
    store: &Store,
    tree: &TreeId,
    lent: bool,
    part: &mut impl FnMut(&[u8]),
) -> Result<(), WorkspaceError> {
    let whole = store.tree(tree)?;
    let mut entries: Vec<&Entry> = whole.entries.iter().filter(|e| &*e.name != GITS).collect();
    let gits = match whole.get(GITS).map(|entry| &entry.kind) {
        // No agent writes to these, but the user's other processes do.
        Some(Kind::Directory(id)) if lent => Some(store.tree(id)?),
        _ => None,
    };
    let leads = |e: &&Entry| LEADS.iter().any(|name| *e.name == **name);
    entries.extend(gits.iter().flat_map(|gits| gits.entries.iter().filter(leads)));
    for entry in entries {
        part(&entry.name);
        match &entry.kind {
            Kind::File { exec, id, .. } => {
                part(&[b'f', u8::from(*exec)]);
                part(id.to_string().as_bytes());
            }
            Kind::Directory(id) => part(format!("d{id}").as_bytes()),
            Kind::Symlink(target) => {
                part(b"l");
                part(target);
            }
        }
    }
    Ok(())
}

impl Frozen {
    /// Writes down that it is approved.
    pub fn approve(&self) -> Result<(), WorkspaceError> {
        // To be compared with, next time.
        self.store.set_lease(&format!("approved/{}", self.tree), &self.tree, self.now + STAYS)?;
        let approval = Approval {
            version: VERSION,
            hash: self.hash.clone(),
            tree: self.tree.to_string(),
            variables: self.variables.clone(),
            time: self.now,
        };
        let text = serde_json::to_string(&approval).unwrap_or_default();
        if let Some(dir) = self.file.parent() {
            fs::create_dir_all(dir).map_err(at(dir))?;
        }
        let new = self.file.with_extension("new");
        fs::write(&new, text).map_err(at(&new))?;
        fs::rename(&new, &self.file).map_err(at(&self.file))
    }
}

/// The approval that is there. One that cannot be read is none.
fn read(file: &Path) -> Result<Option<Approval>, WorkspaceError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(file)(e)),
    };
    let approval: Option<Approval> = serde_json::from_str(&text).ok();
    Ok(approval.filter(|approval| approval.version == VERSION))
}

fn asked(
    ctx: &Context,
    frozen: &Frozen,
    last: Option<&Approval>,
    granted: &[Granted],
) -> Result<Asked, WorkspaceError> {
    let store = &frozen.store;
    let before = last.and_then(|last| store.resolve(&last.tree).ok());
    // What is gone from the store is shown as never seen.
    let Some(before) = before.filter(|tree| store.tree(tree).is_ok()) else {
        return Ok(Asked { first: true, differing: 0, diff: String::new() });
    };
    let mut paths: Vec<Vec<u8>> = Vec::new();
    store.diff(&before, &frozen.tree, |change| {
        let gits = change.path == GITS || change.path.starts_with(b".git/");
        let is_directory = |kind| matches!(kind, Some(&Kind::Directory(_)));
        if !gits && !is_directory(change.before) && !is_directory(change.after) {
            paths.push(change.path.to_vec());
        }
        Ok::<_, WorkspaceError>(!gits)
    })?;
    let differing = paths.len();
    let scratch = tempfile::tempdir_in(ctx.home.tmp()).map_err(at(&ctx.home.tmp()))?;
    let names: Vec<&[u8]> = granted.iter().map(|granted| granted.name.as_bytes()).collect();
    let mut text =
        last.map(|last| variables(&last.variables, &frozen.variables)).unwrap_or_default();
    text.push_str(&diff(store, (&before, &frozen.tree), paths, &names, scratch.path())?);
    Ok(Asked { first: false, differing, diff: text })
}

fn shown(variables: BTreeMap<OsString, OsString>) -> Variables {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    variables.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// The differing variables.
fn variables(before: &Variables, after: &Variables) -> String {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut out = String::new();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        for (sign, value) in [("-", before.get(name)), ("+", after.get(name))] {
            // In one line: none is to look like another.
            let line = value.map(|value| format!("{sign}{name}={}\n", value.escape_debug()));
            out.extend(line);
        }
    }
    if !out.is_empty() {
        out.insert_str(0, "--- variables\n");
    }
    out
}

/// The differing files, those first that name a secret, compared by git.
fn diff(
    store: &Store,
    (before, after): (&TreeId, &TreeId),
    mut paths: Vec<Vec<u8>>,
    names: &[&[u8]],
    scratch: &Path,
) -> Result<String, WorkspaceError> {
    let now = |path: &[u8]| content(store, after, path).unwrap_or_default();
    let speaks = |path: &Vec<u8>| {
        let text = now(path);
        !names.iter().any(|name| memchr::memmem::find(&text, name).is_some())
    };
    paths.truncate(SHOWN_FILES * 10);
    paths.sort_by_cached_key(|path| (speaks(path), path.clone()));
    let mut out = String::new();
    for path in paths.iter().take(SHOWN_FILES) {
        let (old, new) = (scratch.join("before"), scratch.join("after"));
        fs::write(&old, content(store, before, path).unwrap_or_default()).map_err(at(&old))?;
        fs::write(&new, now(path)).map_err(at(&new))?;
        let shown = Command::new("git")
            .args(["diff", "--no-index", "--no-color", "--unified=2", "--no-ext-diff", "--"])
            .args([&old, &new])
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .current_dir(scratch)
            .output()
            .map_err(at(Path::new("git")))?;
        let text = String::from_utf8_lossy(&shown.stdout);
        // Its own head names temporary files.
        let body =
            text.lines().skip_while(|line| !line.starts_with("@@") && !line.starts_with("Binary"));
        out.push_str(&format!("--- {}\n", String::from_utf8_lossy(path)));
        for line in body {
            let line = if line.starts_with("Binary") { "(not text)" } else { line };
            out.push_str(line);
            out.push('\n');
        }
        if out.lines().count() > SHOWN_LINES {
            break;
        }
    }
    Ok(out)
}

/// The content of a file in a tree; what is no file, or too large to be shown, has none.
fn content(store: &Store, tree: &TreeId, path: &[u8]) -> Option<Vec<u8>> {
    let mut at = *tree;
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = parts.next() {
        let found = store.tree(&at).ok()?.get(name)?.kind.clone();
        match found {
            Kind::Directory(id) if parts.peek().is_some() => at = id,
            Kind::File { id, size, .. } if parts.peek().is_none() && size < LARGEST => {
                return store.read_file(&id).ok();
            }
            Kind::Symlink(target) if parts.peek().is_none() => {
                return Some([b"-> ", &target[..], b"\n"].concat());
            }
            _ => return None,
        }
    }
    None
}
