//! Parts of tools, from where they are published into the store: fetched, verified,
//! unpacked, captured, once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use super::lock::{Nar, Part, Tool};
use crate::context::Context;
use crate::event::Event;
use crate::registry::archive::{self, ArchiveError};
use crate::registry::http::{Client, HttpError};
use crate::registry::nix::nar::{self, Expected, NarError};
use crate::registry::nix::narinfo::Compression;
use crate::registry::nix::{Cache, NarInfo, StorePath};
use crate::store::{Store, StoreError, TreeId};

/// How the names begin under which parts are kept.
pub const PACKAGES: &str = "packages/";

/// How many parts are fetched and unpacked at once.
const PARALLEL: usize = 4;

/// Why a part is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It cannot be fetched from anywhere.
    #[error("cannot fetch {part}: {source}")]
    Http {
        /// The package and its version.
        part: String,
        /// What the last source said.
        source: HttpError,
    },
    /// It is not what it should be.
    #[error("cannot unpack {part}: {source}")]
    Unpack {
        /// The package and its version.
        part: String,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// It is of an unknown kind.
    #[error("{part} is of an unknown kind, `{kind}`")]
    Kind {
        /// The package and its version.
        part: String,
        /// What the lock says.
        kind: String,
    },
    /// It is not what was signed.
    #[error("cannot unpack {part}: {source}")]
    Nar {
        /// The package and its version.
        part: String,
        /// What is wrong with it.
        source: NarError,
    },
    /// It is of a flake, and was built on another machine only.
    #[error("no Nix cache that is known here has {part}{reason}")]
    Unpublished {
        /// The store path.
        part: String,
        /// What the caches said, after a colon; nothing where none is known.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no place to unpack it to.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// The trees of parts, as published.
pub(super) struct Packages(BTreeMap<String, TreeId>);

impl Packages {
    /// Those of one tool, in their order.
    pub(super) fn of(&self, tool: &Tool) -> Vec<TreeId> {
        self.all(&tool.parts)
    }

    /// Those of several parts, in their order.
    pub(super) fn all<'p>(&self, parts: impl IntoIterator<Item = &'p Part>) -> Vec<TreeId> {
        parts.into_iter().filter_map(|part| self.0.get(&reference(part)).copied()).collect()
    }
}

/// Under which name a part is kept.
pub(super) fn reference(part: &Part) -> String {
    match part.nar {
        // Two paths of a store may have the same bytes; where they stand differs.
        Some(_) => format!("{PACKAGES}{}/{}/{}", part.hash, part.unpack, part.name),
        None => format!("{PACKAGES}{}/{}/{}", part.hash, part.unpack, part.strip),
    }
}

/// Brings all parts into the store, a few at a time.
pub(super) fn fetch(
    ctx: &Context,
    client: &Client,
    store: &Store,
    parts: &[&Part],
    caches: &[(String, Vec<String>)],
) -> Result<Packages, FetchError> {
    let mut have = BTreeMap::new();
    let mut queue = BTreeMap::new();
    for part in parts {
        let name = reference(part);
        match store.get_ref(&name)? {
            Some(id) => {
                have.insert(name, id);
            }
            None => {
                queue.insert(name, *part);
            }
        }
    }
    let caches = match queue.values().any(|part| part.url.is_empty()) {
        true => Caches::open(client, caches),
        false => Caches::default(),
    };
    let queue = Mutex::new(queue);
    let done = Mutex::new((have, None));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics while holding it").pop_first();
                    let Some((name, part)) = next else { return };
                    let result = fetch_one(ctx, client, store, &name, part, &caches);
                    let mut done = done.lock().expect("nobody panics while holding it");
                    match result {
                        Ok(id) => drop(done.0.insert(name, id)),
                        Err(e) => {
                            done.1.get_or_insert(e);
                            queue.lock().expect("nobody panics while holding it").clear();
                        }
                    }
                }
            });
        }
    });
    match done.into_inner().expect("nobody panics while holding it") {
        (_, Some(error)) => Err(error),
        (have, None) => Ok(Packages(have)),
    }
}

/// How a part is unpacked.
enum Kind {
    Archive(archive::Kind),
    Nar(Compression, Nar),
}

impl Kind {
    fn of(part: &Part) -> Option<Kind> {
        if let (Some(compression), Some(nar)) = (Compression::of(&part.unpack), part.nar) {
            return Some(Kind::Nar(compression, nar));
        }
        Some(Kind::Archive(match part.unpack.as_str() {
            "tar" => archive::Kind::Tar,
            "tar.gz" => archive::Kind::TarGz,
            "tar.xz" => archive::Kind::TarXz,
            "tar.zst" => archive::Kind::TarZst,
            "zip" => archive::Kind::Zip,
            "deb" => archive::Kind::Deb,
            _ => return None,
        }))
    }
}

fn fetch_one(
    ctx: &Context,
    client: &Client,
    store: &Store,
    name: &str,
    part: &Part,
    caches: &Caches<'_>,
) -> Result<TreeId, FetchError> {
    let what = format!("{} {}", part.name, part.version);
    let mut kind = Kind::of(part)
        .ok_or_else(|| FetchError::Kind { part: what.clone(), kind: part.unpack.clone() })?;
    let file = match (part.url.is_empty(), part.nar) {
        (true, Some(nar)) => {
            let (file, compression) = caches.download(client, part, &nar)?;
            kind = Kind::Nar(compression, nar);
            file
        }
        _ => download(ctx, client, part, &what)?,
    };
    let tmp = ctx.home.tmp();
    let failed = |source| FetchError::Write { path: tmp.clone(), source };
    let dir = tempfile::Builder::new().prefix("package.").tempdir_in(&tmp).map_err(failed)?;
    let dest = dir.path().join("files");
    match kind {
        Kind::Archive(kind) => {
            archive::unpack(&file, kind, part.strip, &dest)
                .map_err(|source| FetchError::Unpack { part: what, source })?;
        }
        Kind::Nar(compression, nar) => {
            let store = dest.join("nix/store");
            std::fs::create_dir_all(&store).map_err(failed)?;
            let expected = Expected { hash: nar.hash, size: nar.size };
            nar::unpack(&file, compression, &expected, &store.join(&part.name))
                .map_err(|source| FetchError::Nar { part: what, source })?;
        }
    }
    let captured = store.capture_owned(&dest)?;
    store.set_ref(name, &captured.tree)?;
    Ok(captured.tree)
}

/// The caches that may have what a lock names no address for.
#[derive(Default)]
struct Caches<'a> {
    open: Vec<Cache<'a>>,
    /// What the others said.
    silent: Vec<String>,
}

impl<'a> Caches<'a> {
    fn open(client: &'a Client, known: &[(String, Vec<String>)]) -> Caches<'a> {
        let mut caches = Caches::default();
        for (address, keys) in known {
            match Cache::open(client, address, keys) {
                Ok(cache) => caches.open.push(cache),
                Err(e) => caches.silent.push(e.to_string()),
            }
        }
        caches
    }

    /// From the first that has the very archive that the lock names, signed by a key that is
    /// trusted here.
    fn download(
        &self,
        client: &Client,
        part: &Part,
        nar: &Nar,
    ) -> Result<(PathBuf, Compression), FetchError> {
        let mut said = self.silent.clone();
        let path = StorePath::parse(&part.name);
        for cache in &self.open {
            let found = path.as_ref().map(|path| cache.look_up(path));
            match found {
                Some(Ok(info)) if is_it(&info, nar) => {
                    let url = cache.url(&info);
                    let file = client.download(&url, &info.file_hash, &part.name);
                    let failed = |source| FetchError::Http { part: part.name.clone(), source };
                    return Ok((file.map_err(failed)?, info.compression));
                }
                Some(Ok(info)) => {
                    said.push(format!("{} is another one there than in the lock", info.path));
                }
                Some(Err(e)) => said.push(e.to_string()),
                None => {}
            }
        }
        let reason = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
        Err(FetchError::Unpublished { part: part.name.clone(), reason })
    }
}

fn is_it(info: &NarInfo, nar: &Nar) -> bool {
    (info.nar_hash, info.nar_size) == (nar.hash, nar.size)
}

/// From the first address that has it. A mirror that gives something else is not asked to
/// be believed; neither is the next one before it was verified.
fn download(
    ctx: &Context,
    client: &Client,
    part: &Part,
    what: &str,
) -> Result<PathBuf, FetchError> {
    let mut result = client.download(&part.url, &part.hash, what);
    for mirror in &part.mirrors {
        match &result {
            Err(e) if e.is_unreachable() || matches!(e, HttpError::NotFound { .. }) => {
                ctx.events.emit(Event::Warning(format!("{what}: {e}; {mirror} is asked")));
                result = client.download(mirror, &part.hash, what);
            }
            _ => break,
        }
    }
    result.map_err(|source| FetchError::Http { part: what.to_owned(), source })
}
