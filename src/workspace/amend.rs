//! `env.toml` and `env.lock` changed for their user: add, remove, update, lock.
//!
//! It works in a workspace and in any other directory of a project. What the lock has stays as
//! long as it will do: only what was added, and what an update names, is decided anew, as of today.
//! Everything is decided, and in a workspace realised, before anything is written; so what cannot
//! be had changes nothing. A workspace has the tools at once: its link to the environment goes over
//! to the new one, in the tree and so in the delta, and its dependencies stay as they were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::checkout;
use super::description::{self, Description, write_whole};
use super::error::{WorkspaceError, at};
use super::{flakes, gitdir, manage, mounts, prepare, services};
use crate::context::{Context, Platform};
use crate::environment::catalog::Catalog;
use crate::environment::detect::{Detected, Requirement, detect};
use crate::environment::edit::{self, Section};
use crate::environment::files::{Amended, Directory, Files};
use crate::environment::flake::Tree;
use crate::environment::lock::{self, Lock};
use crate::environment::provider::World;
use crate::environment::resolve::ResolveError;
use crate::environment::version::{Constraint, Version};
use crate::environment::{realise, resolve, spec, system};
use crate::home::Home;
use crate::registry::http::Client;
use crate::secrets::place as secrets;
use crate::store::Store;

/// The directory and the name of `env.toml`.
const ENV_TOML: (&str, &str) = (".zagi", "env.toml");

/// A tool or service, and the versions that will do; the line of the newest where none are said.
pub type Wanted = (String, Option<Constraint>);

/// What became of one tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The tool.
    pub tool: String,
    /// Its version until now.
    pub before: Option<String>,
    /// Its version from now on.
    pub after: Option<String>,
}

/// What was done.
#[derive(Debug)]
pub struct Amendment {
    /// The project's directory.
    pub root: PathBuf,
    /// Tools whose version is another, or that are new or gone.
    pub moved: Vec<Moved>,
}

/// The environment of a directory, as it is asked for and as it is locked.
#[derive(Debug)]
pub struct Environment {
    /// The project's directory.
    pub root: PathBuf,
    /// What is asked for.
    pub detected: Detected,
    /// The tools that are asked for, those of services included.
    pub asked: Vec<Requirement>,
    /// What the lock has.
    pub lock: Lock,
    /// The tools that some tool needs, by that tool.
    pub needs: BTreeMap<String, Vec<String>>,
}

/// The root of the project that `dir` is in: its workspace, the nearest directory above that git or
/// zagi keeps something in, or `dir` itself.
pub fn root(ctx: &Context, dir: &Path) -> Result<PathBuf, WorkspaceError> {
    place(ctx, dir).map(|(_, root)| root)
}

fn place(ctx: &Context, dir: &Path) -> Result<(Option<Description>, PathBuf), WorkspaceError> {
    if let Some(found) = Description::around(&ctx.home, dir)? {
        manage::recover(ctx, &found)?;
        if !mounts::has_files(&ctx.home, &found).map_err(at(&found.path))? {
            return Err(WorkspaceError::NotMounted(found.path));
        }
        let root = found.path.clone();
        return Ok((Some(found), root));
    }
    Ok((None, marked(dir).to_owned()))
}

/// The same where that is another user's: nothing is started.
pub fn root_of_another(home: &Home, dir: &Path) -> PathBuf {
    let workspace = Description::around(home, dir).ok().flatten();
    workspace.map_or_else(|| marked(dir).to_owned(), |found| found.path)
}

/// The nearest directory above that git or zagi keeps something in, or `dir` itself.
fn marked(dir: &Path) -> &Path {
    let is_marked = |dir: &&Path| {
        [spec::PATH, secrets::PATH].iter().any(|file| dir.join(file).is_file())
            || dir.join(".git").exists()
    };
    dir.ancestors().find(is_marked).unwrap_or(dir)
}

/// Asks for `wanted` in `env.toml`, and locks it.
pub fn add(ctx: &Context, dir: &Path, wanted: &[Wanted]) -> Result<Amendment, WorkspaceError> {
    ask(ctx, dir, wanted, None)
}

/// The same, with the reason in a comment.
pub(super) fn ask(
    ctx: &Context,
    dir: &Path,
    wanted: &[Wanted],
    why: Option<&str>,
) -> Result<Amendment, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let catalog = Catalog::load(&prepare::user_catalog(ctx))?;
    let any = Constraint::any();
    let mut text = project.text()?;
    let explained = |text: String, name: &str| match why {
        Some(why) => edit::explain(spec::PATH, &text, name, why),
        None => Ok(text),
    };
    let (mut versioned, mut packages) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let (name, constraint) = wanted;
        match section(&catalog, name) {
            Some(section) => {
                let constraint = constraint.as_ref().unwrap_or(&any);
                text = edit::set(spec::PATH, &text, section, name, constraint)?;
                text = explained(text, name)?;
                versioned.push((section, wanted));
            }
            None => packages.push(system_package(ctx, &catalog, wanted)?),
        }
    }
    for name in packages {
        text = explained(edit::add_system(spec::PATH, &text, &name)?, &name)?;
    }
    let anew: Vec<&str> = wanted.iter().map(|(name, _)| tool_of(&catalog, name)).collect();
    let lock = project.decide(ctx, &text, |tool| anew.contains(&tool))?;
    for (section, (name, _)) in versioned.into_iter().filter(|(_, (_, c))| c.is_none()) {
        let tool = tool_of(&catalog, name);
        if let Some(version) = version_of(&lock, &ctx.platform, tool) {
            let line = Constraint::prefix(&catalog.line_of(tool, &version));
            text = edit::set(spec::PATH, &text, section, name, &line)?;
        }
    }
    project.write(ctx, Some(&text), lock)
}

/// Asks for a package of Python's beside what the project asks for, with the reason in a comment.
/// It is not installed by that.
pub(super) fn ask_python(
    ctx: &Context,
    dir: &Path,
    package: &str,
    why: &str,
) -> Result<Amendment, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let text = edit::add_python(spec::PATH, &project.text()?, package)?;
    let text = edit::explain(spec::PATH, &text, package, why)?;
    let lock = project.decide(ctx, &text, |_| false)?;
    project.write(ctx, Some(&text), lock)
}

/// Where a name stands in `env.toml`: what can be run as a service is one. What is neither that
/// nor a tool may be a system package.
fn section(catalog: &Catalog, name: &str) -> Option<Section> {
    match (catalog.service.contains_key(name), catalog.tool.contains_key(name)) {
        (true, _) => Some(Section::Services),
        (false, true) => Some(Section::Tools),
        (false, false) => None,
    }
}

/// The tool that is behind a name.
fn tool_of<'a>(catalog: &'a Catalog, name: &'a str) -> &'a str {
    catalog.service.get(name).map_or(name, |service| &service.tool)
}

/// Asks for `names`, tools or services, no longer.
pub fn remove(ctx: &Context, dir: &Path, names: &[String]) -> Result<Amendment, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let mut text = project.text()?;
    for name in names {
        let settled = system::settled(std::slice::from_ref(name));
        let is_it = |name: &str| system::settled(&[name.to_owned()]) == settled;
        let mut edited = edit::remove(spec::PATH, &text, Section::Services, name)?;
        if edited.is_none() {
            edited = edit::remove(spec::PATH, &text, Section::Tools, name)?;
        }
        if edited.is_none() {
            edited = edit::remove_system(spec::PATH, &text, is_it)?;
        }
        text = match edited {
            Some(text) => text,
            None => {
                let detected = project.detected(ctx, &text);
                let asked = detected.asked().map(|(_, asked)| asked).find(|r| r.tool == *name);
                let evidence = asked.and_then(|r| r.evidence.first().cloned());
                return Err(WorkspaceError::NotAsked { tool: name.clone(), evidence });
            }
        };
    }
    let lock = project.decide(ctx, &text, |_| false)?;
    project.write(ctx, Some(&text), lock)
}

/// Decides `names`, tools or services, anew; or everything where none is named.
pub fn update(ctx: &Context, dir: &Path, names: &[String]) -> Result<Amendment, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let text = project.text()?;
    let catalog = Catalog::load(&prepare::user_catalog(ctx))?;
    let detected = project.detected(ctx, &text);
    let packages = system::settled(&detected.spec.system);
    // System packages are one closure: all of them, or none.
    let own = |name: &String| match packages.contains(name) {
        true => system::NAME.to_owned(),
        false => tool_of(&catalog, name).to_owned(),
    };
    let tools: Vec<String> = names
        .iter()
        .flat_map(|t| system::settled(std::slice::from_ref(t)))
        .map(|n| own(&n))
        .collect();
    let asked = resolve::all_requirements(&catalog, &detected);
    let known = |tool: &&String| {
        project.lock.tools.iter().any(|locked| locked.name == **tool)
            || asked.iter().any(|asked| asked.tool == **tool)
    };
    if let Some(tool) = tools.iter().find(|tool| !known(tool)) {
        return Err(WorkspaceError::NotAsked { tool: tool.clone(), evidence: None });
    }
    let lock =
        project.decide(ctx, &text, |tool| tools.is_empty() || tools.iter().any(|t| t == tool))?;
    project.write(ctx, None, lock)
}

/// Locks what is asked for.
pub fn lock(ctx: &Context, dir: &Path) -> Result<Amendment, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let lock = project.decide(ctx, &project.text()?, |_| false)?;
    project.write(ctx, None, lock)
}

/// What is asked for and not in the tree's lock: nothing is decided, nothing written.
pub fn unlocked(ctx: &Context, dir: &Path) -> Result<Vec<Requirement>, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let detected = project.detected(ctx, &project.text()?);
    let lock = match Directory::new(&project.root).read(lock::PATH) {
        Some(bytes) => prepare::brought(ctx, &bytes)?,
        None => Lock::default(),
    };
    prepare::missing(&lock, ctx, &detected)
}

/// The name under which a system package that somebody wants is asked for.
fn system_package(
    ctx: &Context,
    catalog: &Catalog,
    (name, constraint): &Wanted,
) -> Result<String, WorkspaceError> {
    let client = Client::new(ctx);
    let known = system::exists(&World::new(ctx, &client, catalog), name);
    let refused = |e| ResolveError::Refused { tool: name.clone(), source: Box::new(e) };
    match known.map_err(refused)? {
        true if constraint.is_some() => Err(WorkspaceError::NoVersions(name.clone())),
        true => Ok(system::settled(std::slice::from_ref(name)).remove(0)),
        false => {
            let nearest = catalog.nearest(name).into_iter().chain(system::nearest(name));
            Err(WorkspaceError::UnknownName { name: name.clone(), nearest: nearest.collect() })
        }
    }
}

/// The environment of the project that `dir` is in.
pub fn environment(ctx: &Context, dir: &Path) -> Result<Environment, WorkspaceError> {
    let project = Project::of(ctx, dir)?;
    let detected = project.detected(ctx, &project.text()?);
    let catalog = Catalog::load(&prepare::user_catalog(ctx))?;
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in project.lock.platform(&ctx.platform).iter().map(|tool| &tool.name) {
        for need in catalog.tool.get(name).iter().flat_map(|tool| &tool.needs) {
            needs.entry(need.clone()).or_default().push(name.clone());
        }
    }
    let asked = resolve::all_requirements(&catalog, &detected);
    Ok(Environment { root: project.root, detected, asked, lock: project.lock, needs })
}

/// Where it all stands.
struct Project {
    root: PathBuf,
    /// The workspace that it is, if it is one.
    workspace: Option<Description>,
    /// What the tree's lock has, or else what the workspace was mounted with.
    lock: Lock,
}

impl Project {
    fn of(ctx: &Context, dir: &Path) -> Result<Project, WorkspaceError> {
        let (workspace, root) = place(ctx, dir)?;
        let kept = workspace
            .as_ref()
            .map(|found| description::directory(&ctx.home, &found.id).join("env.lock"));
        let lock = match Directory::new(&root).read(lock::PATH) {
            Some(bytes) => prepare::brought(ctx, &bytes)?,
            None => match kept.map(std::fs::read_to_string) {
                Some(Ok(text)) => Lock::parse("env.lock", &text)?,
                _ => Lock::default(),
            },
        };
        Ok(Project { root, workspace, lock })
    }

    /// What `env.toml` says now.
    fn text(&self) -> Result<String, WorkspaceError> {
        let bytes = Directory::new(&self.root).read(spec::PATH).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        spec::Spec::parse(spec::PATH, &text)?;
        Ok(text)
    }

    /// What would be asked for if `env.toml` said `text`.
    fn detected(&self, ctx: &Context, text: &str) -> Detected {
        let files = Directory::new(&self.root);
        let amended = Amended { files: &files, path: ENV_TOML, bytes: text.as_bytes() };
        detect(&amended, ctx.now, &ctx.platform)
    }

    /// The lock for that; of what there is, what is not to be made `anew` is kept.
    fn decide(
        &self,
        ctx: &Context,
        text: &str,
        anew: impl Fn(&str) -> bool,
    ) -> Result<Lock, WorkspaceError> {
        let detected = self.detected(ctx, text);
        let kept = self.lock.tools.iter().filter(|tool| !anew(&tool.name)).cloned().collect();
        let kept = Lock::new(kept);
        let kept = flakes::add(ctx, &detected, &Tree::Directory(&self.root), kept);
        let mut lock = resolve::resolve(ctx, &Client::new(ctx), &detected, ctx.now, &kept)?;
        // Other machines decide for themselves what this one does not know.
        let names: Vec<String> = lock.tools.iter().map(|tool| tool.name.clone()).collect();
        let others = kept.tools.into_iter().filter(|tool| names.contains(&tool.name));
        lock.merge(Lock::new(others.collect()));
        Ok(lock)
    }

    /// Writes the lock, and `env.toml` where it is to say something else.
    fn write(
        self,
        ctx: &Context,
        text: Option<&str>,
        lock: Lock,
    ) -> Result<Amendment, WorkspaceError> {
        let moved = moved(&self.lock, &lock, &ctx.platform);
        let realised = match &self.workspace {
            Some(_) if !lock.platform(&ctx.platform).is_empty() => {
                let store = Store::open(&ctx.home.store())?;
                let hold = store.hold()?;
                let realised = realise::realise(ctx, &Client::new(ctx), &store, &lock)?;
                Some((realised, hold))
            }
            Some(_) => None,
            None => {
                let now = self.text()?;
                let detected = self.detected(ctx, text.unwrap_or(&now));
                checkout::attach(ctx, &self.root, &detected, &lock)?;
                None
            }
        };
        let rendered = lock.render();
        if let Some(text) = text {
            manage::write_into(&self.root, spec::PATH, text)?;
        }
        manage::write_into(&self.root, lock::PATH, &rendered)?;
        let mut detected = self.detected(ctx, &self.text()?);
        flakes::leave_to(ctx, &mut detected, &lock);
        if let Some(mut description) = self.workspace {
            let place = description::directory(&ctx.home, &description.id);
            let kept = [
                ("env.toml", detected.spec.render(&prepare::comments(&detected))),
                ("env.lock", rendered),
            ];
            for (name, text) in kept {
                let path = place.join(name);
                write_whole(&path, text.as_bytes()).map_err(at(&path))?;
            }
            description.asks(&detected);
            let key = realised.as_ref().map_or("", |(realised, _)| realised.key.as_str());
            description.environment = key.to_owned();
            description.write(&place)?;
            services::settle(ctx, &description.id, &detected.spec, &place)?;
            let dir = realised.as_ref().map(|(realised, _)| realised.dir.as_path());
            gitdir::relink_environment(dir, &self.root).map_err(at(&self.root))?;
        }
        Ok(Amendment { root: self.root, moved })
    }
}

fn version_of(lock: &Lock, platform: &Platform, tool: &str) -> Option<Version> {
    let found = lock.platform(platform).into_iter().find(|locked| locked.name == tool)?;
    Version::parse(&found.version).ok()
}

fn moved(before: &Lock, after: &Lock, platform: &Platform) -> Vec<Moved> {
    let mut all: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for (i, lock) in [before, after].into_iter().enumerate() {
        for tool in lock.platform(platform) {
            match tool.asked.as_slice() {
                [] => all.entry(&tool.name).or_default()[i] = Some(&tool.version),
                packages => {
                    for name in packages {
                        all.entry(name).or_default()[i] = Some(system::version(tool, name));
                    }
                }
            }
        }
    }
    let differ = all.into_iter().filter(|(_, [before, after])| before != after);
    let owned = |version: Option<&str>| version.map(str::to_owned);
    differ
        .map(|(tool, [before, after])| Moved {
            tool: tool.to_owned(),
            before: owned(before),
            after: owned(after),
        })
        .collect()
}
