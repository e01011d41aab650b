//! `zagi mount`: a repository as a directory that runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::error::CommandError;
use super::output::print_json;
use super::report;
use super::settings::Settings;
use super::verify::tell;
use crate::environment::activate::read_own;
use crate::workspace::verify::{self, Verified};
use crate::workspace::{self, Description, NfsMount, Presentation, Request};

/// Mount a repository as a directory that runs
///
/// REPO is a local git repository or directory, a git address (https://, ssh://,
/// git@host:…, file://, or host/owner/repo), owner/repo on the default host, or a published
/// package's source: npm:NAME, pypi:NAME, crate:NAME. Each may end in @REVISION (for a
/// package, @VERSION).
///
/// DIR is made if it is missing. Where it is an unmounted workspace's, that is resumed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Mount {
    /// What to mount
    #[arg(value_name = "REPO")]
    repository: String,
    /// Where; by default the repository's name in the current directory
    dir: Option<PathBuf>,
    /// What to mount through; by default FUSE, or as before
    #[arg(long, value_name = "WAY", conflicts_with = "materialise")]
    via: Option<Via>,
    /// Make real files instead of mounting
    #[arg(long)]
    materialise: bool,
    /// Let other users of this machine in, as the files' modes say
    #[arg(long, conflicts_with = "materialise")]
    allow_other: bool,
    /// Do not install dependencies
    #[arg(long)]
    no_deps: bool,
    /// Then build and test it, and add to its environment what is missing (see `zagi verify`)
    #[arg(long)]
    verify: bool,
    /// Print what was mounted as JSON
    #[arg(long)]
    json: bool,
}

/// The ways to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Via {
    /// The kernel's FUSE
    Fuse,
    /// A server of NFS on this machine, for hosts without FUSE
    Nfs,
}

/// What was mounted, as JSON.
#[derive(Serialize)]
struct Mounted<'a> {
    #[serde(flatten)]
    description: &'a Description,
    #[serde(skip_serializing_if = "Option::is_none")]
    nfs: Option<&'a NfsMount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<&'a Verified>,
}

const EXAMPLES: &str = "\
Examples:
  zagi mount pypi:jinja2 ~/jinja2
  zagi mount github.com/owner/repo@v1.2 ./repo
  zagi mount ~/src/web ./web-2      a second directory of a local repository
  zagi mount --via nfs ~/src/web    where there is no FUSE
  zagi mount ./web                  resume after `zagi unmount ./web`";

impl Mount {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let begun = Instant::now();
        if self.via == Some(Via::Nfs) && self.allow_other {
            return Err(CommandError::failed("a mount through NFS lets no other users in")
                .hint("leave out `--allow-other`, or `--via nfs`"));
        }
        let ctx = settings.context()?;
        let request = Request {
            repository: self.repository,
            directory: self.dir.as_deref().map(|dir| settings.absolute(dir)),
            cwd: settings.cwd.clone(),
            presented: match self.via {
                Some(Via::Fuse) => Some(Presentation::Fuse),
                Some(Via::Nfs) => Some(Presentation::Nfs),
                None => self.materialise.then_some(Presentation::Materialised),
            },
            allow_other: self.allow_other,
            dependencies: !self.no_deps,
        };
        let description = workspace::mount(&ctx, &request)?;
        let nfs = workspace::attach(&ctx, &description)?;
        let by_hand = nfs.as_ref().is_some_and(|nfs| nfs.by_hand.is_some());
        let verified = match self.verify && !by_hand {
            true => Some(verify::verify(&ctx, &description.path)?),
            false => None,
        };
        if self.json {
            let (nfs, verified) = (nfs.as_ref(), verified.as_ref());
            print_json(&Mounted { description: &description, nfs, verified })?;
            return Ok(ExitCode::from(u8::from(verified.is_some_and(|v| !v.passed))));
        } else if let Some(NfsMount { command, by_hand: Some(why), .. }) = &nfs {
            let path = description.path.display();
            eprintln!("served, and not mounted at {path} yet: {why}");
            eprintln!("this mounts it:\n  {command}");
        } else if !settings.quiet() {
            let services = !read_own(&workspace::directory(&ctx, &description)).is_empty();
            eprintln!("{}", last_lines(&description, services, begun));
        }
        if let Some(verified) = &verified {
            tell(settings, verified, begun)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `ready in 1.3 s: /home/you/web`, and below it how its services are started, and the project
/// is tested, built, started.
fn last_lines(d: &Description, services: bool, begun: Instant) -> String {
    let mut line = format!("ready in {}: {}", report::seconds(begun.elapsed()), d.path.display());
    if services {
        line.push_str("\n  needs  zagi up");
    }
    for (name, command) in [("test", &d.run.test), ("build", &d.run.build), ("start", &d.run.start)]
    {
        if let Some(command) = command {
            // The app has services and secrets; tests and builds have tools.
            let verb = if name == "start" { "run" } else { "exec" };
            line.push_str(&format!("\n  {name:<6} zagi {verb} -- {}", as_argument(command)));
        }
    }
    line
}

/// A command line as `exec` takes it: what needs a shell is given one.
fn as_argument(command: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./:=,@%+".contains(c);
    match command.chars().all(plain) && !command.starts_with("cd ") {
        true => command.to_owned(),
        false => format!("sh -c '{}'", command.replace('\'', r"'\''")),
    }
}
