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
//! - Only to the remotes that the repository had when the agent started, at the addresses that it had.
//!
//! `workspaces/<id>/pushes/` under `$ZAGI_HOME`:
//!
//! ```text
//! repository/   the outbox
//! <n>.json      a push that waits, a [`Waiting`]; version 1
//! last          the last number that was given
//! lock          held by whoever changes these
//! ```

pub mod wire;

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gix::ObjectId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use zagi_sandbox::Plan;

use super::grants::{self, Grants};
use super::log::{Log, What};
use crate::context::Context;
use crate::event::Silent;
use crate::source::outbox::{self, Difference, Outbox, Remote, Safety, Update, Way};
use crate::workspace::description::{self, Description};
use crate::workspace::error::{WorkspaceError, at};
use wire::{Answer, Outcome, Question, Wanted};

/// The name by which git finds this program as a way to a remote (gitremote-helpers(7)).
pub const HELPER: &str = "git-remote-zagi";
/// How git names such a way.
const TRANSPORT: &str = "zagi::";

const VERSION: u32 = 1;
/// How long git may take between two parts of a pack: it may have much to count.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many may ask at a time.
const ASKING: usize = 8;
/// How many of an agent's pushes may wait.
const WAITING: usize = 50;
/// How many lines of each part of a difference are shown.
const LINES: usize = 400;
/// The namespace of branches.
const HEADS: &str = "refs/heads/";

/// A push that waits for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    version: u32,
    /// By which it is named.
    pub number: u64,
    /// Since when, in seconds since the epoch.
    pub time: i64,
    /// Whose it is.
    pub agent: String,
    /// To which remote.
    pub remote: String,
    /// To which reference.
    pub reference: String,
    /// What the remote had.
    pub old: Option<String>,
    /// What it is to have; nothing deletes it.
    pub new: Option<String>,
}

impl Waiting {
    /// The reference as people say it.
    pub fn branch(&self) -> &str {
        self.reference.strip_prefix(HEADS).unwrap_or(&self.reference)
    }

    fn update(&self) -> Update {
        let id = |hex: &Option<String>| ObjectId::from_hex(hex.as_ref()?.as_bytes()).ok();
        Update { name: self.reference.clone(), old: id(&self.old), new: id(&self.new) }
    }
}

/// What waits in one workspace.
struct Desk {
    dir: PathBuf,
}

impl Desk {
    fn of(ctx: &Context, description: &Description) -> Desk {
        Desk { dir: description::directory(&ctx.home, &description.id).join("pushes") }
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    fn file(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.json"))
    }

    fn lock(&self) -> Result<Flock<File>, WorkspaceError> {
        fs::create_dir_all(&self.dir).map_err(at(&self.dir))?;
        let path = self.dir.join("lock");
        let file = File::create(&path).map_err(at(&path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| at(&path)(e.into()))
    }

    /// By number.
    fn all(&self) -> Result<Vec<Waiting>, WorkspaceError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&self.dir))?,
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let paths = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
        let mut all = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(at(&path))?;
            let waiting: Waiting = serde_json::from_str(&text).map_err(|e| at(&path)(e.into()))?;
            if waiting.version != VERSION {
                let e = format!("its version is {}, this zagi reads {VERSION}", waiting.version);
                return Err(at(&path)(std::io::Error::other(e)));
            }
            all.push(waiting);
        }
        all.sort_by_key(|waiting| waiting.number);
        Ok(all)
    }

    /// Adds one, in the place of what the same agent wanted there before. The lock is held.
    fn add(&self, outbox: &Outbox<'_>, mut waiting: Waiting) -> Result<u64, WorkspaceError> {
        let all = self.all()?;
        waiting.number = self.number(&all)?;
        let same = |other: &&Waiting| {
            (&other.agent, &other.remote, &other.reference)
                == (&waiting.agent, &waiting.remote, &waiting.reference)
        };
        for before in all.iter().filter(same) {
            self.remove(outbox, before)?;
        }
        let theirs = all.iter().filter(|other| other.agent == waiting.agent && !same(other));
        if theirs.count() >= WAITING {
            return Err(WorkspaceError::TooManyPushes { most: WAITING });
        }
        outbox.keep(waiting.number, waiting.update().new)?;
        let (path, new) = (self.file(waiting.number), self.dir.join("new"));
        let text = serde_json::to_string(&waiting).map_err(|e| at(&path)(e.into()))?;
        fs::write(&new, text).map_err(at(&new))?;
        fs::rename(&new, &path).map_err(at(&path))?;
        Ok(waiting.number)
    }

    /// A number that no other push had, so that nobody approves one by another's.
    fn number(&self, all: &[Waiting]) -> Result<u64, WorkspaceError> {
        let path = self.dir.join("last");
        let last = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
        let number = last.unwrap_or(0).max(all.last().map_or(0, |last| last.number)) + 1;
        fs::write(&path, number.to_string()).map_err(at(&path))?;
        Ok(number)
    }

    fn remove(&self, outbox: &Outbox<'_>, waiting: &Waiting) -> Result<(), WorkspaceError> {
        let path = self.file(waiting.number);
        fs::remove_file(&path).map_err(at(&path))?;
        Ok(outbox.keep(waiting.number, None)?)
    }
}

/// Where an agent's git asks, outside.
pub(super) struct Door {
    ctx: Context,
    desk: Desk,
    agent: String,
    grants: Grants,
    remotes: Vec<Remote>,
    log: Arc<Log>,
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
        // Without one there is no repository to push from.
        let Ok(config) = fs::read(&path) else { return Ok(None) };
        let remotes = outbox::remotes(&config);
        if remotes.is_empty() {
            return Ok(None);
        }
        let desk = Desk::of(ctx, description);
        let lock = desk.lock()?;
        let clone = ctx.home.root().join(&description.source.clone);
        Outbox::make(ctx, &desk.repository(), &clone, &config)?;
        drop(lock);
        Ok(Some(Door {
            // The terminal is the agent's.
            ctx: Context { events: Arc::new(Silent), ..ctx.clone() },
            desk,
            agent: agent.to_owned(),
            grants: grants.clone(),
            remotes,
            log: log.clone(),
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
            for url in remote.urls.iter().chain(&remote.push_urls) {
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
        let _lock = self.desk.lock()?;
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
        let _lock = self.desk.lock()?;
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
            let remotes = said.into_iter().filter(|line| line.starts_with("remote:"));
            return Ok(remotes.collect());
        }
        let waiting = Waiting {
            version: VERSION,
            number: 0,
            time: self.log.now(),
            agent: self.agent.clone(),
            remote: remote.to_owned(),
            reference: wanted.name.clone(),
            old: wanted.old.clone(),
            new: wanted.new.clone(),
        };
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
    if name.is_none() || !wanted.name.starts_with("refs/") {
        return Err(format!("`{}` is no reference", wanted.name));
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
    Desk::of(ctx, &crate::workspace::around(ctx, dir)?).all()
}

/// What one of them would change.
pub fn difference(
    ctx: &Context,
    dir: &Path,
    waiting: &Waiting,
) -> Result<Difference, WorkspaceError> {
    let description = crate::workspace::around(ctx, dir)?;
    let desk = Desk::of(ctx, &description);
    let base = ObjectId::from_hex(description.source.commit.as_bytes()).ok();
    let outbox = Outbox::at(ctx, &desk.repository());
    Ok(outbox.difference(&waiting.update(), base, LINES)?)
}

/// Pushes just this; what the remote said.
pub fn approve(
    ctx: &Context,
    dir: &Path,
    waiting: &Waiting,
) -> Result<Vec<String>, WorkspaceError> {
    let description = crate::workspace::around(ctx, dir)?;
    let desk = Desk::of(ctx, &description);
    let _lock = desk.lock()?;
    let outbox = Outbox::at(ctx, &desk.repository());
    let update = waiting.update();
    let said = outbox.push(&waiting.remote, &update, Safety::Exactly)?;
    let own = super::directory(ctx, &description, &waiting.agent);
    let log = Log::open(&own, ctx.now).map_err(at(&own))?;
    log.write(pushed(&waiting.remote, &update)).map_err(at(&own))?;
    desk.remove(&outbox, waiting)?;
    Ok(said)
}

/// Forgets it.
pub fn reject(ctx: &Context, dir: &Path, waiting: &Waiting) -> Result<(), WorkspaceError> {
    let description = crate::workspace::around(ctx, dir)?;
    let desk = Desk::of(ctx, &description);
    let _lock = desk.lock()?;
    let own = super::directory(ctx, &description, &waiting.agent);
    let log = Log::open(&own, ctx.now).map_err(at(&own))?;
    let (remote, reference) = (waiting.remote.clone(), waiting.reference.clone());
    let why = "its user said no".to_owned();
    log.write(What::PushRefused { remote, reference, why }).map_err(at(&own))?;
    desk.remove(&Outbox::at(ctx, &desk.repository()), waiting)
}

/// The line that would let an agent push there by itself.
pub fn allowing(waiting: &Waiting) -> Option<String> {
    let branch = waiting.reference.strip_prefix(HEADS)?;
    Some(format!(
        "`push = [\"{branch}\"]` below `[agent.{}]` in `$ZAGI_HOME/{}` would let it do so by itself",
        waiting.agent,
        grants::FILE
    ))
}
