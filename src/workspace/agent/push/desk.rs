//! What waits in one workspace, on disk: `workspaces/<id>/pushes/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::wire::Wanted;
use crate::context::Context;
use crate::source::outbox::{Config, Outbox, Update};
use crate::workspace::description::{self, Description};
use crate::workspace::error::{WorkspaceError, at};

const VERSION: u32 = 1;
/// How many of an agent's pushes may wait.
pub(super) const WAITING: usize = 50;

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
    /// What an agent wants of a remote, at a time; without a number yet.
    pub(super) fn new(time: i64, (agent, remote, wanted): (&str, &str, &Wanted)) -> Waiting {
        Waiting {
            version: VERSION,
            number: 0,
            time,
            agent: agent.to_owned(),
            remote: remote.to_owned(),
            reference: wanted.name.clone(),
            old: wanted.old.clone(),
            new: wanted.new.clone(),
        }
    }

    /// Of whom, to which remote and reference.
    fn of(&self) -> (&str, &str, &str) {
        (&self.agent, &self.remote, &self.reference)
    }

    pub(super) fn update(&self) -> Update {
        let id = |hex: &Option<String>| ObjectId::from_hex(hex.as_ref()?.as_bytes()).ok();
        Update { name: self.reference.clone(), old: id(&self.old), new: id(&self.new) }
    }
}

/// What waits in one workspace.
pub(super) struct Desk {
    dir: PathBuf,
}

impl Desk {
    pub fn of(ctx: &Context, description: &Description) -> Desk {
        Desk { dir: description::directory(&ctx.home, &description.id).join("pushes") }
    }

    pub fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    fn file(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.json"))
    }

    pub fn lock(&self) -> Result<Flock<File>, WorkspaceError> {
        self.locked("lock", FlockArg::LockExclusive)
    }

    fn locked(&self, name: &str, how: FlockArg) -> Result<Flock<File>, WorkspaceError> {
        fs::create_dir_all(&self.dir).map_err(at(&self.dir))?;
        let path = self.dir.join(name);
        let file = File::create(&path).map_err(at(&path))?;
        Flock::lock(file, how).map_err(|(_, e)| at(&path)(e.into()))
    }

    /// The outbox for an agent that starts, and what says that it is used. The lock is held.
    pub fn open<'c>(
        &self,
        ctx: &'c Context,
        objects: Option<&Path>,
        config: &Config,
    ) -> Result<(Outbox<'c>, Flock<File>), WorkspaceError> {
        let alone = self.locked("used", FlockArg::LockExclusiveNonblock);
        if alone.is_ok() && self.all()?.is_empty() {
            // What was pushed, fetched or refused is of no use any more.
            let path = self.repository();
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(&path)(e)),
                _ => {}
            }
        }
        drop(alone);
        let used = self.locked("used", FlockArg::LockShared)?;
        Ok((Outbox::make(ctx, &self.repository(), objects, config)?, used))
    }

    /// That it waits still, just as somebody saw it. The lock is held.
    pub fn holds(&self, waiting: &Waiting) -> Result<(), WorkspaceError> {
        match self.all()?.contains(waiting) {
            true => Ok(()),
            false => Err(WorkspaceError::NoSuchPush { number: waiting.number }),
        }
    }

    /// By number.
    pub fn all(&self) -> Result<Vec<Waiting>, WorkspaceError> {
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

    /// Adds one, in the place of what the same agent wanted there before.
    pub fn add(&self, outbox: &Outbox<'_>, mut waiting: Waiting) -> Result<u64, WorkspaceError> {
        let _lock = self.lock()?;
        let all = self.all()?;
        waiting.number = self.number(&all)?;
        let of = (waiting.agent.as_str(), waiting.remote.as_str(), waiting.reference.as_str());
        let same = |other: &&Waiting| of == other.of();
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

    /// Forgets what an agent wanted at a remote's reference: it was pushed there.
    pub fn settle(
        &self,
        outbox: &Outbox<'_>,
        of: (&str, &str, &str),
    ) -> Result<(), WorkspaceError> {
        let _lock = self.lock()?;
        let all = self.all()?;
        let mut same = all.iter().filter(|waiting| waiting.of() == of);
        same.try_for_each(|waiting| self.remove(outbox, waiting))
    }

    /// A number that no other push had, so that nobody approves one by another's.
    fn number(&self, all: &[Waiting]) -> Result<u64, WorkspaceError> {
        let path = self.dir.join("last");
        let last = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
        let number = last.unwrap_or(0).max(all.last().map_or(0, |last| last.number)) + 1;
        fs::write(&path, number.to_string()).map_err(at(&path))?;
        Ok(number)
    }

    pub fn remove(&self, outbox: &Outbox<'_>, waiting: &Waiting) -> Result<(), WorkspaceError> {
        let path = self.file(waiting.number);
        fs::remove_file(&path).map_err(at(&path))?;
        Ok(outbox.keep(waiting.number, None)?)
    }
}
