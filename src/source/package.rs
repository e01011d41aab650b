//! A published package's source, as a repository with one commit a version: the archive's
//! files, dated when it was released, tagged `v1.0` and `1.0`. The same archive is the same
//! commit anywhere.
//!
//! Which version is newest is asked of the registry, whose answer is kept for as long as it
//! says. A version that is here is never asked about again.

mod choose;

use gix::ObjectId;

use self::choose::{Candidate, Source, choose, listed};
use super::address::{Package, Registry};
use super::bare::{Bare, scratch};
use super::error::SourceError;
use super::name::shown;
use super::pack::Pack;
use super::snapshot::{self, Commit};
use super::{Found, How, complete, peel};
use crate::context::Context;
use crate::environment::version::Version;
use crate::event::Event;
use crate::registry::archive;
use crate::registry::http::{Client, HttpError};

/// A time before which no archive's own dates are believed: cargo and others write a fixed
/// one. 2008-01-01.
const BELIEVED: i64 = 1_199_145_600;

pub(super) fn resolve(
    ctx: &Context,
    client: &Client,
    package: &Package,
) -> Result<Found, SourceError> {
    let bare = bare(ctx, package);
    if let Some(version) = &package.version
        && let Some(commit) = here(&bare, version)?
    {
        return Ok(found(bare, commit, version, 0, How::Cached));
    }
    let before = client.received();
    match fetch(ctx, client, package, &bare) {
        Ok((commit, version, how)) => {
            Ok(found(bare, commit, &version, client.received() - before, how))
        }
        Err(error) if ctx.offline || error.is_unreachable() => match newest_here(&bare, package)? {
            Some((commit, version)) => {
                let how = match ctx.offline {
                    true => How::Cached,
                    false => How::Fallback { why: error.to_string() },
                };
                ctx.events.emit(Event::Warning(format!("{error}; using version {version}")));
                Ok(found(bare, commit, &version, 0, how))
            }
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Where a package's releases are kept. The registry's address is part of it: another one
/// may publish something else under the same name.
fn bare(ctx: &Context, package: &Package) -> Bare {
    let addresses = &ctx.config.addresses;
    let (base, name) = match package.registry {
        Registry::Npm => (&addresses.npm, package.name.clone()),
        Registry::Pypi => (&addresses.pypi, crate::registry::pypi::normalise(&package.name)),
        Registry::Crate => (&addresses.crates_index, package.name.replace('_', "-")),
    };
    let prefix = package.registry.prefix();
    Bare::of(ctx, &format!("{prefix}-{name}"), &format!("package {prefix}:{name} {base}"))
}

/// The commit of `version`, if all of it is here.
fn here(bare: &Bare, version: &str) -> Result<Option<ObjectId>, SourceError> {
    if !bare.exists() {
        return Ok(None);
    }
    let commit = peel(&bare.open()?, &format!("refs/tags/v{version}"));
    Ok(commit.filter(|commit| bare.notices(commit).is_some()))
}

/// The newest version here that is one of those that were asked for.
fn newest_here(bare: &Bare, package: &Package) -> Result<Option<(ObjectId, String)>, SourceError> {
    if !bare.exists() {
        return Ok(None);
    }
    let repo = bare.open()?;
    let Ok(references) = repo.references() else { return Ok(None) };
    let Ok(tags) = references.tags() else { return Ok(None) };
    let mut versions: Vec<(Version, String)> = tags
        .flatten()
        .filter_map(|tag| {
            let version = tag.name().shorten().to_string().strip_prefix('v')?.to_owned();
            Some((Version::parse(&version).ok()?, version))
        })
        .filter(|(version, _)| package.version.as_deref().is_none_or(|v| choose::is(v, version)))
        .collect();
    versions.sort();
    while let Some((_, version)) = versions.pop() {
        if let Some(commit) = here(bare, &version)? {
            return Ok(Some((commit, version)));
        }
    }
    Ok(None)
}

fn found(bare: Bare, commit: ObjectId, version: &str, fetched_bytes: u64, how: How) -> Found {
    Found {
        notices: bare.notices(&commit).unwrap_or_default(),
        bare,
        commit,
        revision: Some(version.to_owned()),
        branch: None,
        remote: None,
        own_tags: true,
        fetched_bytes,
        how,
    }
}

/// Asks the registry which version is meant, and fetches it if it is not here.
fn fetch(
    ctx: &Context,
    client: &Client,
    package: &Package,
    bare: &Bare,
) -> Result<(ObjectId, String, How), SourceError> {
    let published = listed(ctx, client, package)?;
    let candidate = choose(package, &published)?;
    let version = candidate.version.clone();
    if let Some(commit) = here(bare, &version)? {
        return Ok((commit, version, How::Cached));
    }
    let Some(source) = &candidate.source else {
        return Err(SourceError::NoSource {
            name: package.name.clone(),
            with_source: choose::newest_with_source(&published),
            files: candidate.files.clone(),
            version,
        });
    };
    let commit = make(ctx, client, package, candidate, source, bare)?;
    Ok((commit, version, How::Fetched))
}

/// Downloads a version's source and makes its commit.
fn make(
    ctx: &Context,
    client: &Client,
    package: &Package,
    candidate: &Candidate,
    source: &Source,
    bare: &Bare,
) -> Result<ObjectId, SourceError> {
    let version = &candidate.version;
    let label = format!("{} {version}", package.name);
    let Some(kind) = archive::Kind::of(&source.filename) else {
        return Err(SourceError::UnknownArchive {
            name: package.name.clone(),
            version: version.clone(),
            file: source.filename.clone(),
        });
    };
    let packed =
        client.download(&source.url, &source.digest, &source.filename).map_err(|e| match e {
            HttpError::Offline { .. } => SourceError::Offline {
                address: format!("{}:{}", package.registry.prefix(), package.name),
                missing: format!("version {version}"),
            },
            source => SourceError::Fetch { package: label.clone(), source },
        })?;
    let _lock = bare.lock()?;
    if let Some(commit) = here(bare, version)? {
        return Ok(commit);
    }
    if !bare.exists() {
        bare.create(ctx)?;
    }
    let scratch = scratch(ctx)?;
    let root = scratch.path().join("source");
    // Each has all of its files in one directory: `NAME-VERSION/`, `package/`.
    let unpacked = archive::unpack(&packed, kind, 1, &root)
        .map_err(|source| SourceError::Unpack { package: label.clone(), source })?;
    let mut files = snapshot::walk(&root)?;
    // What a submodule leaves where it was checked out: it says where its repository was.
    let pointers: Vec<Vec<u8>> = files.extract_if(.., |file| file.ends_with(b"/.git")).collect();
    if files.is_empty() {
        return Err(SourceError::NoFiles { path: packed });
    }
    let mut known = candidate.notice.clone().into_iter().collect::<Vec<_>>();
    known.extend(
        pointers.iter().map(|path| {
            format!("`{}` is left out: it points to a repository elsewhere", shown(path))
        }),
    );
    let date = match source.published.or(candidate.published) {
        Some(date) => date,
        None if unpacked.newest > BELIEVED => unpacked.newest,
        None => {
            known.push("the registry does not say when it was released; taken as of now".into());
            ctx.now
        }
    };
    let (repo, packs) = (bare.open()?, bare.packs());
    let mut pack = Pack::begin(&repo, &packs)?;
    let tree = snapshot::tree(&mut pack, &root, &files)?;
    let origin = format!("{}:{}@{version}", package.registry.prefix(), candidate.name);
    let message =
        format!("{} {version}\n\nAs published: {origin}\n{}\n", candidate.name, source.digest);
    let commit = snapshot::commit(pack, &Commit { tree, date, message })?;
    let tags = [format!("refs/tags/v{version}"), format!("refs/tags/{version}")];
    snapshot::point(&repo, commit, &tags.each_ref().map(String::as_str))?;
    complete(ctx, bare, &origin, commit, known, |_| Ok(()))?;
    Ok(commit)
}
