//! What was changed in a workspace: for `status`, and for what `discard` would lose.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use zagi_fuse::delta::Delta;

use super::daemon::{Change, ChangeKind, client};
use super::description::{Description, Presentation};
use super::error::{WorkspaceError, at};
use super::gitdir::BUILT;
use super::{manage, mounts};
use crate::context::Context;
use crate::environment::activate;
use crate::services;

/// What differs from what was mounted.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// DIR.
    pub path: PathBuf,
    /// It can be entered now.
    pub mounted: bool,
    /// `fuse` or `materialised`.
    pub presented: String,
    /// The repository's own files.
    pub source: SourceStatus,
    /// What managers installed.
    pub dependencies: DependencyStatus,
    /// The tools.
    pub environment: EnvironmentStatus,
    /// The services that run.
    pub services: Vec<String>,
}

/// The repository's own files.
#[derive(Debug, Clone, Serialize)]
pub struct SourceStatus {
    /// REPO.
    pub repository: String,
    /// The commit that was mounted.
    pub commit: String,
    /// What differs from it.
    pub changes: Vec<Change>,
}

/// What managers installed.
#[derive(Debug, Clone, Serialize)]
pub struct DependencyStatus {
    /// The keys they were looked up by.
    pub keys: Vec<String>,
    /// What was edited in their directories.
    pub changes: Vec<Change>,
    /// Manifests and lock files that were edited since.
    pub stale: Vec<String>,
}

/// The tools.
#[derive(Debug, Clone, Serialize)]
pub struct EnvironmentStatus {
    /// The environment's key.
    pub key: String,
    /// It is another than the one that was mounted (`zagi add` and the like).
    pub changed: bool,
    /// A file it was read from that was edited since.
    pub stale: Option<String>,
}

/// What deleting a workspace would lose.
#[derive(Debug, Clone, Serialize)]
pub struct Loss {
    /// Changed source files.
    pub changes: Vec<Change>,
    /// Changed paths in dependency and build directories, which can be made again.
    pub generated: usize,
    /// Commits that are nowhere else.
    pub commits: Vec<String>,
    /// Bytes in all.
    pub bytes: u64,
}

impl Loss {
    /// Whether nobody would miss anything.
    pub fn is_nothing(&self) -> bool {
        self.changes.is_empty() && self.commits.is_empty()
    }
}

impl ChangeKind {
    /// As `git status --short` has it.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Created => 'A',
            ChangeKind::Modified => 'M',
            ChangeKind::Deleted => 'D',
        }
    }
}

/// What differs in the workspace that `dir` is in.
pub fn status(ctx: &Context, dir: &Path) -> Result<Status, WorkspaceError> {
    let description = manage::around(ctx, dir)?;
    let mounted = is_there(ctx, &description)?;
    let sorted = Sorted::of(&description, changes(ctx, &description)?);
    let edited = |files: &[String]| -> Vec<String> {
        let differs = |file: &&String| sorted.source.iter().any(|c| c.path == **file);
        files.iter().filter(differs).cloned().collect()
    };
    let inputs: Vec<String> =
        description.dependencies.iter().flat_map(|d| d.inputs.clone()).collect();
    Ok(Status {
        mounted,
        presented: description.presented.to_string(),
        dependencies: DependencyStatus {
            keys: description.dependencies.iter().map(|d| d.key.clone()).collect(),
            stale: edited(&inputs),
            changes: sorted.dependencies.clone(),
        },
        services: services::running(&manage::directory(ctx, &description)),
        environment: EnvironmentStatus {
            key: description.environment.clone(),
            changed: sorted.environment,
            stale: edited(&description.environment_inputs).into_iter().next(),
        },
        source: SourceStatus {
            repository: description.source.repository.clone(),
            commit: description.source.commit.clone(),
            changes: sorted.source,
        },
        path: description.path,
    })
}

/// What deleting the workspace at exactly `dir` would lose.
pub fn loss(ctx: &Context, dir: &Path) -> Result<Loss, WorkspaceError> {
    let description = manage::exactly(ctx, dir)?;
    manage::recover(ctx, &description)?;
    let all = changes(ctx, &description)?;
    let bytes = all.iter().map(|c| c.bytes).sum();
    let sorted = Sorted::of(&description, all);
    let has_files = mounts::has_files(&ctx.home, &description).map_err(at(dir))?;
    let commits = match has_files {
        true => unshared_commits(&description)?,
        // Git needs the directory; what its delta holds still tells that there are some.
        false => sorted.refs.iter().map(|path| format!("of `{path}`")).collect(),
    };
    Ok(Loss {
        changes: sorted.source,
        generated: sorted.dependencies.len() + sorted.build,
        commits,
        bytes,
    })
}

fn is_there(ctx: &Context, description: &Description) -> Result<bool, WorkspaceError> {
    mounts::is_there(&ctx.home, description).map_err(at(&description.path))
}

/// Everything that differs. For a mounted workspace the daemon knows; for one that is not,
/// its delta says; real files must be compared, which git does.
fn changes(ctx: &Context, description: &Description) -> Result<Vec<Change>, WorkspaceError> {
    match description.presented {
        Presentation::Materialised => git_changes(description),
        _ if is_there(ctx, description)? => Ok(client::changes(ctx, &description.id)?),
        _ => {
            let changes = Delta::changes(&description.delta(&ctx.home))?;
            Ok(changes.into_iter().map(Change::from).collect())
        }
    }
}

/// Changes, by what they concern.
#[derive(Default)]
struct Sorted {
    source: Vec<Change>,
    dependencies: Vec<Change>,
    /// How many are in directories that builds make.
    build: usize,
    /// Branches that moved.
    refs: Vec<String>,
    /// Whether the link to the environment is another.
    environment: bool,
}

impl Sorted {
    fn of(description: &Description, all: Vec<Change>) -> Sorted {
        let mut sorted = Sorted::default();
        let directories: Vec<&String> =
            description.dependencies.iter().flat_map(|d| &d.directories).collect();
        let paths: BTreeSet<String> = all.iter().map(|c| c.path.clone()).collect();
        // A new directory is told by what is in it.
        let told = |change: &Change| {
            let below = format!("{}/", change.path);
            change.kind == ChangeKind::Created
                && paths.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below))
        };
        for change in all.into_iter().filter(|c| !told(c)) {
            let path = &change.path;
            if let Some(branch) = path.strip_prefix(".git/refs/heads/") {
                sorted.refs.push(branch.to_owned());
            } else if is_in(path, ".git") {
                // git's own business
            } else if path == activate::LINK {
                sorted.environment = true;
            } else if path.starts_with(".zagi/cargo/.") {
                sorted.build += 1; // cargo's locks
            } else if path.split('/').any(|part| part == "__pycache__") {
                sorted.build += 1; // python keeps it beside what it imports, installed or not
            } else if directories.iter().any(|d| is_in(path, d)) {
                sorted.dependencies.push(change);
            } else if path.split('/').any(is_built) {
                sorted.build += 1;
            } else {
                sorted.source.push(change);
            }
        }
        sorted
    }
}

fn is_built(part: &str) -> bool {
    BUILT.iter().any(|built| match built.strip_prefix('*') {
        Some(ending) => part.ends_with(ending),
        None => part == *built,
    })
}

fn is_in(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The changed files of a directory of real files.
fn git_changes(description: &Description) -> Result<Vec<Change>, WorkspaceError> {
    let args = ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames"];
    let out = git(description, &args)?;
    let entries = out.split('\0').filter(|e| e.len() > 3);
    let changes = entries.map(|entry| {
        let (code, path) = entry.split_at(3);
        let kind = match code.trim() {
            "??" | "A" => ChangeKind::Created,
            "D" => ChangeKind::Deleted,
            _ => ChangeKind::Modified,
        };
        let bytes = std::fs::symlink_metadata(description.path.join(path)).map_or(0, |m| m.len());
        Change { path: path.to_owned(), kind, bytes }
    });
    Ok(changes.collect())
}

/// Commits on this workspace's branches that neither its base nor a remote has.
fn unshared_commits(description: &Description) -> Result<Vec<String>, WorkspaceError> {
    let args = [
        "log",
        "--oneline",
        "--no-decorate",
        "--branches",
        "HEAD",
        "--not",
        &description.source.commit,
        "--remotes",
        "--tags",
    ];
    Ok(git(description, &args)?.lines().map(str::to_owned).collect())
}

fn git(description: &Description, args: &[&str]) -> Result<String, WorkspaceError> {
    let failed = |message: String| WorkspaceError::Git { path: description.path.clone(), message };
    let out = Command::new("git")
        .arg("-C")
        .arg(&description.path)
        .args(args)
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !out.status.success() {
        return Err(failed(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
