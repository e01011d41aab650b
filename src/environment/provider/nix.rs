//! Tools that are closures of a Nix binary cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Found, Offer, ProviderError, World};
use crate::environment::catalog::{Channel, Source};
use crate::environment::lock::{Nar, Part};
use crate::environment::version::Version;
use crate::registry::nix::nar::{self, Expected};
use crate::registry::nix::{self, Cache, NarInfo, Release, StorePath};

pub(super) fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let release = release(world, source)?;
    let package = world.words_for(source).expand(&source.package);
    let mut found: BTreeMap<Version, Vec<StorePath>> = BTreeMap::new();
    for path in &release.paths {
        if let Some(version) = version_of(path.name(), &package, source.output.as_deref()) {
            found.entry(version).or_default().push(path.clone());
        }
    }
    let offer = |(version, paths)| Offer { version, published: None, found: Found::Paths(paths) };
    Ok(found.into_iter().map(offer).collect())
}

/// The version that the name of a store path has, if it is one of this output of the package.
fn version_of(name: &str, package: &str, output: Option<&str>) -> Option<Version> {
    let rest = name.strip_prefix(package)?.strip_prefix('-')?;
    let version = match output {
        Some(output) => rest.strip_suffix(output)?.strip_suffix('-')?,
        None => rest,
    };
    // Other outputs (`22.14.0-dev`) and other packages (`python3-3.12.10-env`) go on.
    let plain = version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| Version::parse(version).ok())?
}

pub(super) fn parts(
    world: &World<'_>,
    source: &Source,
    paths: &[StorePath],
) -> Result<Vec<Part>, ProviderError> {
    let channel = channel(world, source)?;
    let cache = Cache::open(world.client, &world.words.expand(&channel.cache), &channel.keys)?;
    // A channel lists what was built for every machine under the same names.
    for path in paths {
        let closure = cache.closure(path)?;
        if is_for_this_machine(world, &cache, &closure)? {
            return Ok(closure.iter().map(|info| part(&cache, info)).collect());
        }
    }
    let package = paths.first().map(|path| path.name().to_owned()).unwrap_or_default();
    Err(ProviderError::Machine { package })
}

/// Whether the programs of a closure are for this machine: all are for one, so the first
/// that is found tells, of whatever is least to fetch. It is needed anyhow.
fn is_for_this_machine(
    world: &World<'_>,
    cache: &Cache<'_>,
    closure: &[NarInfo],
) -> Result<bool, ProviderError> {
    let wanted = world.words.expand("{elf-machine}");
    let mut by_size: Vec<&NarInfo> = closure.iter().collect();
    by_size.sort_by_key(|info| (info.file_size, info.nar_size));
    for info in by_size {
        let url = cache.url(info);
        let file = world
            .client
            .download(&url, &info.file_hash, info.path.name())
            .map_err(nix::NixError::from)?;
        let expected = Expected { hash: info.nar_hash, size: info.nar_size };
        let machine = nar::machine(&file, info.compression, &expected)
            .map_err(|source| ProviderError::Nar { path: info.path.clone(), source })?;
        if let Some(machine) = machine {
            return Ok(machine.to_string() == wanted);
        }
    }
    // Nothing in it is a program of any machine.
    Ok(true)
}

fn part(cache: &Cache<'_>, info: &NarInfo) -> Part {
    Part {
        name: info.path.base().to_owned(),
        version: info.path.version().unwrap_or_default().to_owned(),
        url: cache.url(info),
        mirrors: Vec::new(),
        hash: info.file_hash,
        unpack: info.compression.kind().to_owned(),
        strip: 0,
        nar: Some(Nar { hash: info.nar_hash, size: info.nar_size }),
    }
}

fn channel<'a>(world: &'a World<'_>, source: &Source) -> Result<&'a Channel, ProviderError> {
    Ok(world.catalog.channel(source.channel.as_deref().unwrap_or_default())?)
}

/// What the channel of a source leads to, asked once.
fn release(world: &World<'_>, source: &Source) -> Result<Arc<Release>, ProviderError> {
    let name = source.channel.as_deref().unwrap_or_default();
    let mut channels = world.channels.lock().expect("nobody panics while holding it");
    if let Some(release) = channels.get(name) {
        return Ok(release.clone());
    }
    let address = world.words.expand(&channel(world, source)?.address);
    let release = Arc::new(nix::release(world.client, &address)?);
    channels.insert(name.to_owned(), release.clone());
    Ok(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        for (name, package, output, version) in [
            ("nodejs-22.14.0", "nodejs", None, Some("22.14.0")),
            ("nodejs-22.14.0-libv8", "nodejs", None, None),
            ("nodejs-slim-22.14.0", "nodejs", None, None),
            ("python3-3.12.10-env", "python3", None, None),
            ("ffmpeg-7.1.1-bin", "ffmpeg", Some("bin"), Some("7.1.1")),
            ("ffmpeg-7.1.1", "ffmpeg", Some("bin"), None),
            ("go-1.24.3", "nodejs", None, None),
            ("nodejs-", "nodejs", None, None),
        ] {
            let found = version_of(name, package, output).map(|v| v.to_string());
            assert_eq!(found.as_deref(), version, "{name}");
        }
    }
}
