//! Digests as registries write them: hexadecimal (PyPI, Debian, crates) and Subresource
//! Integrity (npm: `sha512-<base64>`, <https://www.w3.org/TR/SRI/>).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// What bytes must hash to. Its text form is `sha256:<hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Digest {
    /// Only npm's oldest releases have nothing stronger.
    Sha1([u8; 20]),
    /// PyPI, Debian, crates.
    Sha256([u8; 32]),
    /// npm.
    Sha512([u8; 64]),
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest (expected `sha256:<hex>` or `sha512-<base64>`)")]
pub struct DigestError {
    /// What was read, shortened.
    pub text: String,
}

impl DigestError {
    fn new(text: &str) -> DigestError {
        DigestError { text: text.chars().take(160).collect() }
    }
}

impl Digest {
    /// Hashes `bytes` with SHA-256.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Hashes `bytes` with the algorithm of `self`.
    pub fn of_same_kind(&self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// A hasher of the algorithm of `self`.
    pub fn hasher(&self) -> Hasher {
        match self {
            Digest::Sha1(_) => Hasher::Sha1(sha1::Sha1::new()),
            Digest::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Digest::Sha512(_) => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    /// Parses bare hexadecimal; its length says which algorithm.
    pub fn from_hex(hex: &str) -> Result<Digest, DigestError> {
        let bytes = decode_hex(hex).ok_or_else(|| DigestError::new(hex))?;
        match bytes.len() {
            20 => Digest::from_bytes("sha1", &bytes),
            32 => Digest::from_bytes("sha256", &bytes),
            64 => Digest::from_bytes("sha512", &bytes),
            _ => None,
        }
        .ok_or_else(|| DigestError::new(hex))
    }

    /// Parses a Subresource Integrity text: one or more `algorithm-base64`, of which the
    /// strongest that is known counts.
    pub fn from_sri(text: &str) -> Result<Digest, DigestError> {
        let one = |item: &str| {
            let (algorithm, rest) = item.split_once('-')?;
            let base64 = rest.split('?').next().expect("split yields at least one item");
            Digest::from_bytes(algorithm, &decode_base64(base64)?)
        };
        // The order of the variants is the order of strength.
        text.split_ascii_whitespace().filter_map(one).max().ok_or_else(|| DigestError::new(text))
    }

    fn from_bytes(algorithm: &str, bytes: &[u8]) -> Option<Digest> {
        Some(match algorithm {
            "sha1" => Digest::Sha1(bytes.try_into().ok()?),
            "sha256" => Digest::Sha256(bytes.try_into().ok()?),
            "sha512" => Digest::Sha512(bytes.try_into().ok()?),
            _ => return None,
        })
    }

    /// `sha1`, `sha256` or `sha512`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha1(_) => "sha1",
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// The digest's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Digest::Sha1(bytes) => bytes,
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        }
    }

    /// Lower-case hexadecimal without the algorithm.
    pub fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// `sha256:<hex>`, as `Display` writes it, or Subresource Integrity.
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        match text.split_once(':') {
            Some((algorithm, hex)) => decode_hex(hex)
                .and_then(|bytes| Digest::from_bytes(algorithm, &bytes))
                .ok_or_else(|| DigestError::new(text)),
            None => Digest::from_sri(text),
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Digest, DigestError> {
        text.parse()
    }
}

/// Hashes a stream.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha1(h) => h.update(bytes),
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Sha512(h) => h.update(bytes),
        }
    }

    /// What all of them hash to.
    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha1(h) => Digest::Sha1(h.finalize().into()),
            Hasher::Sha256(h) => Digest::Sha256(h.finalize().into()),
            Hasher::Sha512(h) => Digest::Sha512(h.finalize().into()),
        }
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |c: u8| (c as char).to_digit(16).map(|n| n as u8);
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// RFC 4648 base64; padding may be missing.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_one_digest() {
        // `printf abc | sha256sum`, and the same through `xxd -r -p | base64`.
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Digest::sha256(b"abc");
        assert_eq!(digest.hex(), hex);
        assert_eq!(digest.to_string(), format!("sha256:{hex}"));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_hex(hex), Ok(digest));
        assert_eq!(Digest::from_hex(&hex.to_uppercase()), Ok(digest));
        let sri = "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        assert_eq!(Digest::from_sri(sri), Ok(digest));
        assert_eq!(sri.parse(), Ok(digest));
    }

    #[test]
    fn the_strongest_of_several_counts() {
        let text = "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0= sha999-AAAA \
                    sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=?opt";
        assert_eq!(Digest::from_sri(text), Ok(Digest::sha256(b"abc")));
        let old = Digest::from_sri("sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=").expect("sha1 is known");
        assert_eq!(old.of_same_kind(b"abc"), old);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "sha256:", "sha256:zz", "sha256:abcd", "md5:00", "sha512-!!!", "sha256-AA"]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(Digest::from_hex("abc").is_err());
        assert!(Digest::from_hex("é").is_err());
    }
}
