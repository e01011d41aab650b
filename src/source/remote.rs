//! A repository that git fetches. What is known not to move is never asked about again; a
//! branch is asked about once a command, and if nobody answers, what it was last is taken.
//!
//! History comes without the files of old revisions (`--filter=blob:none`) where the server
//! can do that; the files of the revision that was asked for come in one further request.

use std::ffi::OsStr;
use std::fs::File;
use std::time::Duration;

use gix::ObjectId;

use super::address::{Address, without_password};
use super::bare::{Bare, REMOTE};
use super::error::SourceError;
use super::git::{Git, Run, in_repository};
use super::{Found, How, complete, nearest, peel};
use crate::context::Context;
use crate::event::Event;

/// For an answer to what the branches are, which takes a server a second.
const ANSWER: Duration = Duration::from_secs(30);

/// The same, where what was fetched before can stand in.
const ANSWER_OR_LAST: Duration = Duration::from_secs(8);

/// The setting that says where [`REMOTE`] is.
const URL: &str = "remote.zagi-source.url";

/// What is asked of one repository.
struct Remote<'a> {
    ctx: &'a Context,
    url: &'a str,
    /// Without a password.
    address: String,
    revision: Option<&'a str>,
    bare: Bare,
}

/// What the remote says that the revision is.
struct Target {
    /// `refs/heads/main`, `refs/tags/v1.0`; `None` for a commit.
    name: Option<String>,
    /// The commit; for an abbreviated one, not known yet.
    commit: Option<ObjectId>,
    /// The branch that HEAD is, if there was an answer to that.
    head: Option<String>,
}

pub(super) fn resolve(
    ctx: &Context,
    url: &str,
    revision: Option<&str>,
) -> Result<Found, SourceError> {
    let address = without_password(url);
    let name = Address::Remote { url: url.to_owned(), revision: None }.name();
    let bare = Bare::of(ctx, &name, &key(&address));
    let remote = Remote { ctx, url, address, revision, bare };
    if let Some((commit, name)) = remote.pinned()? {
        return remote.found(commit, name, 0, How::Cached);
    }
    if ctx.offline {
        return match remote.last()? {
            Some((commit, name)) => remote.found(commit, name, 0, How::Cached),
            None => Err(SourceError::Offline {
                missing: revision.map_or("the repository".into(), |r| format!("revision {r}")),
                address: remote.address,
            }),
        };
    }
    match remote.ask() {
        Ok((commit, name, bytes, how)) => remote.found(commit, name, bytes, how),
        Err(error) if error.is_unreachable() => match remote.last()? {
            Some((commit, name)) => {
                ctx.events.emit(Event::Warning(format!("{error}; using what was fetched before")));
                remote.found(commit, name, 0, How::Fallback { why: error.to_string() })
            }
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// One key for the spellings of one repository.
fn key(address: &str) -> String {
    let trimmed = address.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix(".git").unwrap_or(trimmed);
    // Hosts are the same in any case; paths are not.
    let host = match trimmed.split_once("://") {
        Some((scheme, rest)) => scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()),
        None => trimmed.find(':').unwrap_or(0),
    };
    format!("git {}{}", trimmed[..host].to_lowercase(), &trimmed[host..])
}

impl Remote<'_> {
    /// The revision, if it cannot mean anything else tomorrow: a commit, or a tag that was
    /// fetched. All of it is here.
    fn pinned(&self) -> Result<Option<(ObjectId, Option<String>)>, SourceError> {
        let Some(revision) = self.revision else { return Ok(None) };
        if !self.bare.exists() {
            return Ok(None);
        }
        if let Ok(commit) = ObjectId::from_hex(revision.as_bytes()) {
            return Ok(self.bare.notices(&commit).map(|_| (commit, None)));
        }
        let repo = self.bare.open()?;
        let tag = tag_name(revision);
        if let Some(commit) = peel(&repo, &tag) {
            return Ok(self.bare.notices(&commit).map(|_| (commit, Some(tag))));
        }
        // A branch may have a name that looks like an abbreviated commit.
        if is_abbreviated(revision) && peel(&repo, &branch_name(revision)).is_none() {
            let commit = repo.rev_parse_single(revision).ok().map(|id| id.detach());
            let complete = commit.filter(|commit| self.bare.notices(commit).is_some());
            return Ok(complete.map(|commit| (commit, None)));
        }
        Ok(None)
    }

    /// The revision as it was when it was fetched last.
    fn last(&self) -> Result<Option<(ObjectId, Option<String>)>, SourceError> {
        if !self.bare.exists() {
            return Ok(None);
        }
        let repo = self.bare.open()?;
        let name = match self.revision {
            Some(revision) => Some(branch_name(revision)),
            None => repo.head_name().ok().flatten().map(|name| name.to_string()),
        };
        let commit = name.as_deref().and_then(|name| peel(&repo, name));
        let complete = commit.filter(|commit| self.bare.notices(commit).is_some());
        Ok(complete.map(|commit| (commit, name)))
    }

    fn found(
        self,
        commit: ObjectId,
        name: Option<String>,
        fetched_bytes: u64,
        how: How,
    ) -> Result<Found, SourceError> {
        let notices = self.bare.notices(&commit).unwrap_or_default();
        let branch = name.and_then(|n| n.strip_prefix("refs/heads/").map(ToOwned::to_owned));
        Ok(Found {
            commit,
            revision: self.revision.map(ToOwned::to_owned),
            branch,
            remote: Some(self.address),
            own_tags: false,
            fetched_bytes,
            how,
            notices,
            bare: self.bare,
        })
    }

    /// Asks the remote what the revision is, and fetches what is not here of it.
    fn ask(&self) -> Result<(ObjectId, Option<String>, u64, How), SourceError> {
        let git = Git::for_remote(self.ctx, self.url, None)?;
        let target = self.target(&git)?;
        let lock = self.bare.lock()?;
        if !self.bare.exists() {
            self.bare.create(self.ctx)?;
        }
        if let Some(head) = &target.head {
            self.bare.set_head(self.ctx, head)?;
        }
        let before = self.bare.size();
        let here = target.commit.filter(|commit| self.bare.notices(commit).is_some());
        let same = match (&here, &target.name) {
            (Some(commit), Some(name)) => peel(&self.bare.open()?, name) == Some(*commit),
            (here, None) => here.is_some(),
            (None, _) => false,
        };
        if same && let Some(commit) = here {
            return Ok((commit, target.name, 0, How::Cached));
        }
        let commit = self.fetch(&git, &lock, &target)?;
        complete(self.ctx, &self.bare, &self.address, commit, Vec::new(), |missing| {
            self.fetch_blobs(&git, &lock, missing)
        })?;
        // Hundreds of tags as files would make every look-up slow.
        self.run(&git, &lock, &["pack-refs", "--all"].map(OsStr::new), &[])?;
        let bytes = self.bare.size().saturating_sub(before);
        Ok((commit, target.name, bytes, How::Fetched))
    }

    /// What the revision is, by the remote's own list.
    fn target(&self, git: &Git<'_>) -> Result<Target, SourceError> {
        let mut args: Vec<&str> = vec!["ls-remote", "--symref", REMOTE, "HEAD"];
        if self.revision.is_some() {
            args.extend(["refs/heads/*", "refs/tags/*"]);
        }
        let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        let listed = git.run(Run {
            settings: &[(URL, OsStr::new(self.url))],
            // Whether it exists or not: git must not find another where the user is.
            env: &in_repository(&self.bare.dir),
            deadline: Some(if self.last()?.is_some() { ANSWER_OR_LAST } else { ANSWER }),
            ..Run::new(&self.address, &args)
        })?;
        let listed = String::from_utf8_lossy(&listed);
        let refs = Refs::parse(&listed);
        let Some(revision) = self.revision else {
            let commit = refs.id("HEAD");
            let empty = || SourceError::Empty { address: self.address.clone() };
            let name = refs.head.clone();
            return Ok(Target {
                head: name.clone(),
                commit: Some(commit.ok_or_else(empty)?),
                name,
            });
        };
        for name in [tag_name(revision), branch_name(revision)] {
            if let Some(commit) = refs.id(&name) {
                return Ok(Target { name: Some(name), commit: Some(commit), head: refs.head });
            }
        }
        if let Ok(commit) = ObjectId::from_hex(revision.as_bytes()) {
            return Ok(Target { name: None, commit: Some(commit), head: refs.head });
        }
        if is_abbreviated(revision) {
            return Ok(Target { name: None, commit: None, head: refs.head });
        }
        Err(self.no_revision(revision, refs.names()))
    }

    fn no_revision<'r>(&self, revision: &str, names: impl Iterator<Item = &'r str>) -> SourceError {
        SourceError::NoRevision {
            address: self.address.clone(),
            revision: revision.to_owned(),
            nearest: nearest(revision, names),
        }
    }

    /// Fetches the commits and trees of the target, and returns its commit.
    fn fetch(&self, git: &Git<'_>, lock: &File, target: &Target) -> Result<ObjectId, SourceError> {
        let unknown = || self.no_revision(self.revision.unwrap_or("HEAD"), std::iter::empty());
        let fetch = |specs: &[String]| {
            let options = ["fetch", "--progress", "--no-write-fetch-head", "--filter=blob:none"];
            let words = options.iter().copied().chain([REMOTE]);
            let words = words.chain(specs.iter().map(String::as_str));
            let args: Vec<&OsStr> = words.map(OsStr::new).collect();
            self.run(git, lock, &args, &[]).map(drop)
        };
        if let Some(name) = &target.name {
            // A ref is set when all of its commits and trees are here.
            let here = peel(&self.bare.open()?, name);
            if let Some(commit) = here.filter(|commit| Some(*commit) == target.commit) {
                return Ok(commit);
            }
            fetch(&[format!("+{name}:{name}")])?;
            // It may have moved since it was listed.
            return peel(&self.bare.open()?, name).ok_or_else(unknown);
        }
        let everything = ["+refs/heads/*:refs/heads/*".into(), "+refs/tags/*:refs/tags/*".into()];
        if let Some(commit) = target.commit {
            if !self.bare.open()?.has_object(commit) {
                match fetch(&[format!("+{commit}:refs/zagi/keep/{commit}")]) {
                    Ok(()) => {}
                    Err(error) if error.is_unreachable() => return Err(error),
                    // Some servers give only what a branch or tag leads to.
                    Err(_) => fetch(&everything)?,
                }
            }
            return match self.bare.open()?.find_commit(commit) {
                Ok(_) => Ok(commit),
                Err(_) => Err(unknown()),
            };
        }
        fetch(&everything)?;
        let repo = self.bare.open()?;
        let revision = self.revision.expect("only a revision can be an abbreviated commit");
        let commit = repo.rev_parse_single(revision).map_err(|_| unknown())?;
        match commit.object().map(|object| object.peel_to_commit()) {
            Ok(Ok(commit)) => Ok(commit.id),
            _ => Err(unknown()),
        }
    }

    /// Fetches these files, as git itself does when it misses some.
    fn fetch_blobs(
        &self,
        git: &Git<'_>,
        lock: &File,
        missing: &[ObjectId],
    ) -> Result<(), SourceError> {
        let args = [
            "-c",
            "fetch.negotiationAlgorithm=noop",
            "fetch",
            "--progress",
            "--no-tags",
            "--no-write-fetch-head",
            "--filter=blob:none",
            "--stdin",
            REMOTE,
        ];
        let input: String = missing.iter().map(|id| format!("{id}\n")).collect();
        self.run(git, lock, &args.map(OsStr::new), input.as_bytes()).map(drop)
    }

    fn run(
        &self,
        git: &Git<'_>,
        lock: &File,
        args: &[&OsStr],
        input: &[u8],
    ) -> Result<Vec<u8>, SourceError> {
        git.run(Run {
            settings: &[(URL, OsStr::new(self.url))],
            env: &in_repository(&self.bare.dir),
            input,
            output: Some(lock),
            progress: Some(&self.address),
            ..Run::new(&self.address, args)
        })
    }
}

/// What `git ls-remote --symref` says.
struct Refs<'a> {
    /// The branch that HEAD is.
    head: Option<String>,
    listed: Vec<(&'a str, ObjectId)>,
}

impl<'a> Refs<'a> {
    fn parse(text: &'a str) -> Refs<'a> {
        let mut refs = Refs { head: None, listed: Vec::new() };
        for line in text.lines() {
            match line.split_once('\t') {
                Some((branch, "HEAD")) if branch.starts_with("ref: refs/heads/") => {
                    refs.head = branch.strip_prefix("ref: ").map(ToOwned::to_owned);
                }
                Some((id, name)) => {
                    if let Ok(id) = ObjectId::from_hex(id.as_bytes()) {
                        refs.listed.push((name, id));
                    }
                }
                None => {}
            }
        }
        refs
    }

    /// The commit of `name`: of a tag that is an object of its own, what it is of.
    fn id(&self, name: &str) -> Option<ObjectId> {
        let find = |name: &str| self.listed.iter().find(|(n, _)| *n == name).map(|(_, id)| *id);
        find(&format!("{name}^{{}}")).or_else(|| find(name))
    }

    /// The short names of branches and tags.
    fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        let short = |name: &'a str| {
            let name = name.strip_prefix("refs/heads/").or(name.strip_prefix("refs/tags/"))?;
            (!name.ends_with("^{}")).then_some(name)
        };
        self.listed.iter().filter_map(move |(name, _)| short(name))
    }
}

fn tag_name(revision: &str) -> String {
    format!("refs/tags/{}", revision.strip_prefix("refs/tags/").unwrap_or(revision))
}

fn branch_name(revision: &str) -> String {
    format!("refs/heads/{}", revision.strip_prefix("refs/heads/").unwrap_or(revision))
}

fn is_abbreviated(revision: &str) -> bool {
    (7..40).contains(&revision.len()) && revision.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_refs() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n\
             {a}\trefs/tags/v1\n{b}\trefs/tags/v1^{{}}\nnonsense\n"
        );
        let refs = Refs::parse(&text);
        assert_eq!(refs.head.as_deref(), Some("refs/heads/main"));
        assert_eq!(refs.id("HEAD").map(|id| id.to_string()), Some(a));
        assert_eq!(refs.id("refs/tags/v1").map(|id| id.to_string()), Some(b), "peeled");
        assert_eq!(refs.names().collect::<Vec<_>>(), ["main", "v1"]);
    }

    #[test]
    fn spellings_of_one_repository() {
        let same = key("https://github.com/Acme/web");
        assert_eq!(key("https://GitHub.com/Acme/web.git/"), same);
        assert_ne!(key("https://github.com/acme/web"), same);
        assert_eq!(key("git@H:Acme/web.git"), key("git@h:Acme/web"));
        assert_ne!(key("git@h:Acme/web"), key("git@h:acme/web"));
    }

    #[test]
    fn abbreviated_commits() {
        assert!(is_abbreviated("1234567") && is_abbreviated("ABCDEF01"));
        assert!(!is_abbreviated("123456") && !is_abbreviated("v123456"));
        assert!(!is_abbreviated(&"a".repeat(40)));
    }
}
