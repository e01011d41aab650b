//! The main road up to the mount: source → what it needs → environment → dependencies.
//!
//! The plan (what was detected, and the lock it was resolved to) is kept under
//! `cache/plans/`, by everything it follows from: the git tree, the commit's date, the
//! platform, the configured addresses, whether there is a Nix for flakes, and the program itself.
//! A second mount reads it and looks up the rest. A plan without what a flake would give is not
//! kept where Nix failed: the reason may be gone the next time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::error::WorkspaceError;
use super::{flakes, gitdir};
use crate::context::Context;
use crate::dependencies::{self, Provided};
use crate::environment::catalog::{self, Catalog};
use crate::environment::detect::{Detected, Requirement, detect};
use crate::environment::files::{Directory, Files};
use crate::environment::flake::{self, Tree};
use crate::environment::lock::{self, FLAKE, Lock};
use crate::environment::realise::{self, FetchError, RealiseError, Realised};
use crate::environment::resolve;
use crate::environment::stranger;
use crate::environment::system;
use crate::environment::version::{Constraint, Version};
use crate::event::{self, Event};
use crate::registry::http::Client;
use crate::source::{self, GitFiles, How, Resolved};
use crate::store::Store;

/// What a repository is and needs, before anything is realised.
pub struct Plan {
    /// Its source.
    pub resolved: Resolved,
    /// What it asks for, with the evidence.
    pub detected: Detected,
    /// What that was resolved to.
    pub lock: Lock,
    /// Whether it was looked up rather than resolved.
    pub cached: bool,
}

/// Everything a workspace stands on.
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The environment; `None` where the repository needs no tool.
    pub realised: Option<Realised>,
    /// What its managers installed.
    pub dependencies: Vec<(dependencies::Plan, Provided)>,
}

/// The file under `cache/plans/`.
#[derive(Serialize, Deserialize)]
struct Cached {
    detected: Detected,
    /// `env.lock`, in its own format.
    lock: String,
}

/// Resolves REPO and what it needs; downloads no tool.
pub fn plan(ctx: &Context, client: &Client, resolved: Resolved) -> Result<Plan, WorkspaceError> {
    let path = cache_file(ctx, &resolved);
    if let Some((detected, lock)) = read(&path) {
        return Ok(Plan { resolved, detected, lock, cached: true });
    }
    let detected = detected(ctx, &resolved)?;
    settle(ctx, client, resolved, detected)
}

/// Resolves what was detected, unless the tree brings a lock that fits, and keeps it.
fn settle(
    ctx: &Context,
    client: &Client,
    resolved: Resolved,
    detected: Detected,
) -> Result<Plan, WorkspaceError> {
    let lock = match locked(ctx, &resolved, &detected)? {
        Some(lock) => lock,
        None => decide(ctx, client, &resolved, &detected)?,
    };
    let plan = Plan { resolved, detected, lock, cached: false };
    keep(ctx, &plan);
    Ok(plan)
}

/// Writes a plan to where the next mount finds it.
fn keep(ctx: &Context, plan: &Plan) {
    let (path, lock) = (cache_file(ctx, &plan.resolved), &plan.lock);
    let failed = plan.detected.flake.is_some() && flakes::of(lock, ctx).is_none();
    if failed && flake::is_possible(ctx) {
        return;
    }
    let cached = Cached { detected: plan.detected.clone(), lock: lock.render() };
    if let Ok(json) = serde_json::to_vec(&cached) {
        // Only a cache: what cannot be kept is found out again.
        let _ = path.parent().map(fs::create_dir_all);
        let _ = super::description::write_whole(&path, &json);
    }
}

/// Resolves what was detected, whatever lock the tree brings; its flake, if there is one, first.
fn decide(
    ctx: &Context,
    client: &Client,
    resolved: &Resolved,
    detected: &Detected,
) -> Result<Lock, WorkspaceError> {
    let lay_out = |dest: &Path| {
        source::checkout(ctx, resolved, &[], dest).map_err(io::Error::other)?;
        fs::remove_dir_all(dest.join(".git"))
    };
    let kept = flakes::add(ctx, detected, &Tree::Commit(&lay_out, resolved.date), Lock::default());
    Ok(resolve::resolve(ctx, client, detected, resolved.date, &kept)?)
}

/// Where a user says where more tools come from.
pub(super) fn user_catalog(ctx: &Context) -> PathBuf {
    ctx.home.root().join("catalog.toml")
}

/// The lock that the tree brings, if it has every tool that is asked for.
fn locked(
    ctx: &Context,
    resolved: &Resolved,
    detected: &Detected,
) -> Result<Option<Lock>, WorkspaceError> {
    let files = GitFiles::open(&resolved.repo, &resolved.tree)?;
    let Some(bytes) = files.read(lock::PATH) else { return Ok(None) };
    let lock = brought(ctx, &bytes)?;
    flakes::compare(ctx, detected, &lock);
    match missing(&lock, ctx, detected)?.first() {
        None => Ok(Some(lock)),
        Some(tool) => {
            ctx.events.emit(Event::Warning(format!(
                "{} has no {} {}: everything is resolved anew; `zagi lock` writes it",
                lock::PATH,
                tool.tool,
                tool.constraint
            )));
            Ok(None)
        }
    }
}

/// The lock that a tree brings, whose text is `bytes`: a stranger may have written it.
pub(super) fn brought(ctx: &Context, bytes: &[u8]) -> Result<Lock, WorkspaceError> {
    let lock = Lock::parse(lock::PATH, &String::from_utf8_lossy(bytes))?;
    let catalog = Catalog::load(&user_catalog(ctx))?;
    let foreign =
        |tool| stranger::foreign_program(&catalog, tool).map(|p| (tool.name.clone(), p.to_owned()));
    match lock.tools.iter().find_map(foreign) {
        Some((tool, program)) => {
            Err(WorkspaceError::ForeignProgram { file: lock::PATH, tool, program })
        }
        None => Ok(lock),
    }
}

/// What the repository asks for. Reads the commit, nothing else.
pub fn detected(ctx: &Context, resolved: &Resolved) -> Result<Detected, WorkspaceError> {
    let files = GitFiles::open(&resolved.repo, &resolved.tree)?;
    Ok(detect(&files, resolved.date, &ctx.platform))
}

fn read(path: &Path) -> Option<(Detected, Lock)> {
    let cached: Cached = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some((cached.detected, Lock::parse("env.lock", &cached.lock).ok()?))
}

fn cache_file(ctx: &Context, resolved: &Resolved) -> PathBuf {
    let inputs = serde_json::json!({
        "tree": resolved.tree,
        "date": resolved.date,
        "platform": ctx.platform.to_string(),
        "addresses": format!("{:?}", ctx.config.addresses),
        "program": env!("CARGO_PKG_VERSION"),
        "flakes": flake::is_possible(ctx),
        "catalogue": catalog::digest(&user_catalog(ctx)),
    });
    let key = blake3::hash(inputs.to_string().as_bytes()).to_hex();
    ctx.home.cache("plans").join(format!("{}.json", &key[..32]))
}

/// The whole road up to the mount.
pub fn prepare(
    ctx: &Context,
    store: &Store,
    address: &source::Address,
    with_dependencies: bool,
) -> Result<Prepared, WorkspaceError> {
    let client = Client::new(ctx);
    let resolved = step(
        ctx,
        "source",
        || source::resolve(ctx, &client, address),
        |r| (format!("{}@{}", r.name, &r.commit[..7]), fetched(r)),
    )?;
    let (mut plan, mut realised) =
        environment(ctx, &client, store, || plan(ctx, &client, resolved))?;
    for note in plan.detected.notes.iter().filter(|_| !plan.cached) {
        ctx.events.emit(Event::Warning(note.text.clone()));
    }
    let mut dependencies = Vec::new();
    if let (true, Some(tools)) = (with_dependencies, &realised) {
        dependencies = provide(ctx, store, &plan, tools)?;
        if let Some(raised) = raised(ctx, &plan, &dependencies) {
            let resolved = plan.resolved;
            (plan, realised) =
                environment(ctx, &client, store, || settle(ctx, &client, resolved, raised))?;
            if let Some(tools) = &realised {
                dependencies = provide(ctx, store, &plan, tools)?;
            }
        }
    }
    flakes::leave_to(ctx, &mut plan.detected, &plan.lock);
    Ok(Prepared { plan, realised, dependencies })
}

/// Makes the plan and realises it, as one step.
fn environment(
    ctx: &Context,
    client: &Client,
    store: &Store,
    plan: impl FnOnce() -> Result<Plan, WorkspaceError>,
) -> Result<(Plan, Option<Realised>), WorkspaceError> {
    step(
        ctx,
        "environment",
        || {
            let mut plan = plan()?;
            let realise = |lock: &Lock| match lock.tools.is_empty() {
                true => Ok(None),
                false => realise::realise(ctx, client, store, lock).map(Some),
            };
            let realised = match realise(&plan.lock) {
                Err(e) if is_unpublished(&e) => {
                    let text = format!("{e}; what {} has of the flake is not used", lock::PATH);
                    ctx.events.emit(Event::Warning(text));
                    plan.lock = decide(ctx, client, &plan.resolved, &plan.detected)?;
                    plan.cached = false;
                    keep(ctx, &plan);
                    realise(&plan.lock)
                }
                realised => realised,
            };
            Ok((plan, realised?))
        },
        |(plan, realised)| {
            let cached = realised.as_ref().is_none_or(|r| r.cached);
            let note = if cached { "cached" } else { "realised" };
            (tools(&plan.lock), note.to_owned())
        },
    )
}

/// Whether what a flake gave on another machine cannot be had here.
fn is_unpublished(error: &RealiseError) -> bool {
    matches!(error, RealiseError::Fetch(FetchError::Unpublished { .. }))
}

/// What was detected, with what the installed dependencies turned out to need of a tool
/// (a newer compiler than the project itself asks for); `None` where all of it is there.
fn raised(
    ctx: &Context,
    plan: &Plan,
    dependencies: &[(dependencies::Plan, Provided)],
) -> Option<Detected> {
    let mut detected = plan.detected.clone();
    let mut changed = false;
    for need in dependencies.iter().flat_map(|(_, provided)| &provided.needs) {
        let Ok(minimum) = Version::parse(&need.version) else { continue };
        let Some(tool) = detected.tools.iter_mut().find(|t| t.tool == need.tool) else { continue };
        let wanted = tool.constraint.intersect(&Constraint::at_least(&minimum));
        if wanted == tool.constraint || has(&plan.lock, ctx, &need.tool, &wanted) {
            continue;
        }
        ctx.events.emit(Event::Warning(format!(
            "{} needs {} {} or newer",
            need.by, need.tool, need.version
        )));
        if !tool.pinned && !wanted.is_none() {
            tool.constraint = wanted;
            changed = true;
        }
    }
    changed.then_some(detected)
}

/// What is asked for and not in the lock.
pub(super) fn missing(
    lock: &Lock,
    ctx: &Context,
    detected: &Detected,
) -> Result<Vec<Requirement>, WorkspaceError> {
    let asked = resolve::requirements(&Catalog::load(&user_catalog(ctx))?, detected).into_iter();
    let given = flakes::of(lock, ctx);
    let answered = |r: &Requirement| given.is_some_and(|flake| resolve::is_answered(flake, r));
    let tools = asked.filter(|r| !answered(r) && !has(lock, ctx, &r.tool, &r.constraint));
    let stale = flakes::is_stale(ctx, detected, lock) && flake::is_possible(ctx);
    let tools = tools.chain(stale.then(|| Requirement::any(FLAKE)));
    let platform = lock.platform(&ctx.platform);
    let locked = platform.iter().find(|tool| tool.name == system::NAME).copied();
    let packages = system::missing(locked, &detected.spec.system).into_iter();
    // What is only guessed need not be had.
    let packages = packages.filter(|name| !detected.is_guessed(name));
    Ok(tools.chain(packages.map(|name| Requirement::any(&name))).collect())
}

/// Whether the lock has `tool` for this machine in a version that will do.
pub(super) fn has(lock: &Lock, ctx: &Context, tool: &str, wanted: &Constraint) -> bool {
    lock.platform(&ctx.platform).iter().any(|locked| {
        locked.name == tool && Version::parse(&locked.version).is_ok_and(|v| wanted.matches(&v))
    })
}

fn provide(
    ctx: &Context,
    store: &Store,
    plan: &Plan,
    realised: &Realised,
) -> Result<Vec<(dependencies::Plan, Provided)>, WorkspaceError> {
    let resolved = &plan.resolved;
    let files = GitFiles::open(&resolved.repo, &resolved.tree)?;
    let ids = dependencies::Ids { tree: resolved.tree.clone(), commit: resolved.commit.clone() };
    let plans = dependencies::plan(ctx, &plan.detected, &realised.key, &files, &ids);
    if plans.is_empty() {
        return Ok(Vec::new());
    }
    let tools = dependencies::Tools::of(realised);
    // As it will stand in the workspace, the link to the environment included.
    let checkout = |dest: &Path| {
        source::checkout(ctx, resolved, &gitdir::exclude(resolved, &[]), dest)
            .map_err(std::io::Error::other)?;
        gitdir::link_environment(&realised.dir, dest)
    };
    step(
        ctx,
        "dependencies",
        || -> Result<_, WorkspaceError> {
            let mut all = Vec::new();
            for plan in plans {
                let provided = dependencies::provide(ctx, store, &tools, &plan, &checkout)?;
                all.push((plan, provided));
            }
            Ok(all)
        },
        |all| {
            let packages: u64 = all.iter().map(|(_, p)| p.packages).sum();
            let files: u64 = all.iter().map(|(_, p)| p.files).sum();
            let cached = all.iter().all(|(_, p)| p.cached);
            let note = if cached { "cached" } else { "installed" };
            (format!("{} packages, {} files", grouped(packages), grouped(files)), note.to_owned())
        },
    )
}

/// Runs one step and reports it as a line.
pub(super) fn step<T, E>(
    ctx: &Context,
    step: &'static str,
    work: impl FnOnce() -> Result<T, E>,
    tell: impl FnOnce(&T) -> (String, String),
) -> Result<T, E> {
    ctx.events.emit(Event::Begin { step });
    let begun = Instant::now();
    let done = work()?;
    let (detail, note) = tell(&done);
    ctx.events.emit(Event::End { step, detail, note, took: begun.elapsed() });
    Ok(done)
}

fn fetched(resolved: &Resolved) -> String {
    match &resolved.how {
        How::Cached => "cached".into(),
        How::Fetched if resolved.fetched_bytes == 0 => "copied".into(),
        How::Fetched => format!("fetched {}", event::bytes(resolved.fetched_bytes)),
        How::Fallback { .. } => "as fetched last".into(),
    }
}

/// `node 22.19.0, pnpm 10.15.1`.
pub(super) fn tools(lock: &Lock) -> String {
    let shown = |tool: &lock::Tool| match tool.asked.as_slice() {
        [] if tool.is_flake() => "flake.nix".into(),
        [] => format!("{} {}", tool.name, tool.version),
        packages => packages.join(", "),
    };
    let tools: Vec<String> = lock.tools.iter().map(shown).collect();
    if tools.is_empty() { "no tools needed".into() } else { tools.join(", ") }
}

/// `14,832`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// For each tool and service of an `env.toml`, where it was read: its comment.
pub(super) fn comments(detected: &Detected) -> BTreeMap<String, String> {
    let asked = detected.asked().filter_map(|(table, asked)| {
        let from: Vec<String> =
            asked.evidence.iter().take(2).map(|e| format!("{}: {}", e.file, e.text)).collect();
        (!from.is_empty()).then(|| (format!("{table}.{}", asked.tool), from.join("; ")))
    });
    asked.collect()
}

/// What a directory asks for as it is now, and what that is resolved to.
pub(super) fn environment_of(
    ctx: &Context,
    dir: &Path,
) -> Result<(Detected, Lock), WorkspaceError> {
    let detected = detect(&Directory::new(dir), ctx.now, &ctx.platform);
    let kept = flakes::add(ctx, &detected, &Tree::Directory(dir), Lock::default());
    let lock = resolve::resolve(ctx, &Client::new(ctx), &detected, ctx.now, &kept)?;
    Ok((detected, lock))
}
