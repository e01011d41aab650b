//! Tools that are packages of an npm registry.

use super::{Found, Offer, ProviderError, World, own_version};
use crate::environment::catalog::Source;
use crate::environment::lock::Part;
use crate::registry::npm;

pub(super) fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let name = world.words_for(source).expand(&source.package);
    let releases = npm::versions(world.client, &world.ctx.config.addresses.npm, &name)?;
    let offer = |release: npm::Release| {
        Some(Offer {
            version: own_version(&release.version, source)?,
            published: release.published,
            found: Found::Part(Box::new(Part {
                name: name.clone(),
                version: release.version,
                url: release.tarball,
                mirrors: Vec::new(),
                hash: release.integrity,
                unpack: "tar.gz".into(),
                strip: 1,
                nar: None,
            })),
        })
    };
    Ok(releases.into_iter().filter_map(offer).collect())
}
