//! What a workspace is, on disk: `workspaces/<id>/`.
//!
//! ```text
//! workspace.toml     this module's format, version 1; written whole by rename
//! env.toml           the environment as detected or as the tree has it (a copy)
//! env.lock           what it was resolved to
//! own/               what `.git` starts with, and the link to the environment (a layer)
//! delta/             what was created, changed, deleted (crate `zagi-fuse`'s format)
//! services/          data, logs and sockets of its services (room `services`)
//! vars.json          the variables by which they are found (module `activate`)
//! nfs                while it is presented through NFS: port and secret (module `nfs`)
//! mounted            there while it is to be mounted; its content is the boot id of the
//!                    kernel that holds the mount, so that a daemon which finds it after a
//!                    crash mounts again, and after a reboot does not
//! ```
//! `workspaces/by-path/<hash of DIR>` is a symbolic link to the id, so that finding the
//! workspace of a directory is a look-up and not a search.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::environment::detect::Detected;
use crate::environment::spec::Run;
use crate::home::{self, Home};

/// The version of `workspace.toml` that this module writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// How a workspace is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presentation {
    /// Through FUSE: lazy.
    Fuse,
    /// Through NFS, by a server on this machine: likewise.
    Nfs,
    /// Real files on the real disk.
    Materialised,
}

impl Presentation {
    /// What its step is called: a server of NFS is there for a kernel that may yet mount it.
    pub(super) fn step(self) -> &'static str {
        if self == Presentation::Nfs { "served" } else { "mounted" }
    }
}

impl std::fmt::Display for Presentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Presentation::Fuse => "fuse",
            Presentation::Nfs => "nfs",
            Presentation::Materialised => "materialised",
        })
    }
}

/// Where the source came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourceRecord {
    /// REPO, in its canonical form.
    pub repository: String,
    /// The revision that was asked for, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that stands at the bottom of this workspace.
    pub commit: String,
    /// That commit's tree.
    pub tree: String,
    /// That commit's date, seconds since the epoch: the time of every file.
    pub date: i64,
    /// The shared clone, relative to the home.
    pub clone: PathBuf,
}

/// One captured tree of dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DependencyRecord {
    /// The key it was looked up by.
    pub key: String,
    /// The ecosystem's manager ("npm", "uv").
    pub manager: String,
    /// The captured tree.
    pub tree: String,
    /// The directories it brings, relative to the workspace.
    pub directories: Vec<String>,
    /// The files whose edit makes it out of date, relative to the workspace.
    pub inputs: Vec<String>,
    /// Variables by which programs find it; texts may hold `{workspace}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
}

/// The commands that the project itself is tested, built and started with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunRecord {
    /// How it is tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// How it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// How it is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// `workspace.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Description {
    /// [`VERSION`].
    pub version: u32,
    /// Twelve hexadecimal digits, unique in this home.
    pub id: String,
    /// The last component of the path when it was made.
    pub name: String,
    /// DIR, absolute.
    pub path: PathBuf,
    /// When it was made, seconds since the epoch.
    pub created: i64,
    /// How it is presented.
    pub presented: Presentation,
    /// Whether users other than the one who mounts are let in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_other: bool,
    /// The environment's key, and so the directory under `envs/`.
    pub environment: String,
    /// The files that it was read from, relative to the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_inputs: Vec<String>,
    /// Where the source came from.
    pub source: SourceRecord,
    /// Variables that the project sets for its own processes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The project's own commands.
    #[serde(default)]
    pub run: RunRecord,
    /// What its managers installed.
    #[serde(default, rename = "dependencies", skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<DependencyRecord>,
}

/// Why a description cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The file system said no.
    #[error("cannot access `{path}`: {source}")]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is not a description.
    #[error("`{path}` is not a workspace's description: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        source: Box<toml_edit::de::Error>,
    },
    /// The file was written by a newer zagi.
    #[error("`{path}` has version {found}, this zagi knows up to {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The description cannot be put into TOML.
    #[error("the directory `{0}` has a name that is not UTF-8; choose another")]
    NotUtf8(PathBuf),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DescriptionError {
    let path = path.to_owned();
    move |source| DescriptionError::Io { path, source }
}

/// The directory of one workspace under the home.
pub fn directory(home: &Home, id: &str) -> PathBuf {
    home.workspaces().join(id)
}

/// Where a workspace, whose directory this is, keeps the files that are its own from the
/// beginning.
pub fn own(directory: &Path) -> PathBuf {
    directory.join("own")
}

fn by_path(home: &Home, dir: &Path) -> PathBuf {
    home::workspace_link(home.root(), dir)
}

impl Description {
    /// Takes over what a project says of its own processes, and where it was read what it asks for.
    pub fn asks(&mut self, detected: &Detected) {
        let evidence = detected.asked().flat_map(|(_, asked)| &asked.evidence);
        let read = evidence.map(|e| e.file.clone());
        self.environment_inputs = read.collect::<BTreeSet<String>>().into_iter().collect();
        self.env = detected.spec.env.clone();
        let Run { test, build, start } = detected.run.clone();
        self.run = RunRecord { test, build, start };
    }

    /// Reads the description of the workspace `id`.
    pub fn read(home: &Home, id: &str) -> Result<Description, DescriptionError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let path = directory(home, id).join("workspace.toml");
        let text = std::fs::read_to_string(&path).map_err(io_at(&path))?;
        let parse =
            |source| DescriptionError::Parse { path: path.clone(), source: Box::new(source) };
        let head: Head = toml_edit::de::from_str(&text).map_err(parse)?;
        if head.version > VERSION {
            return Err(DescriptionError::Newer { path, found: head.version });
        }
        toml_edit::de::from_str(&text).map_err(parse)
    }

    /// Writes it into `dir` (the workspace's own directory, or one that will become it).
    pub fn write(&self, dir: &Path) -> Result<(), DescriptionError> {
        let text = toml_edit::ser::to_string(self)
            .map_err(|_| DescriptionError::NotUtf8(self.path.clone()))?;
        let path = dir.join("workspace.toml");
        write_whole(&path, text.as_bytes()).map_err(io_at(&path))
    }

    /// Makes the directory findable by its path. The last to be linked wins.
    pub fn link(&self, home: &Home) -> Result<(), DescriptionError> {
        let link = by_path(home, &self.path);
        let dir = link.parent().expect("it was joined above");
        std::fs::create_dir_all(dir).map_err(io_at(dir))?;
        let tmp = home.tmp().join(format!("link-{}", self.id));
        let _ = std::fs::remove_file(&tmp);
        std::os::unix::fs::symlink(format!("../{}", self.id), &tmp).map_err(io_at(&tmp))?;
        std::fs::rename(&tmp, &link).map_err(io_at(&link))
    }

    /// Forgets the path, if it is this workspace's.
    pub fn unlink(&self, home: &Home) {
        let link = by_path(home, &self.path);
        if std::fs::read_link(&link).is_ok_and(|to| to.ends_with(&self.id)) {
            let _ = std::fs::remove_file(link);
        }
    }

    /// The workspace presented at exactly `dir` (absolute), if there is one.
    pub fn at(home: &Home, dir: &Path) -> Result<Option<Description>, DescriptionError> {
        let Ok(target) = std::fs::read_link(by_path(home, dir)) else { return Ok(None) };
        let Some(id) = target.file_name().and_then(|n| n.to_str()) else { return Ok(None) };
        match Description::read(home, id) {
            Ok(found) => Ok(Some(found).filter(|d| d.path == dir)),
            Err(DescriptionError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None) // a link that outlived its workspace
            }
            Err(e) => Err(e),
        }
    }

    /// The innermost workspace that `path` (absolute) is in, if there is one.
    pub fn around(home: &Home, path: &Path) -> Result<Option<Description>, DescriptionError> {
        for dir in path.ancestors() {
            if let Some(found) = Description::at(home, dir)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Every workspace of the home, by path.
    pub fn all(home: &Home) -> Result<Vec<Description>, DescriptionError> {
        let dir = home.workspaces();
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(io_at(&dir))? {
            let name = entry.map_err(io_at(&dir))?.file_name();
            match name.to_str() {
                Some(id) if id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    match Description::read(home, id) {
                        Ok(found) => all.push(found),
                        // discarded while we looked
                        Err(DescriptionError::Io { source, .. })
                            if source.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(e),
                    }
                }
                _ => {}
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Records that the workspace is to be mounted under this boot of the kernel.
    pub fn set_mounted(&self, home: &Home, mounted: bool) -> Result<(), DescriptionError> {
        let path = directory(home, &self.id).join("mounted");
        if mounted {
            // Not synced: after a loss of power it is another boot.
            let new = path.with_extension("new");
            let written = std::fs::write(&new, boot_id());
            written.and_then(|()| std::fs::rename(&new, &path)).map_err(io_at(&path))
        } else {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_at(&path)(e)),
                _ => Ok(()),
            }
        }
    }

    /// Whether it is to be mounted now: it was, and the kernel has not been booted since.
    pub fn is_mounted(&self, home: &Home) -> bool {
        std::fs::read_to_string(directory(home, &self.id).join("mounted"))
            .is_ok_and(|boot| boot == boot_id())
    }

    /// Where its environment was realised, if it needs one.
    pub fn environment_in(&self, home: &Home) -> Option<PathBuf> {
        (!self.environment.is_empty()).then(|| home.envs().join(&self.environment))
    }

    /// The workspace's delta.
    pub fn delta(&self, home: &Home) -> PathBuf {
        directory(home, &self.id).join("delta")
    }
}

/// A new id: unique by content of time and process, and checked by whoever makes the
/// directory.
pub fn new_id(ctx: &Context, path: &Path, attempt: u32) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut hash = blake3::Hasher::new();
    hash.update(path.as_os_str().as_bytes());
    hash.update(&ctx.now.to_le_bytes());
    hash.update(&std::process::id().to_le_bytes());
    hash.update(&attempt.to_le_bytes());
    hash.finalize().to_hex()[..12].to_owned()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Writes a file so that it is there whole or not at all, also after a crash.
pub(super) fn write_whole(path: &Path, data: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(format!(".{}", std::process::id()));
    let tmp = PathBuf::from(tmp);
    let mut file = std::fs::File::create(&tmp)?;
    let done = file
        .write_all(data)
        .and_then(|()| file.sync_data())
        .and_then(|()| std::fs::rename(&tmp, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    done
}
