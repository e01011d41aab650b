//! Tools that are closures of Debian packages.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Found, Offer, ProviderError, World};
use crate::environment::catalog::{Source, SuiteEntry};
use crate::environment::lock::Part;
use crate::environment::version::Version;
use crate::event::Event;
use crate::registry::debian::closure::{Chosen, Pool, Root};
use crate::registry::debian::control::Dependency;
use crate::registry::debian::{self, DebianError, Suite, version};
use crate::registry::digest::Digest;
use crate::registry::http::HttpError;

pub(super) fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let (pool, only) = pool(world, source)?;
    let name = world.words_for(source).expand(&source.package);
    let wanted = Dependency { name, version: None };
    let Some(found) = pool.best(&wanted, only)? else { return Ok(Vec::new()) };
    let Ok(version) = Version::parse(&version::upstream(&found.package.version)) else {
        return Ok(Vec::new());
    };
    let published = source.since.map(|day| day.0);
    Ok(vec![Offer { version, published, found: Found::Closure }])
}

pub(super) fn parts(world: &World<'_>, source: &Source) -> Result<Vec<Part>, ProviderError> {
    let (pool, only) = pool(world, source)?;
    let words = world.words_for(source);
    let mut roots = vec![Root { name: words.expand(&source.package), suite: only }];
    for name in words.expand_all(&source.packages) {
        let wanted = Dependency { name: name.clone(), version: None };
        // Beside a tool of another suite stand its own parts, and libraries of the release.
        let suite = match only {
            Some(n) => pool.best(&wanted, Some(n))?.map(|_| n),
            None => None,
        };
        roots.push(Root { name, suite });
    }
    let entry = world.catalog.pool(source.pool.as_deref().unwrap_or_default())?;
    let exclude: BTreeSet<String> =
        entry.exclude.iter().cloned().chain(words.expand_all(&source.exclude)).collect();
    let chosen = pool.closure(&roots, &exclude)?;
    chosen.iter().map(|c| part(&pool.suites[c.suite].1, c)).collect()
}

/// Whether a pool has a package of this very name.
pub(super) fn has_package(
    world: &World<'_>,
    pool: &str,
    name: &str,
) -> Result<bool, ProviderError> {
    let wanted = Dependency { name: name.to_owned(), version: None };
    Ok(opened(world, pool)?.best(&wanted, None)?.is_some())
}

/// The packages `roots` of a pool and all that they need, without those in `exclude`.
pub(super) fn closure(
    world: &World<'_>,
    pool: &str,
    roots: &[String],
    exclude: &BTreeSet<String>,
) -> Result<Vec<Part>, ProviderError> {
    let pool = opened(world, pool)?;
    let roots: Vec<Root> =
        roots.iter().map(|name| Root { name: name.clone(), suite: None }).collect();
    let chosen = pool.closure(&roots, exclude)?;
    chosen.iter().map(|c| part(&pool.suites[c.suite].1, c)).collect()
}

fn part(suite: &Suite, chosen: &Chosen) -> Result<Part, ProviderError> {
    let package = &chosen.package;
    let hash = Digest::from_hex(&package.sha256)
        .map_err(|source| ProviderError::Hash { package: package.name.clone(), source })?;
    let snapshot = suite.snapshot.iter().map(|base| format!("{base}/{}", package.filename));
    Ok(Part {
        name: package.name.clone(),
        version: package.version.clone(),
        url: format!("{}/{}", suite.address, package.filename),
        mirrors: snapshot.collect(),
        hash,
        unpack: "deb".into(),
        strip: 0,
        nar: None,
    })
}

/// The pool of a source, and the index of the suite that it insists on.
fn pool(world: &World<'_>, source: &Source) -> Result<(Arc<Pool>, Option<usize>), ProviderError> {
    let pool = opened(world, source.pool.as_deref().unwrap_or_default())?;
    let only = match &source.suite {
        None => None,
        Some(wanted) => {
            let suite = &world.catalog.suite(wanted)?.0.suite;
            let found = pool.suites.iter().position(|(_, s)| s.name == *suite);
            Some(found.ok_or_else(|| DebianError::Missing {
                wanted: source.package.clone(),
                suites: wanted.clone(),
                by: "the catalogue".into(),
            })?)
        }
    };
    Ok((pool, only))
}

/// A pool, opened once.
fn opened(world: &World<'_>, name: &str) -> Result<Arc<Pool>, ProviderError> {
    let mut pools = world.pools.lock().expect("nobody panics while holding it");
    match pools.get(name) {
        Some(pool) => Ok(pool.clone()),
        None => {
            let pool = Arc::new(open(world, name)?);
            pools.insert(name.to_owned(), pool.clone());
            Ok(pool)
        }
    }
}

fn open(world: &World<'_>, name: &str) -> Result<Pool, ProviderError> {
    let arch = world.words.expand("{debian-arch}");
    let cache = world.ctx.home.cache("debian");
    let mut suites = Vec::new();
    for (rank, names) in (0..).zip(&world.catalog.pool(name)?.suites) {
        for name in names {
            let (entry, keyring) = world.catalog.suite(name)?;
            let source = debian::Source {
                suite: entry.suite.clone(),
                address: world.words.expand(&entry.address),
                components: entry.components.clone(),
                keyring: keyring.to_owned(),
                snapshot: entry.snapshot.as_deref().map(|s| world.words.expand(s)),
            };
            match Suite::open(world.client, &cache, &source, &arch) {
                Ok((suite, release)) => {
                    warn_if_stale(world, &suite, release.valid_until);
                    suites.push((rank, suite));
                }
                Err(e) if may_be_without(entry, &e) => {
                    let text = format!("Debian's {name} is passed over: {e}");
                    world.ctx.events.emit(Event::Warning(text));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(Pool { suites })
}

fn may_be_without(entry: &SuiteEntry, error: &DebianError) -> bool {
    let missing = matches!(error, DebianError::Http(HttpError::NotFound { .. }));
    entry.optional && (missing || error.is_unreachable())
}

/// A mirror that stands still is signed as well as any: it is said, and used, since the
/// commit may be older than the mirror.
fn warn_if_stale(world: &World<'_>, suite: &Suite, valid_until: Option<i64>) {
    let Some(until) = valid_until.filter(|until| *until < world.ctx.now) else { return };
    let day = jiff::Timestamp::from_second(until).unwrap_or_default();
    world.ctx.events.emit(Event::Warning(format!(
        "Debian's {} at {} has not been renewed as promised by {}",
        suite.name,
        suite.address,
        day.strftime("%F"),
    )));
}
