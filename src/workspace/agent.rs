//! Somebody's agent at work in a workspace: the same directory, the same tools, and none of the
//! user's secrets.
//!
//! # What it has
//!
//! - the workspace, where it is, to read and write; and the environment's tools, read-only;
//! - a home of its own, which stays: `<workspace>/agents/<name>/home` under `$ZAGI_HOME`. It begins
//!   with copies of what [`grants`] shows of the user's;
//! - a terminal of its own, its own `/tmp`, processes, and network.
//!
//! # What it has not
//!
//! - any other path of the user's: no home, no other workspace, no socket (agents, sessions,
//!   containers, this program's own);
//! - the network, but through a proxy that reaches the registries and the hosts that are granted
//!   ([`crate::egress`]);
//! - a way to what others run later: `.git/hooks`, `.git/config`, `.git/modules`,
//!   `.zagi/agents.toml` and `.zagi/secrets.enc` stay as they are ([`zagi_sandbox::Pin`]). It may
//!   commit, and push nowhere: no credential is there.
//!
//! # The log
//!
//! `<workspace>/agents/<name>/log.jsonl` under `$ZAGI_HOME`, where the agent cannot be: one JSON
//! object a line, an [`Entry`].

pub mod grants;
mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use zagi_sandbox::{Console, Exit, Plan, Profile};

use super::description::{self, Description};
use super::error::{WorkspaceError, at};
use super::tools;
use crate::context::Context;
use crate::dependencies;
use crate::egress::{self, Rule, Seen, Way};
use crate::event::Event;
use grants::{Granted, Grants};
pub use log::{Entry, What};

/// The address inside on which the way out is.
const WAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);

/// Paths below the workspace that stay as they are; whether each is a directory.
const PINNED: [(&str, bool); 6] = [
    (".git/hooks", true),
    (".git/modules", true),
    (".git/config", false),
    (".git/config.worktree", false),
    (grants::PATH, false),
    (".zagi/secrets.enc", false),
];

/// Variables by which programs find a proxy.
const PROXY: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
];

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

/// The agent `name` in the workspace around `dir`, and what its repository asks for besides.
pub fn prepare(
    ctx: &Context,
    dir: &Path,
    name: &str,
) -> Result<(Agent, Option<Asked>), WorkspaceError> {
    let description = super::around(ctx, dir)?;
    let own = description::directory(&ctx.home, &description.id);
    let mut all = Grants::default();
    let user = Granted::read(&ctx.home.root().join(grants::FILE))?;
    for granted in [Some(Granted::built_in()), user].into_iter().flatten() {
        all.add(granted.to(name).unwrap_or(&Grants::default()));
    }
    let mut agent = Agent {
        dir: own.join("agents").join(name),
        description,
        name: name.to_owned(),
        grants: all,
    };
    let Some(granted) = Granted::read(&agent.description.path.join(grants::PATH))? else {
        return Ok((agent, None));
    };
    let approval = own.join("agents.approved");
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

impl Asked {
    fn hash(&self) -> String {
        blake3::hash(self.granted.text.as_bytes()).to_hex().to_string()
    }
}

impl Agent {
    /// Grants what the repository asks for, now and until its text is another.
    pub fn approve(&mut self, asked: &Asked) -> Result<(), WorkspaceError> {
        std::fs::write(&asked.approval, asked.hash()).map_err(at(&asked.approval))?;
        self.grant(asked);
        Ok(())
    }

    fn grant(&mut self, asked: &Asked) {
        if let Some(grants) = asked.granted.to(&self.name) {
            // A stranger has no say over the user's home.
            self.grants.add(&Grants { home: Vec::new(), ..grants.clone() });
        }
    }

    /// Runs `argv` on the caller's streams, to its end.
    pub fn run(
        &self,
        ctx: &Context,
        argv: &[String],
        cwd: &Path,
        console: Console<'_>,
    ) -> Result<Exit, WorkspaceError> {
        self.settle(ctx)?;
        let log = Arc::new(log::Log::open(&self.dir, ctx.now).map_err(at(&self.dir))?);
        let plan = self.plan(ctx, argv, cwd)?;
        let hosts = self.grants.hosts.iter().filter_map(|host| host.parse::<Rule>().ok());
        let rules = grants::registries(&ctx.config.addresses).into_iter().chain(hosts).collect();
        log.write(What::Began { argv: argv.to_vec() }).map_err(at(&self.dir))?;
        let failed = |source| WorkspaceError::Agent { source };
        let mut child =
            zagi_sandbox::spawn_on(&plan, &ctx.program, console, None).map_err(failed)?;
        if let Some(listener) = child.listeners.pop() {
            let log = log.clone();
            let tell = Arc::new(move |seen: Seen| {
                // What cannot be written down is no reason to stop the agent's work.
                let _ = log.write(What::from(seen));
            });
            let way = Arc::new(Way { rules, broker: None, tell });
            // Ends with this process.
            std::thread::spawn(move || egress::serve(&listener, &way));
        }
        let exit = child.attend().map_err(failed)?;
        log.write(What::Ended { exit: exit.to_string() }).map_err(at(&self.dir))?;
        for host in log.unlisted() {
            let how = allowing(&self.name, &host);
            ctx.events.emit(Event::Warning(format!("{host} was not reached: {how}")));
        }
        Ok(exit)
    }

    /// Makes its home, with copies of what it may begin with.
    fn settle(&self, ctx: &Context) -> Result<(), WorkspaceError> {
        let home = self.dir.join("home");
        std::fs::create_dir_all(&home).map_err(at(&home))?;
        let Some(user) = ctx.var("HOME").map(PathBuf::from) else { return Ok(()) };
        for path in &self.grants.home {
            let (from, to) = (user.join(path), home.join(path));
            if to.exists() || !from.is_file() {
                continue;
            }
            let parent = to.parent().unwrap_or(&home);
            std::fs::create_dir_all(parent).map_err(at(parent))?;
            std::fs::copy(&from, &to).map_err(at(&from))?;
        }
        Ok(())
    }

    fn plan(&self, ctx: &Context, argv: &[String], cwd: &Path) -> Result<Plan, WorkspaceError> {
        let root = &self.description.path;
        let mut plan = Plan::new(Profile::Agent, argv.to_vec()).bind(root, root, true);
        let home = plan.identity.home.clone();
        plan = plan.bind(self.dir.join("home"), &home, true);
        let (tools, borrowed) = tools::of(ctx, &self.description, root);
        let mut seen = BTreeSet::new();
        dependencies::show(&mut plan, &tools, &borrowed, &mut seen);
        for (path, directory) in PINNED {
            plan = plan.pin(root.join(path), directory);
        }
        plan.env = tools.vars;
        dependencies::withhold(&mut plan.env);
        dependencies::certificates(ctx, &mut plan, &mut seen);
        plan.env.extend(author(root));
        let (name, home) = (plan.identity.name.clone(), home.display().to_string());
        let proxy = format!("http://{WAY}");
        for (variable, value) in
            PROXY.map(|variable| (variable, proxy.as_str())).into_iter().chain([
                ("HOME", home.as_str()),
                ("USER", &name),
                ("LOGNAME", &name),
                ("TMPDIR", "/tmp"),
                ("no_proxy", "localhost,127.0.0.1,::1"),
                ("NO_PROXY", "localhost,127.0.0.1,::1"),
                // Node has read the variables above since 24 when it is told to.
                ("NODE_USE_ENV_PROXY", "1"),
                // The monitor that git's configuration names is outside.
                ("GIT_CONFIG_COUNT", "1"),
                ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
                ("GIT_CONFIG_VALUE_0", "false"),
            ])
        {
            plan.env.insert(variable.into(), value.into());
        }
        plan.listen = vec![WAY];
        let limits = self.grants.limits;
        plan.limits = zagi_sandbox::Limits {
            processes: limits.processes,
            memory: limits.memory_mb.map(|mb| mb.saturating_mul(1024 * 1024)),
            cpu: limits.cpu_percent,
        };
        plan.cwd = if cwd.starts_with(root) { cwd.to_owned() } else { root.clone() };
        Ok(plan)
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

/// In whose name it commits: the user's, who is answerable for it.
fn author(root: &Path) -> BTreeMap<String, String> {
    let ask = |key: &str| {
        let out = Command::new("git").arg("-C").arg(root).args(["config", "--get", key]).output();
        let text = String::from_utf8(out.ok()?.stdout).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let mut vars = BTreeMap::new();
    for (key, names) in [
        ("user.name", ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"]),
        ("user.email", ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]),
    ] {
        if let Some(value) = ask(key) {
            vars.extend(names.map(|name| (name.to_owned(), value.clone())));
        }
    }
    vars
}

/// The logs of the agents of the workspace around `dir`: of all, or of one.
pub fn logs(
    ctx: &Context,
    dir: &Path,
    name: Option<&str>,
) -> Result<Vec<(String, Vec<Entry>)>, WorkspaceError> {
    let description = super::around(ctx, dir)?;
    let all = description::directory(&ctx.home, &description.id).join("agents");
    let mut names = match name {
        Some(name) => vec![name.to_owned()],
        None => match std::fs::read_dir(&all) {
            Ok(found) => {
                found.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
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
