//! Who has signed what: Ed25519, with names. A key is `<name>:<base64 of 32 bytes>`, a
//! signature `<name>:<base64 of 64 bytes>`; the name says which key to try, and proves
//! nothing.

use ed25519_dalek::VerifyingKey;

use crate::registry::digest::decode_base64;

/// A key that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    key: VerifyingKey,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub name: String,
    bytes: [u8; 64],
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no key of a Nix cache (expected `<name>:<base64 of 32 bytes>`)")]
pub struct KeyError {
    /// What was read.
    pub text: String,
}

impl Key {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Key, KeyError> {
        let key = || {
            let (name, bytes) = named(text)?;
            Some(Key { name, key: VerifyingKey::from_bytes(&bytes).ok()? })
        };
        key().ok_or_else(|| KeyError { text: text.chars().take(160).collect() })
    }

    /// Whether it has signed `said`.
    pub fn verifies(&self, said: &[u8], signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        self.key.verify_strict(said, &bytes).is_ok()
    }
}

impl Signature {
    /// Reads it; `None` where it is none.
    pub fn parse(text: &str) -> Option<Signature> {
        let (name, bytes) = named(text)?;
        Some(Signature { name, bytes })
    }
}

fn named<const N: usize>(text: &str) -> Option<(String, [u8; N])> {
    let (name, base64) = text.split_once(':')?;
    let bytes = decode_base64(base64)?.try_into().ok()?;
    (!name.is_empty()).then(|| (name.to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key() {
        let key = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        assert_eq!(Key::parse(key).unwrap().name, "cache.nixos.org-1");
        for bad in ["", "x", ":6NCH", "x:6NCH", &key.replace("6NCH", ""), &key.replace(':', "")] {
            let e = Key::parse(bad).unwrap_err();
            assert!(e.to_string().contains("is no key"), "{bad}");
        }
        assert_eq!(Signature::parse(key), None);
    }
}
