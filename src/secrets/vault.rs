//! A secrets file, from the tree to its values and back: read, verified, compared with what was
//! seen, opened, changed, sealed, written. In this order only: each step is a type.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{Callbacks, DecryptError, Decryptor, Encryptor, Identity};
use nix::fcntl::{Flock, FlockArg};
use zagi_sandbox::{Kept, Pages};

use super::audit::Receipt;
use super::document::{Document, Recipient, is_name};
use super::error::{SecretsError, at};
use super::identity::{self, Plugins};
use super::payload::{self, Payload};
use super::pins::{Pins, Sight};
use super::place::Place;
use super::policy::Policy;
use super::sign::{Key, hex, random};

/// A file that was verified, and is not older than what was seen.
pub struct Vault {
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub document: Document,
    /// Whether it was seen before.
    pub sight: Sight,
    pins: Pins,
    /// As it was read; `None` where the file is yet to be made.
    text: Option<String>,
}

/// Whoever has it is alone in writing, among those of this home.
pub struct Turn(#[allow(dead_code, reason = "held, not used")] Flock<std::fs::File>);

/// Waits for the other writers of `home`.
pub fn turn(home: &Path) -> Result<Turn, SecretsError> {
    let dir = home.join("secrets");
    super::private_directory(&dir)?;
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(at(&path))?;
    let lock = Flock::lock(file, FlockArg::LockExclusive);
    lock.map(Turn).map_err(|(_, e)| at(&path)(e.into()))
}

/// Reads and verifies without comparing it with what was seen: for who shall decide on it.
pub fn inspect(place: &Place) -> Result<Option<(Document, String)>, SecretsError> {
    let Some(text) = place.read()? else { return Ok(None) };
    let document = Document::parse(&place.path, &text)?;
    document.verify(&place.path)?;
    Ok(Some((document, text)))
}

/// Takes what is at `place` as it is, and nothing as nothing: what was seen before counts no more.
pub fn accept(home: &Path, place: &Place, document: Option<&Document>) -> Result<(), SecretsError> {
    let pins = Pins::new(home);
    match document {
        Some(document) => pins.keep(place, document),
        None => pins.forget(place).map(drop),
    }
}

impl Vault {
    /// Opens the file at `place`; `None` where there is none and was none.
    pub fn open(home: &Path, place: Place) -> Result<Option<Vault>, SecretsError> {
        let pins = Pins::new(home);
        let mut found = inspect(&place)?;
        let (document, text, sight) = loop {
            let Some((document, text)) = found else {
                return match pins.was_at(&place)? {
                    Some(revision) => Err(SecretsError::Gone { path: place.path, revision }),
                    None => Ok(None),
                };
            };
            match pins.admit(&place, &document) {
                Ok(sight) => break (document, text, sight),
                Err(e) => {
                    // Somebody wrote the next one after this was read: that is no rollback.
                    found = inspect(&place)?;
                    if found.as_ref().is_none_or(|(_, again)| *again == text) {
                        return Err(e);
                    }
                }
            }
        };
        Ok(Some(Vault { place, document, sight, pins, text: Some(text) }))
    }

    /// One that is yet to be written, for `recipient`, and its values, which are none.
    pub fn create(
        home: &Path,
        place: Place,
        recipient: Recipient,
    ) -> Result<(Vault, Values), SecretsError> {
        let key = Key::generate()?;
        let document = Document {
            project: hex(&random::<16>()?),
            revision: 0,
            signer: key.signer(),
            recipients: vec![recipient],
            policies: BTreeMap::new(),
            successions: Vec::new(),
            payload: String::new(),
            signature: [0; 64],
        };
        let pages = Payload::build(&document.project, 0, &key, &BTreeMap::new());
        let payload = Payload::parse(pages.map_err(SecretsError::Memory)?)
            .expect("what was built can be parsed");
        let pins = Pins::new(home);
        let values = Values { payload, project: document.project.clone() };
        Ok((Vault { place, document, sight: Sight::Known, pins, text: None }, values))
    }

    /// Decrypts it. The values go nowhere yet: [`Values::expose`].
    pub fn unlock(&self, identities: &[Box<dyn Identity>]) -> Result<Values, SecretsError> {
        let path = &self.place.path;
        let sealed = |reason: String| SecretsError::Sealed { path: path.clone(), reason };
        let input = ArmoredReader::new(self.document.payload.as_bytes());
        let opened = Decryptor::new_buffered(input)
            .and_then(|file| file.decrypt(identities.iter().map(|identity| &**identity)));
        let mut opened = opened.map_err(|e| match e {
            DecryptError::NoMatchingKeys => SecretsError::NoKey(path.clone()),
            e => sealed(e.to_string()),
        })?;
        // As long as the file, and so never moved.
        let mut pages = Pages::new(self.document.payload.len()).map_err(SecretsError::Memory)?;
        pages.read(&mut opened, payload::MOST_BYTES).map_err(|e| sealed(e.to_string()))?;
        let payload = Payload::parse(pages).map_err(|reason| sealed(reason.to_owned()))?;
        let document = &self.document;
        let signer = payload.key().map(|key| key.signer());
        if payload.project != document.project
            || payload.revision != document.revision
            || signer != Some(document.signer)
            || !payload.names().eq(document.policies.keys().map(String::as_str))
        {
            return Err(sealed("what is in it is not of this file".into()));
        }
        Ok(Values { payload, project: document.project.clone() })
    }

    /// Seals `values` with `change` and writes the next revision. The receipt is of this project:
    /// what is encrypted to a recipient is released to them.
    pub fn commit<C: Callbacks>(
        &mut self,
        _turn: &Turn,
        values: &Values,
        change: &Change,
        receipt: &Receipt,
        (plugins, ask): (&Plugins, &C),
    ) -> Result<(), SecretsError> {
        let mut next = self.document.clone();
        if !receipt.is_of(&next.project) {
            return Err(SecretsError::NotRecorded("a write".into()));
        }
        next.revision += 1;
        let old = values.payload.key().expect("it was compared with the signer");
        let new = if change.rekey {
            Key::generate()?
        } else {
            values.payload.key().expect("so was this")
        };
        if change.rekey {
            next.succeed(&old, &new);
        }
        if let Some(recipients) = &change.recipients {
            next.recipients.clone_from(recipients);
        }
        let mut all: BTreeMap<&str, &[u8]> =
            values.payload.names().filter_map(|n| Some((n, values.payload.get(n)?))).collect();
        for (name, value) in &change.values {
            match value {
                Some(value) => drop(all.insert(name, value.bytes())),
                None => drop(all.remove(name.as_str())),
            }
        }
        next.policies.retain(|name, _| all.contains_key(name.as_str()));
        for name in all.keys() {
            if let Some(policy) = change.policies.get(*name) {
                next.policies.insert((*name).to_owned(), policy.clone());
            }
            next.policies.entry((*name).to_owned()).or_default();
        }
        check(&all)?;
        let text = Payload::build(&next.project, next.revision, &new, &all);
        let text = text.map_err(SecretsError::Memory)?;
        next.payload = seal(&next, &text, plugins, ask)?;
        next.sign(&new);
        let rendered = next.render();
        // What cannot be read back is not written.
        let again = Document::parse(&self.place.path, &rendered)?;
        again.verify(&self.place.path)?;
        self.place.replace(&rendered, self.text.as_deref())?;
        self.pins.admit(&self.place, &next)?;
        (self.document, self.text) = (next, Some(rendered));
        Ok(())
    }
}

/// What a write changes.
#[derive(Default)]
pub struct Change {
    /// Values that are set, and (`None`) that are taken away.
    pub values: BTreeMap<String, Option<Pages>>,
    /// Policies that are set.
    pub policies: BTreeMap<String, Policy>,
    /// All who can open it from now on, if it is others.
    pub recipients: Option<Vec<Recipient>>,
    /// Whether it is signed with a new key from now on.
    pub rekey: bool,
}

/// Values that were decrypted. They are given out against a receipt only.
pub struct Values {
    payload: Payload,
    project: String,
}

impl Values {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.payload.names()
    }

    /// A value, if a row of the audit log says so.
    pub fn expose(&self, name: &str, receipt: &Receipt) -> Result<&[u8], SecretsError> {
        if !receipt.covers(&self.project, name) {
            return Err(SecretsError::NotRecorded(name.to_owned()));
        }
        self.payload.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Each value, to be looked for in texts: it goes nowhere.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.payload.names().filter_map(|name| self.payload.get(name))
    }

    /// An error where there is no such secret.
    pub fn require(&self, name: &str) -> Result<(), SecretsError> {
        self.payload.get(name).map(drop).ok_or_else(|| self.unknown(name))
    }

    /// How well the memory that they are in is kept.
    pub fn kept(&self) -> Kept {
        self.payload.kept()
    }

    /// What somebody has who could once open it.
    #[cfg(test)]
    pub(super) fn signing_key(&self) -> Key {
        self.payload.key().expect("there is one")
    }

    fn unknown(&self, name: &str) -> SecretsError {
        let all = self.payload.names().map(|known| (known.to_owned(), known));
        let nearest = crate::nearest::nearest(name, all);
        SecretsError::Unknown { name: name.chars().take(128).collect(), nearest }
    }
}

/// What cannot be stored.
fn check(values: &BTreeMap<&str, &[u8]>) -> Result<(), SecretsError> {
    let wrong = |name: &str, reason: &str| SecretsError::Value {
        name: name.chars().take(128).collect(),
        reason: reason.to_owned(),
    };
    for (name, value) in values {
        if !is_name(name) {
            return Err(wrong(name, "a name is letters, digits and `_`, and begins with no digit"));
        }
        if value.is_empty() {
            return Err(wrong(name, "the value is empty"));
        }
    }
    let total: usize = values.values().map(|value| value.len() + 160).sum();
    match values.keys().next_back() {
        Some(last) if total > payload::MOST_BYTES || values.len() > 1024 => {
            Err(wrong(last, "all secrets together are at most 4 MB, and 1024"))
        }
        _ => Ok(()),
    }
}

/// An age file in armor.
fn seal<C: Callbacks>(
    document: &Document,
    text: &Pages,
    plugins: &Plugins,
    ask: &C,
) -> Result<String, SecretsError> {
    let keys = document.recipients.iter().map(|r| r.key.as_str());
    let recipients = identity::recipients(keys, plugins, ask)?;
    let failed = |e: io::Error| SecretsError::Encrypt(e.to_string());
    let all = recipients.iter().map(|r| &**r as &dyn age::Recipient);
    let encryptor =
        Encryptor::with_recipients(all).map_err(|e| SecretsError::Encrypt(e.to_string()))?;
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(failed)?;
    let mut sealed = encryptor.wrap_output(armor).map_err(failed)?;
    sealed.write_all(text.bytes()).map_err(failed)?;
    let bytes = sealed.finish().and_then(ArmoredWriter::finish).map_err(failed)?;
    let mut text = String::from_utf8(bytes)
        .map_err(|_| SecretsError::Encrypt("its armor is no text".into()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
