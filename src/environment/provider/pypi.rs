//! Tools that are published as wheels.

use super::{Found, Offer, ProviderError, World, own_version};
use crate::environment::catalog::Source;
use crate::environment::lock::Part;
use crate::registry::pypi::{self, File, Kind};

pub(super) fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let name = world.words_for(source).expand(&source.package);
    let releases = pypi::releases(world.client, &world.ctx.config.addresses.pypi, &name)?;
    let arch = world.words.expand("{wheel-arch}");
    let offer = |release: pypi::Release| {
        let fitting = release.files.into_iter().filter(|f| !f.yanked);
        let (_, file) =
            fitting.filter_map(|f| Some((rank(&f, &arch)?, f))).min_by_key(|(rank, _)| *rank)?;
        Some(Offer {
            version: own_version(&release.version, source)?,
            published: release.published,
            found: Found::Part(Box::new(Part {
                name: name.clone(),
                version: release.version,
                url: file.url,
                mirrors: Vec::new(),
                hash: file.sha256,
                unpack: "zip".into(),
                strip: 0,
                nar: None,
            })),
        })
    };
    Ok(releases.into_iter().filter_map(offer).collect())
}

/// The oldest C library that a wheel works with, if it works on this architecture: the
/// older, the better. Tags are those of PEP 600 and its forerunners.
fn rank(file: &File, arch: &str) -> Option<(u64, u64)> {
    let Kind::Wheel { tags } = &file.kind else { return None };
    tags.iter()
        .filter_map(|tag| {
            let platform = tag.splitn(3, '-').nth(2)?;
            if platform == "any" {
                return Some((0, 0));
            }
            let libc = platform.strip_suffix(arch)?.strip_suffix('_')?;
            match libc {
                "linux" => Some((0, 0)),
                "manylinux1" => Some((2, 5)),
                "manylinux2010" => Some((2, 12)),
                "manylinux2014" => Some((2, 17)),
                _ => {
                    let (major, minor) = libc.strip_prefix("manylinux_")?.split_once('_')?;
                    Some((major.parse().ok()?, minor.parse().ok()?))
                }
            }
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest::Digest;

    fn wheel(tags: &[&str]) -> File {
        File {
            filename: String::new(),
            url: String::new(),
            sha256: Digest::sha256(b""),
            kind: Kind::Wheel { tags: tags.iter().map(|t| (*t).to_owned()).collect() },
            yanked: false,
            published: None,
            requires_python: None,
        }
    }

    #[test]
    fn the_wheel_that_works_on_the_oldest_machines() {
        let rank = |tags: &[&str]| rank(&wheel(tags), "x86_64");
        assert_eq!(rank(&["py3-none-manylinux_2_28_x86_64"]), Some((2, 28)));
        let both = ["py3-none-manylinux_2_17_x86_64", "py3-none-manylinux2014_x86_64"];
        assert_eq!(rank(&both), Some((2, 17)));
        assert_eq!(rank(&["py3-none-any"]), Some((0, 0)));
        for other in
            ["musllinux_1_1_x86_64", "manylinux_2_17_aarch64", "macosx_11_0_arm64", "win32"]
        {
            assert_eq!(rank(&[&format!("py3-none-{other}")]), None, "{other}");
        }
    }
}
