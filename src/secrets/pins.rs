//! What was seen of which project, so that neither an older file nor another's is taken for it.
//!
//! A signature says who wrote a file, not that it is the last one, nor that the signer is the
//! right one. `$ZAGI_HOME/secrets/seen/` remembers, version 1 each:
//!
//! ```text
//! <project>.json                {"version": 1, "signer": "…", "revision": 3, "digest": "…"}
//! at/<hash of the root>.json    {"version": 1, "root": "/home/u/web", "project": "…"}
//! ```
//! The first sight of a project is believed, aloud. The second file is what tells that another
//! project's secrets were put where those of this one were: values typed into that would be
//! encrypted to whom its maker chose.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::error::{SecretsError, at};
use super::place::Place;
use super::sign::Signer;

/// The version of the formats above.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    version: u32,
    signer: String,
    revision: u64,
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    version: u32,
    root: PathBuf,
    project: String,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Nothing was; now it is.
    First,
    /// It is the one that was seen, or comes after it.
    Known,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// Of the home at `home`.
    pub fn new(home: &Path) -> Pins {
        Pins { dir: home.join("secrets/seen") }
    }

    /// Compares a file that was verified with what was seen, and remembers it. Alone in that: what
    /// another process just saw is not forgotten for something older.
    pub(super) fn admit(&self, place: &Place, document: &Document) -> Result<Sight, SecretsError> {
        let _lock = self.lock()?;
        let sight = self.check(place, document)?;
        let seen = read::<Pin>(&self.pin_file(&document.project))?;
        let here = read::<At>(&self.at_file(place))?;
        let same = seen.is_some_and(|pin| {
            pin.revision == document.revision && pin.signer == document.signer.to_string()
        });
        if !same || here.is_none() {
            self.write(place, document)?;
        }
        Ok(sight)
    }

    fn check(&self, place: &Place, document: &Document) -> Result<Sight, SecretsError> {
        let path = place.path.clone();
        let at: Option<At> = read(&self.at_file(place))?;
        if at.is_some_and(|at| at.project != document.project) {
            return Err(SecretsError::Replaced(path));
        }
        let Some(pin) = read::<Pin>(&self.pin_file(&document.project))? else {
            return Ok(Sight::First);
        };
        let seen = Signer::parse(&pin.signer);
        if !seen.is_some_and(|seen| document.descends(&seen)) {
            let seen = pin.signer.get(..16).unwrap_or(&pin.signer).to_owned();
            return Err(SecretsError::OtherSigner { path, found: document.signer.short(), seen });
        }
        match document.revision.cmp(&pin.revision) {
            std::cmp::Ordering::Less => {
                Err(SecretsError::RolledBack { path, found: document.revision, seen: pin.revision })
            }
            std::cmp::Ordering::Equal if document.digest() != pin.digest => {
                Err(SecretsError::Forked { path, revision: pin.revision })
            }
            _ => Ok(Sight::Known),
        }
    }

    /// Remembers it, whatever was seen before.
    pub(super) fn keep(&self, place: &Place, document: &Document) -> Result<(), SecretsError> {
        let _lock = self.lock()?;
        self.write(place, document)
    }

    fn lock(&self) -> Result<Flock<File>, SecretsError> {
        super::private_directory(&self.dir)?;
        let path = self.dir.join("lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = Flock::lock(file.map_err(at(&path))?, FlockArg::LockExclusive);
        lock.map_err(|(_, e)| at(&path)(e.into()))
    }

    fn write(&self, place: &Place, document: &Document) -> Result<(), SecretsError> {
        let pin = Pin {
            version: VERSION,
            signer: document.signer.to_string(),
            revision: document.revision,
            digest: document.digest(),
        };
        write(&self.pin_file(&document.project), &pin)?;
        let project = document.project.clone();
        let at = At { version: VERSION, root: place.known().to_owned(), project };
        write(&self.at_file(place), &at)
    }

    /// Forgets that there was one at `place`; whether there was.
    pub(super) fn forget(&self, place: &Place) -> Result<bool, SecretsError> {
        let file = self.at_file(place);
        match std::fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(at(&file)(e)),
        }
    }

    /// The highest revision of what was at `place`.
    pub(super) fn was_at(&self, place: &Place) -> Result<Option<u64>, SecretsError> {
        let Some(at) = read::<At>(&self.at_file(place))? else { return Ok(None) };
        let pin: Option<Pin> = read(&self.pin_file(&at.project))?;
        Ok(Some(pin.map_or(0, |pin| pin.revision)))
    }

    /// `project` is hexadecimal: [`Document::parse`] saw to it.
    fn pin_file(&self, project: &str) -> PathBuf {
        self.dir.join(format!("{project}.json"))
    }

    fn at_file(&self, place: &Place) -> PathBuf {
        let hash = blake3::hash(place.known().as_os_str().as_encoded_bytes()).to_hex();
        self.dir.join("at").join(format!("{}.json", &hash[..32]))
    }
}

/// A pin that cannot be read is no pin that is not there: it fails.
fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, SecretsError> {
    match std::fs::read(file) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(pin) => Ok(Some(pin)),
            Err(e) => Err(at(file)(io::Error::new(io::ErrorKind::InvalidData, e))),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(at(file)(e)),
    }
}

fn write(file: &Path, pin: &impl Serialize) -> Result<(), SecretsError> {
    let text = serde_json::to_vec_pretty(pin).expect("every field has a form in JSON");
    let dir = file.parent().expect("pins are in a directory");
    super::private_directory(dir)?;
    let written = (|| {
        let mut tmp = tempfile::NamedTempFile::new_in(dir)?;
        tmp.write_all(&text)?;
        tmp.as_file().sync_all()?;
        tmp.persist(file).map_err(|e| e.error)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(at(file))
}
