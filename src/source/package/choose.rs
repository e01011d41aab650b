//! Which of a package's versions is meant.

use std::collections::BTreeMap;

use crate::context::Context;
use crate::environment::version::{Constraint, Version};
use crate::registry::archive;
use crate::registry::http::{Client, Digest};
use crate::registry::{crates, npm, pypi};
use crate::source::address::{Package, Registry};
use crate::source::error::SourceError;

/// One version, of whichever registry.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// The package, as its registry writes it.
    pub name: String,
    pub version: String,
    pub published: Option<i64>,
    /// Its maker took it back or advises against it: never chosen unless it is named.
    pub yanked: bool,
    /// What to say about it.
    pub notice: Option<String>,
    pub source: Option<Source>,
    /// The names of its files.
    pub files: Vec<String>,
}

/// Where a version's source is.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub url: String,
    pub digest: Digest,
    pub filename: String,
    pub published: Option<i64>,
}

/// What a registry lists.
pub(super) struct Published {
    pub candidates: Vec<Candidate>,
    /// npm's names for versions.
    pub tags: BTreeMap<String, String>,
}

/// Asks the package's registry.
pub(super) fn listed(
    ctx: &Context,
    client: &Client,
    package: &Package,
) -> Result<Published, SourceError> {
    let addresses = &ctx.config.addresses;
    let mut tags = BTreeMap::new();
    let candidates = match package.registry {
        Registry::Npm => {
            let document = npm::package(client, &addresses.npm, &package.name)?;
            tags = document.tags;
            document.releases.into_iter().map(|r| from_npm(&package.name, r)).collect()
        }
        Registry::Pypi => pypi::releases(client, &addresses.pypi, &package.name)?
            .into_iter()
            .map(|release| from_pypi(&pypi::normalise(&package.name), release))
            .collect(),
        Registry::Crate => crates::releases(client, &addresses.crates_index, &package.name)?
            .into_iter()
            .map(|release| from_crates(&addresses.crates_files, release))
            .collect(),
    };
    Ok(Published { candidates, tags })
}

fn from_npm(name: &str, release: npm::Release) -> Candidate {
    let filename = release.tarball.rsplit('/').next().unwrap_or_default().to_owned();
    let notice = "its maker advises against this version (deprecated)";
    let source = Source {
        url: release.tarball,
        digest: release.integrity,
        // npm packs nothing but gzipped tars, whatever an address looks like.
        filename: match archive::Kind::of(&filename) {
            Some(_) => filename.clone(),
            None => format!("{filename}.tgz"),
        },
        published: release.published,
    };
    Candidate {
        name: name.to_owned(),
        version: release.version,
        published: release.published,
        // npm installs deprecated versions as it does others.
        yanked: false,
        notice: release.deprecated.then(|| notice.to_owned()),
        source: Some(source),
        files: vec![filename],
    }
}

fn from_pypi(name: &str, release: pypi::Release) -> Candidate {
    let yanked = release.yanked();
    let sdists = || release.files.iter().filter(|file| file.kind == pypi::Kind::Sdist);
    // Of several, one that can be unpacked.
    let sdist = sdists().find(|file| archive::Kind::of(&file.filename).is_some());
    let source = sdist.or(sdists().next()).map(|file| Source {
        url: file.url.clone(),
        digest: file.sha256,
        filename: file.filename.clone(),
        published: file.published,
    });
    Candidate {
        name: name.to_owned(),
        published: release.published,
        yanked,
        notice: yanked.then(|| "its maker took this version back (yanked)".to_owned()),
        source,
        files: release.files.iter().map(|file| file.filename.clone()).collect(),
        version: release.version,
    }
}

fn from_crates(files: &str, release: crates::Release) -> Candidate {
    let filename = format!("{}-{}.crate", release.name, release.version);
    let source = Source {
        url: release.address(files),
        digest: release.sha256,
        filename: filename.clone(),
        published: release.published,
    };
    Candidate {
        published: release.published,
        yanked: release.yanked,
        notice: release.yanked.then(|| "its maker took this version back (yanked)".to_owned()),
        source: Some(source),
        files: vec![filename],
        name: release.name,
        version: release.version,
    }
}

/// Whether `version` is what `wanted` means: that version, or one that it is a beginning or a
/// range of.
pub(super) fn is(wanted: &str, version: &Version) -> bool {
    same(wanted, version)
        || range(wanted).is_some_and(|range| !version.is_prerelease() && range.matches(version))
}

/// Whether both name one version, written in full: `1.0.0` is `1.0`, but `1` is any that
/// begins so.
fn same(wanted: &str, version: &Version) -> bool {
    Version::parse(wanted)
        .is_ok_and(|wanted| wanted == *version && wanted.numbers().len() >= version.numbers().len())
}

fn range(wanted: &str) -> Option<Constraint> {
    Constraint::parse(wanted).ok()
}

/// The version that is meant: the one named, the newest that fits, or the newest.
pub(super) fn choose<'a>(
    package: &Package,
    published: &'a Published,
) -> Result<&'a Candidate, SourceError> {
    let all = &published.candidates;
    let named = |name: &str| all.iter().find(|candidate| candidate.version == name);
    match &package.version {
        Some(wanted) => {
            let tagged = || published.tags.get(wanted).and_then(|version| named(version));
            let same =
                || all.iter().find(|c| Version::parse(&c.version).is_ok_and(|v| same(wanted, &v)));
            let fitting = || {
                let range = range(wanted)?;
                newest(all, |version| !version.is_prerelease() && range.matches(version))
            };
            let found = named(wanted).or_else(tagged).or_else(same).or_else(fitting);
            found.ok_or_else(|| SourceError::NoVersion {
                registry: package.registry,
                name: package.name.clone(),
                version: wanted.clone(),
                nearest: nearest(wanted, all),
            })
        }
        None => {
            let latest = published.tags.get("latest").and_then(|version| named(version));
            let stable = || newest(all, |version| !version.is_prerelease());
            // As pip has it: of a package that was never released, the last attempt.
            let found = latest.or_else(stable).or_else(|| newest(all, |_| true));
            found.ok_or_else(|| SourceError::NoRelease {
                registry: package.registry,
                name: package.name.clone(),
                others: sorted(all)
                    .into_iter()
                    .rev()
                    .take(5)
                    .map(|(_, c)| c.version.clone())
                    .collect(),
            })
        }
    }
}

/// The newest version whose source was published.
pub(super) fn newest_with_source(published: &Published) -> Option<String> {
    let with_source: Vec<Candidate> =
        published.candidates.iter().filter(|c| c.source.is_some()).cloned().collect();
    Some(newest(&with_source, |version| !version.is_prerelease())?.version.clone())
}

fn sorted(all: &[Candidate]) -> Vec<(Version, &Candidate)> {
    let parsed = all.iter().filter_map(|c| Some((Version::parse(&c.version).ok()?, c)));
    let mut parsed: Vec<_> = parsed.collect();
    parsed.sort_by(|(a, _), (b, _)| a.cmp(b));
    parsed
}

fn newest(all: &[Candidate], fits: impl Fn(&Version) -> bool) -> Option<&Candidate> {
    let mut sorted = sorted(all);
    sorted.retain(|(version, candidate)| !candidate.yanked && fits(version));
    sorted.pop().map(|(_, candidate)| candidate)
}

/// The versions around `wanted`, nearest first, and the newest.
fn nearest(wanted: &str, all: &[Candidate]) -> Vec<String> {
    let sorted = sorted(all);
    let usual: Vec<&(Version, &Candidate)> =
        sorted.iter().filter(|(version, c)| !c.yanked && !version.is_prerelease()).collect();
    let Ok(version) = Version::parse(wanted) else {
        return usual.iter().rev().take(3).map(|(_, c)| c.version.clone()).collect();
    };
    let at = usual.partition_point(|(other, _)| *other < version);
    let mut near = Vec::new();
    for step in 0..2 {
        near.extend(at.checked_sub(step + 1).map(|below| usual[below]));
        near.extend(usual.get(at + step).copied());
    }
    near.extend(usual.last().copied());
    let mut names: Vec<String> = Vec::new();
    for (_, candidate) in near {
        if !names.contains(&candidate.version) {
            names.push(candidate.version.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(versions: &[&str], tags: &[(&str, &str)]) -> Published {
        let candidate = |text: &&str| {
            let yanked = text.ends_with('!');
            let version = text.trim_end_matches('!').to_owned();
            Candidate {
                name: "x".into(),
                version,
                published: None,
                yanked,
                notice: None,
                source: None,
                files: Vec::new(),
            }
        };
        let tags = tags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Published { candidates: versions.iter().map(candidate).collect(), tags }
    }

    fn chosen(wanted: Option<&str>, published: &Published) -> Result<String, Vec<String>> {
        let version = wanted.map(ToOwned::to_owned);
        let package = Package { registry: Registry::Pypi, name: "x".into(), version };
        match choose(&package, published) {
            Ok(candidate) => Ok(candidate.version.clone()),
            Err(SourceError::NoVersion { nearest, .. }) => Err(nearest),
            Err(SourceError::NoRelease { others, .. }) => Err(others),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_version_that_is_meant() {
        let all = published(&["1.0", "1.10", "1.9", "2.0rc1", "1.11!", "0.9"], &[]);
        let is = |text: &str| Ok(text.to_owned());
        assert_eq!(chosen(None, &all), is("1.10"), "neither a pre-release nor one taken back");
        assert_eq!(chosen(Some("1.0"), &all), is("1.0"));
        assert_eq!(chosen(Some("1.0.0"), &all), is("1.0"), "the same by PEP 440");
        assert_eq!(chosen(Some("v1.9"), &all), is("1.9"));
        assert_eq!(chosen(Some("1.11"), &all), is("1.11"), "named, so it is taken");
        assert_eq!(chosen(Some("2.0rc1"), &all), is("2.0rc1"));
        assert_eq!(chosen(Some("1"), &all), is("1.10"), "the newest that begins so");
        assert_eq!(chosen(Some("<1.9"), &all), is("1.0"));
    }

    #[test]
    fn names_for_versions() {
        let all = published(
            &["1.0.0", "2.0.0", "3.0.0-beta.1"],
            &[("latest", "1.0.0"), ("next", "3.0.0-beta.1")],
        );
        assert_eq!(chosen(None, &all), Ok("1.0.0".into()), "what its maker says is latest");
        assert_eq!(chosen(Some("next"), &all), Ok("3.0.0-beta.1".into()));
    }

    #[test]
    fn what_there_is_not() {
        let all = published(&["1.0", "1.2", "1.4", "2.0", "3.0"], &[]);
        assert_eq!(
            chosen(Some("1.3"), &all),
            Err(["1.2", "1.4", "1.0", "2.0", "3.0"].map(Into::into).into())
        );
        assert_eq!(chosen(Some("9"), &all), Err(["3.0", "2.0"].map(Into::into).into()));
        assert_eq!(
            chosen(Some("nonsense"), &all),
            Err(["3.0", "2.0", "1.4"].map(Into::into).into())
        );
        let none = published(&["1.0!", "0.9!"], &[]);
        assert_eq!(chosen(None, &none), Err(["1.0", "0.9"].map(Into::into).into()));
        let early = published(&["1.0a1", "1.0a2"], &[]);
        assert_eq!(chosen(None, &early), Ok("1.0a2".into()));
    }
}
