//! What REPO may be, made into a shared bare clone and a revision.
//!
//! | file | what is in it |
//! |---|---|
//! | [`address`] | the forms of REPO |
//! | `remote` | a repository that git fetches, asked once, from then on as it was |
//! | `local` | a repository or plain directory on this machine |
//! | `package` | a published package, as a repository of one commit a version |
//! | `bare` | the shared clone: its layout, its lock, what is complete in it |
//! | `survey` | what is in a revision, and whether it may be shown |
//! | [`name`] | what may be called what |
//! | `snapshot` | files on disk, made into a commit by their bytes alone |
//! | [`configuration`] | what git's configuration says, read without git |
//! | [`outbox`] | where what somebody wants to push waits |
//! | `pack` | objects, written as one pack |
//! | `git` | runs the git program |
//! | [`checkout`](mod@checkout) | a private `.git` that borrows from the clone, and a work tree |
//! | [`files`] | a commit's files, for detection |
//!
//! Every kind ends as the same thing: a bare repository under `repos/` and a commit of which
//! every file is there. Nothing reads the network after that.

pub mod address;
mod bare;
pub mod checkout;
pub mod configuration;
mod error;
mod excluded;
pub mod files;
mod git;
mod local;
pub mod name;
pub mod outbox;
mod pack;
mod package;
mod remote;
mod snapshot;
mod survey;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;

use gix::ObjectId;

pub use self::address::{Address, AddressError, Package, Registry};
use self::bare::Bare;
pub use self::checkout::{DotGit, checkout};
pub use self::error::SourceError;
pub use self::excluded::exclude;
pub use self::files::GitFiles;
use self::survey::Survey;
use crate::context::Context;
use crate::event::Event;
use crate::registry::http::Client;

/// A repository and a revision, all of whose files are on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The bare repository (a git directory).
    pub repo: PathBuf,
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Its tree, in hexadecimal.
    pub tree: String,
    /// When it was committed, in seconds since the epoch.
    pub date: i64,
    /// What a directory of it is called by default: `jinja2`.
    pub name: String,
    /// What was asked for, in full and without passwords: `https://github.com/acme/web@main`.
    pub spec: String,
    /// The branch, tag or commit, or the version of a package, that was asked for.
    pub revision: Option<String>,
    /// The branch whose tip it is, if it was asked for by one or by none.
    pub branch: Option<String>,
    /// What to push to and to fetch more from, as git takes it; without passwords.
    pub remote: Option<String>,
    /// Whether history may be missing that git can fetch from `remote` (a partial clone).
    pub partial: bool,
    /// Tags, with the objects that they name, in hexadecimal; sorted.
    pub tags: Vec<(String, String)>,
    /// Bytes that came over the network or from another repository.
    pub fetched_bytes: u64,
    /// How it was come by.
    pub how: How,
}

impl Resolved {
    /// Whether it is a published package's source: one commit, made here.
    pub fn is_package(&self) -> bool {
        [Registry::Npm, Registry::Pypi, Registry::Crate]
            .iter()
            .any(|r| self.spec.strip_prefix(r.prefix()).is_some_and(|rest| rest.starts_with(':')))
    }
}

/// How a revision was come by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It was here.
    Cached,
    /// It was fetched now.
    Fetched,
    /// It is what was fetched last: the remote does not answer.
    Fallback {
        /// Why it was not reached.
        why: String,
    },
}

/// Finds, or fetches, what `address` names. What is odd about it is said as warnings.
pub fn resolve(ctx: &Context, client: &Client, address: &Address) -> Result<Resolved, SourceError> {
    let found = match address {
        Address::Local { path, revision } => local::resolve(ctx, path, revision.as_deref())?,
        Address::Remote { url, revision } => remote::resolve(ctx, url, revision.as_deref())?,
        Address::Package(package) => package::resolve(ctx, client, package)?,
    };
    for notice in &found.notices {
        ctx.events.emit(Event::Warning(format!("{address}: {notice}")));
    }
    found.describe(address)
}

/// What the kinds of address come down to.
struct Found {
    bare: Bare,
    commit: ObjectId,
    revision: Option<String>,
    branch: Option<String>,
    remote: Option<String>,
    /// Only the tags at the commit: the others are of unrelated histories.
    own_tags: bool,
    fetched_bytes: u64,
    how: How,
    notices: Vec<String>,
}

impl Found {
    fn describe(self, address: &Address) -> Result<Resolved, SourceError> {
        let repo = self.bare.open()?;
        let error = |e| SourceError::repository(&self.bare.dir)(e);
        let commit = repo.find_commit(self.commit).map_err(|e| error(Box::new(e)))?;
        let tree = commit.tree_id().map_err(|e| error(Box::new(e)))?;
        let date = commit.time().map_err(|e| error(Box::new(e)))?.seconds;
        let mut tags = Vec::new();
        let references = repo.references().map_err(|e| error(Box::new(e)))?;
        for tag in references.tags().map_err(|e| error(Box::new(e)))? {
            let tag = tag.map_err(error)?;
            let Some(target) = tag.target().try_id().map(|id| id.to_owned()) else { continue };
            if !self.own_tags || target == self.commit {
                tags.push((tag.name().shorten().to_string(), target.to_string()));
            }
        }
        tags.sort_unstable();
        Ok(Resolved {
            commit: self.commit.to_string(),
            tree: tree.to_string(),
            date,
            name: address.name(),
            spec: address.to_string(),
            revision: self.revision,
            branch: self.branch,
            // Of a fetched repository, only what was asked for is whole.
            partial: matches!(address, Address::Remote { .. }),
            remote: self.remote,
            tags,
            fetched_bytes: self.fetched_bytes,
            how: self.how,
            repo: self.bare.dir,
        })
    }
}

/// Makes sure that every file of `commit` is in `bare` and may be shown, noting what is odd about
/// it, besides what is `known`. `fetch` brings the files that are missing, all at once.
fn complete(
    ctx: &Context,
    bare: &Bare,
    address: &str,
    commit: ObjectId,
    known: Vec<String>,
    fetch: impl FnOnce(&[ObjectId]) -> Result<(), SourceError>,
) -> Result<Vec<String>, SourceError> {
    if let Some(notices) = bare.notices(&commit) {
        return Ok(notices);
    }
    let mut repo = bare.open()?;
    let mut survey = Survey::of(&repo, address, commit)?;
    if !survey.missing.is_empty() {
        fetch(&survey.missing)?;
        repo = bare.open()?;
        survey.look_again(&repo);
    }
    if !survey.missing.is_empty() {
        let (address, count) = (address.to_owned(), survey.missing.len());
        return Err(SourceError::Incomplete { address, count });
    }
    survey.check_links(&repo)?;
    let notices = [known, survey.notices(&repo)].concat();
    bare.set_complete(ctx, &commit, notices.clone())?;
    Ok(notices)
}

/// The commit that a ref of a clone leads to.
fn peel(repo: &gix::Repository, name: &str) -> Option<ObjectId> {
    let mut found = repo.try_find_reference(name).ok()??;
    Some(found.peel_to_commit().ok()?.id)
}

/// The names most like `wanted`, the most similar first.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let rank = |name: &str| {
        let name = name.to_lowercase();
        match name.contains(&wanted) || wanted.contains(&name) {
            true => Some(0),
            false => {
                let distance = distance(&wanted, &name);
                (distance <= wanted.len().max(4) / 2).then_some(distance)
            }
        }
    };
    let mut ranked: Vec<(usize, &str)> = names.filter_map(|n| Some((rank(n)?, n))).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(5).map(|(_, name)| name.to_owned()).collect()
}

/// How many characters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
