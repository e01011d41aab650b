//! cargo's downloads, shared between installations.
//!
//! `CARGO_HOME` is in the workspace, so that what is captured is what this project needs
//! and nothing else; so cargo itself has no cache that lasts. `cache/cargo` keeps, for each
//! registry as cargo names its directory:
//!
//! ```text
//! <registry>/config.json, index/ab/cd/NAME, crates/NAME-VERSION.crate
//! ```
//!
//! A `.crate` goes in and out only if it has the checksum of a lock file: cargo would not
//! look again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use toml_edit::DocumentMut;

use super::record::Need;
use crate::environment::version::Version;
use crate::ordinary;

/// A package of a registry, as a lock file has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    checksum: String,
}

/// The packages of registries in the text of a `Cargo.lock`.
fn packages(lock: &str) -> BTreeSet<Package> {
    let Ok(lock) = lock.parse::<DocumentMut>() else { return BTreeSet::new() };
    let list = lock.get("package").and_then(|p| p.as_array_of_tables());
    let text = |table: &toml_edit::Table, key: &str| Some(table.get(key)?.as_str()?.to_owned());
    let safe = |s: &str| {
        !s.starts_with('.') && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    list.into_iter()
        .flatten()
        .filter_map(|table| {
            let (name, version) = (text(table, "name")?, text(table, "version")?);
            (safe(&name) && safe(&version) && !name.is_empty()).then_some(())?;
            Some(Package { name, version, checksum: text(table, "checksum")? })
        })
        .collect()
}

impl Package {
    fn file(&self) -> String {
        format!("{}-{}.crate", self.name, self.version)
    }

    /// Where the index has the package: the layout of cargo's registry index.
    fn index(&self) -> String {
        let name = self.name.to_lowercase();
        match name.len() {
            1 | 2 => format!("{}/{name}", name.len()),
            3 => format!("3/{}/{name}", &name[..1]),
            _ => format!("{}/{}/{name}", &name[..2], &name[2..4]),
        }
    }

    fn is(&self, bytes: &[u8]) -> bool {
        let digest = Sha256::digest(bytes);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        hex == self.checksum
    }
}

/// The bytes of a file below `base` that is reached through directories alone: no link of a
/// stranger's is followed.
fn plain_file(base: &Path, below: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ordinary::open_below(base, Path::new(below)).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The names of directories in `dir`, links left out.
fn directories(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    names.filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn write(path: PathBuf, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    // By rename: two installations may bring the same.
    let aside = tempfile::NamedTempFile::new_in(parent)?;
    fs::write(aside.path(), bytes)?;
    aside.persist(path).map(drop).map_err(|e| e.error)
}

/// Puts what `lock` names and `cache` has into `home`, a new `CARGO_HOME`.
pub(super) fn seed(cache: &Path, lock: &str, home: &Path) -> io::Result<()> {
    let packages = packages(lock);
    for registry in directories(cache) {
        let from = cache.join(&registry);
        let index = home.join("registry/index").join(&registry);
        let mut any = false;
        for package in &packages {
            // Of packages that this platform does not need there is the index alone, which
            // cargo reads nevertheless.
            if let Some(bytes) = plain_file(&from, &format!("index/{}", package.index())) {
                any = true;
                write(index.join(".cache").join(package.index()), &bytes)?;
            }
            let crates = format!("crates/{}", package.file());
            if let Some(bytes) = plain_file(&from, &crates).filter(|bytes| package.is(bytes)) {
                any = true;
                let cache = home.join("registry/cache").join(&registry);
                write(cache.join(package.file()), &bytes)?;
            }
        }
        if any && let Some(bytes) = plain_file(&from, "config.json") {
            write(index.join("config.json"), &bytes)?;
        }
    }
    Ok(())
}

/// Puts what `lock` names and `home` has into `cache`, and removes from `home` what was
/// seeded for a registry that cargo did not ask.
pub(super) fn harvest(cache: &Path, lock: &str, home: &Path) -> io::Result<()> {
    let packages = packages(lock);
    for registry in directories(&home.join("registry/index")) {
        let to = cache.join(&registry);
        for package in &packages {
            let at = format!("registry/index/{registry}/.cache/{}", package.index());
            if let Some(bytes) = plain_file(home, &at) {
                write(to.join("index").join(package.index()), &bytes)?;
            }
            let kept = to.join("crates").join(package.file());
            let at = format!("registry/cache/{registry}/{}", package.file());
            if !kept.exists()
                && let Some(bytes) = plain_file(home, &at).filter(|bytes| package.is(bytes))
            {
                write(kept, &bytes)?;
            }
        }
        let at = format!("registry/index/{registry}/config.json");
        if let Some(bytes) = plain_file(home, &at) {
            write(to.join("config.json"), &bytes)?;
        }
        // `src` is made of what cargo used.
        if !directories(&home.join("registry/src")).contains(&registry) {
            for kind in ["cache", "index"] {
                crate::store::remove_tree(&home.join("registry").join(kind).join(&registry))?;
            }
        }
    }
    Ok(())
}

/// The newest `rust-version` that the manifests of fetched packages declare. `files` are
/// below `base`, a workspace: `.zagi/cargo/registry/src/<registry>/<package>/Cargo.toml`.
pub(super) fn least_rust(base: &Path, files: &[PathBuf]) -> Option<Need> {
    let sources = Path::new(super::plan::CARGO_HOME).join("registry/src");
    let manifests = files.iter().filter(|file| {
        file.strip_prefix(&sources)
            .is_ok_and(|rest| rest.components().count() == 3 && rest.ends_with("Cargo.toml"))
    });
    let need = |file: &PathBuf| {
        let text = fs::read_to_string(base.join(file)).ok()?;
        let manifest = text.parse::<DocumentMut>().ok()?;
        let text = |key: &str| manifest.get("package")?.get(key)?.as_str();
        let version = Version::parse(text("rust-version")?).ok()?;
        let by = format!("{} {}", text("name")?, text("version")?);
        Some((version, by))
    };
    let (version, by) = manifests.filter_map(need).max()?;
    Some(Need { tool: "rust".into(), version: version.to_string(), by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(checksum: &str) -> String {
        format!(
            "version = 4\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\n[[package]]\n\
             name = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\nchecksum = \"{checksum}\"\n"
        )
    }

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn home(bytes: &[u8]) -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("made");
        let registry = home.path().join("registry");
        write(registry.join("cache/r-1/serde-1.0.0.crate"), bytes).expect("written");
        write(registry.join("index/r-1/.cache/se/rd/serde"), b"index").expect("written");
        write(registry.join("index/r-1/config.json"), b"{}").expect("written");
        fs::create_dir_all(registry.join("src/r-1")).expect("made");
        home
    }

    #[test]
    fn what_was_fetched_once_is_there_the_next_time() {
        let (cache, first) = (tempfile::tempdir().expect("made"), home(b"crate"));
        let lock = lock(&sha256(b"crate"));
        harvest(cache.path(), &lock, first.path()).expect("harvested");
        let second = tempfile::tempdir().expect("made");
        seed(cache.path(), &lock, second.path()).expect("seeded");
        for file in
            ["cache/r-1/serde-1.0.0.crate", "index/r-1/.cache/se/rd/serde", "index/r-1/config.json"]
        {
            let read = |home: &tempfile::TempDir| fs::read(home.path().join("registry").join(file));
            assert_eq!(read(&second).expect("seeded"), read(&first).expect("made"), "{file}");
        }
        // Cargo named its registry otherwise: what was seeded in vain goes.
        harvest(cache.path(), &lock, second.path()).expect("harvested");
        assert!(!second.path().join("registry/cache/r-1").exists());
    }

    #[test]
    fn a_download_without_its_checksum_goes_neither_in_nor_out() {
        let (cache, first) = (tempfile::tempdir().expect("made"), home(b"poison"));
        let lock = lock(&sha256(b"crate"));
        harvest(cache.path(), &lock, first.path()).expect("harvested");
        assert!(!cache.path().join("r-1/crates").exists());
        write(cache.path().join("r-1/crates/serde-1.0.0.crate"), b"poison").expect("written");
        let second = tempfile::tempdir().expect("made");
        seed(cache.path(), &lock, second.path()).expect("seeded");
        assert!(second.path().join("registry/index/r-1/.cache/se/rd/serde").exists());
        assert!(!second.path().join("registry/cache").exists());
    }

    #[test]
    fn links_of_a_strangers_are_not_followed() {
        let (cache, secret) =
            (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        fs::write(secret.path().join("serde"), "secret").expect("written");
        let first = home(b"crate");
        let index = first.path().join("registry/index/r-1/.cache/se/rd");
        fs::remove_dir_all(&index).expect("removed");
        std::os::unix::fs::symlink(secret.path(), &index).expect("linked");
        harvest(cache.path(), &lock(&sha256(b"crate")), first.path()).expect("harvested");
        assert!(cache.path().join("r-1/crates/serde-1.0.0.crate").exists(), "the control");
        assert!(!cache.path().join("r-1/index").exists());
    }

    #[test]
    fn names_that_lead_elsewhere_are_no_packages() {
        let evil = lock("00").replace("\"serde\"", "\"../../x\"");
        assert_eq!(packages(&evil).len(), 0);
        assert_eq!(packages(&lock("00")).len(), 1, "those of the project have no checksum");
        let at = |name: &str| {
            Package { name: name.into(), version: "1".into(), checksum: "".into() }.index()
        };
        assert_eq!(
            [at("a"), at("ab"), at("Abc"), at("abcd")],
            ["1/a", "2/ab", "3/a/abc", "ab/cd/abcd"]
        );
    }

    #[test]
    fn the_newest_compiler_that_is_asked_for() {
        let base = tempfile::tempdir().expect("made");
        let mut files = Vec::new();
        for (package, rust) in [("a-1.0.0", "\"1.9\""), ("b-2.0.0", "\"1.86\""), ("c-1.0.0", "1")] {
            let file = PathBuf::from(format!(".zagi/cargo/registry/src/r-1/{package}/Cargo.toml"));
            let (name, version) = package.split_once('-').expect("has one");
            let text = format!(
                "[package]\nname = \"{name}\"\nversion = \"{version}\"\nrust-version = {rust}\n"
            );
            write(base.path().join(&file), text.as_bytes()).expect("written");
            files.push(file);
        }
        // A fixture of a package is no package.
        let below = PathBuf::from(".zagi/cargo/registry/src/r-1/a-1.0.0/tests/Cargo.toml");
        write(base.path().join(&below), b"[package]\nname='x'\nversion='1'\nrust-version='9'")
            .expect("written");
        files.push(below);
        let need = Need { tool: "rust".into(), version: "1.86".into(), by: "b 2.0.0".into() };
        assert_eq!(least_rust(base.path(), &files), Some(need));
        assert_eq!(least_rust(base.path(), &[]), None);
    }
}
