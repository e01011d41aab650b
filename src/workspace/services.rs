//! The services of a workspace: what it asks for, brought together with how that is run (room
//! [`crate::services`]).
//!
//! What is asked for is what the workspace was mounted with, or what `zagi add` and `zagi lock`
//! have made of it since: the copy of `env.toml` in its description, which fits its lock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zagi_sandbox::Hidden;

use super::description::{self, Description};
use super::error::{WorkspaceError, at};
use super::{manage, mounts, prepare, theirs};
use crate::context::Context;
use crate::environment::activate::{self, Record};
use crate::environment::catalog::Catalog;
use crate::environment::files::{Directory, Files};
use crate::environment::lock::Lock;
use crate::environment::spec::{self, Service, Spec};
use crate::services::{self, Place, Shown, Started, Tools, Wanted};

/// The services that one workspace asks for.
#[derive(Debug)]
pub struct Services {
    description: Description,
    /// Its directory under the home.
    dir: PathBuf,
    /// Below which they are: that directory, or an agent's.
    place: PathBuf,
    catalog: Catalog,
    asked: BTreeMap<String, Service>,
    /// What they are not shown, and whose all else must be.
    hidden: Option<(PathBuf, u32)>,
}

impl Services {
    /// Those of the workspace or checkout that `dir` is in.
    pub fn of(ctx: &Context, dir: &Path) -> Result<Services, WorkspaceError> {
        Services::of_description(ctx, manage::known(ctx, dir)?)
    }

    /// Those of a workspace.
    pub fn of_description(
        ctx: &Context,
        description: Description,
    ) -> Result<Services, WorkspaceError> {
        let dir = description::directory(&ctx.home, &description.id);
        let path = dir.join("env.toml");
        let text = std::fs::read_to_string(&path).map_err(at(&path))?;
        let asked = Spec::parse("env.toml", &text)?.services;
        let catalog = Catalog::load(&prepare::user_catalog(ctx))?;
        Ok(Services { description, place: dir.clone(), dir, catalog, asked, hidden: None })
    }

    /// The same services once more, with data of their own below `place`, and without a port.
    pub fn apart(mut self, place: &Path) -> Services {
        self.place = place.to_owned();
        self.asked.values_mut().for_each(|service| service.port = None);
        self
    }

    /// The same services, which are not shown what is at `hidden`, whatever `user` says that they need.
    pub(super) fn hiding(mut self, hidden: PathBuf, user: u32) -> Services {
        self.hidden = Some((hidden, user));
        self
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// What a sandbox must see to reach them: the directories of their sockets, and variables.
    pub fn inside(&self) -> Result<(Vec<PathBuf>, BTreeMap<String, String>), WorkspaceError> {
        let all = self.chosen(&[])?;
        let sockets = |wanted: &Wanted<'_>| {
            Place::new(&self.place, wanted.name, wanted.service).sockets().to_owned()
        };
        let vars = services::variables_inside(&self.place, &all);
        Ok((all.iter().map(sockets).collect(), vars))
    }

    /// The workspace's directory.
    pub fn path(&self) -> &Path {
        &self.description.path
    }

    /// The services of these names, all where none is named.
    fn chosen(&self, names: &[String]) -> Result<Vec<Wanted<'_>>, WorkspaceError> {
        let asked: Vec<String> = self.asked.keys().cloned().collect();
        if let Some(name) = names.iter().find(|name| !asked.contains(name)) {
            return Err(WorkspaceError::NoSuchService { name: name.clone(), asked });
        }
        let chosen = self.asked.iter().filter(|(name, _)| {
            // What is only guessed and unknown has been said when the workspace was made.
            names.contains(name) || (names.is_empty() && self.catalog.service.contains_key(*name))
        });
        chosen.map(|(name, asked)| Ok(wanted(&self.catalog, name, asked)?)).collect()
    }

    /// Starts services, all where none is named, one after another; each when it answers.
    pub fn up(&self, ctx: &Context, names: &[String]) -> Result<usize, WorkspaceError> {
        let ready = self.ready(ctx, names)?;
        self.start(ctx, &ready)?;
        Ok(ready.len())
    }

    /// Looks at what is needed to start these services.
    pub(super) fn ready(
        &self,
        ctx: &Context,
        names: &[String],
    ) -> Result<Vec<(Wanted<'_>, Tools)>, WorkspaceError> {
        if !mounts::has_files(&ctx.home, &self.description).map_err(at(self.path()))? {
            return Err(WorkspaceError::NotMounted(self.path().to_owned()));
        }
        self.is_locked()?;
        let chosen = self.chosen(names)?.into_iter();
        chosen
            .map(|wanted| {
                let tools = self.tools(ctx, &wanted)?;
                Ok((wanted, tools))
            })
            .collect()
    }

    /// Starts them, one after another; each when it answers.
    pub(super) fn start(
        &self,
        ctx: &Context,
        ready: &[(Wanted<'_>, Tools)],
    ) -> Result<(), WorkspaceError> {
        for (wanted, tools) in ready {
            prepare::step(
                ctx,
                "service",
                || services::up(ctx, &self.catalog, &self.place, wanted, tools),
                |started| {
                    let note = match started {
                        Started::Now => "started",
                        Started::Already => "runs already",
                    };
                    (format!("{} {}", wanted.name, tools.version), note.to_owned())
                },
            )?;
        }
        Ok(())
    }

    /// Stops services, all that run where none is named, and says which ran.
    pub fn down(&self, names: &[String]) -> Result<Vec<String>, WorkspaceError> {
        if names.is_empty() {
            return Ok(services::down_all(&self.place)?);
        }
        let running = services::running(&self.place);
        let mut stopped = Vec::new();
        for name in names {
            if running.contains(name) {
                services::down(&self.place, name)?;
                stopped.push(name.clone());
            } else {
                self.chosen(std::slice::from_ref(name))?;
            }
        }
        Ok(stopped)
    }

    /// How they are.
    pub fn show(&self) -> Result<Vec<Shown>, WorkspaceError> {
        let chosen = self.chosen(&[])?;
        chosen.iter().map(|wanted| Ok(services::show(&self.place, wanted)?)).collect()
    }

    /// The directories with the logs of services, all where none is named.
    pub fn logs(&self, names: &[String]) -> Result<Vec<(String, PathBuf)>, WorkspaceError> {
        let chosen = self.chosen(names)?.into_iter();
        let logs = chosen.map(|wanted| {
            let place = Place::new(&self.place, wanted.name, wanted.service);
            (wanted.name.to_owned(), place.directory().to_owned())
        });
        Ok(logs.collect())
    }

    /// What the tree's `env.toml` says of services must be what was locked.
    fn is_locked(&self) -> Result<(), WorkspaceError> {
        let Some(bytes) = Directory::new(self.path()).read(spec::PATH) else { return Ok(()) };
        let written = Spec::parse(spec::PATH, &String::from_utf8_lossy(&bytes))?.services;
        match written.iter().find(|(name, service)| self.asked.get(*name) != Some(service)) {
            None => Ok(()),
            Some((name, _)) => Err(WorkspaceError::ServiceNotLocked(name.clone())),
        }
    }

    /// What a service is run with.
    fn tools(&self, ctx: &Context, wanted: &Wanted<'_>) -> Result<Tools, WorkspaceError> {
        let missing = || WorkspaceError::ServiceNotLocked(wanted.name.to_owned());
        let path = self.dir.join("env.lock");
        let lock = Lock::parse("env.lock", &std::fs::read_to_string(&path).map_err(at(&path))?)?;
        let locked = lock.platform(&ctx.platform);
        let tool = locked.iter().find(|t| t.name == wanted.service.tool).ok_or_else(missing)?;
        let envs = ctx.home.envs();
        let record = Record::read(&envs, &self.description.environment).ok_or_else(missing)?;
        let dir = envs.join(&record.key);
        let named = [&dir].into_iter().chain(&record.trees);
        let hidden = self.hidden.as_ref().map(|(path, user)| {
            let (path, only) = (path.clone(), theirs::of(*user, named)?);
            Ok::<_, WorkspaceError>(Hidden { path, but: Vec::new(), only })
        });
        let (version, hidden) = (tool.version.clone(), hidden.transpose()?);
        Ok(Tools { dir, trees: record.trees, version, hidden })
    }
}

fn wanted<'a>(
    catalog: &'a Catalog,
    name: &'a str,
    asked: &Service,
) -> Result<Wanted<'a>, services::ServiceError> {
    Ok(Wanted { name, service: services::find(catalog, name)?, port: asked.port })
}

/// Writes into `place`, which is or will be the directory of the workspace `id`, by which
/// variables its services are found; and stops what it asks for no longer.
pub(super) fn settle(
    ctx: &Context,
    id: &str,
    spec: &Spec,
    place: &Path,
) -> Result<(), WorkspaceError> {
    let catalog = Catalog::load(&prepare::user_catalog(ctx))?;
    let asked = spec.services.iter();
    let asked: Vec<Wanted<'_>> =
        asked.filter_map(|(name, asked)| wanted(&catalog, name, asked).ok()).collect();
    let vars = services::variables(&description::directory(&ctx.home, id), &asked);
    activate::write_own(place, &vars).map_err(at(place))?;
    for name in services::running(place) {
        if !spec.services.contains_key(&name) {
            services::down(place, &name)?;
        }
    }
    Ok(())
}
