//! Who wrote it: Ed25519 (RFC 8032) over bytes that can be read in one way only.
//!
//! age encrypts to public keys, so anybody can make a file that the recipients can open. Hence
//! the signature. The signing key is in the encrypted payload: whoever can read can write, and
//! nobody else.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::error::SecretsError;

/// A signer's public key. Its text is 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer([u8; 32]);

/// What is signed: fields, each behind its length in 8 bytes, little-endian, after a context that
/// says what it all is.
pub(super) struct Fields(Vec<u8>);

impl Fields {
    pub(super) fn new(context: &str) -> Fields {
        let mut fields = Fields(Vec::new());
        fields.bytes(context.as_bytes());
        fields
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl Signer {
    /// Reads its text.
    pub fn parse(text: &str) -> Option<Signer> {
        let bytes = unhex(text)?;
        VerifyingKey::from_bytes(&bytes).ok()?;
        Some(Signer(bytes))
    }

    /// The first digits, as people compare them.
    pub fn short(&self) -> String {
        hex(&self.0[..8])
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn verifies(&self, said: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(said, &Signature::from_bytes(signature)).is_ok())
    }
}

impl std::fmt::Display for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A key that signs; wiped when dropped.
pub(super) struct Key(SigningKey);

impl Key {
    /// A new one.
    pub(super) fn generate() -> Result<Key, SecretsError> {
        let bytes = Zeroizing::new(random::<32>()?);
        Ok(Key(SigningKey::from_bytes(&bytes)))
    }

    pub(super) fn from_hex(text: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(text).ok()?;
        let bytes = Zeroizing::new(unhex::<32>(text)?);
        Some(Key(SigningKey::from_bytes(&bytes)))
    }

    pub(super) fn to_hex(&self) -> Zeroizing<[u8; 64]> {
        let mut text = Zeroizing::new([0; 64]);
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.as_bytes()) {
            pair[0] = digit(byte >> 4);
            pair[1] = digit(byte & 15);
        }
        text
    }

    pub(super) fn signer(&self) -> Signer {
        Signer(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, said: &[u8]) -> [u8; 64] {
        self.0.sign(said).to_bytes()
    }
}

/// Bytes of the kernel's generator. getrandom(2).
pub(super) fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        done += rustix::rand::getrandom(&mut bytes[done..], flags)
            .map_err(|e| SecretsError::Memory(e.into()))?;
    }
    Ok(bytes)
}

fn digit(value: u8) -> u8 {
    b"0123456789abcdef"[usize::from(value & 15)]
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [digit(b >> 4) as char, digit(b & 15) as char]).collect()
}

/// Lower-case digits only: a text that is signed has one form.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    let value = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (value(pair[0])? << 4) | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_text() {
        let key = Key::generate().unwrap();
        let text = key.to_hex();
        assert_eq!(Key::from_hex(&*text).unwrap().signer(), key.signer());
        let signer = key.signer().to_string();
        assert_eq!(Signer::parse(&signer), Some(key.signer()));
        assert_eq!(Signer::parse(&signer[1..]), None);
        assert_eq!(unhex::<1>("0A"), None);
        let signature = key.sign(b"said");
        assert!(key.signer().verifies(b"said", &signature));
        assert!(!key.signer().verifies(b"sais", &signature));
        assert!(!Key::generate().unwrap().signer().verifies(b"said", &signature));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let of = |all: &[&[u8]]| {
            let mut fields = Fields::new("c");
            all.iter().for_each(|bytes| fields.bytes(bytes));
            fields.finish()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ab", b""]));
    }
}
