//! A Debian archive: signed suites, package indexes, closures.
//!
//! The road from an address to a hash that can be believed: `InRelease` bears a signature
//! of the archive's keys ([`release`]); it names the SHA-256 of each `Packages`; those name
//! the SHA-256 of each package. Files are fetched under their hash where the archive offers
//! that (`by-hash`), so that a mirror that is being updated cannot give half of each.
//!
//! <https://wiki.debian.org/DebianRepository/Format>

pub mod closure;
pub mod control;
pub mod index;
pub mod release;
pub mod version;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::registry::digest::{Digest, DigestError};
use crate::registry::http::{Client, HttpError};

/// How long after its `InRelease` the archive's state is asked for at a snapshot service:
/// snapshots are taken some hours after a suite is published, four times a day.
const SNAPSHOT_DELAY: i64 = 4 * 3600;

/// `Packages` of the largest suite is a tenth of this.
const MAX_PACKAGES: u64 = 1 << 30;

/// Where a suite is and whom it must be signed by.
#[derive(Debug, Clone)]
pub struct Source {
    /// The suite: `bookworm`.
    pub suite: String,
    /// The archive, without a trailing slash.
    pub address: String,
    /// `main`.
    pub components: Vec<String>,
    /// Armoured public keys.
    pub keyring: String,
    /// Where all states of the archive are kept; `{time}` becomes `20260711T101637Z`.
    pub snapshot: Option<String>,
}

/// A suite whose indexes are at hand.
#[derive(Debug)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// The archive.
    pub address: String,
    /// The archive as it was when this suite's index was made.
    pub snapshot: Option<String>,
    /// When it was published, seconds since the epoch.
    pub date: Option<i64>,
    /// One for each component.
    pub indexes: Vec<index::Index>,
}

/// Why an archive is of no use.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A file cannot be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The suite is not what somebody we trust published.
    #[error("`{url}` is refused: {reason}")]
    Signature {
        /// The `InRelease`.
        url: String,
        /// What is wrong with it.
        reason: release::Refusal,
    },
    /// The keys cannot be read.
    #[error("cannot read the archive's keys: {source}")]
    Keyring {
        /// What is wrong with them.
        source: Box<pgp::errors::Error>,
    },
    /// The suite lists no such file: another component, another architecture.
    #[error("`{url}` lists no `{path}`")]
    NotListed {
        /// The `InRelease`.
        url: String,
        /// What was looked for.
        path: String,
    },
    /// A hash is not one.
    #[error("`{url}` is not well-formed: {source}")]
    Hash {
        /// The `InRelease`.
        url: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// The index cannot be unpacked.
    #[error("cannot unpack `{path}`: {source}")]
    Unpack {
        /// The downloaded file.
        path: PathBuf,
        /// What the decoder or the kernel says.
        source: io::Error,
    },
    /// The parsed index cannot be written or read.
    #[error("cannot use the cache file `{path}`: {source}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No package answers a dependency.
    #[error("no package `{wanted}` in {suites}, which {by} needs")]
    Missing {
        /// The alternatives.
        wanted: String,
        /// Where it was looked for.
        suites: String,
        /// What depends on it.
        by: String,
    },
}

impl DebianError {
    /// Whether another source may be tried: the archive did not answer.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, DebianError::Http(e) if e.is_unreachable() || matches!(e, HttpError::Offline { .. }))
    }
}

impl Suite {
    /// Fetches and verifies what is needed to look packages up. `arch` is Debian's name
    /// (`amd64`); parsed indexes are kept in `cache`.
    pub fn open(
        client: &Client,
        cache: &Path,
        source: &Source,
        arch: &str,
    ) -> Result<(Suite, release::Release), DebianError> {
        let base = format!("{}/dists/{}", source.address, source.suite);
        let url = format!("{base}/InRelease");
        let release = release::verify(&url, &client.get(&url, None)?, &source.keyring)?;
        let mut indexes = Vec::new();
        for component in &source.components {
            let dir = format!("{component}/binary-{arch}");
            let path = format!("{dir}/Packages.xz");
            let Some(hash) = release.files.get(&path) else {
                return Err(DebianError::NotListed { url, path });
            };
            let digest = match Digest::from_hex(hash) {
                Ok(digest @ Digest::Sha256(_)) => digest,
                Ok(_) => return Err(DebianError::NotListed { url, path }),
                Err(source) => return Err(DebianError::Hash { url, source }),
            };
            let file = match release.by_hash {
                true => format!("{base}/{dir}/by-hash/SHA256/{}", digest.hex()),
                false => format!("{base}/{path}"),
            };
            let cached = cache.join(format!("{}.idx1", digest.hex()));
            let index = match index::Index::open(&cached)? {
                Some(index) => index,
                None => {
                    let what = format!("{} {component} packages", source.suite);
                    let packed = client.download(&file, &digest, &what)?;
                    make_index(&packed, &cached)?
                }
            };
            indexes.push(index);
        }
        let snapshot = source.snapshot.as_ref().zip(release.date).map(|(template, date)| {
            template.replace("{time}", &snapshot_time(date + SNAPSHOT_DELAY))
        });
        let suite = Suite {
            name: source.suite.clone(),
            address: source.address.clone(),
            snapshot,
            date: release.date,
            indexes,
        };
        Ok((suite, release))
    }
}

fn snapshot_time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn make_index(packed: &Path, cached: &Path) -> Result<index::Index, DebianError> {
    let unpack = |source| DebianError::Unpack { path: packed.to_owned(), source };
    let file = std::fs::File::open(packed).map_err(unpack)?;
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new_multi_decoder(file)
        .take(MAX_PACKAGES)
        .read_to_end(&mut bytes)
        .map_err(unpack)?;
    let image = index::build(&String::from_utf8_lossy(&bytes));
    let failed = |source| DebianError::Cache { path: cached.to_owned(), source };
    let dir = cached.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut tmp = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    io::Write::write_all(&mut tmp, &image).map_err(failed)?;
    tmp.persist(cached).map_err(|e| failed(e.error))?;
    index::Index::open(cached)?
        .ok_or_else(|| failed(io::Error::other("what was written is not what is read")))
}
