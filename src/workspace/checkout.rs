//! An ordinary checkout that has an environment: made by git or by hand, not by zagi, and not a
//! workspace. Its tools are there by the same link `.zagi/env` that workspaces have, so the hook,
//! `zagi exec`, `zagi run`, agents and services work in it; its files, and what its package managers
//! install, are its own.
//!
//! `$ZAGI_HOME/checkouts/<hash of the path>.json`, version 1, says what the link stands on, for
//! the collector and for `zagi exec`:
//!
//! ```json
//! {"version": 1, "path": "/home/u/web", "environment": "<key>",
//!  "lock": "<text of env.lock>", "env": {"LOG_LEVEL": "debug"}}
//! ```
//!
//! It counts as long as the link leads to that environment: a checkout that was deleted holds
//! nothing. One that asks for no tools has no such file.
//!
//! What a workspace has in `workspaces/<id>/` (copies of `env.toml` and `env.lock`, services, agents,
//! approvals), a checkout has in `workspaces/checkout-<hash of the path>/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::description::{
    self, Description, DescriptionError, Presentation, RunRecord, SourceRecord, write_whole,
};
use super::error::{WorkspaceError, at};
use super::{gitdir, prepare};
use crate::context::Context;
use crate::environment::activate::{self, LINK};
use crate::environment::detect::Detected;
use crate::environment::files::{Directory, Files};
use crate::environment::lock::{self, Lock};
use crate::environment::{realise, spec};
use crate::home::Home;
use crate::registry::http::Client;
use crate::source;
use crate::store::Store;

/// The version of the format above.
const VERSION: u32 = 1;

/// A checkout, and the environment that it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkout {
    version: u32,
    /// The directory.
    pub path: PathBuf,
    /// The environment's key.
    pub environment: String,
    /// The lock that it is of.
    pub lock: String,
    /// Variables that the project sets for its own processes.
    pub env: BTreeMap<String, String>,
}

/// The nearest directory at or above `dir` that asks for an environment.
pub(super) fn root(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| [spec::PATH, lock::PATH].iter().any(|name| dir.join(name).is_file()))
}

/// The workspace that `dir` is in, or else the ordinary checkout. Nothing is started, nothing made ready.
pub(super) fn found(home: &Home, dir: &Path) -> Result<Option<Description>, DescriptionError> {
    Ok(match Description::around(home, dir)? {
        None => Checkout::known(home, dir).map(|found| found.description()),
        found => found,
    })
}

impl Checkout {
    /// The one that `dir` is in, as it was when its tools were made ready: nothing is.
    pub(super) fn known(home: &Home, dir: &Path) -> Option<Checkout> {
        let root = root(dir)?;
        let found = Checkout::around(home, root).filter(|found| found.path == root);
        // One that asks for no tools.
        Some(found.unwrap_or_else(|| Checkout {
            version: VERSION,
            path: root.to_owned(),
            environment: String::new(),
            lock: String::new(),
            env: BTreeMap::new(),
        }))
    }

    /// What is known of it in the form in which a workspace is: real files, from no source of ours.
    pub(super) fn description(&self) -> Description {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Description {
            version: description::VERSION,
            id: format!("checkout-{}", hash(&self.path)),
            name,
            path: self.path.clone(),
            created: 0,
            presented: Presentation::Materialised,
            allow_other: false,
            environment: self.environment.clone(),
            environment_inputs: Vec::new(),
            source: SourceRecord {
                repository: self.path.display().to_string(),
                revision: None,
                commit: String::new(),
                tree: String::new(),
                date: 0,
                clone: PathBuf::new(),
            },
            env: self.env.clone(),
            run: RunRecord::default(),
            dependencies: Vec::new(),
        }
    }

    /// The nearest one at or above `path`.
    pub fn around(home: &Home, path: &Path) -> Option<Checkout> {
        let (root, key) = activate::environment_of(path, &home.envs())?;
        let found = read(&file(home, &root))?;
        (found.path == root && found.environment == key).then_some(found)
    }

    /// All those that still have their environment.
    pub fn all(home: &Home) -> Vec<Checkout> {
        let files = std::fs::read_dir(directory(home)).into_iter().flatten().flatten();
        files
            .filter_map(|entry| read(&entry.path()))
            .filter(|found| {
                std::fs::read_link(found.path.join(LINK))
                    .is_ok_and(|target| target == home.envs().join(&found.environment))
            })
            .collect()
    }
}

fn directory(home: &Home) -> PathBuf {
    home.root().join("checkouts")
}

fn file(home: &Home, root: &Path) -> PathBuf {
    directory(home).join(format!("{}.json", hash(root)))
}

/// By which a path is known.
fn hash(path: &Path) -> String {
    blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex()[..32].to_owned()
}

fn read(file: &Path) -> Option<Checkout> {
    let found: Checkout = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (found.version == VERSION).then_some(found)
}

/// Gives the checkout at `root` the tools of `lock`; takes the link away where that has none.
pub(super) fn attach(
    ctx: &Context,
    root: &Path,
    detected: &Detected,
    lock: &Lock,
) -> Result<(), WorkspaceError> {
    let place = root.join(".zagi");
    if place.is_symlink() {
        return Err(WorkspaceError::Linked(place));
    }
    if lock.platform(&ctx.platform).is_empty() {
        return gitdir::relink_environment(None, root).map_err(at(root));
    }
    let store = Store::open(&ctx.home.store())?;
    // Until the link says what must stay.
    let _hold = store.hold()?;
    let client = Client::new(ctx);
    let realised = prepare::step(
        ctx,
        "environment",
        || realise::realise(ctx, &client, &store, lock),
        |r| (prepare::tools(lock), if r.cached { "cached" } else { "realised" }.to_owned()),
    )?;
    let found = Checkout {
        version: VERSION,
        path: root.to_owned(),
        environment: realised.key,
        lock: lock.render(),
        env: detected.spec.env.clone(),
    };
    let file = file(&ctx.home, root);
    std::fs::create_dir_all(directory(&ctx.home)).map_err(at(&file))?;
    let text = serde_json::to_vec_pretty(&found).expect("every field has a form in JSON");
    write_whole(&file, &text).map_err(at(&file))?;
    std::fs::create_dir_all(&place).map_err(at(&place))?;
    gitdir::relink_environment(Some(&realised.dir), root).map_err(at(root))?;
    Ok(source::exclude(ctx, root, LINK)?)
}

impl Checkout {
    /// Whether its tools are those of the lock in its tree, and there.
    pub(super) fn is_current(&self, home: &Home) -> bool {
        let bytes = Directory::new(&self.path).read(lock::PATH).unwrap_or_default();
        bytes == self.lock.as_bytes()
            && home.envs().join(&self.environment).join(activate::FILE).is_file()
    }
}
