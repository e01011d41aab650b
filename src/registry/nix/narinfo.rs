//! What a cache says about one store path: lines of `Name: value`.
//!
//! ```text
//! StorePath: /nix/store/x5isy8dwnj43vz4ry8m3yr50mjdzvcsp-greet-1.0
//! URL: nar/1y2dszl0kizqfgsnx8qg62nzxglivs8az625x66f3im3bdwg2zw6.nar.zst
//! Compression: zstd
//! FileHash: sha256:1y2dszl0kizqfgsnx8qg62nzxglivs8az625x66f3im3bdwg2zw6
//! FileSize: 190
//! NarHash: sha256:1r3k3yj0j6lc1jylg84npbj25b9a9pxgd5v26234y0s2ifzd0sgk
//! NarSize: 656
//! References: 3n58xw4373jp0ljirf06d8077j15pc4j-glibc-2.40 …
//! Sig: test-1:IsVrjKQd5SP0uNfXd7HqJvDgsFGW88Lin8wRb5tLAan…
//! ```
//!
//! `URL`, `Compression`, `FileHash` and `FileSize` are about the packed file and are not
//! signed; the others are, as [`NarInfo::fingerprint`]. Names that are not known here mean
//! nothing (caches add their own); a known one that stands there twice is refused.

use std::collections::BTreeMap;
use std::fmt;

use super::STORE;
use super::signature::Signature;
use crate::registry::digest::Digest;

/// Nix's digits of base 32: without letters that make words.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// The name of a path in the store: `<hash>-<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

impl StorePath {
    /// A name as a store may have it, or `None`: 32 digits, a hyphen, and up to 211 letters
    /// that mean nothing to a file system or an address.
    pub fn parse(base: &str) -> Option<StorePath> {
        let (hash, name) = base.split_once('-')?;
        let digits = hash.len() == 32 && hash.bytes().all(|b| DIGITS.contains(&b));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        let named = (1..=211).contains(&name.len()) && name.bytes().all(plain);
        (digits && named && !name.starts_with('.')).then(|| StorePath(base.to_owned()))
    }

    /// Its name in the directory of the store.
    pub fn base(&self) -> &str {
        &self.0
    }

    /// The part that is a hash of how it was made, by which caches name it.
    pub fn hash(&self) -> &str {
        &self.0[..32]
    }

    /// What it is, without the hash: `nodejs-22.14.0`.
    pub fn name(&self) -> &str {
        &self.0[33..]
    }

    /// The version in its name: what follows the first hyphen that no letter follows.
    pub fn version(&self) -> Option<&str> {
        let name = self.name();
        let ends = name.bytes().zip(name.bytes().skip(1));
        let at = ends.enumerate().find(|(_, (a, b))| *a == b'-' && !b.is_ascii_alphabetic())?.0;
        Some(&name[at + 1..])
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}/{}", self.0)
    }
}

/// How a cache packs its archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The kind of archive that it makes: how its file's name ends.
    pub fn kind(self) -> &'static str {
        match self {
            Compression::None => "nar",
            Compression::Xz => "nar.xz",
            Compression::Zstd => "nar.zst",
        }
    }

    /// The one that makes this kind of archive.
    pub fn of(kind: &str) -> Option<Compression> {
        [Compression::None, Compression::Xz, Compression::Zstd]
            .into_iter()
            .find(|c| c.kind() == kind)
    }
}

/// What a cache says about one store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// What it is about.
    pub path: StorePath,
    /// Where the packed archive is, below the cache's address.
    pub url: String,
    /// How it is packed.
    pub compression: Compression,
    /// Of the packed archive.
    pub file_hash: Digest,
    /// Its length.
    pub file_size: Option<u64>,
    /// Of the archive itself.
    pub nar_hash: Digest,
    /// Its length.
    pub nar_size: u64,
    /// The paths that it refers to, sorted; it may be among them.
    pub references: Vec<StorePath>,
    /// Who has signed it.
    pub signatures: Vec<Signature>,
}

/// Why a text is no narinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// It is not even text.
    #[error("it is not text")]
    Encoding,
    /// A line has no name.
    #[error("line {0} has no name")]
    Line(usize),
    /// A name stands there twice.
    #[error("{0} stands there twice")]
    Twice(String),
    /// A name is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A value is none of its kind.
    #[error("{name} cannot be `{value}`")]
    Value {
        /// Its name.
        name: &'static str,
        /// What stands there, shortened.
        value: String,
    },
    /// It is packed in a way that is not read here.
    #[error("it is packed with {0}, which is not supported (xz, zstd and none are)")]
    Compression(String),
}

impl NarInfo {
    /// Reads it.
    pub fn parse(bytes: &[u8]) -> Result<NarInfo, NarInfoError> {
        let text = std::str::from_utf8(bytes).map_err(|_| NarInfoError::Encoding)?;
        let mut fields = BTreeMap::new();
        let mut signatures = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let (name, value) = line.split_once(':').ok_or(NarInfoError::Line(n + 1))?;
            let value = value.trim();
            if name == "Sig" {
                signatures.push(Signature::parse(value).ok_or_else(|| bad("Sig", value))?);
            } else if fields.insert(name, value).is_some() {
                return Err(NarInfoError::Twice(name.to_owned()));
            }
        }
        let get = |name: &'static str| fields.get(name).copied().ok_or(NarInfoError::Missing(name));
        let size = |name| get(name).and_then(|v| v.parse().map_err(|_| bad(name, v)));
        let digest = |name| get(name).and_then(|v| sha256(v).ok_or_else(|| bad(name, v)));
        // Caches older than the field pack with bzip2.
        let compression = match fields.get("Compression").copied().unwrap_or("bzip2") {
            "none" => Compression::None,
            "xz" => Compression::Xz,
            "zstd" => Compression::Zstd,
            other => return Err(NarInfoError::Compression(other.to_owned())),
        };
        let path = get("StorePath")?;
        let base = path.strip_prefix(STORE).and_then(|p| p.strip_prefix('/'));
        let url = get("URL")?;
        let reference = |base| StorePath::parse(base).ok_or_else(|| bad("References", base));
        let references = fields.get("References").copied().unwrap_or_default();
        let mut references: Vec<StorePath> =
            references.split_ascii_whitespace().map(reference).collect::<Result<_, _>>()?;
        references.sort();
        references.dedup();
        let nar_hash = digest("NarHash")?;
        Ok(NarInfo {
            path: base.and_then(StorePath::parse).ok_or_else(|| bad("StorePath", path))?,
            url: is_below(url).then(|| url.to_owned()).ok_or_else(|| bad("URL", url))?,
            compression,
            file_hash: match (compression, fields.contains_key("FileHash")) {
                (Compression::None, false) => nar_hash,
                _ => digest("FileHash")?,
            },
            file_size: fields.contains_key("FileSize").then(|| size("FileSize")).transpose()?,
            nar_hash,
            nar_size: size("NarSize")?,
            references,
            signatures,
        })
    }

    /// What is signed: `1;<path>;<hash>;<size>;<references>`.
    pub fn fingerprint(&self) -> String {
        let references: Vec<String> = self.references.iter().map(StorePath::to_string).collect();
        format!(
            "1;{};sha256:{};{};{}",
            self.path,
            base32(self.nar_hash.bytes()),
            self.nar_size,
            references.join(",")
        )
    }
}

fn bad(name: &'static str, value: &str) -> NarInfoError {
    NarInfoError::Value { name, value: value.chars().take(160).collect() }
}

/// Whether an address stays below the cache's own.
fn is_below(url: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._=/".contains(&b);
    !url.starts_with('/')
        && url.bytes().all(plain)
        && url.split('/').all(|s| !matches!(s, "" | "." | ".."))
}

/// `sha256:` and the hash in Nix's base 32 or in hexadecimal, or an SRI.
pub fn sha256(text: &str) -> Option<Digest> {
    let digest = match text.strip_prefix("sha256:") {
        Some(digits) if digits.len() == 52 => Digest::Sha256(unbase32(digits)?),
        _ => text.parse().ok()?,
    };
    matches!(digest, Digest::Sha256(_)).then_some(digest)
}

/// In Nix's base 32, whose first digit has the last bits.
fn base32(bytes: &[u8]) -> String {
    let digits = (bytes.len() * 8).div_ceil(5);
    let digit = |n: usize| {
        let (at, shift) = (n * 5 / 8, n * 5 % 8);
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        let both = u16::from(bytes[at]) | u16::from(next) << 8;
        char::from(DIGITS[usize::from(both >> shift & 31)])
    };
    (0..digits).rev().map(digit).collect()
}

fn unbase32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    for (n, c) in text.bytes().rev().enumerate() {
        let value = u16::try_from(DIGITS.iter().position(|d| *d == c)?).ok()?;
        let (at, shift) = (n * 5 / 8, n * 5 % 8);
        let both = value << shift;
        *bytes.get_mut(at)? |= both.to_le_bytes()[0];
        match (bytes.get_mut(at + 1), both.to_le_bytes()[1]) {
            (Some(next), high) => *next |= high,
            (None, 0) => {}
            // More bits than 32 bytes have.
            (None, _) => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::nix::signature::Key;

    /// Made by Nix 2.8: `nix copy --to file://…?secret-key=…&compression=zstd`.
    const GREET: &str = "\
StorePath: /nix/store/x5isy8dwnj43vz4ry8m3yr50mjdzvcsp-greet-1.0
URL: nar/1y2dszl0kizqfgsnx8qg62nzxglivs8az625x66f3im3bdwg2zw6.nar.zst
Compression: zstd
FileHash: sha256:1y2dszl0kizqfgsnx8qg62nzxglivs8az625x66f3im3bdwg2zw6
FileSize: 190
NarHash: sha256:1r3k3yj0j6lc1jylg84npbj25b9a9pxgd5v26234y0s2ifzd0sgk
NarSize: 656
References:\x20
Deriver: w9q1dq6jbhaxbzfh40hn57ybdvcagy4y-greet-1.0.drv
Sig: test-1:IsVrjKQd5SP0uNfXd7HqJvDgsFGW88Lin8wRb5tLAanDq38ht0BKqPuyTNcX9p3dL42orU2xQMlFfNn5iRnuBg==
";
    const KEY: &str = "test-1:paycTA3OROSU8fnNM/kXehQPqtyvH7NFK3Kij9tVfu8=";

    #[test]
    fn what_nix_has_signed() {
        let info = NarInfo::parse(GREET.as_bytes()).unwrap();
        assert_eq!(info.path.name(), "greet-1.0");
        assert_eq!((info.nar_size, info.file_size), (656, Some(190)));
        assert_eq!(info.compression, Compression::Zstd);
        let key = Key::parse(KEY).unwrap();
        assert!(key.verifies(info.fingerprint().as_bytes(), &info.signatures[0]));
        let other = "x5isy8dwnj43vz4ry8m3yr50mjdzvcsp-other";
        for (from, to) in [
            ("NarSize: 656", "NarSize: 657"),
            ("References: ", &format!("References: {other}")),
            ("NarHash: sha256:1r", "NarHash: sha256:1q"),
            ("greet-1.0\nURL", "greet-1.1\nURL"),
        ] {
            let edited = GREET.replace(from, to);
            assert_ne!(edited, GREET);
            let info = NarInfo::parse(edited.as_bytes()).unwrap();
            assert!(!key.verifies(info.fingerprint().as_bytes(), &info.signatures[0]), "{to}");
        }
    }

    #[test]
    fn what_is_no_narinfo() {
        for (from, to, said) in [
            ("NarSize: 656", "NarSize: many", "NarSize cannot be `many`"),
            ("NarSize: 656\n", "", "no NarSize"),
            ("NarSize: 656", "NarSize: 656\nNarSize: 1", "twice"),
            ("References: ", "References: ../../etc", "References"),
            ("URL: nar/", "URL: ../", "URL"),
            ("URL: nar/", "URL: https://other/", "URL"),
            ("Compression: zstd\n", "", "bzip2"),
            ("Compression: zstd", "Compression: br", "packed with br"),
            ("NarHash: sha256:", "NarHash: sha256:e", "NarHash"),
            ("FileHash: sha256:1", "FileHash: sha256:z", "FileHash"),
            ("StorePath: /nix/store/", "StorePath: /gnu/store/", "StorePath"),
            ("Sig: test-1:", "Sig: test-1", "Sig"),
            ("FileSize: 190", "FileSize", "line 5"),
        ] {
            let edited = GREET.replace(from, to);
            assert_ne!(edited, GREET);
            let e = NarInfo::parse(edited.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(said), "{to}: {e}");
        }
        assert_eq!(NarInfo::parse(b"\xff"), Err(NarInfoError::Encoding));
    }

    #[test]
    fn base_32_is_nixs() {
        // `nix-hash --type sha256 --flat --base32 /dev/null`, and without --base32.
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let digest = Digest::from_hex(hex).unwrap();
        assert_eq!(base32(digest.bytes()), text);
        assert_eq!(sha256(&format!("sha256:{text}")), Some(digest));
        assert_eq!(sha256(&format!("sha256:{hex}")), Some(digest));
    }

    #[test]
    fn names_of_store_paths() {
        let hash = "x5isy8dwnj43vz4ry8m3yr50mjdzvcsp";
        for (name, version) in [
            ("nodejs-22.14.0", Some("22.14.0")),
            ("nodejs-22.14.0-libv8", Some("22.14.0-libv8")),
            ("python3-3.12.10", Some("3.12.10")),
            ("gcc-wrapper", None),
        ] {
            let path = StorePath::parse(&format!("{hash}-{name}")).unwrap();
            assert_eq!((path.hash(), path.name()), (hash, name));
            assert_eq!(path.version(), version, "{name}");
        }
        for bad in ["x", "-x", "x5isy8dwnj43vz4ry8m3yr50mjdzvcs-x", "../x"] {
            assert_eq!(StorePath::parse(bad), None, "{bad}");
        }
        for bad in ["", ".", "../x", "a/b", "a b", &"n".repeat(212)] {
            assert_eq!(StorePath::parse(&format!("{hash}-{bad}")), None, "{bad}");
        }
        assert_eq!(StorePath::parse(&format!("e{}-x", &hash[1..])), None, "e is no digit");
    }
}
