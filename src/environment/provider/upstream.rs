//! Tools from the archives of their makers.

use super::{Found, Offer, ProviderError, World};
use crate::environment::catalog::{CatalogError, Source};
use crate::environment::lock::Part;
use crate::environment::version::Version;
use crate::registry::upstream::{self, Archive, File, Release};

/// The kinds of archives, as the lock names them, that names of files end in.
const ENDINGS: [&str; 4] = ["tar.gz", "tar.xz", "tar.zst", "zip"];

pub(super) fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let releases = in_archive(world, source, upstream::releases)?;
    let offer = |release: Release| {
        Some(Offer {
            version: Version::parse(&release.version).ok()?,
            published: release.published,
            found: Found::Published(Box::new(release)),
        })
    };
    Ok(releases.into_iter().filter_map(offer).collect())
}

pub(super) fn parts(
    world: &World<'_>,
    source: &Source,
    release: &Release,
) -> Result<Vec<Part>, ProviderError> {
    let components = world.words_for(source).expand_all(&source.packages);
    let files =
        in_archive(world, source, |archive| upstream::files(archive, release, &components))?;
    let part = |file: File| {
        let kind = ENDINGS.iter().find(|ending| file.url.ends_with(**ending));
        Part {
            name: file.name,
            version: release.version.clone(),
            // What has another ending is refused when it is fetched, by its name.
            unpack: kind.map_or_else(|| file.url.clone(), |kind| (*kind).to_owned()),
            url: file.url,
            mirrors: file.mirrors,
            hash: file.sha256,
            strip: file.strip,
            nar: None,
        }
    };
    Ok(files.into_iter().map(part).collect())
}

fn in_archive<T>(
    world: &World<'_>,
    source: &Source,
    ask: impl FnOnce(Archive<'_>) -> Result<T, upstream::UpstreamError>,
) -> Result<T, ProviderError> {
    let unknown = |kind| CatalogError::Unknown { kind, name: source.package.clone() };
    let words = world.words_for(source);
    let index = source.index.ok_or_else(|| unknown("index of"))?;
    let base = words.expand(source.address.as_deref().ok_or_else(|| unknown("address of"))?);
    let target = words.expand(&source.package);
    Ok(ask(Archive { client: world.client, index, base: &base, target: &target })?)
}
