//! An agent's pushes, and what it fetches.
//!
//! An agent has no credential and no way to a remote's host. Its `git push` works all the same: git
//! in it finds this program as the way to each of the repository's remotes ([`Door::lead`]), and that asks
//! the process that started the agent, which pushes as the user does (from [`crate::source::outbox`]).
//!
//! - What the remotes have can be fetched: it is the same repository's.
//! - What goes to a branch that the agent is granted (`push` in `agents.toml`) is pushed at once.
//! - All else waits: git is told so, and by which command the user sees and approves it, at a
//!   terminal, where no agent can be. What is approved is just that commit on just that state of the
//!   remote; if the remote has moved meanwhile it is refused.
//! - Only to the remotes that the repository had when the agent started, at the addresses that it had; to
//!   none that is a directory which an agent may write to, whose hooks would run as the user.
//!
//! `workspaces/<id>/pushes/` under `$ZAGI_HOME`:
//!
//! ```text
//! repository/   the outbox
//! <n>.json      a push that waits, a [`Waiting`]; version 1
//! last          the last number that was given
//! lock          held by whoever changes these, and never while the network or an agent is waited for
//! used          held by every agent that may use the outbox: when there is none and nothing waits, it
//!               is made anew
//! ```

mod desk;
pub mod wire;

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gix::ObjectId;
use nix::fcntl::Flock;
use zagi_sandbox::Plan;

use super::grants::{self, Grants};
use super::log::{Log, What};
use crate::context::Context;
use crate::event::Silent;
use crate::ordinary;
use crate::source::configuration::LARGEST;
use crate::source::outbox::{Config, Difference, Outbox, Remote, Safety, Update, Way};
use crate::workspace::description::Description;
use crate::workspace::error::{WorkspaceError, at};
use crate::workspace::tools;
pub use desk::Waiting;
use desk::{Desk, WAITING};
use wire::{Answer, Outcome, Question, Wanted};

/// The name by which git finds this program as a way to a remote (gitremote-helpers(7)).
pub const HELPER: &str = "git-remote-zagi";
/// How git names such a way.
const TRANSPORT: &str = "zagi::";

/// How long git may take between two parts of a pack: it may have much to count.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many may ask at a time.
const ASKING: usize = 8;
/// A reference's name is not longer, in bytes.
const LONGEST: usize = 250;
/// How many lines of each part of a difference are shown.
const LINES: usize = 400;
/// The namespace of branches.
const HEADS: &str = "refs/heads/";

/// Where an agent's git asks, outside.
pub(super) struct Door {
    ctx: Context,
    desk: Desk,
    agent: String,
    grants: Grants,
    remotes: Vec<Remote>,
    log: Arc<Log>,
    _used: Flock<File>,
}

impl Door {
    /// The door of `agent`, to the remotes that the workspace has now. A workspace without any has none.
    pub fn open(
        ctx: &Context,
        description: &Description,
        (agent, grants): (&str, &Grants),
        log: &Arc<Log>,
    ) -> Result<Option<Door>, WorkspaceError> {
        let path = description.path.join(".git/config");
        // Without one there is no repository to push from; an agent before may have left a pipe.
        let Ok(text) = ordinary::read(&path, LARGEST) else { return Ok(None) };
        // What an agent may write to is a workspace, or its home, which is in this one.
        let apart = |path: &Path| {
            let home = ctx.home.root().canonicalize();
            home.is_ok_and(|home| !path.starts_with(home))
                && matches!(Description::around(&ctx.home, path), Ok(None))
        };
        let config = Config::of(&text, &description.path, apart);
        let Some(config) = config.filter(|config| !config.remotes.is_empty()) else {
            return Ok(None);
        };
        let desk = Desk::of(ctx, description);
        let lock = desk.lock()?;
        let borrowed = tools::borrowed(ctx, description);
        let (_, used) = desk.open(ctx, borrowed.as_deref(), &config)?;
        drop(lock);
        Ok(Some(Door {
            // The terminal is the agent's.
            ctx: Context { events: Arc::new(Silent), ..ctx.clone() },
            desk,
            agent: agent.to_owned(),
            grants: grants.clone(),
            remotes: config.remotes,
            log: log.clone(),
            _used: used,
        }))
    }

    /// Has git inside find its remotes here: by the next listener.
    pub fn lead(&self, plan: &mut Plan, program: &Path) {
        plan.listen.push(wire::ADDRESS);
        let shown = Path::new(super::program::PROGRAM).with_file_name(HELPER);
        plan.binds.push(zagi_sandbox::Bind {
            source: program.to_owned(),
            target: shown,
            writable: false,
        });
        let count = plan.env.get("GIT_CONFIG_COUNT").and_then(|text| text.parse().ok());
        let mut n: usize = count.unwrap_or_default();
        for remote in &self.remotes {
            for url in &remote.urls {
                let key = format!("url.{TRANSPORT}{}.insteadOf", remote.name);
                plan.env.insert(format!("GIT_CONFIG_KEY_{n}"), key);
                plan.env.insert(format!("GIT_CONFIG_VALUE_{n}"), url.clone());
                n += 1;
            }
        }
        plan.env.insert("GIT_CONFIG_COUNT".into(), n.to_string());
    }

    /// Answers, in this thread, until the process ends.
    pub fn serve(self, listener: &TcpListener) {
        let (door, asking) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        for stream in listener.incoming().flatten() {
            if asking.fetch_add(1, Ordering::SeqCst) >= ASKING {
                // Who asks sees the connection end.
                asking.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (door, asking) = (door.clone(), asking.clone());
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let _ = stream.set_write_timeout(Some(PATIENCE));
                // Who went away meanwhile gets no answer.
                let _ = wire::answer(&stream, |question, pack| door.answer(question, pack));
                asking.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn answer(&self, question: Question, mut pack: &mut dyn Read) -> (Answer, Option<File>) {
        let answer = match question {
            Question::References { remote, push } => {
                let way = if push { Way::Push } else { Way::Fetch };
                self.references(&remote, way).map(|answer| (answer, None))
            }
            Question::Fetch { remote, wanted, had, partial } => self
                .fetch(&remote, (&wanted, &had), partial)
                .map(|pack| (Answer::Fetched, Some(pack))),
            Question::Push { remote, updates } => {
                self.push(&remote, updates, &mut pack).map(|answer| (answer, None))
            }
        };
        answer.unwrap_or_else(|e| (Answer::Refused(e.to_string()), None))
    }

    fn known(&self, remote: &str) -> Result<(), WorkspaceError> {
        match self.remotes.iter().any(|known| known.name == remote) {
            true => Ok(()),
            false => Err(WorkspaceError::NoSuchRemote(remote.to_owned())),
        }
    }

    fn references(&self, remote: &str, way: Way) -> Result<Answer, WorkspaceError> {
        self.known(remote)?;
        let outbox = Outbox::at(&self.ctx, &self.desk.repository());
        let found = outbox.references(remote, way)?;
        let known = outbox.known(found.all.iter().map(|(id, _)| *id));
        let hex = |id: &ObjectId| id.to_hex().to_string();
        Ok(Answer::References {
            head: found.head,
            all: found.all.iter().map(|(id, name)| (hex(id), name.clone())).collect(),
            known: known.iter().map(hex).collect(),
        })
    }

    fn fetch(
        &self,
        remote: &str,
        (wanted, had): (&[String], &[String]),
        partial: bool,
    ) -> Result<File, WorkspaceError> {
        self.known(remote)?;
        let outbox = Outbox::at(&self.ctx, &self.desk.repository());
        let ids = |hex: &[String]| -> Vec<ObjectId> {
            hex.iter().filter_map(|id| ObjectId::from_hex(id.as_bytes()).ok()).collect()
        };
        let wanted = ids(wanted);
        outbox.fetch(remote, &wanted)?;
        self.tell(What::Fetched { remote: remote.to_owned() });
        Ok(outbox.pack(remote, (&wanted, &ids(had)), partial)?)
    }

    fn push(
        &self,
        remote: &str,
        updates: Vec<Wanted>,
        pack: &mut impl Read,
    ) -> Result<Answer, WorkspaceError> {
        self.known(remote)?;
        let outbox = Outbox::at(&self.ctx, &self.desk.repository());
        if updates.len() > WAITING {
            return Err(WorkspaceError::TooManyPushes { most: WAITING });
        }
        outbox.receive(pack)?;
        let outcome = |wanted: Wanted| match self.one(&outbox, remote, &wanted) {
            Ok(said) => Outcome { name: wanted.name, error: None, said },
            Err(error) => Outcome { name: wanted.name, error: Some(error), said: Vec::new() },
        };
        Ok(Answer::Pushed(updates.into_iter().map(outcome).collect()))
    }

    /// Pushes one reference, or has it wait; why it is not pushed.
    fn one(
        &self,
        outbox: &Outbox<'_>,
        remote: &str,
        wanted: &Wanted,
    ) -> Result<Vec<String>, String> {
        let update = update(outbox, wanted)?;
        let refused = |why: String| {
            let (remote, reference) = (remote.to_owned(), wanted.name.clone());
            self.tell(What::PushRefused { remote, reference, why: why.clone() });
            why
        };
        let branch = wanted.name.strip_prefix(HEADS);
        if branch.is_some_and(|branch| self.grants.may_push(branch)) {
            let safety = if wanted.force { Safety::Exactly } else { Safety::FastForward };
            let said = outbox.push(remote, &update, safety).map_err(|e| refused(e.to_string()))?;
            self.tell(pushed(remote, &update));
            let of = (self.agent.as_str(), remote, wanted.name.as_str());
            self.desk.settle(outbox, of).map_err(|e| e.to_string())?;
            let remotes = said.into_iter().filter(|line| line.starts_with("remote:"));
            return Ok(remotes.collect());
        }
        let of = (self.agent.as_str(), remote, wanted);
        let waiting = Waiting::new(self.log.now(), of);
        let number = self.desk.add(outbox, waiting).map_err(|e| refused(e.to_string()))?;
        let (to, reference) = (remote.to_owned(), wanted.name.clone());
        self.tell(What::PushAsked { remote: to, reference, number });
        Err(format!("waits for your user, who can `zagi agent --approve {number}`"))
    }

    fn tell(&self, what: What) {
        // What cannot be written down is no reason to stop the agent's work.
        let _ = self.log.write(what);
    }
}

fn pushed(remote: &str, update: &Update) -> What {
    What::Pushed {
        remote: remote.to_owned(),
        reference: update.name.clone(),
        commit: update.new.map(|id| id.to_hex().to_string()),
    }
}

/// What is wanted, if that can be.
fn update(outbox: &Outbox<'_>, wanted: &Wanted) -> Result<Update, String> {
    let name = gix::refs::FullName::try_from(wanted.name.as_str()).ok();
    // It will be read by people, at terminals that obey some characters and do not show others.
    let shown = |c: char| !c.is_control() && !c.escape_debug().to_string().starts_with("\\u");
    let readable = wanted.name.len() <= LONGEST && wanted.name.chars().all(shown);
    if name.is_none() || !readable || !wanted.name.starts_with("refs/") {
        let name: String = wanted.name.chars().take(LONGEST).collect();
        return Err(format!("`{}` is no reference", name.escape_debug()));
    }
    let id = |hex: &Option<String>| match hex {
        None => Ok(None),
        Some(hex) => ObjectId::from_hex(hex.as_bytes()).map(Some).map_err(|e| e.to_string()),
    };
    let update = Update { name: wanted.name.clone(), old: id(&wanted.old)?, new: id(&wanted.new)? };
    match update.new {
        Some(new) if outbox.known([new].into_iter()).is_empty() => {
            Err(format!("{new} did not come with it"))
        }
        _ => Ok(update),
    }
}

/// The pushes that wait in the workspace around `dir`, by number.
pub fn waiting(ctx: &Context, dir: &Path) -> Result<Vec<Waiting>, WorkspaceError> {
    Desk::of(ctx, &crate::workspace::known(ctx, dir)?).all()
}

/// What is to be said yes or no to.
#[derive(Debug)]
pub struct Shown {
    /// Where it would go, without a password.
    pub address: String,
    /// What it would change.
    pub difference: Difference,
}

/// What one of them would change.
pub fn show(ctx: &Context, dir: &Path, waiting: &Waiting) -> Result<Shown, WorkspaceError> {
    let description = crate::workspace::known(ctx, dir)?;
    let desk = Desk::of(ctx, &description);
    let base = ObjectId::from_hex(description.source.commit.as_bytes()).ok();
    let outbox = Outbox::at(ctx, &desk.repository());
    let (remote, update) = (waiting.remote.as_str(), waiting.update());
    Ok(Shown {
        address: outbox.shown(remote)?,
        difference: outbox.difference(remote, &update, (base, LINES))?,
    })
}

/// Pushes just this, if it still waits; what the remote said.
pub fn approve(
    ctx: &Context,
    dir: &Path,
    waiting: &Waiting,
) -> Result<Vec<String>, WorkspaceError> {
    let description = crate::workspace::known(ctx, dir)?;
    let desk = Desk::of(ctx, &description);
    let lock = desk.lock()?;
    desk.holds(waiting)?;
    drop(lock);
    let outbox = Outbox::at(ctx, &desk.repository());
    let update = waiting.update();
    let said = outbox.push(&waiting.remote, &update, Safety::Exactly)?;
    note(ctx, &description, &waiting.agent, pushed(&waiting.remote, &update))?;
    let _lock = desk.lock()?;
    // Its agent may have asked for something else meanwhile, which waits in its place.
    if desk.holds(waiting).is_ok() {
        desk.remove(&outbox, waiting)?;
    }
    Ok(said)
}

/// Forgets it.
pub fn reject(ctx: &Context, dir: &Path, waiting: &Waiting) -> Result<(), WorkspaceError> {
    let description = crate::workspace::known(ctx, dir)?;
    let desk = Desk::of(ctx, &description);
    let _lock = desk.lock()?;
    desk.holds(waiting)?;
    let (remote, reference) = (waiting.remote.clone(), waiting.reference.clone());
    let why = "its user said no".to_owned();
    note(ctx, &description, &waiting.agent, What::PushRefused { remote, reference, why })?;
    desk.remove(&Outbox::at(ctx, &desk.repository()), waiting)
}

/// Writes into an agent's log.
fn note(
    ctx: &Context,
    description: &Description,
    agent: &str,
    what: What,
) -> Result<(), WorkspaceError> {
    let own = super::directory(ctx, description, agent);
    Log::open(&own, ctx.now).and_then(|log| log.write(what)).map_err(at(&own))
}

/// The line that would let an agent push there by itself, if it can be written without a doubt.
pub fn allowing(waiting: &Waiting) -> Option<String> {
    let branch = waiting.reference.strip_prefix(HEADS)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    branch.chars().all(plain).then(|| {
        format!(
            "`push = [\"{branch}\"]` below `[agent.{}]` in `$ZAGI_HOME/{}` would let it do so by itself",
            waiting.agent,
            grants::FILE
        )
    })
}
