//! Somebody's agent at work in a workspace: the same directory, the same tools, and none of the
//! user's secrets.
//!
//! # What it has
//!
//! - the workspace, where it is, to read and write; and the environment's tools, read-only;
//! - a home of its own, which stays: `<workspace>/agents/<name>/home` under `$ZAGI_HOME`. It begins
//!   with copies of what [`grants`] shows of the user's;
//! - its own program, where that is the user's;
//! - services of its own, with data of its own;
//! - what it is granted of the secrets, by `zagi run` inside ([`super::session`]); in system mode from
//!   another process than the one that starts it;
//! - a terminal of its own, its own `/tmp`, processes, and network.
//!
//! # What it has not
//!
//! - any other path of the user's: no home, no other workspace, no socket (agents, sessions,
//!   containers, this program's own);
//! - the network, but through a proxy that reaches the registries and the hosts that are granted
//!   ([`crate::egress`]);
//! - any other secret of the project's: of those it is granted, the value only where that is raw;
//! - a way to what others run later: `.git/hooks`, `.git/config` and the like, and where these lead in the
//!   tree ([`super::pins`]), `.zagi/agents.toml` and `.zagi/secrets.enc` stay as they are ([`zagi_sandbox::Pin`]). It may
//!   commit; what it pushes goes to branches that it is granted, or waits for its user ([`push`]). A
//!   repository that it puts inside this one is warned of.
//!
//! # The log
//!
//! `<workspace>/agents/<name>/log.jsonl` under `$ZAGI_HOME`, where the agent cannot be: one JSON
//! object a line, an [`Entry`]. What is executed inside is in it as the kernel tells it
//! ([`Plan::watch`]): a record of what is not hidden on purpose.

mod changes;
pub mod grants;
mod home;
mod log;
mod notice;
mod program;
pub mod push;
mod runs;
mod secrets;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use zagi_sandbox::{Console, Exit, Plan, Profile, Weaker};

use super::confined::{self, Who};
use super::description::{self, Description};
use super::error::{WorkspaceError, at};
use super::services::Services;
use super::{manage, ready, session};
use crate::context::Context;
use crate::egress::{self, Rule, Rules, Seen, Way};
use crate::event::Event;
use crate::proxy::Proxies;
use crate::secrets::broker::Brokered;
use crate::secrets::place::DIRECTORY;
use grants::{Granted, Grants};
pub use log::{Entry, What};
use notice::Before;
use program::PROGRAM;
pub use secrets::{Secrets, lend};

/// Programs of its own, below its home (systemd's file-hierarchy(7)).
const BIN: &str = ".local/bin";

/// An agent that is about to start.
#[derive(Debug)]
pub struct Agent {
    description: Description,
    /// What it is called.
    pub name: String,
    /// What it is granted.
    grants: Grants,
    /// `<workspace>/agents/<name>`.
    dir: PathBuf,
}

/// What the repository's own `agents.toml` would grant, where the user has not approved it.
#[derive(Debug)]
pub struct Asked {
    granted: Granted,
    /// The file of the approval.
    approval: PathBuf,
}

impl Asked {
    /// Its text, to be shown.
    pub fn text(&self) -> &str {
        &self.granted.text
    }
}

/// The agent `name`, which runs `program`, in the workspace around `dir`, and what its repository
/// asks for besides.
pub fn prepare(
    ctx: &Context,
    dir: &Path,
    name: &str,
    program: &str,
) -> Result<(Agent, Option<Asked>), WorkspaceError> {
    let description = ready::ready(ctx, dir)?;
    let agents = directory(ctx, &description, name);
    let all = grants::Files::read(ctx)?.grant(name, program);
    let mut agent = Agent { dir: agents, description, name: name.to_owned(), grants: all };
    let Some(granted) = Granted::read(&agent.description.path.join(grants::PATH))? else {
        return Ok((agent, None));
    };
    // For all workspaces of the repository.
    let repository = blake3::hash(agent.description.source.repository.as_bytes()).to_hex();
    let approval = ctx.home.agents().join(format!("{}.approved", &repository[..32]));
    let asked = Asked { granted, approval };
    match std::fs::read_to_string(&asked.approval) {
        Ok(hash) if hash == asked.hash() => {
            agent.grant(&asked);
            Ok((agent, None))
        }
        _ if asked.granted.to(name).is_none() => Ok((agent, None)),
        _ => Ok((agent, Some(asked))),
    }
}

/// `<workspace>/agents/<name>`.
fn directory(ctx: &Context, description: &Description, name: &str) -> PathBuf {
    description::directory(&ctx.home, &description.id).join("agents").join(name)
}

impl Asked {
    fn hash(&self) -> String {
        blake3::hash(self.granted.text.as_bytes()).to_hex().to_string()
    }
}

impl Agent {
    /// Grants what the repository asks for, now and until its text is another.
    pub fn approve(&mut self, asked: &Asked) -> Result<(), WorkspaceError> {
        let path = &asked.approval;
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(at(path))?;
        std::fs::write(path, asked.hash()).map_err(at(path))?;
        self.grant(asked);
        Ok(())
    }

    fn grant(&mut self, asked: &Asked) {
        if let Some(grants) = asked.granted.to(&self.name) {
            // A stranger has no say over the user's home.
            self.grants.add(&Grants { home: Vec::new(), ..grants.clone() });
        }
    }

    /// Runs `argv` on the caller's streams, to its end, with the secrets that it is granted.
    pub fn run(
        &self,
        ctx: &Context,
        argv: &[String],
        cwd: &Path,
        console: Console<'_>,
        secrets: Secrets,
    ) -> Result<Exit, WorkspaceError> {
        confined::check(ctx, &self.description.path)?;
        self.settle(ctx)?;
        let services = self.services(ctx)?;
        let log = Arc::new(log::Log::open(&self.dir, ctx.now).map_err(at(&self.dir))?);
        let argv = &self.command(argv);
        let mut plan = self.plan(ctx, argv, cwd)?;
        let grants = (self.name.as_str(), &self.grants);
        let door = push::Door::open(ctx, &self.description, grants, &log)?;
        if let Some(door) = &door {
            door.lead(&mut plan, &ctx.program);
        }
        let before = Before::look(&self.description.path, &*ctx.events);
        if let Some(services) = &services {
            plan = confined::serviced(plan, services.all.inside()?);
        }
        let needles = Arc::new(secrets.needles()?);
        let (credentials, way) = self.way_out(ctx, &log, &mut plan, &secrets)?;
        let taken = plan.listen.clone();
        plan.listen.extend(egress::near(&way.rules, &taken));
        log.write(What::Began { argv: argv.to_vec() }).map_err(at(&self.dir))?;
        let failed = |source| WorkspaceError::Agent { source };
        let watch = changes::Watch::start(ctx, &self.description.path);
        let mut child =
            zagi_sandbox::spawn_on(&plan, &ctx.program, console, None).map_err(failed)?;
        if child.enforced().missing.contains(&Weaker::Watch) {
            let why = "what the agent runs is not logged: the kernel tells somebody else already, \
                       as the manager of this container";
            ctx.events.emit(Event::Warning(why.into()));
        }
        let runs = child.runs.take();
        let runs = runs.map(|runs| runs::Watch::start(runs, log.clone(), needles));
        let mut listeners = std::mem::take(&mut child.listeners);
        let near = listeners.split_off(listeners.len().min(taken.len()));
        let _near = egress::serve_near(near, &way, &taken);
        let mut listeners = listeners.into_iter();
        let proxy = listeners.next();
        if let Some(listener) = listeners.next() {
            secrets.serve(listener, credentials, &self.name, way.tell.clone());
        }
        if let Some((door, listener)) = door.and_then(|door| Some((door, listeners.next()?))) {
            std::thread::spawn(move || door.serve(&listener));
        }
        confined::serve(proxy.into_iter().chain(listeners), &way);
        let exit = child.attend().map_err(failed)?;
        if let Some(runs) = runs {
            runs.end(&log).map_err(at(&self.dir))?;
        }
        let changed = watch.map(changes::Watch::end).unwrap_or_default();
        if !changed.paths.is_empty() {
            let paths = changed.paths.into_iter().collect();
            let what = What::Changed { paths, more: changed.more };
            log.write(what).map_err(at(&self.dir))?;
        }
        log.write(What::Ended { exit: exit.to_string() }).map_err(at(&self.dir))?;
        self.leave(ctx, &log)?;
        before.after();
        Ok(exit)
    }

    /// Says at its end what its user may want to do.
    fn leave(&self, ctx: &Context, log: &log::Log) -> Result<(), WorkspaceError> {
        let warn = |text: String| ctx.events.emit(Event::Warning(text));
        for host in log.unlisted() {
            warn(format!("{host} was not reached: {}", allowing(&self.name, &host)));
        }
        for waiting in push::waiting(ctx, &self.description.path)? {
            if waiting.agent == self.name {
                let (name, number) = (&self.name, waiting.number);
                let (reference, remote) = (&waiting.reference, &waiting.remote);
                warn(format!(
                    "{name} wants to push {reference} to {remote}: `zagi agent --approve {number}` shows it and asks"
                ));
            }
        }
        Ok(())
    }

    /// What is run of what was asked for.
    fn command(&self, argv: &[String]) -> Vec<String> {
        let (program, given) = argv.split_at(argv.len().min(1));
        [program, &self.grants.arguments, given].concat()
    }

    /// Where its network leads, and its secrets go.
    fn way_out(
        &self,
        ctx: &Context,
        log: &Arc<log::Log>,
        plan: &mut Plan,
        secrets: &Secrets,
    ) -> Result<(Vec<Arc<Brokered>>, Arc<Way>), WorkspaceError> {
        let hosts = self.grants.hosts.iter().filter_map(|host| host.parse::<Rule>().ok());
        // Who grants a service of this machine means one that programs look for at loopback.
        let (here, elsewhere): (Vec<_>, Vec<_>) = hosts.partition(Rule::is_of_this_machine);
        let rules = Rules::from_iter(elsewhere).and_near(here);
        let rules = rules.and_near(egress::registries(&ctx.config.addresses));
        let (credentials, put) = secrets.lead(ctx, plan, (&self.name, &self.dir))?;
        let log = log.clone();
        let tell = Arc::new(move |seen: Seen| {
            // What cannot be written down is no reason to stop the agent's work.
            let _ = log.write(What::from(seen));
        });
        Ok((credentials, Arc::new(Way { rules, proxies: Proxies::of(ctx), broker: put, tell })))
    }

    /// Services of its own, with data that no app has; they end with the last agent of its name.
    fn services(&self, ctx: &Context) -> Result<Option<Own>, WorkspaceError> {
        let all = Services::of_description(ctx, self.description.clone())?.apart(&self.dir);
        if all.is_empty() {
            return Ok(None);
        }
        let path = self.dir.join("services.lock");
        let file = File::create(&path).map_err(at(&path))?;
        let lock = Flock::lock(file, FlockArg::LockShared);
        let lock = lock.map_err(|(_, e)| at(&path)(e.into()))?;
        all.up(ctx, &[])?;
        Ok(Some(Own { all, lock: Some(lock) }))
    }

    /// Makes its home, with copies of what it may begin with; and a place for `env.toml`, which it may write:
    /// where files that stay absent have no directory, nothing can be made beside them.
    fn settle(&self, ctx: &Context) -> Result<(), WorkspaceError> {
        let place = self.description.path.join(DIRECTORY);
        match std::fs::create_dir(&place) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(at(&place)(e)),
            _ => {}
        }
        let home = self.dir.join("home");
        std::fs::create_dir_all(&home).map_err(at(&home))?;
        let Some(user) = ctx.var("HOME").map(PathBuf::from) else { return Ok(()) };
        for path in &self.grants.home {
            let from = user.join(path);
            if !from.is_file() {
                continue;
            }
            if let Err(e) = home::begin(&home, path, &from) {
                let (from, path) = (from.display(), path.display());
                ctx.events.emit(Event::Warning(format!(
                    "`{from}` was not copied to the agent's `~/{path}`: {e}"
                )));
            }
        }
        Ok(())
    }

    fn plan(&self, ctx: &Context, argv: &[String], cwd: &Path) -> Result<Plan, WorkspaceError> {
        let mut plan = confined::surround(
            ctx,
            &self.description,
            Who {
                profile: Profile::Agent,
                argv,
                cwd,
                files: &self.description.path,
                home: Some(self.dir.join("home")),
            },
        );
        plan.watch = true;
        plan.weaker.push(Weaker::Watch);
        let limits = self.grants.limits;
        plan.limits = zagi_sandbox::Limits {
            processes: limits.processes,
            memory: limits.memory_mb.map(|mb| mb.saturating_mul(1024 * 1024)),
            cpu: limits.cpu_percent,
        };
        // Its commands find this program, and this program who started it.
        let mark = self.dir.join("session");
        std::fs::write(&mark, session::ADDRESS.to_string()).map_err(at(&mark))?;
        plan.listen.push(session::ADDRESS);
        plan = plan.bind(mark, session::MARK, false).bind(&ctx.program, PROGRAM, false);
        if let Some(file) = program::show(ctx, &mut plan) {
            // It looks for itself there, and so does who starts it once more.
            let own = Path::new(BIN).join(argv.first().map_or("", String::as_str));
            if let Err(e) = home::link(&self.dir.join("home"), &own, &file) {
                let own = own.display();
                let text = format!("`~/{own}` of the agent is not its program: {e}");
                ctx.events.emit(Event::Warning(text));
            }
        }
        let own = PROGRAM.rsplit_once('/').map_or("", |(dir, _)| dir);
        let more = format!(":{own}:{}/{BIN}", plan.identity.home.display());
        plan.env.entry("PATH".into()).or_default().push_str(&more);
        Ok(plan)
    }
}

/// Services of an agent's.
struct Own {
    all: Services,
    lock: Option<Flock<File>>,
}

impl Drop for Own {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        // Another agent of the name has it, too: it will stop them.
        if lock.relock(FlockArg::LockExclusiveNonblock).is_ok() {
            // Whoever looks finds what still runs by `zagi unmount`.
            let _ = self.all.down(&[]);
        }
    }
}

/// The line that would let `name` reach `host`.
pub fn allowing(name: &str, host: &str) -> String {
    let host = host.strip_suffix(":443").or(host.strip_suffix(":80")).unwrap_or(host);
    format!(
        "`hosts = [\"{host}\"]` below `[agent.{name}]` in `$ZAGI_HOME/{}` would allow it",
        grants::FILE
    )
}

/// The logs of the agents of the workspace around `dir`: of all, or of one.
pub fn logs(
    ctx: &Context,
    dir: &Path,
    name: Option<&str>,
) -> Result<Vec<(String, Vec<Entry>)>, WorkspaceError> {
    let description = manage::known(ctx, dir)?;
    let all = description::directory(&ctx.home, &description.id).join("agents");
    let mut names = match name {
        Some(name) => vec![name.to_owned()],
        None => match std::fs::read_dir(&all) {
            Ok(found) => {
                found.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(at(&all)(e)),
        },
    };
    names.sort();
    let read = |name: String| {
        let dir = all.join(&name);
        let entries = log::entries(&dir).map_err(at(&dir))?;
        Ok((name, entries))
    };
    names.into_iter().map(read).collect()
}
