//! What a service sees of this machine: the environment's tools, and what its commands add.

use std::path::{Path, PathBuf};

use zagi_sandbox::{Hidden, Plan, Profile};

use super::error::{ServiceError, at};
use super::place::{Place, text};
use crate::context::Context;
use crate::environment::words::Words;

/// What a service needs of the environment that it runs in.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `envs/<key>`, with the programs in `bin`.
    pub dir: PathBuf,
    /// The trees of the farm that those are in.
    pub trees: Vec<PathBuf>,
    /// The version of the service's tool.
    pub version: String,
    /// What its commands are not shown, whatever the others say; but for what is the service's own.
    pub hidden: Option<Hidden>,
}

impl Tools {
    /// A program of the environment, as it is in the farm.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf, ServiceError> {
        let path = self.dir.join("bin").join(name);
        // One link and no further: some programs do what their name says.
        path.read_link().map_err(at(&path))
    }

    /// The tree that a program is in.
    pub(super) fn root_of(&self, program: &Path) -> Option<&Path> {
        self.trees.iter().map(PathBuf::as_path).find(|tree| program.starts_with(tree))
    }
}

/// What all commands of one service have in common.
pub(super) struct Confinement<'a> {
    pub ctx: &'a Context,
    pub tools: &'a Tools,
    pub place: &'a Place,
    /// The directory that it sees as its data's.
    pub data: &'a Path,
    /// Whether it has the network.
    pub network: bool,
}

impl Confinement<'_> {
    /// The plan for a program of the environment and its arguments.
    pub(super) fn plan(&self, argv: &[String], words: &Words) -> Result<Plan, ServiceError> {
        let (name, arguments) = argv.split_first().map_or(("", argv), |(n, a)| (n.as_str(), a));
        let program = self.tools.program(name)?;
        let root = self.tools.root_of(&program).unwrap_or(Path::new("/"));
        let words = words.with("root", &text(root)?);
        let mut argv = vec![text(&program)?];
        argv.extend(words.expand_all(arguments));
        let mut plan = Plan::new(Profile::Service, argv);
        for tree in [&self.tools.dir].into_iter().chain(&self.tools.trees) {
            plan = plan.bind(tree, tree, false);
        }
        plan = plan.bind(self.data, self.place.data(), true);
        plan = plan.bind(&self.place.run, &self.place.run, true);
        let own = [self.data.to_owned(), self.place.run.clone(), self.place.input()];
        plan.hidden = self.tools.hidden.clone();
        if let Some(hidden) = &mut plan.hidden {
            hidden.but.extend(own);
        }
        let path = format!("{}:/usr/bin:/bin", text(&self.tools.dir.join("bin"))?);
        let (home, name) = (plan.identity.home.display().to_string(), plan.identity.name.clone());
        plan = plan.env("PATH", &path).env("LANG", "C.UTF-8").env("TMPDIR", "/tmp");
        plan = plan.env("HOME", &home).env("USER", &name).env("LOGNAME", &name);
        if let Some(zone) = self.ctx.var("TZ").and_then(|zone| zone.to_str()) {
            plan = plan.env("TZ", zone);
        }
        plan.cwd = self.place.data();
        plan.network = self.network;
        Ok(plan)
    }
}
