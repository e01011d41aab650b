//! One source of a tool, as it stands in the catalogue.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::calendar::Day;
use crate::environment::lock::{Bin, Fixups};
use crate::environment::version::{Constraint, Version};
use crate::registry::upstream::Index;

/// Which protocol a source speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// An npm registry.
    Npm,
    /// A Python package index.
    Pypi,
    /// Closures of Debian packages.
    Debian,
    /// Closures of a Nix binary cache.
    Nix,
    /// The archive of a tool's makers.
    Upstream,
    /// This machine.
    Host,
}

impl Provider {
    /// Whether what tools have in common holds for it: where files are, for one.
    pub(super) fn is_laid_out_as_debians(self) -> bool {
        self == Provider::Debian
    }

    /// As it stands in the lock.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Npm => "npm",
            Provider::Pypi => "pypi",
            Provider::Debian => "debian",
            Provider::Nix => "nix",
            Provider::Upstream => "upstream",
            Provider::Host => "host",
        }
    }
}

/// One place that a tool comes from. Texts may hold `{…}`: a word of the platform,
/// `{version}`, `{line}` (what `version` says here), of Nix `{out}` (the store path of the package, from the root), and at realisation `{root}`, `{env}`, `{workspace}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// How it is fetched.
    pub provider: Provider,
    /// Asked only when every source of a lower tier has nothing that will do.
    #[serde(default)]
    pub tier: u32,
    /// The platforms it is for; all where none is named.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// All its versions begin so; known without asking.
    #[serde(default)]
    pub version: Option<Version>,
    /// Only these of its versions: of others the files lie elsewhere, or they are another
    /// thing under the same name.
    #[serde(default)]
    pub versions: Option<Constraint>,
    /// Since when that version has been released.
    #[serde(default)]
    pub since: Option<Day>,
    /// The package: on npm or PyPI the one that is unpacked, of Debian the one whose
    /// version counts, of Nix the name that its store path has before the version, on the
    /// host the program that tells its version; upstream the platform, as the makers write it.
    pub package: String,
    /// Upstream: the layout of the archive.
    #[serde(default)]
    pub index: Option<Index>,
    /// Upstream: where it is; `{nodejs}` and the like are the configured addresses.
    #[serde(default)]
    pub address: Option<String>,
    /// npm, PyPI: how many components of the registry's version are the tool's; the rest
    /// counts repackagings.
    #[serde(default)]
    pub components: Option<usize>,
    /// npm, PyPI: what the registry calls preliminary is only a packaging; with `components`.
    #[serde(default)]
    pub preliminary: bool,
    /// Debian: the pool.
    #[serde(default)]
    pub pool: Option<String>,
    /// Debian: the suite that `package` and `from-suite` packages must come from.
    #[serde(default)]
    pub suite: Option<String>,
    /// Debian: further packages. Upstream: the components, of what is made of several.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Debian: packages that are not needed.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Nix: the channel.
    #[serde(default)]
    pub channel: Option<String>,
    /// Nix: what the name of the store path ends with after the version, where the programs are in
    /// another output than the main one.
    #[serde(default)]
    pub output: Option<String>,
    /// Host: the arguments that make the program say its version; the first word that is
    /// a version counts.
    #[serde(default)]
    pub ask: Vec<String>,
    /// Host: the arguments that make it say below which directory the programs really are,
    /// where what is on `PATH` only chooses between several.
    #[serde(default)]
    pub locate: Vec<String>,
    /// Programs: a path in the tree, or a table.
    #[serde(default)]
    pub bins: BTreeMap<String, BinEntry>,
    /// Variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What is done to the files.
    #[serde(default)]
    pub fixups: Fixups,
}

/// A program: its path, or more about it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum BinEntry {
    /// The path in the tree.
    Path(String),
    /// As in the lock.
    Full(Bin),
}
