//! A workspace comes to be, or comes back.
//!
//! Nothing shows before it is whole: the description and the delta are made in the scratch
//! directory and renamed into place, DIR is made last, and a mount that fails takes both
//! away again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::daemon::client;
use super::description::{
    self, DependencyRecord, Description, Presentation, RunRecord, SourceRecord, VERSION,
};
use super::error::{WorkspaceError, at};
use super::prepare::{self, Prepared};
use super::{gitdir, materialise, mounts, services};
use crate::context::Context;
use crate::source::Address;
use crate::store::Store;

/// What `zagi mount` was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// REPO.
    pub repository: String,
    /// DIR, absolute; by default the repository's name below `cwd`.
    pub directory: Option<PathBuf>,
    /// Where relative repositories are looked for.
    pub cwd: PathBuf,
    /// How it is to be presented; by default the best way that this machine allows, and of one
    /// that is resumed as it was.
    pub presented: Option<Presentation>,
    /// Whether other users are let in. Of a workspace that is resumed: from now on.
    pub allow_other: bool,
    /// Whether to install dependencies.
    pub dependencies: bool,
}

/// Makes a workspace of a repository, or resumes the one that is at DIR.
pub fn mount(ctx: &Context, request: &Request) -> Result<Description, WorkspaceError> {
    if request.directory.is_none() {
        // `zagi mount DIR`: a workspace's own directory says which repository it is of.
        // Without the `.` of `./web`: a workspace is known by one way to write its path.
        let dir: PathBuf = request.cwd.join(&request.repository).components().collect();
        if let Some(found) = Description::at(&ctx.home, &dir)? {
            return resume(ctx, request, found);
        }
    }
    let address = Address::parse(&request.repository, &ctx.config.default_host, &request.cwd)?;
    let dir = request.directory.clone().unwrap_or_else(|| request.cwd.join(address.name()));
    match Description::at(&ctx.home, &dir)? {
        Some(found) if is_of(&found, &address) => return resume(ctx, request, found),
        Some(found) => {
            return Err(WorkspaceError::Taken { path: dir, by: found.source.repository });
        }
        None => check_empty(&dir)?, // before anything that takes long
    }
    let presented = presentation(ctx, request)?;
    let store = Store::open(&ctx.home.store())?;
    // Until the description says what must stay.
    let _hold = store.hold()?;
    let prepared = prepare::prepare(ctx, &store, &address, request.dependencies)?;
    let description = describe(ctx, request, &prepared, &dir, presented)?;
    present(ctx, &store, &description, &prepared)?;
    Ok(description)
}

/// Whether a workspace is of what was asked for now, said as before or without the revision.
fn is_of(found: &Description, address: &Address) -> bool {
    let asked = address.to_string();
    let revision = found.source.revision.as_deref().map_or(String::new(), |r| format!("@{r}"));
    asked == found.source.repository || format!("{asked}{revision}") == found.source.repository
}

fn resume(
    ctx: &Context,
    request: &Request,
    mut description: Description,
) -> Result<Description, WorkspaceError> {
    let dir = &description.path;
    if description.presented == Presentation::Materialised {
        return match dir.is_dir() {
            true => Err(WorkspaceError::AlreadyThere(dir.clone())),
            false => Err(WorkspaceError::Gone(dir.clone())),
        };
    }
    let served = client::status(ctx)?.is_some_and(|s| holds(&s, &description));
    // A delta cannot become real files.
    let asked = request.presented.filter(|asked| *asked != Presentation::Materialised);
    let same = asked.is_none_or(|asked| asked == description.presented);
    if served && mounts::is_there(&ctx.home, &description).map_err(at(dir))? {
        // The kernel's side of it may still be wanting; whoever asks is told how to come by it.
        return match description.presented {
            Presentation::Nfs if same => Ok(description),
            _ => Err(WorkspaceError::AlreadyThere(dir.clone())),
        };
    }
    if request.allow_other && !description.allow_other || !same {
        description.allow_other |= request.allow_other;
        description.presented = asked.unwrap_or(description.presented);
        if description.presented == Presentation::Nfs && description.allow_other {
            return Err(WorkspaceError::NfsIsPrivate(dir.clone()));
        }
        description.write(&description::directory(&ctx.home, &description.id))?;
    }
    let dir = &description.path;
    prepare::step(
        ctx,
        description.presented.step(),
        || -> Result<_, WorkspaceError> {
            make_directory(dir)?;
            Ok(client::mount(ctx, &description.id)?)
        },
        |()| (description.presented.to_string(), "resumed".into()),
    )?;
    Ok(description)
}

fn holds(status: &super::daemon::Status, description: &Description) -> bool {
    status.mounts.iter().any(|m| m.id == description.id)
}

/// The best way that this machine allows, said aloud where it is not the usual one.
fn presentation(ctx: &Context, request: &Request) -> Result<Presentation, WorkspaceError> {
    if let Some(asked) = request.presented {
        return Ok(asked);
    }
    match mounts::fuse_lack(ctx) {
        None => Ok(Presentation::Fuse),
        Some(lack) => {
            ctx.events.emit(crate::event::Event::Warning(format!(
                "no FUSE here ({lack}): making real files instead; `zagi doctor` says what to do"
            )));
            Ok(Presentation::Materialised)
        }
    }
}

/// DIR may be missing, or an empty directory.
fn check_empty(dir: &Path) -> Result<(), WorkspaceError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(WorkspaceError::NotEmpty(dir.to_owned())),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(at(dir)(e)),
    }
}

/// Makes DIR; `true` if it was not there.
fn make_directory(dir: &Path) -> Result<bool, WorkspaceError> {
    let missing = !dir.exists();
    std::fs::create_dir_all(dir).map_err(at(dir))?;
    Ok(missing)
}

/// Puts the description under the home, with everything that the mount will read.
fn describe(
    ctx: &Context,
    request: &Request,
    prepared: &Prepared,
    dir: &Path,
    presented: Presentation,
) -> Result<Description, WorkspaceError> {
    let (id, scratch) = reserve(ctx, dir)?;
    let resolved = &prepared.plan.resolved;
    let detected = &prepared.plan.detected;
    let mut description = Description {
        version: VERSION,
        id,
        name: dir.file_name().map_or_else(|| resolved.name.clone(), |n| n.to_string_lossy().into()),
        path: dir.to_owned(),
        created: ctx.now,
        presented,
        allow_other: request.allow_other && presented == Presentation::Fuse,
        environment: prepared.realised.as_ref().map_or_else(String::new, |r| r.key.clone()),
        environment_inputs: Vec::new(),
        source: SourceRecord {
            repository: resolved.spec.clone(),
            revision: resolved.revision.clone(),
            commit: resolved.commit.clone(),
            tree: resolved.tree.clone(),
            date: resolved.date,
            clone: resolved.repo.strip_prefix(ctx.home.root()).unwrap_or(&resolved.repo).into(),
        },
        env: BTreeMap::new(),
        run: RunRecord::default(),
        dependencies: prepared.dependencies.iter().map(record).collect(),
    };
    description.asks(detected);
    description.write(&scratch)?;
    let comments = prepare::comments(detected);
    write(&scratch.join("env.toml"), detected.spec.render(&comments).as_bytes())?;
    write(&scratch.join("env.lock"), prepared.plan.lock.render().as_bytes())?;
    services::settle(ctx, &description.id, &detected.spec, &scratch)?;
    if presented != Presentation::Materialised {
        gitdir::write(ctx, resolved, &description, &scratch)?;
    }
    let place = description::directory(&ctx.home, &description.id);
    std::fs::rename(&scratch, &place).map_err(at(&place))?;
    description.link(&ctx.home)?;
    Ok(description)
}

fn record(
    (plan, provided): &(crate::dependencies::Plan, crate::dependencies::Provided),
) -> DependencyRecord {
    DependencyRecord {
        key: provided.key.clone(),
        manager: provided.manager.clone(),
        tree: provided.tree.to_string(),
        directories: provided.paths.clone(),
        inputs: plan.project.manifests.clone(),
        vars: plan.vars.clone(),
    }
}

/// A new id, and a scratch directory to become `workspaces/<id>`.
fn reserve(ctx: &Context, dir: &Path) -> Result<(String, PathBuf), WorkspaceError> {
    let mut attempt = 0;
    loop {
        let id = description::new_id(ctx, dir, attempt);
        let scratch = ctx.home.tmp().join(&id);
        if !description::directory(&ctx.home, &id).exists() {
            std::fs::create_dir(&scratch).map_err(at(&scratch))?;
            return Ok((id, scratch));
        }
        attempt += 1;
    }
}

fn write(path: &Path, data: &[u8]) -> Result<(), WorkspaceError> {
    std::fs::write(path, data).map_err(at(path))
}

/// Shows it at DIR. What cannot be shown does not stay.
fn present(
    ctx: &Context,
    store: &Store,
    description: &Description,
    prepared: &Prepared,
) -> Result<(), WorkspaceError> {
    let dir = &description.path;
    let mut made = false;
    let shown = prepare::step(
        ctx,
        description.presented.step(),
        || -> Result<String, WorkspaceError> {
            match description.presented {
                Presentation::Fuse | Presentation::Nfs => {
                    made = make_directory(dir)?;
                    client::mount(ctx, &description.id)?;
                    Ok(String::new())
                }
                Presentation::Materialised => {
                    Ok(materialise::materialise(ctx, store, description, prepared)?)
                }
            }
        },
        |note| (description.presented.to_string(), note.clone()),
    );
    if let Err(e) = shown {
        if made {
            let _ = std::fs::remove_dir(dir);
        }
        description.unlink(&ctx.home);
        let _ = std::fs::remove_dir_all(description::directory(&ctx.home, &description.id));
        return Err(e);
    }
    Ok(())
}
