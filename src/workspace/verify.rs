//! The project's own build and tests, run until they pass: what they fail of is read, what they
//! lack is added to the environment, and they run again.
//!
//! They run in the sandbox of installations ([`crate::dependencies::Place`]), in the workspace
//! itself. [`crate::environment::remedy`] has the table by which their words are understood.
//!
//! # What holds
//!
//! - One remedy at a time, none twice, at most [`MOST`]. One after which the same is still lacking
//!   is taken back before the next.
//! - What is kept stands in `env.toml`, with the reason in a comment, and in `env.lock`, and was
//!   there when everything passed. Where it does not pass in the end, all is taken back: both
//!   files, what this home says of the workspace, and packages that were installed.
//! - A package of Python's goes into the workspace's `.venv`, which it has as its own already, and
//!   the next mount of an `env.toml` that asks for it has it from the start. A module that nothing is
//!   known of brings the package of its own name, as of the commit's date, unless the tree has
//!   a module of that name.

mod before;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::before::Before;
use super::description::Description;
use super::error::{WorkspaceError, at};
use super::{amend, manage, mounts, prepare, tools};
use crate::context::Context;
use crate::dependencies::{self, Ids, Place, Plan};
use crate::environment::catalog::Catalog;
use crate::environment::detect::{Detected, Ecosystem, Strength};
use crate::environment::files::Directory;
use crate::environment::remedy::{Lack, Remedies, Remedy};
use crate::environment::system;
use crate::event::Event;
use crate::store::Store;

/// How many remedies are tried by running everything again.
const MOST: usize = 10;
/// How many are looked for that cannot be had.
const REFUSED: usize = 30;
/// How long one command may run.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The workspace.
    pub path: PathBuf,
    /// Everything that was run, in this order: `build`, `test`, each with its command.
    pub commands: Vec<(&'static str, String)>,
    /// Whether all of them pass.
    pub passed: bool,
    /// What was added for that, and why; nothing where they do not pass.
    pub added: Vec<Added>,
    /// What was tried and did not help.
    pub tried: Vec<Tried>,
    /// What fails.
    pub failed: Option<Failed>,
    /// All that was said.
    pub log: PathBuf,
}

/// One thing that was added.
#[derive(Debug, Serialize)]
pub struct Added {
    /// As `env.toml` has it.
    pub what: String,
    /// The reason that stands there.
    pub why: String,
}

/// One thing that did not help.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// What was to be added.
    pub what: String,
    /// Why.
    pub why: String,
    /// What came of it.
    pub outcome: String,
}

/// A command that fails.
#[derive(Debug, Serialize)]
pub struct Failed {
    /// `build` or `test`.
    pub step: &'static str,
    /// The command.
    pub command: String,
    /// How it ended.
    pub exit: String,
    /// Its last lines.
    pub tail: String,
    #[serde(skip)]
    said: String,
    #[serde(skip)]
    late: bool,
}

/// A remedy that is in place.
struct Applied {
    lack: Lack,
    remedy: Remedy,
    before: Before,
    /// Packages that it installed, and the plan of the project that has them.
    installed: Option<(Plan, Vec<String>)>,
}

/// Runs the build and the tests of the workspace that `dir` is in, and adds what they lack.
pub fn verify(ctx: &Context, dir: &Path) -> Result<Verified, WorkspaceError> {
    let found = manage::around(ctx, dir)?;
    if !mounts::has_files(&ctx.home, &found).map_err(at(&found.path))? {
        return Err(WorkspaceError::NotMounted(found.path));
    }
    let mut trial = Trial::new(ctx, found)?;
    // What there was is gone back to: it is to stay in this home.
    let store = Store::open(&ctx.home.store())?;
    let _hold = store.hold()?;
    let ended = trial.until_it_passes();
    if !matches!(ended, Ok(None)) {
        while !trial.applied.is_empty() {
            trial.take_back("the rest still failed")?;
        }
    }
    let failed = ended?;
    let added = trial
        .applied
        .iter()
        .map(|applied| Added { what: applied.remedy.to_string(), why: applied.lack.to_string() });
    Ok(Verified {
        path: trial.path.clone(),
        commands: trial.commands.clone(),
        passed: failed.is_none(),
        added: added.collect(),
        tried: std::mem::take(&mut trial.tried),
        failed,
        log: trial.log.clone(),
    })
}

struct Trial<'a> {
    ctx: &'a Context,
    id: String,
    path: PathBuf,
    commands: Vec<(&'static str, String)>,
    remedies: Remedies,
    catalog: Catalog,
    table: &'static system::Table,
    log: PathBuf,
    /// Where the project's lock files have packages.
    hosts: Vec<String>,
    /// What was said of hosts that were not reached.
    told: RefCell<BTreeSet<String>>,
    tmp: tempfile::TempDir,
    applied: Vec<Applied>,
    tried: Vec<Tried>,
    /// Every remedy that was tried, whatever came of it.
    seen: Vec<Remedy>,
}

impl<'a> Trial<'a> {
    fn new(ctx: &'a Context, found: Description) -> Result<Trial<'a>, WorkspaceError> {
        let Detected { run, projects, .. } = amend::environment(ctx, &found.path)?.detected;
        let files = Directory::new(&found.path);
        let hosts = projects.iter().flat_map(|project| dependencies::hosts(project, &files));
        let hosts = hosts.collect();
        let commands = [("build", run.build), ("test", run.test)];
        let commands: Vec<_> = commands.into_iter().filter_map(|(k, c)| Some((k, c?))).collect();
        if commands.is_empty() {
            return Err(WorkspaceError::NothingToRun(found.path));
        }
        let logs = ctx.home.cache("verify");
        std::fs::create_dir_all(&logs).map_err(at(&logs))?;
        let log = logs.join(format!("{}.log", found.id));
        std::fs::write(&log, "").map_err(at(&log))?;
        let scratch = ctx.home.tmp();
        let tmp = tempfile::Builder::new().prefix("verify.").tempdir_in(&scratch);
        Ok(Trial {
            ctx,
            id: found.id,
            path: found.path,
            commands,
            remedies: Remedies::built_in(),
            catalog: Catalog::load(&prepare::user_catalog(ctx))?,
            table: system::Table::built_in(),
            log,
            hosts,
            told: RefCell::default(),
            tmp: tmp.map_err(at(&scratch))?,
            applied: Vec::new(),
            tried: Vec::new(),
            seen: Vec::new(),
        })
    }

    /// Runs and adds by turns; what fails in the end, if anything does.
    fn until_it_passes(&mut self) -> Result<Option<Failed>, WorkspaceError> {
        for remedies in 0.. {
            let Some(failed) = self.run()? else { return Ok(None) };
            let lacks = self.remedies.read(&failed.said);
            if self.applied.last().is_some_and(|last| lacks.contains(&last.lack)) {
                self.take_back("the failure stayed")?;
            }
            if failed.late || remedies == MOST || !self.remedy(&lacks)? {
                return Ok(Some(failed));
            }
        }
        Ok(None)
    }

    /// Runs everything, up to the first command that fails.
    fn run(&self) -> Result<Option<Failed>, WorkspaceError> {
        let description = Description::read(&self.ctx.home, &self.id)?;
        let place = self.place(&description);
        for (step, command) in &self.commands {
            self.ctx.events.emit(Event::Begin { step });
            let begun = Instant::now();
            let attempt = place.attempt(self.ctx, step, command, LIMIT)?;
            let allowing = dependencies::allowing(&attempt.refused);
            if let Some(text) = allowing.filter(|text| self.told.borrow_mut().insert(text.clone()))
            {
                self.ctx.events.emit(Event::Warning(format!("{step}: {text}")));
            }
            let note = match attempt.exit.success() {
                true => "passed".to_owned(),
                false => attempt.exit.to_string(),
            };
            let (detail, took) = (command.clone(), begun.elapsed());
            self.ctx.events.emit(Event::End { step, detail, note, took });
            if !attempt.exit.success() {
                let exit = match attempt.late {
                    true => format!("ended after {} minutes", LIMIT.as_secs() / 60),
                    false => attempt.exit.to_string(),
                };
                let (command, tail, said) = (command.clone(), attempt.tail, attempt.said);
                return Ok(Some(Failed { step, command, exit, tail, said, late: attempt.late }));
            }
        }
        Ok(None)
    }

    /// The workspace with the environment that it has now.
    fn place<'p>(&'p self, description: &'p Description) -> Place<'p> {
        let tools::Seen { tools, borrowed, .. } = tools::of(self.ctx, description, &self.path);
        let (workspace, tmp, hosts) = (&self.path, self.tmp.path(), self.hosts.clone());
        Place { tools, workspace, tmp, borrowed, hosts, log: &self.log }
    }

    /// Adds the first thing that may help and can be had; whether there was one.
    fn remedy(&mut self, lacks: &[Lack]) -> Result<bool, WorkspaceError> {
        let detected = amend::environment(self.ctx, &self.path)?.detected;
        for lack in lacks {
            for remedy in self.remedies.remedies(lack, &self.catalog, self.table) {
                let Some(remedy) = wanted(&detected, remedy) else { continue };
                if self.seen.contains(&remedy) || self.tried.len() == REFUSED {
                    continue;
                }
                self.seen.push(remedy.clone());
                let before = Before::of(self.ctx, &self.id)?;
                match self.apply(&detected, lack, &remedy) {
                    Ok(installed) => {
                        self.tell(&remedy, &lack.to_string(), "added");
                        let lack = lack.clone();
                        self.applied.push(Applied { lack, remedy, before, installed });
                        return Ok(true);
                    }
                    Err(e) => {
                        before.restore(self.ctx)?;
                        let (what, why) = (remedy.to_string(), lack.to_string());
                        let outcome = e.to_string().lines().next().unwrap_or_default().to_owned();
                        self.tried.push(Tried { what, why, outcome });
                    }
                }
            }
        }
        Ok(false)
    }

    fn apply(
        &self,
        detected: &Detected,
        lack: &Lack,
        remedy: &Remedy,
    ) -> Result<Option<(Plan, Vec<String>)>, WorkspaceError> {
        let (ctx, path, why) = (self.ctx, &self.path, lack.to_string());
        let ask = |name: &String, constraint| {
            amend::ask(ctx, path, &[(name.clone(), constraint)], Some(&why)).map(|_| None)
        };
        match remedy {
            Remedy::Tool(name, wanted) => {
                ask(name, Some(wanted.clone()).filter(|wanted| !wanted.is_any()))
            }
            Remedy::System(name) => ask(name, None),
            Remedy::Python(package, known) => {
                if let (Lack::Module(module), false) = (lack, known)
                    && self.has_module(detected, module)
                {
                    return Err(WorkspaceError::OwnModule(module.clone()));
                }
                amend::ask_python(ctx, path, package, &why)?;
                self.install(package).map(Some)
            }
        }
    }

    /// Whether the tree has a module of this name, where tests would look for it.
    fn has_module(&self, detected: &Detected, module: &str) -> bool {
        let first = module.split('.').next().unwrap_or(module);
        let python = detected.projects.iter().filter(|p| p.ecosystem == Ecosystem::Python);
        let roots = python.map(|project| self.path.join(&project.root));
        roots.into_iter().any(|root| {
            ["", "src", "lib", "tests", "test"].iter().any(|dir| {
                let place = root.join(dir);
                place.join(first).is_dir() || place.join(format!("{first}.py")).is_file()
            })
        })
    }

    /// Installs a package that `env.toml` asks for.
    fn install(&self, package: &str) -> Result<(Plan, Vec<String>), WorkspaceError> {
        let description = Description::read(&self.ctx.home, &self.id)?;
        let detected = amend::environment(self.ctx, &self.path)?.detected;
        let source = &description.source;
        let ids = Ids { tree: source.tree.clone(), commit: source.commit.clone() };
        let files = Directory::new(&self.path);
        let plans = dependencies::plan(self.ctx, &detected, &description.environment, &files, &ids);
        let python = plans.into_iter().find(|plan| plan.project.ecosystem == Ecosystem::Python);
        let mut plan = python.ok_or_else(|| WorkspaceError::NoPython(self.path.clone()))?;
        plan.project.date = source.date;
        let installed = self.place(&description).add(self.ctx, &plan, package)?;
        Ok((plan, installed))
    }

    /// Undoes the last remedy.
    fn take_back(&mut self, outcome: &str) -> Result<(), WorkspaceError> {
        let Some(applied) = self.applied.pop() else { return Ok(()) };
        if let Some((plan, installed)) = &applied.installed {
            let description = Description::read(&self.ctx.home, &self.id)?;
            self.place(&description).take(self.ctx, plan, installed)?;
        }
        applied.before.restore(self.ctx)?;
        self.tell(&applied.remedy, outcome, "taken back");
        let (what, why) = (applied.remedy.to_string(), applied.lack.to_string());
        self.tried.push(Tried { what, why, outcome: outcome.to_owned() });
        Ok(())
    }

    fn tell(&self, remedy: &Remedy, why: &str, note: &str) {
        let (detail, took) = (format!("{remedy}: {why}"), Duration::ZERO);
        self.ctx.events.emit(Event::End { step: "environment", detail, note: note.into(), took });
    }
}

/// The remedy as it is to be asked for; `None` where it is there already, or where `env.toml` says
/// that it must not be.
fn wanted(detected: &Detected, remedy: Remedy) -> Option<Remedy> {
    let asked = |name: &str| detected.tools.iter().find(|asked| asked.tool == name);
    match remedy {
        Remedy::Tool(name, constraint) => match asked(&name) {
            None => Some(Remedy::Tool(name, constraint)),
            Some(asked) => {
                let both = asked.constraint.intersect(&constraint);
                let written = asked.evidence.iter().any(|e| e.strength == Strength::Spec);
                let wanted = if both.is_none() && !written { constraint } else { both };
                let new = wanted != asked.constraint && !wanted.is_none();
                new.then_some(Remedy::Tool(name, wanted))
            }
        },
        Remedy::System(name) => {
            let settled = system::settled(&[name]);
            let there = system::settled(&detected.spec.system);
            let name = settled.into_iter().next().filter(|name| !there.contains(name))?;
            Some(Remedy::System(name))
        }
        Remedy::Python(package, known) => {
            let there = detected.spec.dependencies.python.contains(&package);
            (!there).then_some(Remedy::Python(package, known))
        }
    }
}
