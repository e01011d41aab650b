//! From a lock to programs that can be run.
//!
//! 1. Every part is fetched, verified, unpacked and captured in the store as it was
//!    published; that is done once for whatever is made of it.
//! 2. Every tool becomes a tree of the farm, fixed up for this home ([`super::tree`]).
//! 3. `$ZAGI_HOME/envs/<key>/` gets `bin/` and `activate.json`, at once or not at all.
//!
//! What has been realised is found again by one small file.
//!
//! Scripts of packages never run. The catalogue's own finishing commands (compiling Python's
//! modules) do, in the `install` sandbox: a lock may come with a stranger's repository.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use zagi_sandbox::{Exit, Plan, Profile, SandboxError};

use super::activate::{self, Activation, Record};
use super::bins::{self, BinError};
use super::catalog::{Catalog, CatalogError};
use super::fetch::{self, Packages};
use super::launch::View;
use super::lock::{Lock, Part, Tool};
use super::native::Nix;
use super::place::Place;
use super::stranger;
use super::system;
use super::tree::{self, TreeError};
use super::view::Shown;
use crate::context::{Context, Platform};
use crate::event::Event;
use crate::registry::digest::Digest;
use crate::registry::http::Client;
use crate::registry::nix::STORE;
use crate::store::{Store, StoreError};

pub use super::fetch::{FetchError, PACKAGES};

/// Where tools of the workspace itself are.
const WORKSPACE_PATH: [&str; 3] =
    ["{workspace}/.venv/bin", "{workspace}/node_modules/.bin", "{workspace}/.zagi/env/bin"];

/// An environment that can be used.
#[derive(Debug, Clone)]
pub struct Realised {
    /// The lock's key.
    pub key: String,
    /// `$ZAGI_HOME/envs/<key>`: `bin/`, `activate.json`.
    pub dir: PathBuf,
    /// What it means to be in it.
    pub activation: Activation,
    /// What its programs must see at `/nix/store`, where some do.
    pub view: Option<View>,
    /// The trees of the farm that it is made of, and what it needs of the machine's own Nix.
    pub trees: Vec<PathBuf>,
    /// It was there already.
    pub cached: bool,
}

/// Why there is no such environment.
#[derive(Debug, thiserror::Error)]
pub enum RealiseError {
    /// A part cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tool's tree.
    #[error("{tool}: {source}")]
    Tree {
        /// The tool.
        tool: String,
        /// What is wrong.
        source: TreeError,
    },
    /// The catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The programs.
    #[error(transparent)]
    Bins(#[from] BinError),
    /// A program of this machine is not the one that was adopted.
    #[error(
        "`{path}` has changed since it was adopted as {tool}: it has digest {found}, expected {expected}"
    )]
    Adopted {
        /// The tool.
        tool: String,
        /// The program.
        path: PathBuf,
        /// What the lock says.
        expected: Box<Digest>,
        /// What it has.
        found: Box<Digest>,
    },
    /// The lock wants a variable that it must not set.
    #[error("{tool} may not set the variable `{name}`")]
    Variable {
        /// The tool.
        tool: String,
        /// The variable.
        name: String,
    },
    /// The lock has nothing for this machine.
    #[error("the lock is for {found}, not for {platform}")]
    Platform {
        /// This machine.
        platform: String,
        /// What it is for.
        found: String,
    },
    /// The home stands where programs could not be found.
    #[error(
        "no program can be started from `{path}`: a colon separates directories in a search path"
    )]
    Home {
        /// The home.
        path: PathBuf,
    },
    /// A file of the environment.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> RealiseError + use<> {
    let path = path.to_owned();
    move |source| RealiseError::Write { path, source }
}

/// Makes the environment of `lock` for this machine, or finds it.
pub fn realise(
    ctx: &Context,
    client: &Client,
    store: &Store,
    lock: &Lock,
) -> Result<Realised, RealiseError> {
    let key = lock.key();
    if let Some(found) = look_up(ctx, &key) {
        touch(ctx, &found);
        return Ok(found);
    }
    let home = ctx.home.root();
    if home.as_os_str().as_encoded_bytes().contains(&b':') {
        return Err(RealiseError::Home { path: home.to_owned() });
    }
    let tools = lock.platform(&ctx.platform);
    if tools.is_empty() && !lock.tools.is_empty() {
        let mut found: Vec<&str> = lock.tools.iter().map(|t| t.platform.as_str()).collect();
        found.dedup();
        let (platform, found) = (ctx.platform.to_string(), found.join(", "));
        return Err(RealiseError::Platform { platform, found });
    }
    tools.iter().try_for_each(|tool| check(tool))?;
    let catalog = Catalog::load(&home.join("catalog.toml"))?;
    let words = catalog.words(&ctx.platform, &ctx.config.addresses);
    let mut plans: Vec<Place<'_>> =
        tools.iter().map(|tool| Place::new(ctx, &words, tool)).collect();
    let caches = catalog.nix_caches(&words);
    let nix = Nix::of(ctx).filter(|nix| nix.brings(&tools, &caches));
    for plan in &mut plans {
        plan.native = nix.is_some() && plan.tool.is_of_nix();
    }
    let missing: Vec<&Place<'_>> = plans.iter().filter(|plan| plan.is_missing()).collect();
    let mut parts: Vec<&Part> = missing.iter().flat_map(|plan| &plan.tool.parts).collect();
    let shown = Shown::of(ctx, &plans);
    parts.extend(shown.iter().flat_map(Shown::missing).copied());
    let packages = fetch::fetch(ctx, client, store, &parts, &caches)?;
    for place in missing {
        build(ctx, store, place, &packages)?;
    }
    if let Some(shown) = &shown {
        shown.build(store, &packages)?;
    }
    let envs = ctx.home.envs();
    let record = Record {
        version: activate::VERSION,
        key: key.clone(),
        root: home.to_owned(),
        activation: activation(&plans, &envs.join(&key)),
        trees: trees(&plans, shown.as_ref()),
        view: shown.map(|shown| shown.view(ctx)),
    };
    publish(ctx, &record, &plans, &catalog)?;
    if let Some(nix) = &nix {
        nix.keep(&envs.join(&record.key), &tools);
    }
    Ok(Realised {
        key,
        dir: envs.join(&record.key),
        activation: record.activation,
        view: record.view,
        trees: record.trees,
        cached: false,
    })
}

/// What must be there as long as the environment is.
fn trees(plans: &[Place<'_>], shown: Option<&Shown<'_>>) -> Vec<PathBuf> {
    let own = plans.iter().filter(|plan| plan.has_tree()).map(|plan| &plan.root);
    let mut trees: Vec<PathBuf> = own.cloned().collect();
    trees.extend(shown.map(|shown| shown.root.clone()).filter(|root| !trees.contains(root)));
    // All that they refer to: a sandbox shows what is here and nothing else of the machine's.
    let native = plans.iter().filter(|plan| plan.native).flat_map(|plan| &plan.tool.parts);
    trees.extend(native.map(|part| Path::new(STORE).join(&part.name)));
    trees.sort();
    trees.dedup();
    trees
}

/// An environment that was realised before, and of which nothing has been removed.
pub fn look_up(ctx: &Context, key: &str) -> Option<Realised> {
    let envs = ctx.home.envs();
    let record = Record::read(&envs, key)?;
    // Its launchers name this program, which may have moved.
    let startable = record.view.as_ref().is_none_or(|view| view.zagi.is_file());
    let trees = record.trees.iter().all(|tree| tree.is_dir());
    let whole = record.root == ctx.home.root() && trees && startable;
    whole.then(|| Realised {
        key: key.to_owned(),
        dir: envs.join(key),
        activation: record.activation,
        view: record.view,
        trees: record.trees,
        cached: true,
    })
}

/// The refs under which the store has what the tools of `lock` are made of.
pub fn packages(lock: &Lock, platform: &Platform) -> Vec<String> {
    let tools = lock.platform(platform).into_iter();
    tools.flat_map(|tool| &tool.parts).map(fetch::reference).collect()
}

/// Dates an environment now: it is in use.
fn touch(ctx: &Context, found: &Realised) {
    let now = UNIX_EPOCH + Duration::from_secs(ctx.now.unsigned_abs());
    // At the worst it is made again one day.
    let _ = File::open(found.dir.join(activate::FILE)).and_then(|file| file.set_modified(now));
}

/// What a lock must not say, or what is no longer so.
fn check(tool: &Tool) -> Result<(), RealiseError> {
    if let Some(name) = tool.env.keys().find(|name| !activate::may_set(name)) {
        let (tool, name) = (tool.name.clone(), name.clone());
        return Err(RealiseError::Variable { tool, name });
    }
    check_adopted(tool)
}

fn check_adopted(tool: &Tool) -> Result<(), RealiseError> {
    for adopted in &tool.adopted {
        let bytes = std::fs::read(&adopted.path).map_err(failed(&adopted.path))?;
        let found = adopted.hash.of_same_kind(&bytes);
        if found != adopted.hash {
            return Err(RealiseError::Adopted {
                tool: tool.name.clone(),
                path: adopted.path.clone(),
                expected: Box::new(adopted.hash),
                found: Box::new(found),
            });
        }
    }
    Ok(())
}

/// Builds one tool's tree.
fn build(
    ctx: &Context,
    store: &Store,
    place: &Place<'_>,
    packages: &Packages,
) -> Result<(), RealiseError> {
    if !place.has_tree() {
        return Ok(());
    }
    let ids = packages.of(place.tool);
    ctx.events.emit(Event::Progress {
        what: format!("{} {}", place.tool.name, place.tool.version),
        done: 0,
        total: None,
    });
    let mut problem = None;
    let built = store.farm_tree(&place.key, &mut |dest| {
        tree::build(store, &ids, &place.tool.fixups, &place.words, dest).map_err(|e| {
            let text = e.to_string();
            problem = Some(e);
            text
        })?;
        finish(ctx, place, dest);
        Ok(())
    });
    match (built, problem) {
        (_, Some(source)) => Err(RealiseError::Tree { tool: place.tool.name.clone(), source }),
        (built, None) => Ok(built.map(drop)?),
    }
}

/// Runs the finishing commands where the tree will be. They only make it faster to use:
/// where they cannot run, that is said and no more.
fn finish(ctx: &Context, place: &Place<'_>, dest: &Path) {
    for command in &place.tool.fixups.run {
        let argv: Vec<String> = command.iter().map(|word| place.words.expand(word)).collect();
        let mut plan = Plan::new(Profile::Install, argv);
        if place.tool.is_of_nix() {
            plan = plan.bind(dest.join("nix/store"), STORE, true);
        }
        let plan =
            plan.bind(dest, &place.root, true).env("LANG", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        let problem = match confined(ctx, &plan) {
            Ok(Exit::Code(0)) => continue,
            Ok(exit) => exit.to_string(),
            Err(e) => e.to_string(),
        };
        ctx.events.emit(Event::Warning(format!(
            "{} {} will start more slowly than it could: {problem}",
            place.tool.name, place.tool.version
        )));
    }
}

fn confined(ctx: &Context, plan: &Plan) -> Result<Exit, SandboxError> {
    let mut child = zagi_sandbox::spawn(plan, &ctx.program)?;
    drop(child.stdout.take());
    drop(child.stderr.take());
    child.wait()
}

fn activation(plans: &[Place<'_>], dir: &Path) -> Activation {
    let dir = dir.display().to_string();
    let (mut vars, mut project) = (BTreeMap::new(), BTreeMap::new());
    let mut path = WORKSPACE_PATH.map(str::to_owned).to_vec();
    for plan in plans {
        if plan.tool.is_flake() {
            project.extend(plan.tool.env.clone());
            path.push(format!("{dir}/{}", bins::FLAKE));
            continue;
        }
        let words = plan.words.with("env", &dir);
        vars.extend(plan.tool.env.iter().map(|(k, v)| (k.clone(), words.expand(v))));
    }
    let system = plans.iter().filter(|plan| plan.tool.name == system::NAME);
    let last = system.map(|plan| plan.root.join(system::PROGRAMS).display().to_string()).collect();
    Activation { path, last, vars, project }
}

/// Writes `envs/<key>` beside its place and puts it there.
fn publish(
    ctx: &Context,
    record: &Record,
    plans: &[Place<'_>],
    catalog: &Catalog,
) -> Result<(), RealiseError> {
    let tmp = ctx.home.tmp();
    let building =
        tempfile::Builder::new().prefix("env.").tempdir_in(&tmp).map_err(failed(&tmp))?;
    let dir = building.path().join(&record.key);
    let bin = dir.join(bins::DIRECTORY);
    std::fs::create_dir_all(&bin).map_err(failed(&bin))?;
    if plans.iter().any(|plan| plan.tool.is_flake()) {
        let more = dir.join(bins::FLAKE);
        std::fs::create_dir_all(&more).map_err(failed(&more))?;
    }
    let place = ctx.home.envs().join(&record.key);
    let is_known = |name: &str| stranger::is_known(catalog, &ctx.platform, name);
    bins::write(&dir, &place, plans, &record.activation, record.view.as_ref(), &is_known)?;
    let file = dir.join(activate::FILE);
    let text = serde_json::to_vec_pretty(record).expect("every field has a form in JSON");
    std::fs::write(&file, text).map_err(failed(&file))?;
    loop {
        match std::fs::rename(&dir, &place) {
            Ok(()) => return Ok(()),
            // Another process was faster.
            Err(_) if look_up(ctx, &record.key).is_some() => return Ok(()),
            // Made for another place, or of trees that are gone.
            Err(_) if place.exists() => {
                let aside = building.path().join("old");
                std::fs::rename(&place, &aside).map_err(failed(&place))?;
            }
            Err(e) => return Err(failed(&place)(e)),
        }
    }
}
