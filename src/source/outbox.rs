//! Remotes for one who may not reach them: what they want to push waits here, and goes from here;
//! what they fetch comes by here.
//!
//! A bare repository, which borrows the objects of the shared clone and has the configuration that
//! the work tree had, so that addresses, credentials and ssh are as its user set them up. What is to be
//! pushed is brought to it as a pack; nothing else of who brings it is read, and nothing that stands
//! in what was brought is run: no hook, no filter.
//!
//! ```text
//! config                   the work tree's, and what makes it bare
//! objects/info/alternates  the shared clone's
//! refs/zagi/asked/<n>      what waits to be pushed
//! ```
//!
//! A remote that is a directory of this machine runs what that directory's own hooks say, as it does for
//! its user. So it must be one that no agent can write to, and it is meant by its path without links.

mod config;
mod difference;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::address::without_password;
use super::error::SourceError;
use super::git::{Git, Run, in_repository};
use crate::context::Context;
pub use config::{Config, Remote};
pub use difference::{Difference, Lines};

/// After what is in the work tree's configuration.
const BARE: &str = "\n[core]\n\tbare = true\n\thooksPath = /dev/null\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n";
/// What waits is kept by references below this.
const ASKED: &str = "refs/zagi/asked";
/// A pack of nothing: its head, and a SHA-1.
const EMPTY: u64 = 12 + 20;
/// A pack that is pushed is not larger, in bytes.
const MOST: u64 = 4 << 30;
/// As much memory git takes at once for a part of one. It keeps files of more on disk.
const MEMORY: &str = "512m";

/// A reference, and what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// `refs/heads/main`.
    pub name: String,
    /// What it is now, at the remote; nothing where there is none.
    pub old: Option<ObjectId>,
    /// What it becomes; nothing deletes it.
    pub new: Option<ObjectId>,
}

/// What a remote has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// The name of the one that its HEAD is.
    pub head: Option<String>,
    /// As (object, name).
    pub all: Vec<(ObjectId, String)>,
}

/// To or from a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To it.
    Push,
    /// From it.
    Fetch,
}

/// How far from the remote an update may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// The remote's commits stay in its history.
    FastForward,
    /// Just what `old` says is replaced.
    Exactly,
}

/// Such a repository.
pub struct Outbox<'a> {
    ctx: &'a Context,
    dir: PathBuf,
}

impl<'a> Outbox<'a> {
    /// Makes the one at `dir`, or has the one that is there use `config`. It borrows the `objects` of a
    /// shared clone, if there is one.
    pub fn make(
        ctx: &'a Context,
        dir: &Path,
        objects: Option<&Path>,
        config: &Config,
    ) -> Result<Outbox<'a>, SourceError> {
        for below in ["objects/info", "objects/pack", "refs"] {
            let below = dir.join(below);
            fs::create_dir_all(&below).map_err(SourceError::io(&below))?;
        }
        let line = |objects: &Path| [objects.as_os_str().as_encoded_bytes(), b"\n"].concat();
        let borrowed = objects.map(line).unwrap_or_default();
        let config = [&config.text, BARE.as_bytes()].concat();
        for (name, bytes) in [
            ("HEAD", &b"ref: refs/heads/main\n"[..]),
            ("objects/info/alternates", &borrowed),
            ("config", &config),
        ] {
            let (path, new) = (dir.join(name), dir.join("new"));
            fs::write(&new, bytes).map_err(SourceError::io(&new))?;
            fs::rename(&new, &path).map_err(SourceError::io(&path))?;
        }
        Ok(Outbox::at(ctx, dir))
    }

    /// The one at `dir`, which was made.
    pub fn at(ctx: &'a Context, dir: &Path) -> Outbox<'a> {
        Outbox { ctx, dir: dir.to_owned() }
    }

    fn git(&self, args: &[&str]) -> Result<Vec<u8>, SourceError> {
        self.git_with(&[], args)
    }

    fn git_with(
        &self,
        more: &[(&'static str, &OsStr)],
        args: &[&str],
    ) -> Result<Vec<u8>, SourceError> {
        let git = Git::find(self.ctx)?;
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let env = [&in_repository(&self.dir)[..], more].concat();
        git.run(Run { env: &env, ..self.here("what waits to be pushed", &args) })
    }

    /// A run in the repository, and nowhere else: an address that is no whole one leads to nothing.
    fn here<'r>(&'r self, address: &'r str, args: &'r [&'r OsStr]) -> Run<'r> {
        Run { dir: Some(&self.dir), ..Run::new(address, args) }
    }

    /// The git for `remote`, and the remote's address, which is in no error.
    fn for_remote(&self, remote: &str, way: Way) -> Result<(Git<'a>, [String; 1]), SourceError> {
        let address = self.address(remote, way)?;
        Ok((Git::for_remote(self.ctx, &address, Some(&self.dir))?, [address]))
    }

    /// Where `remote` is pushed to, without a password.
    pub fn shown(&self, remote: &str) -> Result<String, SourceError> {
        Ok(without_password(&self.address(remote, Way::Push)?))
    }

    /// Where `remote` is.
    fn address(&self, remote: &str, way: Way) -> Result<String, SourceError> {
        let said = match way {
            Way::Push => self.git(&["remote", "get-url", "--push", "--", remote])?,
            Way::Fetch => self.git(&["remote", "get-url", "--", remote])?,
        };
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// What `remote` has; for a push or a fetch it may be at another address.
    pub fn references(&self, remote: &str, way: Way) -> Result<References, SourceError> {
        let (git, hidden) = self.for_remote(remote, way)?;
        let args = ["ls-remote", "--symref", "--", &hidden[0]].map(OsStr::new);
        let env = in_repository(&self.dir);
        let said = git.run(Run { env: &env, hidden: &hidden, ..self.here(remote, &args) })?;
        let mut references = References::default();
        for line in String::from_utf8_lossy(&said).lines() {
            match line.split_once('\t') {
                Some((to, "HEAD")) if to.starts_with("ref: ") => {
                    references.head = Some(to["ref: ".len()..].to_owned());
                }
                // What a tag leads to is no reference of its own.
                Some((id, name)) if name.starts_with("refs/") && !name.ends_with("^{}") => {
                    let id = ObjectId::from_hex(id.as_bytes()).ok();
                    references.all.extend(id.map(|id| (id, name.to_owned())));
                }
                _ => {}
            }
        }
        Ok(references)
    }

    /// Has what `remote` has of `wanted` come here, where it is not yet.
    pub fn fetch(&self, remote: &str, wanted: &[ObjectId]) -> Result<(), SourceError> {
        let known = self.known(wanted.iter().copied());
        let missing = wanted.iter().filter(|id| !known.contains(id));
        let missing: Vec<String> = missing.map(|id| id.to_hex().to_string()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (git, hidden) = self.for_remote(remote, Way::Fetch)?;
        let args = ["fetch", "--no-tags", "--no-write-fetch-head", "--progress", "--stdin", remote];
        let (args, input) = (args.map(OsStr::new), missing.join("\n"));
        let run = Run {
            env: &in_repository(&self.dir),
            hidden: &hidden,
            input: input.as_bytes(),
            progress: Some(remote),
            ..self.here(remote, &args)
        };
        git.run(run)?;
        Ok(())
    }

    /// What `wanted` needs beside `had`, as a file that holds a pack. For a `partial` repository it has no
    /// content of files but what is itself wanted.
    pub fn pack(
        &self,
        remote: &str,
        (wanted, had): (&[ObjectId], &[ObjectId]),
        partial: bool,
    ) -> Result<File, SourceError> {
        let repository = super::bare::open(&self.dir)?;
        let is_history = |id: &ObjectId| {
            let kind = repository.find_header(*id).ok().map(|header| header.kind());
            kind.is_some_and(|kind| matches!(kind, gix::objs::Kind::Commit | gix::objs::Kind::Tag))
        };
        let mut input: String = wanted.iter().map(|id| format!("{}\n", id.to_hex())).collect();
        // A file's content is wanted by itself because it is missing, whatever has it.
        if wanted.iter().any(is_history) {
            let had = self.known(had.iter().copied());
            input.extend(had.iter().map(|id| format!("^{}\n", id.to_hex())));
        }
        let mut args = vec!["pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"];
        if partial {
            args.extend(["--filter=blob:none", "--missing=allow-any"]);
        }
        let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        let tmp = self.ctx.home.tmp();
        let mut file = tempfile::tempfile_in(&tmp).map_err(SourceError::io(&tmp))?;
        let (git, hidden) = self.for_remote(remote, Way::Fetch)?;
        let lazy = self.lazy();
        let run = Run {
            env: &lazy,
            input: input.as_bytes(),
            output: Some(&file),
            hidden: &hidden,
            ..self.here(remote, &args)
        };
        git.run(run)?;
        file.rewind().map_err(SourceError::io(&tmp))?;
        Ok(file)
    }

    /// In the repository, where what it lacks, because it is partial, git may fetch.
    fn lazy(&self) -> [(&'static str, &OsStr); 2] {
        [in_repository(&self.dir)[0], ("GIT_NO_LAZY_FETCH", OsStr::new("0"))]
    }

    /// Those of `ids` that are here.
    pub fn known(&self, ids: impl Iterator<Item = ObjectId>) -> Vec<ObjectId> {
        let Ok(repository) = super::bare::open(&self.dir) else { return Vec::new() };
        ids.filter(|id| repository.has_object(*id)).collect()
    }

    /// Takes a pack in, to its end.
    pub fn receive(&self, pack: &mut impl Read) -> Result<(), SourceError> {
        let packs = self.dir.join("objects/pack");
        let file = tempfile::Builder::new().prefix("pack-").suffix(".pack").tempfile_in(&packs);
        let mut file = file.map_err(SourceError::io(&packs))?;
        let length = io::copy(&mut pack.take(MOST + 1), &mut file);
        let length = length.map_err(SourceError::io(file.path()))?;
        if length > MOST {
            let e = io::Error::other("more than 4 GiB at once is not pushed for an agent");
            return Err(SourceError::io(file.path())(e));
        }
        if length <= EMPTY {
            return Ok(());
        }
        // It is git's as soon as it has an index; one that is damaged gets none, and goes.
        let limit = [("GIT_ALLOC_LIMIT", OsStr::new(MEMORY))];
        let path = file.path().to_string_lossy();
        self.git_with(&limit, &["index-pack", "--threads=1", &path])?;
        let path = file.path().to_owned();
        file.into_temp_path().keep().map_err(|e| SourceError::io(&path)(e.error))?;
        Ok(())
    }

    /// Pushes to `remote`; the last lines that it said. Deletes only what `old` says.
    pub fn push(
        &self,
        remote: &str,
        update: &Update,
        safety: Safety,
    ) -> Result<Vec<String>, SourceError> {
        let (git, hidden) = self.for_remote(remote, Way::Push)?;
        let hex = |id: Option<ObjectId>| id.map(|id| id.to_hex().to_string()).unwrap_or_default();
        let lease = format!("--force-with-lease={}:{}", update.name, hex(update.old));
        let refspec = format!("{}:{}", hex(update.new), update.name);
        let mut args = vec!["push", "--no-verify", "--recurse-submodules=no", "--no-follow-tags"];
        if safety == Safety::Exactly || update.new.is_none() {
            args.push(&lease);
        }
        args.extend(["--", remote, &refspec]);
        let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        let env = self.lazy();
        let run =
            Run { env: &env, hidden: &hidden, progress: Some(remote), ..self.here(remote, &args) };
        let (_, said) = git.run_and_hear(run)?;
        Ok(said.into())
    }

    /// Keeps what waits under a number; nothing lets it go.
    pub fn keep(&self, number: u64, id: Option<ObjectId>) -> Result<(), SourceError> {
        let name = format!("{ASKED}/{number}");
        match id {
            Some(id) => self.git(&["update-ref", &name, &id.to_hex().to_string()]),
            None => self.git(&["update-ref", "-d", &name]),
        }?;
        Ok(())
    }
}
