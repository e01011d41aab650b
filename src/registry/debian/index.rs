//! What resolving needs of a suite's `Packages`, kept so that a package is found without
//! reading the other sixty thousand.
//!
//! The cache file, version 1, little-endian:
//!
//! ```text
//! 0      16 bytes   "zagi-debian-idx1"
//! 16     257 × u64  where each of 256 shards begins; the last is the end of the file
//! …      shards     lines of fields separated by tabs, sorted:
//!   P name version depends provides filename size sha256     a package
//!   V name provider                                          `provider` provides `name`
//! ```
//!
//! A package stands in the shard of its name (the first byte of the name's BLAKE3), a
//! provision in that of the virtual name. The file is made only from a `Packages` whose
//! hash a verified `InRelease` gave, and bears that hash in its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::DebianError;
use super::control::{self, Dependency};

const MAGIC: &[u8; 16] = b"zagi-debian-idx1";
const SHARDS: usize = 256;

/// One binary package of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// `Pre-Depends` and `Depends`: all groups, one alternative of each.
    pub depends: Vec<Vec<Dependency>>,
    /// Virtual names, with the version provided where one is said.
    pub provides: Vec<Dependency>,
    /// Below the archive's address.
    pub filename: String,
    /// Bytes of the file.
    pub size: u64,
    /// Hexadecimal SHA-256 of the file.
    pub sha256: String,
}

impl Package {
    /// Whether this package, by its own name or by what it provides, answers `wanted`.
    pub fn answers(&self, wanted: &Dependency) -> bool {
        if self.name == wanted.name && wanted.satisfied_by(&self.version) {
            return true;
        }
        self.provides.iter().filter(|p| p.name == wanted.name).any(|provided| {
            match &provided.version {
                Some((_, version)) => wanted.satisfied_by(version),
                // An unversioned provision answers unversioned dependencies only.
                None => wanted.version.is_none(),
            }
        })
    }
}

/// An index, opened. Shards are read when asked for.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    file: File,
    offsets: Vec<u64>,
}

fn shard(name: &str) -> usize {
    usize::from(blake3::hash(name.as_bytes()).as_bytes()[0])
}

/// The image of the index of a `Packages` file.
pub fn build(packages: &str) -> Vec<u8> {
    let mut shards: Vec<Vec<String>> = vec![Vec::new(); SHARDS];
    for p in control::paragraphs(packages) {
        let clean = |field: &str| {
            p.get(field).unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let name = clean("Package");
        if name.is_empty() {
            continue;
        }
        let depends = [clean("Pre-Depends"), clean("Depends")];
        let depends = depends.iter().filter(|d| !d.is_empty()).cloned().collect::<Vec<_>>();
        let provides = clean("Provides");
        for virtual_name in provides.split(',').filter_map(Dependency::parse) {
            let line = format!("V\t{}\t{name}", virtual_name.name);
            shards[shard(&virtual_name.name)].push(line);
        }
        shards[shard(&name)].push(format!(
            "P\t{name}\t{}\t{}\t{provides}\t{}\t{}\t{}",
            clean("Version"),
            depends.join(", "),
            clean("Filename"),
            clean("Size"),
            clean("SHA256"),
        ));
    }
    let mut image = MAGIC.to_vec();
    let mut at = (MAGIC.len() + (SHARDS + 1) * 8) as u64;
    for lines in &mut shards {
        lines.sort_unstable();
        lines.dedup();
        image.extend(at.to_le_bytes());
        at += lines.iter().map(|l| l.len() as u64 + 1).sum::<u64>();
    }
    image.extend(at.to_le_bytes());
    for line in shards.iter().flatten() {
        image.extend(line.as_bytes());
        image.push(b'\n');
    }
    image
}

impl Index {
    /// Opens a cache file; `None` where it is missing or is not (or no longer) one of this
    /// version, so that it is made again.
    pub fn open(path: &Path) -> Result<Option<Index>, DebianError> {
        let failed = |source| DebianError::Cache { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut head = vec![0; MAGIC.len() + (SHARDS + 1) * 8];
        if file.read_exact_at(&mut head, 0).is_err() || !head.starts_with(MAGIC) {
            return Ok(None);
        }
        let offsets: Vec<u64> = head[MAGIC.len()..]
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().expect("chunks are of eight bytes")))
            .collect();
        let whole = file.metadata().map_err(failed)?.len() == offsets[SHARDS];
        if !whole || !offsets.is_sorted() {
            return Ok(None);
        }
        Ok(Some(Index { path: path.to_owned(), file, offsets }))
    }

    /// All packages called `name`, and the names of those that provide it, sorted.
    pub fn lookup(&self, name: &str) -> Result<(Vec<Package>, Vec<String>), DebianError> {
        let n = shard(name);
        let (from, to) = (self.offsets[n], self.offsets[n + 1]);
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        let failed = |source| DebianError::Cache { path: self.path.clone(), source };
        self.file.read_exact_at(&mut bytes, from).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let (mut packages, mut providers) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["P", n, version, depends, provides, filename, size, sha256] if n == name => {
                    packages.push(Package {
                        name: n.to_owned(),
                        version: version.to_owned(),
                        depends: control::dependencies(depends),
                        provides: provides.split(',').filter_map(Dependency::parse).collect(),
                        filename: filename.to_owned(),
                        size: size.parse().unwrap_or(0),
                        sha256: sha256.to_owned(),
                    });
                }
                ["V", n, provider] if n == name => providers.push(provider.to_owned()),
                _ => {}
            }
        }
        Ok((packages, providers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_indexed_is_found_again() {
        let text = "Package: libc6\nVersion: 2.36-9\nDepends: libgcc-s1,\n libcrypt1 (>= 1)\n\
                    Filename: pool/libc6.deb\nSize: 12\nSHA256: ab\n\n\
                    Package: libc6-dev\nVersion: 2.36-9\nProvides: libc-dev (= 2.36-9), libc6.1-dev\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("idx");
        assert!(Index::open(&path).unwrap().is_none());
        std::fs::write(&path, build(text)).unwrap();
        let index = Index::open(&path).unwrap().unwrap();
        let (found, _) = index.lookup("libc6").unwrap();
        assert_eq!(found[0].depends.len(), 2);
        assert_eq!(found[0].size, 12);
        let (none, providers) = index.lookup("libc-dev").unwrap();
        assert!(none.is_empty());
        assert_eq!(providers, ["libc6-dev"]);
        // A half-written cache is made again, not believed.
        std::fs::write(&path, &build(text)[..2100]).unwrap();
        assert!(Index::open(&path).unwrap().is_none());
    }

    #[test]
    fn versioned_dependencies_want_versioned_provisions() {
        let provides = ["libc-dev (= 2.36)", "c-compiler"];
        let package = Package {
            name: "x".into(),
            version: "1".into(),
            depends: Vec::new(),
            provides: provides.iter().filter_map(|p| Dependency::parse(p)).collect(),
            filename: String::new(),
            size: 0,
            sha256: String::new(),
        };
        let wants = |text| package.answers(&Dependency::parse(text).unwrap());
        assert!(wants("libc-dev (>= 2.30)") && wants("c-compiler") && wants("x (= 1)"));
        assert!(!wants("libc-dev (>= 2.40)") && !wants("c-compiler (>= 1)") && !wants("y"));
    }
}
