//! Where packages come from: one file a protocol. A provider says which versions there are
//! ([`offers`]) and which files one of them is made of ([`parts`]); which package that is,
//! how it is unpacked and what it brings is the catalogue's to say.

mod debian;
mod host;
mod nix;
mod npm;
mod pypi;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::catalog::{Catalog, CatalogError, Provider, Source};
use super::lock::{Adopted, Part};
use super::version::Version;
use super::words::Words;
use crate::context::Context;
use crate::registry::debian::{DebianError, closure};
use crate::registry::digest::DigestError;
use crate::registry::http::{Client, HttpError};
use crate::registry::nix::nar::NarError;
use crate::registry::nix::{NixError, Release, StorePath};
use crate::registry::npm::NpmError;
use crate::registry::pypi::PypiError;
use crate::registry::upstream::{self as makers, UpstreamError};

/// What providers ask with, and what they have learnt so far.
pub struct World<'a> {
    /// The command's context.
    pub ctx: &'a Context,
    /// The network.
    pub client: &'a Client,
    /// The catalogue.
    pub catalog: &'a Catalog,
    /// Words for templates.
    pub words: Words,
    pools: Mutex<BTreeMap<String, Arc<closure::Pool>>>,
    channels: Mutex<BTreeMap<String, Arc<Release>>>,
}

/// One version that can be had.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The tool's version.
    pub version: Version,
    /// When it was released, in seconds since the epoch, where that is known.
    pub published: Option<i64>,
    /// What it is made of, as far as it is known yet.
    found: Found,
}

#[derive(Debug, Clone)]
enum Found {
    Part(Box<Part>),
    Adopted(Vec<Adopted>),
    Closure,
    /// Store paths of that name and version, for whatever machines.
    Paths(Vec<StorePath>),
    Published(Box<makers::Release>),
}

/// Why a source has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// npm's registry.
    #[error(transparent)]
    Npm(#[from] NpmError),
    /// The Python package index.
    #[error(transparent)]
    Pypi(#[from] PypiError),
    /// Debian's archive.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// A Nix channel or cache.
    #[error(transparent)]
    Nix(#[from] NixError),
    /// What a Nix cache has is not what was signed.
    #[error("{path}: {source}")]
    Nar {
        /// The store path.
        path: StorePath,
        /// What is wrong with it.
        source: NarError,
    },
    /// A Nix cache has it, and for other machines only.
    #[error("of what the cache has of {package}, nothing is for this machine")]
    Machine {
        /// The package and its version.
        package: String,
    },
    /// The archive of a tool's makers.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The catalogue contradicts itself.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A registry gave a hash that is none.
    #[error("{package}: {source}")]
    Hash {
        /// The package.
        package: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A file of this machine cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl ProviderError {
    /// Whether the next source may be tried: this one did not answer, or knows nothing of
    /// the package. What is refused (a wrong signature) is not passed over.
    pub fn may_pass_over(&self) -> bool {
        let http = |e: &HttpError| {
            e.is_unreachable()
                || matches!(e, HttpError::NotFound { .. } | HttpError::Offline { .. })
        };
        match self {
            ProviderError::Npm(NpmError::Http { source, .. })
            | ProviderError::Pypi(PypiError::Http { source, .. })
            | ProviderError::Debian(DebianError::Http(source))
            | ProviderError::Nix(NixError::Http(source)) => http(source),
            ProviderError::Npm(NpmError::NoPackage { .. })
            | ProviderError::Pypi(PypiError::NoPackage { .. })
            | ProviderError::Debian(DebianError::Missing { .. } | DebianError::NotListed { .. })
            | ProviderError::Nix(NixError::Missing { .. })
            | ProviderError::Machine { .. } => true,
            ProviderError::Upstream(error) => match error {
                UpstreamError::Http(error) => {
                    http(error) || matches!(error, HttpError::Status { .. })
                }
                // What cannot be read says nothing.
                UpstreamError::Parse { .. } | UpstreamError::NoFile { .. } => true,
                UpstreamError::Checksum { .. } => false,
            },
            _ => false,
        }
    }
}

impl<'a> World<'a> {
    /// Nothing asked yet.
    pub fn new(ctx: &'a Context, client: &'a Client, catalog: &'a Catalog) -> World<'a> {
        let words = catalog.words(&ctx.platform, &ctx.config.addresses);
        World { ctx, client, catalog, words, pools: Mutex::default(), channels: Mutex::default() }
    }

    /// The words for one source's texts.
    pub fn words_for(&self, source: &Source) -> Words {
        match &source.version {
            Some(line) => self.words.with("line", &line.to_string()),
            None => self.words.clone(),
        }
    }
}

/// The versions that a source has.
pub fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let mut offers = match source.provider {
        Provider::Npm => npm::offers(world, source),
        Provider::Pypi => pypi::offers(world, source),
        Provider::Debian => debian::offers(world, source),
        Provider::Nix => nix::offers(world, source),
        Provider::Upstream => upstream::offers(world, source),
        Provider::Host => host::offers(world, source),
    }?;
    if let Some(versions) = &source.versions {
        offers.retain(|offer| versions.matches(&offer.version));
    }
    Ok(offers)
}

/// The files that one version is made of, and what is adopted from this machine.
pub fn parts(
    world: &World<'_>,
    source: &Source,
    offer: &Offer,
) -> Result<(Vec<Part>, Vec<Adopted>), ProviderError> {
    match &offer.found {
        Found::Part(part) => Ok((vec![Part::clone(part)], Vec::new())),
        Found::Adopted(programs) => Ok((Vec::new(), programs.clone())),
        Found::Closure => Ok((debian::parts(world, source)?, Vec::new())),
        Found::Paths(paths) => Ok((nix::parts(world, source, paths)?, Vec::new())),
        Found::Published(release) => Ok((upstream::parts(world, source, release)?, Vec::new())),
    }
}

/// The release of a channel that a source's versions are of, once it was asked.
pub fn release(world: &World<'_>, source: &Source) -> Option<String> {
    let channels = world.channels.lock().expect("nobody panics while holding it");
    channels.get(source.channel.as_deref()?).map(|release| release.address.clone())
}

/// Whether a pool of Debian's has a package of this very name.
pub fn has_package(world: &World<'_>, pool: &str, name: &str) -> Result<bool, ProviderError> {
    debian::has_package(world, pool, name)
}

/// The packages `roots` of a pool of Debian's and all that they need, without those in `exclude`.
pub fn closure(
    world: &World<'_>,
    pool: &str,
    roots: &[String],
    exclude: &BTreeSet<String>,
) -> Result<Vec<Part>, ProviderError> {
    debian::closure(world, pool, roots, exclude)
}

/// The first components of a registry's version, where the rest counts repackagings.
fn own_version(text: &str, source: &Source) -> Option<Version> {
    let version = Version::parse(text).ok()?;
    match source.components {
        Some(n) if source.preliminary || !version.is_prerelease() => {
            let numbers = version.numbers();
            Some(Version::from_numbers(&numbers[..n.min(numbers.len())]))
        }
        _ => Some(version),
    }
}
