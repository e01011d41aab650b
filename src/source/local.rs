//! A directory on this machine: a git repository, of which what is committed counts, or
//! plain files, which become a commit.
//!
//! Objects are hard-linked or copied, never borrowed from the user's own repository: a
//! workspace outlives it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use gix::ObjectId;

use super::bare::{Bare, open, scratch};
use super::error::SourceError;
use super::git::{Git, Run, in_repository};
use super::pack::Pack;
use super::snapshot::{self, Commit};
use super::{Found, How, complete, nearest};
use crate::context::Context;

/// An index of more bytes is not looked through for changes on every mount: some 5,000
/// files, which take a few milliseconds.
const SMALL_INDEX: u64 = 512 << 10;

/// What is never part of a directory without git: what was installed there, and what is
/// ours.
const EXCLUDED: &str = "/.zagi/env\nnode_modules/\n.venv/\n__pycache__/\n";

pub(super) fn resolve(
    ctx: &Context,
    path: &Path,
    revision: Option<&str>,
) -> Result<Found, SourceError> {
    let address = path.display().to_string();
    let name = path.file_name().map_or("root".into(), OsStr::to_string_lossy);
    let key = [b"local ", path.as_os_str().as_bytes()].concat();
    let bare = Bare::of(ctx, &name, &String::from_utf8_lossy(&key));
    if path.join(".git").exists() || is_bare(path) {
        return repository(ctx, path, &address, revision, bare);
    }
    match revision {
        None => directory(ctx, path, &address, bare),
        Some(revision) => Err(SourceError::NoRevision {
            address,
            revision: revision.to_owned(),
            nearest: Vec::new(),
        }),
    }
}

/// As git tells one from other directories.
fn is_bare(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir()
}

fn repository(
    ctx: &Context,
    path: &Path,
    address: &str,
    revision: Option<&str>,
    bare: Bare,
) -> Result<Found, SourceError> {
    let theirs = open(path)?;
    let commit = commit_of(&theirs, address, revision)?;
    let branch = branch_of(&theirs, revision);
    let mut fetched_bytes = 0;
    let (how, notices) = match bare.notices(&commit) {
        Some(notices) => (How::Cached, notices),
        None => {
            let git = Git::find(ctx)?;
            let lock = bare.lock()?;
            let before = bare.size();
            if !bare.exists() {
                clone(ctx, &git, path, address, &bare)?;
            }
            if !bare.open()?.has_object(commit) {
                let args = ["fetch", "--no-write-fetch-head", "--progress"].map(OsStr::new);
                let keep = format!("+{commit}:refs/zagi/keep/{commit}");
                let specs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", &keep];
                let mut words = args.to_vec();
                words.push(path.as_os_str());
                words.extend(specs.iter().map(OsStr::new));
                git.run(Run {
                    env: &in_repository(&bare.dir),
                    output: Some(&lock),
                    progress: Some(address),
                    ..Run::new(address, &words)
                })?;
            }
            // From a partial clone, files may be missing that only its own remote has.
            let notices = complete(ctx, &bare, address, commit, Vec::new(), |_| Ok(()))?;
            fetched_bytes = bare.size().saturating_sub(before);
            (How::Fetched, notices)
        }
    };
    let mut notices = notices;
    if revision.is_none() && has_changes(ctx, &theirs, path, address, how == How::Fetched) {
        notices.push("what is not committed there is left out".into());
    }
    Ok(Found {
        bare,
        commit,
        revision: revision.map(ToOwned::to_owned),
        branch,
        remote: Some(address.to_owned()),
        own_tags: false,
        fetched_bytes,
        how,
        notices,
    })
}

fn commit_of(
    theirs: &gix::Repository,
    address: &str,
    revision: Option<&str>,
) -> Result<ObjectId, SourceError> {
    let address = || address.to_owned();
    let Some(revision) = revision else {
        let head = theirs.head_commit().map_err(|_| SourceError::Empty { address: address() })?;
        return Ok(head.id);
    };
    let object = theirs.rev_parse_single(revision).ok().and_then(|id| id.object().ok());
    if let Some(commit) = object.and_then(|object| object.peel_to_commit().ok()) {
        return Ok(commit.id);
    }
    let mut names = Vec::new();
    if let Ok(references) = theirs.references()
        && let Ok(all) = references.all()
    {
        names = all.flatten().map(|r| r.name().shorten().to_string()).collect();
    }
    Err(SourceError::NoRevision {
        address: address(),
        revision: revision.to_owned(),
        nearest: nearest(revision, names.iter().map(String::as_str)),
    })
}

fn branch_of(theirs: &gix::Repository, revision: Option<&str>) -> Option<String> {
    let name = match revision {
        None => theirs.head_name().ok()??,
        Some(revision) => {
            let name = format!("refs/heads/{revision}");
            theirs.try_find_reference(&name).ok()??.name().to_owned()
        }
    };
    Some(name.shorten().to_string())
}

/// Clones it whole, with hard links where the file system has them.
fn clone(
    ctx: &Context,
    git: &Git<'_>,
    path: &Path,
    address: &str,
    bare: &Bare,
) -> Result<(), SourceError> {
    let scratch = scratch(ctx)?;
    let made = scratch.path().join("bare");
    // Not `--local`: with it git insists on hard links, which another file system refuses.
    // A path it copies from directly anyhow, and links where it can.
    let mut args = ["clone", "--bare", "--progress", "--template="].to_vec();
    // One that borrows would make ours borrow from the same place, which is not ours.
    let theirs = open(path)?;
    if theirs.common_dir().join("objects/info/alternates").exists() {
        args.push("--dissociate");
    }
    let mut args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
    args.extend([path.as_os_str(), made.as_os_str()]);
    git.run(Run { progress: Some(address), ..Run::new(address, &args) })?;
    bare.configure(&made)?;
    bare.adopt(&made)
}

/// Whether files differ from what is committed. `thorough` or not, a repository of many
/// files is not walked on each mount: then only a small index is compared with the disk, and
/// git asked if that looks different.
fn has_changes(
    ctx: &Context,
    theirs: &gix::Repository,
    path: &Path,
    address: &str,
    thorough: bool,
) -> bool {
    if theirs.is_bare() {
        return false;
    }
    if !thorough && !looks_changed(theirs, path) {
        return false;
    }
    let Ok(git) = Git::find(ctx) else { return false };
    let directory = path.as_os_str();
    let args = ["-C", "", "status", "--porcelain", "--no-renames"].map(OsStr::new);
    let args: Vec<&OsStr> = args.iter().map(|a| if a.is_empty() { directory } else { a }).collect();
    // Whatever keeps git from telling would be said when it is asked for more than advice.
    let env = [("GIT_OPTIONAL_LOCKS", OsStr::new("0"))];
    git.run(Run { env: &env, ..Run::new(address, &args) }).is_ok_and(|said| !said.is_empty())
}

fn looks_changed(theirs: &gix::Repository, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let small = fs::metadata(theirs.index_path()).is_ok_and(|m| m.len() <= SMALL_INDEX);
    let Some(index) = small.then(|| theirs.index().ok()).flatten() else { return false };
    index.entries().iter().any(|entry| {
        let file = path.join(OsStr::from_bytes(entry.path(&index)));
        match fs::symlink_metadata(file) {
            Ok(there) => {
                // git keeps the low 32 bits of both.
                let size = there.size() as u32 == entry.stat.size;
                let time = there.mtime() as u32 == entry.stat.mtime.secs;
                !(there.is_dir() || size && time)
            }
            Err(_) => true,
        }
    })
}

/// Files without git. The commit is made of their names, bytes and executable bits; if those
/// are as they were last, it is the same commit. Its date is that of the newest file when it
/// was made, so that tools are chosen as of then.
fn directory(ctx: &Context, path: &Path, address: &str, bare: Bare) -> Result<Found, SourceError> {
    const BRANCH: &str = "refs/heads/main";
    let git = Git::find(ctx)?;
    let lock = bare.lock()?;
    if !bare.exists() {
        bare.create(ctx)?;
    }
    let exclude = bare.dir.join("info/exclude");
    if !exclude.exists() {
        fs::create_dir_all(bare.dir.join("info")).map_err(SourceError::io(&bare.dir))?;
        fs::write(&exclude, EXCLUDED).map_err(SourceError::io(&exclude))?;
    }
    let (files, inside) = list(&git, path, address, &bare)?;
    if files.is_empty() {
        return Err(SourceError::NoFiles { path: path.to_owned() });
    }
    let (repo, packs) = (bare.open()?, bare.packs());
    let mut pack = Pack::begin(&repo, &packs)?;
    let tree = snapshot::tree(&mut pack, path, &files)?;
    let last = repo.head_commit().ok();
    let (commit, how) = match last.filter(|last| last.tree_id().is_ok_and(|id| id == tree)) {
        Some(last) => (last.id, How::Cached),
        None => {
            let commit = Commit {
                tree,
                date: snapshot::newest(path, &files).unwrap_or(ctx.now),
                message: format!("The files of {address}\n"),
            };
            let commit = snapshot::commit(pack, &commit)?;
            snapshot::point(&repo, commit, &[BRANCH])?;
            (commit, How::Fetched)
        }
    };
    let mut notices = complete(ctx, &bare, address, commit, Vec::new(), |_| Ok(()))?;
    if !inside.is_empty() {
        notices.push(format!("repositories inside it are left out ({})", inside.join(", ")));
    }
    drop(lock);
    Ok(Found {
        bare,
        commit,
        revision: None,
        branch: Some("main".into()),
        remote: None,
        own_tags: false,
        fetched_bytes: 0,
        how,
        notices,
    })
}

/// Every file that the directory's own `.gitignore`s do not exclude, and the repositories
/// inside it.
fn list(
    git: &Git<'_>,
    path: &Path,
    address: &str,
    bare: &Bare,
) -> Result<(Vec<Vec<u8>>, Vec<String>), SourceError> {
    let index = bare.dir.join("no-index");
    let [repository] = in_repository(&bare.dir);
    // The user's own list of what to ignore would make other commits on other machines.
    let settings =
        [("core.excludesFile", OsStr::new("/dev/null")), ("core.bare", OsStr::new("false"))];
    let env =
        [repository, ("GIT_WORK_TREE", path.as_os_str()), ("GIT_INDEX_FILE", index.as_os_str())];
    let args = ["ls-files", "--others", "--exclude-standard", "-z", "--", ":/"].map(OsStr::new);
    let directory = ["-C".as_ref(), path.as_os_str()];
    let args: Vec<&OsStr> = directory.into_iter().chain(args).collect();
    let listed = git.run(Run { settings: &settings, env: &env, ..Run::new(address, &args) })?;
    let names = listed.split(|&c| c == 0).filter(|name| !name.is_empty());
    // A repository is listed as a directory, whose name ends in a slash.
    let (inside, files): (Vec<&[u8]>, Vec<&[u8]>) = names.partition(|name| name.ends_with(b"/"));
    let inside = inside.into_iter().map(|name| String::from_utf8_lossy(name).into_owned());
    Ok((files.into_iter().map(<[u8]>::to_vec).collect(), inside.collect()))
}
