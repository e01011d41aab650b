//! The shared bare clone of one repository, below `repos/` of the home.
//!
//! ```text
//! repos/<name>-<hash>/        an ordinary bare repository, which anything may borrow from
//!   zagi/complete/<commit>    every file of this commit is here, and may be shown; what is odd about it
//! repos/<name>-<hash>.lock    held by whoever changes it
//! ```
//!
//! It only ever grows: git's collection is off, since workspaces borrow its objects. It is
//! made whole and then renamed; fetching into it is as safe as git is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use super::error::SourceError;
use crate::context::Context;

/// What is said about a commit once it is complete. A version is written with it, so that
/// what a later zagi looks for is looked for again.
#[derive(Debug, Serialize, Deserialize)]
struct Complete {
    version: u32,
    notices: Vec<String>,
}

const COMPLETE: u32 = 2;

/// The name of the remote that is fetched from: one that no configuration of the user's has.
pub(super) const REMOTE: &str = "zagi-source";

/// A shared bare clone, which need not exist yet.
pub(super) struct Bare {
    pub dir: PathBuf,
}

impl Bare {
    /// The clone of what is identified by `key`; `name` is for people.
    pub fn of(ctx: &Context, name: &str, key: &str) -> Bare {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' };
        let name: String = name.trim_start_matches('.').chars().map(plain).take(64).collect();
        let hash = blake3::hash(key.as_bytes()).to_hex();
        Bare { dir: ctx.home.repos().join(format!("{name}-{}", &hash[..16])) }
    }

    pub fn exists(&self) -> bool {
        self.dir.join("HEAD").is_file()
    }

    /// Opens it without reading anything but itself.
    pub fn open(&self) -> Result<gix::Repository, SourceError> {
        open(&self.dir)
    }

    /// Waits until nobody else changes it.
    pub fn lock(&self) -> Result<File, SourceError> {
        let mut path = self.dir.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(SourceError::io(&path))?;
        // Whatever a killed git left half-made has no owner while we hold the lock.
        self.sweep();
        Ok(lock)
    }

    fn sweep(&self) {
        for name in ["packed-refs.lock", "config.lock", "HEAD.lock", "shallow.lock"] {
            let _ = fs::remove_file(self.dir.join(name));
        }
        for entry in fs::read_dir(self.packs()).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b"tmp_") {
                let _ = fs::remove_file(entry.path());
            }
        }
        for refs in ["refs/heads", "refs/tags", "refs/zagi/keep"] {
            remove_locks(&self.dir.join(refs));
        }
    }

    /// Makes an empty one.
    pub fn create(&self, ctx: &Context) -> Result<(), SourceError> {
        let scratch = scratch(ctx)?;
        let tmp = scratch.path();
        for dir in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "zagi/complete"] {
            let dir = tmp.join(dir);
            fs::create_dir_all(&dir).map_err(SourceError::io(&dir))?;
        }
        self.configure(tmp)?;
        let head = tmp.join("HEAD");
        fs::write(&head, "ref: refs/heads/main\n").map_err(SourceError::io(&head))?;
        self.adopt(tmp)
    }

    /// Writes the configuration of the repository at `dir`, which is to become this one. The
    /// remote's address is not in it: it may hold a password, and is passed at each fetch.
    pub fn configure(&self, dir: &Path) -> Result<(), SourceError> {
        let config = format!(
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\
             [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
             [remote \"{REMOTE}\"]\n\tpromisor = true\n\tpartialclonefilter = blob:none\n"
        );
        let path = dir.join("config");
        fs::write(&path, config).map_err(SourceError::io(&path))
    }

    /// Gives a whole repository at `tmp` its name. The lock is held.
    pub fn adopt(&self, tmp: &Path) -> Result<(), SourceError> {
        let complete = tmp.join("zagi/complete");
        fs::create_dir_all(&complete).map_err(SourceError::io(&complete))?;
        // Without a HEAD there, it is the rest of something that was deleted.
        if self.dir.exists() && !self.exists() {
            fs::remove_dir_all(&self.dir).map_err(SourceError::io(&self.dir))?;
        }
        fs::rename(tmp, &self.dir).map_err(SourceError::io(&self.dir))
    }

    /// What `HEAD` is to be.
    pub fn set_head(&self, ctx: &Context, branch: &str) -> Result<(), SourceError> {
        let head = self.dir.join("HEAD");
        let text = format!("ref: {branch}\n");
        if fs::read_to_string(&head).is_ok_and(|now| now == text) {
            return Ok(());
        }
        replace(ctx, &head, text.as_bytes())
    }

    /// If every file of `commit` is here: what is odd about it.
    pub fn notices(&self, commit: &ObjectId) -> Option<Vec<String>> {
        let text = fs::read(self.marker(commit)).ok()?;
        let complete: Complete = serde_json::from_slice(&text).ok()?;
        (complete.version == COMPLETE).then_some(complete.notices)
    }

    /// Notes that every file of `commit` is here, and survives a loss of power: what is written in
    /// a workspace may, and stands on it. (git syncs packs, but no objects that were copied.)
    pub fn set_complete(
        &self,
        ctx: &Context,
        commit: &ObjectId,
        notices: Vec<String>,
    ) -> Result<(), SourceError> {
        let synced = File::open(&self.dir).and_then(|dir| Ok(nix::unistd::syncfs(dir)?));
        synced.map_err(SourceError::io(&self.dir))?;
        let complete = Complete { version: COMPLETE, notices };
        let text = serde_json::to_vec(&complete).expect("strings are valid JSON");
        replace(ctx, &self.marker(commit), &text)
    }

    fn marker(&self, commit: &ObjectId) -> PathBuf {
        self.dir.join("zagi/complete").join(commit.to_string())
    }

    /// Where its packs are.
    pub fn packs(&self) -> PathBuf {
        self.dir.join("objects/pack")
    }

    /// Bytes of its objects, to tell how many were fetched.
    pub fn size(&self) -> u64 {
        let sizes = |dir: PathBuf| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum::<u64>()
        };
        sizes(self.packs())
    }
}

/// A directory that is gone when it is dropped, unless it was renamed.
pub(super) fn scratch(ctx: &Context) -> Result<tempfile::TempDir, SourceError> {
    let tmp = ctx.home.tmp();
    tempfile::tempdir_in(&tmp).map_err(SourceError::io(&tmp))
}

/// Opens a repository, reading no configuration but its own.
pub(super) fn open(dir: &Path) -> Result<gix::Repository, SourceError> {
    let mut repo = gix::open_opts(dir, gix::open::Options::isolated())
        .map_err(|e| SourceError::repository(dir)(Box::new(e)))?;
    repo.object_cache_size_if_unset(4 << 20);
    Ok(repo)
}

/// Gives `path` these bytes, all of them or none.
fn replace(ctx: &Context, path: &Path, bytes: &[u8]) -> Result<(), SourceError> {
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(ctx.home.tmp())?;
        io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(SourceError::io(path))
}

fn remove_locks(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove_locks(&entry.path()),
            // No branch can have this ending.
            Ok(_) if entry.path().extension().is_some_and(|e| e == "lock") => {
                let _ = fs::remove_file(entry.path());
            }
            _ => {}
        }
    }
}

/// A value in git's configuration.
pub(super) fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
