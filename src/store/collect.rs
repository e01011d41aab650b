//! The collector: removes what no root needs.
//!
//! Roots are refs, leases that have not run out, and what the caller says that its
//! workspaces stand on. Refs that are only caches are none once nobody stands on them and
//! they were not looked up for [`UNUSED`] seconds.
//!
//! 1. With a [`Hold`](super::Hold), beside everybody else: what is needed is marked from
//!    the roots; of packs of which much is not needed, and of many small packs, what is
//!    needed is copied into new packs, durably. Nobody is told of those yet.
//! 2. Exclusively, when nobody is just about to rely on anything: the roots are asked again,
//!    and a pack that a new one needs stays. The generation is raised; roots that have run
//!    out go; in one transaction of the index the old packs become unknown and the new ones
//!    known; then the old packs go.
//!
//! | a crash | leaves |
//! |---|---|
//! | in 1 | new packs that the index does not know: copies, found and removed by the next collection |
//! | in 2 before the transaction | the same; a root that has run out may be gone |
//! | after it | old packs that the index does not know: the same again |
//!
//! So at each moment everything that is needed is in a pack that the index knows, and in one
//! that is on the disk. A reader who has looked up a record in a pack that then goes asks
//! the index again.
//!
//! On a full disk packs are not rewritten; those of which nothing is needed go, and caches.
//!
//! What fails to be read (a root, a tree, a pack's footer) ends the collection before
//! anything is removed: what it needs cannot be known.
//!
//! | file | what is in it |
//! |---|---|
//! | `mark.rs` | what is needed |
//! | `choose.rs` | which packs are to go |
//! | `rewrite.rs` | what is needed of them, into new packs |
//! | `sweep.rs` | the second phase |
//! | `files.rs` | the farm and other caches |
//! | `wait.rs` | for those who are at the store, and who they are |

mod choose;
mod files;
mod mark;
mod rewrite;
mod sweep;
mod wait;

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use choose::Choice;
use mark::Needed;
use rewrite::Copier;

use super::Store;
use super::error::StoreError;
use super::format::TreeId;
use super::objects::Objects;
use super::progress::Progress;
use super::refs::Sort;
use crate::event::Event;

/// A cache that was of no use for so many seconds is not kept: thirty days.
pub const UNUSED: i64 = 30 * 24 * 3600;

/// How often everything is looked at again because the store was repaired meanwhile.
const ATTEMPTS: u32 = 4;

/// How to collect.
pub struct Collect<'c> {
    /// Seconds since the epoch.
    pub now: i64,
    /// Remove nothing; say what would be removed.
    pub dry_run: bool,
    /// How long to wait for those who are at the store.
    pub patience: Duration,
    /// What the caller needs besides refs and leases. Asked twice, the second time while
    /// nobody can get a [`Hold`](super::Hold), this function included.
    pub roots: &'c FindRoots<'c>,
}

/// Finds what a caller needs.
pub type FindRoots<'c> = dyn Fn() -> Result<Roots, Box<dyn Error + Send + Sync>> + 'c;

/// What a caller needs, and what it does not.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// Trees, each with what stands on it ("the workspace /home/a/web").
    pub trees: Vec<(String, TreeId)>,
    /// Refs whose names begin with one of these are only caches.
    pub caches: Vec<String>,
    /// Refs that stay although they are caches.
    pub refs: BTreeSet<String>,
    /// Keys of trees of the farm.
    pub farm_trees: BTreeSet<String>,
    /// Files and directories of the caller, of the same file system or not, that nobody
    /// needs: they go too, and are counted.
    pub unused: Vec<Unused>,
}

/// A file or directory that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// What it is counted as ("downloads").
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// Things of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The kind.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
    /// The bytes that they take on the disk.
    pub bytes: u64,
}

/// What a collection has removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What went.
    pub removed: Vec<Tally>,
    /// What was written: new packs, of what is needed of old ones.
    pub written: Vec<Tally>,
    /// What stayed.
    pub kept: Vec<Tally>,
}

impl Collected {
    /// Bytes by which the disk is emptier. Negative in theory: new packs take up space too.
    pub fn freed(&self) -> i64 {
        let sum = |tallies: &[Tally]| tallies.iter().map(|tally| tally.bytes as i64).sum::<i64>();
        sum(&self.removed) - sum(&self.written)
    }
}

/// The roots as they are at one moment.
struct Gathered {
    trees: Vec<(String, TreeId)>,
    refs: u64,
    leases: u64,
    stale_refs: Vec<String>,
    expired_leases: Vec<String>,
    farm_trees: BTreeSet<String>,
    unused: Vec<Unused>,
}

/// What the first phase found and did.
struct Plan<'s> {
    generation: u64,
    roots: Gathered,
    needed: Needed,
    choice: Choice,
    copier: Copier<'s>,
}

impl Store {
    /// Removes what no root needs; see `collect.rs` for what that is, and how. One process
    /// at a time; others may use the store meanwhile, but for a moment at the end.
    pub fn collect(&self, ask: &Collect<'_>) -> Result<Collected, StoreError> {
        let _alone = self.wait_to_be_alone(ask.patience)?;
        let mut is_full = false;
        for _ in 0..ATTEMPTS {
            let hold = self.hold()?;
            let plan = self.plan(ask)?;
            if ask.dry_run {
                return self.tell(ask, plan);
            }
            drop(hold);
            let exclusive = self.wait_for_all(ask.patience)?;
            if plan.generation == self.inner.objects.generation()? {
                match self.sweep(ask, plan, exclusive) {
                    // The caches that went may have made the room that was lacking.
                    Err(StoreError::NoSpace { .. }) if !is_full => is_full = true,
                    swept => return swept,
                }
            }
        }
        Err(StoreError::Repairing { path: self.inner.root.clone() })
    }

    /// The first phase.
    fn plan(&self, ask: &Collect<'_>) -> Result<Plan<'_>, StoreError> {
        let objects = &self.inner.objects;
        let generation = objects.generation()?;
        choose::know_all(objects)?;
        let roots = self.gather(ask)?;
        let mut needed = Needed::default();
        self.mark(&roots, &mut needed, None)?;
        let mut choice = choose::choose(objects, &needed)?;
        let mut copier = Copier::new(objects, ask.dry_run);
        match self.rewrite(&mut copier, &choice, &needed) {
            // Who collects because the disk is full is to get the room that costs none.
            Err(StoreError::NoSpace { .. }) => {
                copier = Copier::new(objects, ask.dry_run);
                choice.rewrite_nothing();
                let what = "the disk is too full to rewrite packs: those stay of which a part is \
                            needed; collect again when there is room";
                self.events.emit(Event::Warning(what.into()));
            }
            rewritten => rewritten?,
        }
        // A collection that was killed may have made the same copy before, which nobody
        // needed until now.
        let (condemned, again): (Vec<_>, Vec<_>) = std::mem::take(&mut choice.condemned)
            .into_iter()
            .partition(|candidate| !copier.packs.contains(&candidate.pack));
        choice.condemned = condemned;
        for candidate in again {
            choice.packs -= 1;
            choice.on_disk -= candidate.on_disk;
        }
        Ok(Plan { generation, roots, needed, choice, copier })
    }

    /// Copies what is needed of packs that are to go.
    fn rewrite(
        &self,
        copier: &mut Copier<'_>,
        choice: &Choice,
        needed: &Needed,
    ) -> Result<(), StoreError> {
        let total: u64 = choice.condemned.iter().map(|candidate| candidate.needed).sum();
        let progress = Progress::new(&self.events, "records rewritten", Some(total));
        for candidate in choice.condemned.iter().filter(|candidate| candidate.needed > 0) {
            copier.copy(&candidate.pack, needed, &progress)?;
        }
        copier.finish()
    }

    /// Marks what the roots need and `before` has not.
    fn mark(
        &self,
        roots: &Gathered,
        needed: &mut Needed,
        before: Option<&Needed>,
    ) -> Result<(), StoreError> {
        let objects: &Objects = &self.inner.objects;
        let progress = Progress::new(&self.events, "directories looked at", None);
        for (who, tree) in &roots.trees {
            needed.add(objects, tree, before, &progress).map_err(|source| StoreError::Root {
                who: who.clone(),
                source: Box::new(source),
            })?;
        }
        needed.add_parts(objects)
    }

    fn gather(&self, ask: &Collect<'_>) -> Result<Gathered, StoreError> {
        let given = (ask.roots)().map_err(|source| StoreError::Roots { source })?;
        let mut gathered = Gathered {
            trees: given.trees,
            refs: 0,
            leases: 0,
            stale_refs: Vec::new(),
            expired_leases: Vec::new(),
            farm_trees: given.farm_trees,
            unused: given.unused,
        };
        let refs = self.roots_of(Sort::Ref);
        for root in refs.list("")? {
            let is_cache = given.caches.iter().any(|prefix| root.name.starts_with(prefix))
                && !given.refs.contains(&root.name);
            if is_cache && used(&refs.path(&root.name)?)?.is_some_and(|t| t < ask.now - UNUSED) {
                gathered.stale_refs.push(root.name);
            } else {
                gathered.refs += 1;
                gathered.trees.push((format!("the ref `{}`", root.name), root.tree));
            }
        }
        for lease in self.leases()? {
            if lease.until < ask.now {
                gathered.expired_leases.push(lease.name);
            } else {
                gathered.leases += 1;
                gathered.trees.push((format!("the lease `{}`", lease.name), lease.tree));
            }
        }
        Ok(gathered)
    }
}

/// When a ref was set or looked up last. None if it is gone.
fn used(path: &std::path::Path) -> Result<Option<i64>, StoreError> {
    match std::fs::metadata(path).and_then(|found| found.modified()) {
        Ok(time) => {
            Ok(Some(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::read(path)(e)),
    }
}
