//! What runs in a workspace that is there, confined as an installation is: the project's own
//! commands, and packages that its dependencies get besides.
//!
//! The workspace is seen where it is, since what was installed into it names that place, and is
//! written to: what a test writes is what it would write by hand. Of the user's home there is
//! nothing, nor of the download caches for the project's own commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zagi_sandbox::Exit;

use super::confine::{self, Tools, Work};
use super::plan::{Plan, Step};
use super::{DependenciesError, install, run};
use crate::context::Context;

/// A workspace, and with what something runs in it.
pub struct Place<'a> {
    /// The tools; their variables are those of the workspace.
    pub tools: Tools,
    /// The workspace.
    pub workspace: &'a Path,
    /// A directory for what is temporary.
    pub tmp: &'a Path,
    /// Object directories that its `.git` borrows from.
    pub borrowed: Vec<PathBuf>,
    /// Where its lock files have packages.
    pub hosts: Vec<String>,
    /// Where all that is said is written to.
    pub log: &'a Path,
}

/// What came of a command.
#[derive(Debug)]
pub struct Attempt {
    /// How it ended.
    pub exit: Exit,
    /// What it said; of much the end.
    pub said: String,
    /// Its last lines.
    pub tail: String,
    /// It was ended because its time was over.
    pub late: bool,
    /// Hosts that it was not let to.
    pub refused: BTreeSet<String>,
}

impl Place<'_> {
    fn work(&self) -> Work {
        let (workspace, seen) = (self.workspace.to_owned(), self.workspace.to_owned());
        let (borrowed, hosts) = (self.borrowed.clone(), self.hosts.clone());
        Work { workspace, seen, tmp: self.tmp.to_owned(), borrowed, hosts }
    }

    /// Runs a command line of the project's, at most for `limit`.
    pub fn attempt(
        &self,
        ctx: &Context,
        who: &str,
        command: &str,
        limit: Duration,
    ) -> Result<Attempt, DependenciesError> {
        let argv = ["sh", "-c", command].map(str::to_owned);
        let confined =
            confine::surround(ctx, &self.tools, &self.work(), (&[], &BTreeMap::new()), &argv)?;
        let heard = run::listen(ctx, who, &confined, self.log, Some(limit))?;
        let run::Heard { exit, said, tail, late, refused } = heard;
        Ok(Attempt { exit, said, tail, late, refused })
    }

    /// Installs `package` into the environment that `plan`, of a Python project, makes there, and
    /// says what that brought. What there is stays as it is.
    pub fn add(
        &self,
        ctx: &Context,
        plan: &Plan,
        package: &str,
    ) -> Result<Vec<String>, DependenciesError> {
        let work = self.work();
        let python = self.workspace.join(&plan.project.root).join(super::plan::VENV_PYTHON);
        if python.symlink_metadata().is_err() {
            let making = Step::new(super::plan::VENV);
            install::perform(ctx, &self.tools, plan, &work, &making, self.log)?;
        }
        let before = self.installed(ctx, plan)?;
        let lines: String = before.iter().map(|(name, v)| format!("{name}=={v}\n")).collect();
        let constraints = self.tmp.join("constraints.txt");
        fs::write(&constraints, lines).map_err(DependenciesError::file(&constraints))?;
        let step = super::plan::besides(&plan.project, &["-c", "/tmp/constraints.txt", package]);
        let told = install::perform(ctx, &self.tools, plan, &work, &step, self.log)?;
        install::missed(ctx, plan, &told.refused);
        let after = self.installed(ctx, plan)?;
        Ok(after.into_keys().filter(|name| !before.contains_key(name)).collect())
    }

    /// Takes away again what [`Place::add`] brought.
    pub fn take(
        &self,
        ctx: &Context,
        plan: &Plan,
        packages: &[String],
    ) -> Result<(), DependenciesError> {
        if packages.is_empty() {
            return Ok(());
        }
        let uninstall = ["uv", "pip", "uninstall", "--python", super::plan::VENV_PYTHON];
        let words = uninstall.into_iter().chain(packages.iter().map(String::as_str));
        install::perform(ctx, &self.tools, plan, &self.work(), &Step::new(words), self.log)?;
        Ok(())
    }

    /// What is installed, with the versions.
    fn installed(
        &self,
        ctx: &Context,
        plan: &Plan,
    ) -> Result<BTreeMap<String, String>, DependenciesError> {
        let list =
            ["uv", "pip", "list", "--format", "freeze", "--python", super::plan::VENV_PYTHON];
        let argv = list.map(str::to_owned);
        let confined = confine::confine(ctx, &self.tools, plan, &self.work(), &argv)?;
        let heard = run::listen(ctx, &plan.manager, &confined, self.log, None)?;
        if !heard.exit.success() {
            let (exit, tail, log) = (heard.exit, heard.tail, self.log.to_owned());
            let (command, refused) = (argv.join(" "), heard.refused);
            return Err(DependenciesError::Install { command, exit, tail, log, refused });
        }
        let pair = |line: &str| {
            let (name, version) = line.trim().split_once("==")?;
            Some((name.to_owned(), version.to_owned()))
        };
        Ok(heard.said.lines().filter_map(pair).collect())
    }
}
