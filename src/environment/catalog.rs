//! The catalogue: where each tool comes from. Data, in `catalog.toml`; no code knows a
//! tool's name. `$ZAGI_HOME/catalog.toml` may add to it: what stands there replaces what is
//! built in under the same name.
//!
//! ```toml
//! version = 1
//!
//! [platform.linux-x86_64]           # words for `{…}` in what follows
//! npm-arch = "x64"
//!
//! [keyring.debian]                  # armoured OpenPGP keys; `file` beside the catalogue
//! file = "debian-archive.asc"
//!
//! [suite.bookworm]                  # a Debian suite
//! address = "{debian}"              # the configured mirror
//! suite = "bookworm"
//! keyring = "debian"
//!
//! [pool.bookworm]                   # suites that closures are made over, best rank first
//! suites = [["bookworm", "bookworm-security"]]
//! libc = "2.36"
//!
//! [channel.nixos]                   # what of a Nix cache may be chosen from
//! address = "{nix-channel}"         # has `store-paths.xz`
//! cache = "{nix-cache}"
//! keys = ["cache.nixos.org-1:6NCH…"] # one of these must have signed each path
//!
//! [tool.node]
//! [[tool.node.source]]              # in order of preference
//! provider = "npm"
//! package = "node-linux-{npm-arch}"
//! bins = { node = "bin/node" }
//!
//! [service.postgres]                # see `service`
//! ```

mod calendar;
mod service;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::lock::Fixups;
use super::version::{Constraint, Version};
use super::words::Words;
use crate::config::Addresses;
use crate::context::Platform;

pub use self::calendar::{Calendar, Day};
pub use self::service::{Check, Make, Service};
pub use self::source::{BinEntry, Provider, Source};
pub use crate::nearest::{nearest, perhaps};

/// The version of the format above.
pub const VERSION: u32 = 1;

const BUILT_IN: &str = include_str!("catalog.toml");
const BUILT_IN_KEYS: &[(&str, &str)] =
    &[("debian-archive.asc", include_str!("keys/debian-archive.asc"))];

/// The whole catalogue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalog {
    version: u32,
    /// Words by platform.
    platform: BTreeMap<String, BTreeMap<String, String>>,
    keyring: BTreeMap<String, Keyring>,
    suite: BTreeMap<String, SuiteEntry>,
    /// What holds for every pool.
    debian: Pool,
    pool: BTreeMap<String, Pool>,
    channel: BTreeMap<String, Channel>,
    /// The tools by name.
    pub tool: BTreeMap<String, Tool>,
    /// What some of them serve, by name.
    pub service: BTreeMap<String, Service>,
    /// What `[system] packages` of an `env.toml` become.
    pub system: System,
}

/// The tree of system packages; see [`super::system`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// Tools without which it is of no use.
    pub needs: Vec<String>,
    /// Packages that are not needed.
    pub exclude: Vec<String>,
    /// Programs that stand beside those of tools, with their paths in the tree.
    pub programs: BTreeMap<String, String>,
    /// Variables by which builds find it.
    pub env: BTreeMap<String, String>,
    /// What is done to the files, after what is done to every closure.
    pub fixups: Fixups,
    /// Where it comes from, in order of preference.
    pub source: Vec<SystemSource>,
}

/// One release of Debian.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemSource {
    /// The pool.
    pub pool: String,
    /// The release's number.
    pub version: String,
    /// Packages that are always there.
    #[serde(default)]
    pub packages: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyring {
    file: PathBuf,
    /// The keys, once read.
    #[serde(skip)]
    keys: String,
}

/// A Debian suite.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SuiteEntry {
    /// The archive; `{debian}` is the configured one.
    pub address: String,
    /// The suite's name there.
    pub suite: String,
    /// `main` where nothing is said.
    #[serde(default = "main")]
    pub components: Vec<String>,
    /// Who must have signed it.
    pub keyring: String,
    /// See [`crate::registry::debian::Source::snapshot`].
    #[serde(default)]
    pub snapshot: Option<String>,
    /// A mirror need not have it.
    #[serde(default)]
    pub optional: bool,
}

/// Suites that closures are made over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// By rank, the best first.
    pub suites: Vec<Vec<String>>,
    /// The version of the C library.
    pub libc: Option<String>,
    /// Packages that no closure needs.
    pub exclude: Vec<String>,
    /// What is done to every closure.
    pub fixups: Fixups,
}

/// A Nix channel, and the cache that has what is in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The channel; `{nix-channel}` is the configured one.
    pub address: String,
    /// The cache; `{nix-cache}` is the configured one.
    pub cache: String,
    /// The keys that are trusted, as Nix writes them.
    pub keys: Vec<String>,
}

/// A tool.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Tool {
    /// One line for people.
    pub about: String,
    /// Tools without which it does not work.
    pub needs: Vec<String>,
    /// Its versions are chosen by the commit's date. Not so where a tool only installs and
    /// the newest is always right.
    pub dated: Option<bool>,
    /// How many components of a version say which line of releases it belongs to: 1 where
    /// nothing is said (node 22), 2 for Python 3.13.
    pub line: Option<usize>,
    /// A minimum newer than all that can be had is tolerated, aloud.
    pub tolerant: bool,
    /// Its C library must not be newer than that of any other tool: what it makes is
    /// loaded by them.
    pub oldest_libc: bool,
    /// Release dates that follow a rule. Such a tool keeps its promises to old programs,
    /// and few of its versions can be had: the oldest is taken that is not older than what
    /// was current at the date.
    pub calendar: Option<Calendar>,
    /// Which versions go with which of another tool, where nothing else was asked for.
    pub suits: Vec<Suits>,
    /// What holds for every source that has its files where Debian has them.
    pub common: Common,
    /// Where it comes from, in order of preference.
    pub source: Vec<Source>,
}

/// What several sources of a tool have in common; they add to it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// As in [`Source`].
    pub packages: Vec<String>,
    /// As in [`Source`].
    pub exclude: Vec<String>,
    /// As in [`Source`].
    pub bins: BTreeMap<String, BinEntry>,
    /// As in [`Source`].
    pub env: BTreeMap<String, String>,
    /// As in [`Source`].
    pub fixups: Fixups,
}

/// `when` of another tool, take these versions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suits {
    /// The other tool.
    pub tool: String,
    /// Versions of it.
    pub when: Constraint,
    /// Versions that go with those.
    pub take: Constraint,
}

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The user's catalogue or a file it names cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// It is not what this module describes.
    #[error("`{path}` is not a valid catalogue: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        source: Box<toml_edit::de::Error>,
    },
    /// It was written for a newer program.
    #[error("`{path}` has version {found}; this program reads version {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// One entry names another that is not there.
    #[error("the catalogue has no {kind} `{name}`")]
    Unknown {
        /// `suite`, `pool`, `keyring`, `channel`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

/// A digest of all that [`Catalog::load`] would read, for what is kept as long as it stays.
pub fn digest(user: &Path) -> String {
    let mut hash = blake3::Hasher::new();
    for text in std::iter::once(BUILT_IN).chain(BUILT_IN_KEYS.iter().map(|(_, key)| *key)) {
        hash.update(blake3::hash(text.as_bytes()).as_bytes());
    }
    // What cannot be read is an error of `load`, not of this.
    hash.update(&std::fs::read(user).unwrap_or_default());
    hash.finalize().to_hex().to_string()
}

/// The names of the tools that are built in.
pub fn names() -> BTreeSet<String> {
    let name = |line: &str| line.strip_prefix("[tool.")?.strip_suffix(']').map(str::to_owned);
    BUILT_IN.lines().filter_map(name).filter(|name| !name.contains('.')).collect()
}

impl Catalog {
    /// What is built in, with `user` on top where that file exists.
    pub fn load(user: &Path) -> Result<Catalog, CatalogError> {
        let mut catalog = parse(Path::new("catalog.toml"), BUILT_IN)?;
        catalog.settle();
        for keyring in catalog.keyring.values_mut() {
            let found = BUILT_IN_KEYS.iter().find(|(name, _)| Path::new(name) == keyring.file);
            keyring.keys = found.map(|(_, keys)| (*keys).to_owned()).unwrap_or_default();
        }
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| CatalogError::Read { path, source }
        };
        let text = match std::fs::read_to_string(user) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(catalog),
            Err(e) => return Err(read(user)(e)),
        };
        let mut more = parse(user, &text)?;
        for keyring in more.keyring.values_mut() {
            let path = user.parent().unwrap_or(Path::new("/")).join(&keyring.file);
            keyring.keys = std::fs::read_to_string(&path).map_err(read(&path))?;
        }
        // Not known to the user's file alone: what is common to all closures.
        more.debian = catalog.debian.clone();
        more.settle();
        for (platform, words) in more.platform {
            catalog.platform.entry(platform).or_default().extend(words);
        }
        catalog.keyring.extend(more.keyring);
        catalog.suite.extend(more.suite);
        catalog.pool.extend(more.pool);
        catalog.channel.extend(more.channel);
        catalog.tool.extend(more.tool);
        if !more.system.source.is_empty() {
            catalog.system = more.system;
        }
        catalog.service.extend(more.service);
        Ok(catalog)
    }

    /// Gives every pool and source what they have in common with others.
    fn settle(&mut self) {
        for pool in self.pool.values_mut() {
            pool.exclude.extend(self.debian.exclude.iter().cloned());
            let own = std::mem::replace(&mut pool.fixups, self.debian.fixups.clone());
            pool.fixups.extend(own);
        }
        for tool in self.tool.values_mut() {
            for source in tool.source.iter_mut().filter(|s| s.provider.is_laid_out_as_debians()) {
                source.packages.extend(tool.common.packages.iter().cloned());
                source.exclude.extend(tool.common.exclude.iter().cloned());
                for (name, bin) in &tool.common.bins {
                    source.bins.entry(name.clone()).or_insert_with(|| bin.clone());
                }
                for (name, value) in &tool.common.env {
                    source.env.entry(name.clone()).or_insert_with(|| value.clone());
                }
                let own = std::mem::replace(&mut source.fixups, tool.common.fixups.clone());
                source.fixups.extend(own);
            }
        }
    }

    /// A pool by name.
    pub fn pool(&self, name: &str) -> Result<&Pool, CatalogError> {
        self.pool.get(name).ok_or_else(|| unknown("pool", name))
    }

    /// Where the channels have their files, and who signs them.
    pub fn nix_caches(&self, words: &Words) -> Vec<(String, Vec<String>)> {
        self.channel.values().map(|c| (words.expand(&c.cache), c.keys.clone())).collect()
    }

    /// A channel by name.
    pub fn channel(&self, name: &str) -> Result<&Channel, CatalogError> {
        self.channel.get(name).ok_or_else(|| unknown("channel", name))
    }

    /// A suite by name, with the keys that must have signed it.
    pub fn suite(&self, name: &str) -> Result<(&SuiteEntry, &str), CatalogError> {
        let suite = self.suite.get(name).ok_or_else(|| unknown("suite", name))?;
        let keyring = self.keyring.get(&suite.keyring);
        let keyring = keyring.ok_or_else(|| unknown("keyring", &suite.keyring))?;
        Ok((suite, &keyring.keys))
    }

    /// The words for templates on one platform; the configured addresses are among them.
    pub fn words(&self, platform: &Platform, addresses: &Addresses) -> Words {
        let mut words = self.platform_words(&platform.to_string());
        words.0.extend(addresses.words().map(|(name, base)| (name.to_owned(), base.to_owned())));
        words
    }

    /// The words of a platform alone.
    pub fn platform_words(&self, platform: &str) -> Words {
        Words(self.platform.get(platform).cloned().unwrap_or_default())
    }

    /// The line of releases of `tool` that `version` is of; but zeros in front promise nothing
    /// (0.5 and 0.6 are two).
    pub fn line_of(&self, tool: &str, version: &Version) -> Version {
        let length = self.tool.get(tool).and_then(|tool| tool.line).unwrap_or(1);
        let numbers = version.numbers();
        let zeros = numbers.iter().take_while(|number| **number == 0).count();
        Version::from_numbers(&numbers[..length.max(zeros + 1).min(numbers.len())])
    }

    /// The names of tools and services nearest to one that is not there.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        let mut names: Vec<&String> = self.tool.keys().chain(self.service.keys()).collect();
        names.sort();
        names.dedup();
        nearest(name, names.into_iter().map(|known| (known.clone(), known.as_str())))
    }
}

fn main() -> Vec<String> {
    vec!["main".into()]
}

fn unknown(kind: &'static str, name: &str) -> CatalogError {
    CatalogError::Unknown { kind, name: name.to_owned() }
}

fn parse(path: &Path, text: &str) -> Result<Catalog, CatalogError> {
    let catalog: Catalog = toml_edit::de::from_str(text)
        .map_err(|e| CatalogError::Parse { path: path.to_owned(), source: Box::new(e) })?;
    if catalog.version > VERSION {
        return Err(CatalogError::Newer { path: path.to_owned(), found: catalog.version });
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests;
