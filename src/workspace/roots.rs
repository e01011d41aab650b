//! What the workspaces of a home stand on, and what of its caches nobody used for long; the
//! store's collector is told both.
//!
//! | stands on | as long as |
//! |---|---|
//! | captured dependencies, with their record | the workspace is there |
//! | `envs/<key>` and its trees in the farm | a workspace or checkout has it, or it was mounted in the last 30 days |
//! | packages that these trees were made of | the workspace is there: to make the trees again |
//!
//! What cannot be read makes an error: whatever it stands on would be removed. The download
//! caches under `cache/` go by their files' times: one by one where each file stands for
//! itself, and by whole directories where their layout is a package manager's.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checkout::Checkout;
use super::description::{self, Description, DescriptionError};
use crate::context::Context;
use crate::dependencies;
use crate::environment::activate;
use crate::environment::lock::{Lock, LockError};
use crate::environment::realise;
use crate::store::{Collect, Collected, Roots, Store, StoreError, UNUSED, Unused};

/// How long the collector waits for those who are at the store.
const PATIENCE: Duration = Duration::from_secs(60);

/// Parts of `cache/` whose files stand for themselves, and what they are.
const BY_FILE: [(&str, &str); 5] = [
    ("http", "answers of registries"),
    ("files", "downloads"),
    ("plans", "plans"),
    ("trees", "listings of git trees"),
    ("dependencies", "logs of installations"),
];

/// Why it is not known what must stay.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A workspace's description.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A workspace's `env.lock`.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A workspace's dependencies.
    #[error("the description of `{workspace}` names `{tree}`, which is not the id of a tree")]
    BadId {
        /// Where the workspace is.
        workspace: PathBuf,
        /// What should be an id.
        tree: String,
    },
    /// The record of an environment that a workspace stands on.
    #[error("`{path}` does not say what the environment is made of")]
    Environment {
        /// The file.
        path: PathBuf,
    },
    /// A file or directory of the home.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RootsError {
    let path = path.to_owned();
    move |source| RootsError::Io { path, source }
}

/// Removes from the store, and from this home's caches, what no workspace needs.
pub fn collect(ctx: &Context, store: &Store, dry_run: bool) -> Result<Collected, StoreError> {
    let roots = || roots(ctx).map_err(Into::into);
    store.collect(&Collect { now: ctx.now, dry_run, patience: PATIENCE, roots: &roots })
}

/// What must stay and what need not.
pub fn roots(ctx: &Context) -> Result<Roots, RootsError> {
    let mut roots = Roots {
        caches: vec![realise::PACKAGES.to_owned(), dependencies::REFS.to_owned()],
        ..Roots::default()
    };
    let mut environments = BTreeSet::new();
    for workspace in Description::all(&ctx.home)? {
        for record in &workspace.dependencies {
            let tree = record.tree.parse().map_err(|_| RootsError::BadId {
                workspace: workspace.path.clone(),
                tree: record.tree.clone(),
            })?;
            let who = format!("the workspace `{}`", workspace.path.display());
            roots.trees.push((who, tree));
            roots.refs.insert(dependencies::ref_name(&record.key));
        }
        roots.refs.extend(packages(ctx, &workspace)?);
        if !workspace.environment.is_empty() {
            environments.insert(workspace.environment);
        }
    }
    for checkout in Checkout::all(&ctx.home) {
        let lock = Lock::parse(&checkout.path.to_string_lossy(), &checkout.lock)?;
        roots.refs.extend(realise::packages(&lock, &ctx.platform));
        environments.insert(checkout.environment);
    }
    add_environments(ctx, &environments, &mut roots)?;
    add_caches(ctx, &mut roots.unused)?;
    Ok(roots)
}

/// The refs of the packages that a workspace's tools were made of.
fn packages(ctx: &Context, workspace: &Description) -> Result<Vec<String>, RootsError> {
    let path = description::directory(&ctx.home, &workspace.id).join("env.lock");
    let text = match fs::read_to_string(&path) {
        // Discarded while we look.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(io_at(&path))?,
    };
    let lock = Lock::parse(&path.to_string_lossy(), &text)?;
    Ok(realise::packages(&lock, &ctx.platform))
}

/// Which environments stay and which do not, and the trees of those that do.
fn add_environments(
    ctx: &Context,
    needed: &BTreeSet<String>,
    roots: &mut Roots,
) -> Result<(), RootsError> {
    for path in entries(&ctx.home.envs())? {
        let key = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = path.join(activate::FILE);
        let used = fs::metadata(&file).is_ok_and(|found| found.mtime() >= ctx.now - UNUSED);
        let trees = fs::read(&file).ok().and_then(|bytes| activate::trees(&bytes));
        match trees {
            Some(trees) if needed.contains(&key) || used => {
                let keys = trees.iter().filter_map(|tree| tree.file_name()?.to_str());
                roots.farm_trees.extend(keys.map(str::to_owned));
            }
            None if needed.contains(&key) => return Err(RootsError::Environment { path: file }),
            _ => roots.unused.push(Unused { kind: "environments", path }),
        }
    }
    Ok(())
}

fn add_caches(ctx: &Context, unused: &mut Vec<Unused>) -> Result<(), RootsError> {
    let is_old = |found: &Metadata| found.atime().max(found.mtime()) < ctx.now - UNUSED;
    for directory in entries(&ctx.home.cache(""))? {
        let name = directory.file_name().unwrap_or_default();
        let Some((_, kind)) = BY_FILE.iter().find(|(of, _)| name == *of) else {
            if name.as_bytes().ends_with(b".removed") || !is_used(&directory, &is_old)? {
                unused.push(Unused { kind: "caches of package managers", path: directory });
            }
            continue;
        };
        for path in entries(&directory)? {
            if fs::symlink_metadata(&path).is_ok_and(|found| is_old(&found)) {
                unused.push(Unused { kind, path });
            }
        }
    }
    Ok(())
}

/// Whether a file below `path` was read or written lately. Stops at the first.
fn is_used(path: &Path, is_old: &dyn Fn(&Metadata) -> bool) -> Result<bool, RootsError> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(io_at(path))?,
    };
    if !found.is_dir() {
        return Ok(!is_old(&found));
    }
    // An empty one was made for what is about to come.
    let mut below = entries(path)?.into_iter().peekable();
    if below.peek().is_none() {
        return Ok(!is_old(&found));
    }
    below.try_fold(false, |used, path| Ok(used || is_used(&path, is_old)?))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, RootsError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    match list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(io_at(directory)),
    }
}
