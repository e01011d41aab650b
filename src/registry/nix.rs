//! Nix's binary caches and channels, read without Nix.
//!
//! A *channel* lists what was built of one revision of a package collection:
//! `<channel>/store-paths.xz`, one `/nix/store/<hash>-<name>-<version>` a line. A *cache*
//! has each of those as a packed archive, and says about it in `<cache>/<hash>.narinfo`
//! ([`narinfo`]) what it hashes to and what else it refers to, signed ([`signature`]). A
//! store path works only with all that it refers to, and that with all of theirs: the
//! closure. Nothing is evaluated.
//!
//! What is believed: a channel's list chooses among what the cache's keys have signed; a
//! narinfo is believed once its signature is that of a trusted key and it is about the path
//! that was asked for. Where a file lies and what it hashes to packed is not signed, so what
//! comes out of it is held against the hash and the size that are ([`nar`]).

pub mod nar;
pub mod narinfo;
pub mod signature;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;

pub use self::narinfo::{NarInfo, StorePath};
use self::signature::{Key, KeyError};
use super::archive::{Packing, decompress};
use super::http::{Client, HttpError};

/// Where every path of a closure is, and must be seen by what is in it.
pub const STORE: &str = "/nix/store";

/// The most paths that one closure may have. A whole desktop has some 3,000.
const MOST_PATHS: usize = 20_000;
/// The most bytes of a channel's list, unpacked. A whole collection has some 10 MB.
const LONGEST_LIST: u64 = 512 << 20;
/// The most bytes of one narinfo.
const LONGEST_INFO: usize = 4 << 20;
/// How many narinfos are asked for at once.
const PARALLEL: usize = 8;

/// Why a channel or a cache has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NixError {
    /// It was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A channel's list is none.
    #[error("`{url}` is no list of store paths: {reason}")]
    List {
        /// Its address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache is one of another store.
    #[error("the cache `{cache}` is of {found}, not of {STORE}")]
    OtherStore {
        /// Its address.
        cache: String,
        /// What it says.
        found: String,
    },
    /// A narinfo is none.
    #[error("`{url}` is no narinfo: {reason}")]
    Info {
        /// Its address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A narinfo is about something else than what was asked for.
    #[error("`{url}` is about {found}, not about {wanted}")]
    OtherPath {
        /// Its address.
        url: String,
        /// What it is about.
        found: StorePath,
        /// What was asked for.
        wanted: StorePath,
    },
    /// None of the keys that signed it is trusted.
    #[error("{path} of `{cache}` is {}; trusted are {}", signed_by(.found), .trusted.join(", "))]
    UnknownKey {
        /// The path.
        path: StorePath,
        /// The cache.
        cache: String,
        /// The names of the keys that signed it.
        found: Vec<String>,
        /// The names of those that are trusted.
        trusted: Vec<String>,
    },
    /// A trusted key has signed something else.
    #[error(
        "the signature of {path} by {key} does not fit what `{cache}` says about it: it was \
         changed after it was signed"
    )]
    Forged {
        /// The path.
        path: StorePath,
        /// The cache.
        cache: String,
        /// The key's name.
        key: String,
    },
    /// A key of the catalogue is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The cache does not have a path.
    #[error("the cache `{cache}` does not have {path}{}", needed(.by))]
    Missing {
        /// The cache.
        cache: String,
        /// The path.
        path: StorePath,
        /// The path that refers to it.
        by: Option<StorePath>,
    },
    /// A closure has no end.
    #[error("{path} refers to more than {MOST_PATHS} other paths")]
    TooMany {
        /// The path.
        path: StorePath,
    },
}

fn signed_by(names: &[String]) -> String {
    match names.is_empty() {
        true => "not signed".into(),
        false => format!("signed by {} only", names.join(", ")),
    }
}

fn needed(by: &Option<StorePath>) -> String {
    by.as_ref().map(|by| format!(", to which {by} refers")).unwrap_or_default()
}

/// What a channel is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its own address, which goes on meaning the same when the channel has moved on.
    pub address: String,
    /// What was built of it, in the list's order.
    pub paths: Vec<StorePath>,
}

/// What the channel at `channel` leads to now.
pub fn release(client: &Client, channel: &str) -> Result<Release, NixError> {
    const LIST: &str = "store-paths.xz";
    let url = client.location(&format!("{channel}/{LIST}"))?;
    let packed = client.get(&url, None)?;
    let failed = |reason: String| NixError::List { url: url.clone(), reason };
    let mut text = String::new();
    let mut unpacked = decompress(Packing::Xz, packed.as_slice()).take(LONGEST_LIST + 1);
    unpacked.read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    if text.len() as u64 > LONGEST_LIST {
        return Err(failed(format!("it is longer than {LONGEST_LIST} bytes")));
    }
    let path = |line: &str| StorePath::parse(line.strip_prefix(STORE)?.strip_prefix('/')?);
    let parse = |line: &str| path(line).ok_or_else(|| failed(format!("`{line}` is no store path")));
    let paths = text.lines().map(parse).collect::<Result<_, _>>()?;
    let address = url.strip_suffix(LIST).unwrap_or(&url).trim_end_matches('/').to_owned();
    Ok(Release { address, paths })
}

/// A binary cache, and who must have signed what it has.
pub struct Cache<'a> {
    client: &'a Client,
    address: String,
    keys: Vec<Key>,
}

impl<'a> Cache<'a> {
    /// The cache at `address`, having looked whether it is one of this store.
    pub fn open(client: &'a Client, address: &str, keys: &[String]) -> Result<Cache<'a>, NixError> {
        let keys = keys.iter().map(|key| Key::parse(key)).collect::<Result<_, _>>()?;
        let text = client.get(&format!("{address}/nix-cache-info"), None)?;
        let text = String::from_utf8_lossy(&text);
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let store = fields.find(|(name, _)| *name == "StoreDir").map(|(_, value)| value.trim());
        match store {
            Some(STORE) => Ok(Cache { client, address: address.to_owned(), keys }),
            _ => Err(NixError::OtherStore {
                cache: address.to_owned(),
                found: store.unwrap_or("no store").to_owned(),
            }),
        }
    }

    /// The address of a file that a narinfo names.
    pub fn url(&self, info: &NarInfo) -> String {
        format!("{}/{}", self.address, info.url)
    }

    /// What is signed about `path`.
    pub fn look_up(&self, path: &StorePath) -> Result<NarInfo, NixError> {
        self.info(path, None)
    }

    /// What is signed about `path`, which `by` refers to.
    fn info(&self, path: &StorePath, by: Option<&StorePath>) -> Result<NarInfo, NixError> {
        let url = format!("{}/{}.narinfo", self.address, path.hash());
        let text = match self.client.get(&url, None) {
            Ok(text) => text,
            Err(HttpError::NotFound { .. }) => {
                let (cache, path) = (self.address.clone(), path.clone());
                return Err(NixError::Missing { cache, path, by: by.cloned() });
            }
            Err(e) => return Err(e.into()),
        };
        let failed = |reason: String| NixError::Info { url: url.clone(), reason };
        if text.len() > LONGEST_INFO {
            return Err(failed(format!("it is longer than {LONGEST_INFO} bytes")));
        }
        let info = NarInfo::parse(&text).map_err(|e| failed(e.to_string()))?;
        if info.path != *path {
            let (found, wanted) = (info.path, path.clone());
            return Err(NixError::OtherPath { url, found, wanted });
        }
        self.check(&info)?;
        Ok(info)
    }

    /// One trusted signature is enough; others may be of keys that nobody here knows.
    fn check(&self, info: &NarInfo) -> Result<(), NixError> {
        let said = info.fingerprint();
        let mut forged = None;
        for signature in &info.signatures {
            for key in self.keys.iter().filter(|key| key.name == signature.name) {
                match key.verifies(said.as_bytes(), signature) {
                    true => return Ok(()),
                    false => forged = Some(key.name.clone()),
                }
            }
        }
        let (path, cache) = (info.path.clone(), self.address.clone());
        Err(match forged {
            Some(key) => NixError::Forged { path, cache, key },
            None => NixError::UnknownKey {
                path,
                cache,
                found: info.signatures.iter().map(|s| s.name.clone()).collect(),
                trusted: self.keys.iter().map(|k| k.name.clone()).collect(),
            },
        })
    }

    /// `root` and all that it refers to, itself first.
    pub fn closure(&self, root: &StorePath) -> Result<Vec<NarInfo>, NixError> {
        let mut found: BTreeMap<StorePath, NarInfo> = BTreeMap::new();
        let mut wave: BTreeMap<StorePath, Option<StorePath>> =
            BTreeMap::from([(root.clone(), None)]);
        while !wave.is_empty() {
            if found.len() + wave.len() > MOST_PATHS {
                return Err(NixError::TooMany { path: root.clone() });
            }
            let infos = self.infos(std::mem::take(&mut wave))?;
            for info in &infos {
                for other in &info.references {
                    wave.insert(other.clone(), Some(info.path.clone()));
                }
            }
            found.extend(infos.into_iter().map(|info| (info.path.clone(), info)));
            // What is known already is where a loop ends.
            wave.retain(|path, _| !found.contains_key(path));
        }
        let first = found.remove(root).expect("it was the first that was asked for");
        Ok([first].into_iter().chain(found.into_values()).collect())
    }

    /// Asks for several at once.
    fn infos(
        &self,
        wanted: BTreeMap<StorePath, Option<StorePath>>,
    ) -> Result<Vec<NarInfo>, NixError> {
        let threads = PARALLEL.min(wanted.len());
        let queue = Mutex::new(wanted);
        let done = Mutex::new(Ok(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().expect("nobody panics holding it").pop_first();
                        let Some((path, by)) = next else { return };
                        let info = self.info(&path, by.as_ref());
                        let mut done = done.lock().expect("nobody panics holding it");
                        match (&mut *done, info) {
                            (Ok(infos), Ok(info)) => infos.push(info),
                            (Ok(_), Err(e)) => {
                                *done = Err(e);
                                queue.lock().expect("nobody panics holding it").clear();
                            }
                            (Err(_), _) => {}
                        }
                    }
                });
            }
        });
        done.into_inner().expect("nobody panics holding it")
    }
}
