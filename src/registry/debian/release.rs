//! `InRelease`: a suite's signed table of contents.
//!
//! A clear-signed OpenPGP message (RFC 9580, section 7); what is read is exactly the text
//! that a signature was found good for, never what stands around it.

use std::collections::BTreeMap;

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::Signature;

use super::DebianError;
use super::control;

/// What an `InRelease` says, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `bookworm`, `sid`.
    pub codename: String,
    /// Seconds since the epoch when it was made.
    pub date: Option<i64>,
    /// Seconds since the epoch after which it should have been replaced.
    pub valid_until: Option<i64>,
    /// Files are also found under their hash.
    pub by_hash: bool,
    /// Hexadecimal SHA-256 by path below the suite.
    pub files: BTreeMap<String, String>,
}

/// Checks the signature against a keyring (armoured public keys) and reads the text.
///
/// One good signature by one of the keys, or by a signing subkey bound to one, is enough,
/// as it is for apt: suites are signed by the keys of two releases while one replaces the
/// other. Signatures over SHA-1 and MD5 do not count.
pub fn verify(url: &str, message: &[u8], keyring: &str) -> Result<Release, DebianError> {
    let refused = |reason: Refusal| DebianError::Signature { url: url.to_owned(), reason };
    let text = std::str::from_utf8(message).map_err(|_| refused(Refusal::NotSigned))?;
    let (message, _) =
        CleartextSignedMessage::from_string(text).map_err(|_| refused(Refusal::NotSigned))?;
    let signed = message.signed_text();
    let (keys, _) = SignedPublicKey::from_string_many(keyring)
        .map_err(|source| DebianError::Keyring { source: Box::new(source) })?;
    let mut known = false;
    for key in keys {
        let key = key.map_err(|source| DebianError::Keyring { source: Box::new(source) })?;
        for signature in message.signatures().iter().filter(|s| strong(s)) {
            match good(&key, signature, signed.as_bytes()) {
                Some(true) => return Ok(parse(&signed)),
                Some(false) => known = true,
                None => {}
            }
        }
    }
    Err(refused(if known { Refusal::Wrong } else { Refusal::Unknown }))
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("it is not signed")]
    NotSigned,
    /// It is by a key that we hold, and the text is not what was signed.
    #[error("its signature does not fit its text")]
    Wrong,
    /// It is by somebody else.
    #[error("no key of the keyring signed it")]
    Unknown,
}

fn strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
    )
}

/// `None` where the signature is by another key.
fn good(key: &SignedPublicKey, signature: &Signature, text: &[u8]) -> Option<bool> {
    use pgp::types::KeyDetails;
    let issued_by = |id: &pgp::types::KeyId, fingerprint: &pgp::types::Fingerprint| {
        signature.issuer_key_id().contains(&id)
            || signature.issuer_fingerprint().contains(&fingerprint)
    };
    if issued_by(&key.legacy_key_id(), &key.fingerprint()) {
        return Some(signature.verify(key, text).is_ok());
    }
    let subkey =
        key.public_subkeys.iter().find(|s| issued_by(&s.legacy_key_id(), &s.fingerprint()))?;
    // The primary key must have signed the subkey, and for signing.
    let bound = subkey.verify_bindings(&key.primary_key).is_ok()
        && subkey.signatures.iter().any(|s| s.key_flags().sign());
    Some(bound && signature.verify(subkey, text).is_ok())
}

fn parse(text: &str) -> Release {
    let text = text.replace("\r\n", "\n");
    let paragraph = control::paragraphs(&text).next().unwrap_or_default();
    let seconds = |field: &str| {
        let when = paragraph.get(field)?;
        let civil =
            jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S UTC", when.trim()).ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
    };
    let mut files = BTreeMap::new();
    for line in paragraph.get("SHA256").unwrap_or("").lines() {
        if let [hash, _size, path] = line.split_whitespace().collect::<Vec<_>>()[..] {
            files.insert(path.to_owned(), hash.to_owned());
        }
    }
    Release {
        codename: paragraph.get("Codename").unwrap_or("").to_owned(),
        date: seconds("Date"),
        valid_until: seconds("Valid-Until"),
        by_hash: paragraph.get("Acquire-By-Hash") == Some("yes"),
        files,
    }
}
