//! `$ZAGI_HOME`: one directory to move, size or delete.
//!
//! ```text
//! version               "1\n"; a newer number is refused
//! config.toml           addresses, default host (optional)
//! store/                packs, index.db, farm, refs        (room `store`)
//! repos/                shared bare clones                 (room `source`)
//! workspaces/<id>/      description and delta              (room `workspace`)
//! agents/<hash>.approved  what a repository asks for its agents, and its user said yes to
//! secrets/              one's identity, and what was seen of which project  (room `secrets`)
//! audit/                the record of each use of a secret, and its head    (room `secrets`)
//! cache/                downloads and registry answers; may be deleted at any time
//! envs/<key>/           realised environments              (room `environment`)
//! tmp/<pid>.<nonce>/    half-made things of one process; removed when nobody holds the lock
//!                       of its `lock` file, so a killed command leaves nothing for long
//! run/                  sockets, where there is no $XDG_RUNTIME_DIR
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::fcntl::{Flock, FlockArg};

/// The version of the layout above.
pub const VERSION: u32 = 1;

/// The home directory of one user's zagi.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
    scratch: Arc<OnceLock<Scratch>>,
}

/// This process's directory under `tmp/`, held by a lock and removed with the last
/// [`Home`].
#[derive(Debug)]
struct Scratch {
    dir: PathBuf,
    /// `None` where it could not be taken: the directory is then made by whoever needs it,
    /// who reports the error with its path.
    _lock: Option<Flock<File>>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is swept by the next process.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file or directory of the home could not be made or read.
    #[error("cannot use the home directory `{path}`: {source}")]
    Io {
        /// What was being made or read.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The home was written by a newer zagi.
    #[error("`{path}` has layout version {found}, this zagi knows up to {VERSION}")]
    Newer {
        /// The home.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
}

/// The link that says which workspace is presented at `dir`, in the home at `root`.
pub fn workspace_link(root: &Path, dir: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let hash = blake3::hash(dir.as_os_str().as_bytes()).to_hex();
    root.join("workspaces/by-path").join(&hash[..32])
}

impl Home {
    /// The home at `root`, which is another user's: to be read only. What is read in it says its
    /// version itself.
    pub fn of_another(root: &Path) -> Home {
        Home { root: root.to_owned(), scratch: Arc::default() }
    }

    /// Opens the home at `root` (absolute), making it where it is missing.
    pub fn open(root: &Path) -> Result<Home, HomeError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { path, source }
        };
        let version = root.join("version");
        match std::fs::read_to_string(&version) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(n) if n <= VERSION => {}
                _ => {
                    return Err(HomeError::Newer {
                        path: root.to_owned(),
                        found: text.trim().chars().take(32).collect(),
                    });
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                for dir in ["", "store", "repos", "workspaces", "cache", "envs", "tmp"] {
                    let dir = root.join(dir);
                    std::fs::create_dir_all(&dir).map_err(io(&dir))?;
                }
                // Last, so that a version file means a whole layout; by rename, so that
                // two first commands at once both succeed.
                let mut made = tempfile::NamedTempFile::new_in(root).map_err(io(root))?;
                writeln!(made, "{VERSION}")
                    // After a power cut an empty version would be one that nobody knows.
                    .and_then(|()| made.as_file().sync_all())
                    .map_err(io(made.path()))?;
                made.persist(&version).map_err(|e| io(&version)(e.error))?;
                // What is durable in the store must not hang on a name that is not.
                File::open(root).and_then(|root| root.sync_all()).map_err(io(root))?;
                if let Some(above) = root.parent() {
                    match File::open(above).and_then(|above| above.sync_all()) {
                        Err(e) if e.kind() != io::ErrorKind::PermissionDenied => {
                            return Err(io(above)(e));
                        }
                        _ => {}
                    }
                }
            }
            Err(source) => return Err(HomeError::Io { path: version, source }),
        }
        Ok(Home { root: root.to_owned(), scratch: Arc::default() })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// `config.toml`, which need not exist.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// The content-addressed store.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }
    /// Shared bare clones.
    pub fn repos(&self) -> PathBuf {
        self.root.join("repos")
    }
    /// Descriptions and deltas.
    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }
    /// What may be deleted at any time, by kind ("http", "npm", "plans", …).
    pub fn cache(&self, kind: &str) -> PathBuf {
        self.root.join("cache").join(kind)
    }
    /// Realised environments, by key.
    pub fn envs(&self) -> PathBuf {
        self.root.join("envs")
    }

    /// What repositories ask for their agents, where that is approved.
    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }
    /// A directory for this process's half-made things, on the same file system as all
    /// else. It goes with the process; those of killed processes are removed here.
    pub fn tmp(&self) -> PathBuf {
        self.scratch.get_or_init(|| Scratch::new(&self.root.join("tmp"))).dir.clone()
    }
}

impl Scratch {
    fn new(tmp: &Path) -> Scratch {
        let _ = std::fs::create_dir_all(tmp); // whoever needs it reports what is wrong
        // One process at a time, or one would sweep what another is about to lock.
        let lock = |file| Flock::lock(file, FlockArg::LockExclusive).ok();
        let _turn = File::open(tmp).ok().and_then(lock);
        Self::sweep(tmp);
        let name = format!("{}.", std::process::id());
        let dir = match tempfile::Builder::new().prefix(&name).tempdir_in(tmp) {
            Ok(dir) => dir.keep(),
            Err(_) => tmp.join(name),
        };
        let lock = File::create(dir.join("lock"))
            .ok()
            .and_then(|f| Flock::lock(f, FlockArg::LockExclusiveNonblock).ok());
        Scratch { dir, _lock: lock }
    }

    /// Removes the directories whose owner is gone.
    fn sweep(tmp: &Path) {
        for entry in std::fs::read_dir(tmp).into_iter().flatten().flatten() {
            let dead = match File::open(entry.path().join("lock")) {
                Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok(),
                Err(_) => true,
            };
            if dead {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_home_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("version"), "2\n").unwrap();
        let e = Home::open(dir.path()).unwrap_err();
        assert!(matches!(e, HomeError::Newer { ref found, .. } if found == "2"), "{e}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn many_may_open_a_new_home_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Home::open(dir.path()).unwrap().tmp());
            }
        });
        assert_eq!(std::fs::read_to_string(dir.path().join("version")).unwrap(), "1\n");
    }

    #[test]
    fn scratch_of_the_living_stays_and_of_the_dead_goes() {
        let dir = tempfile::tempdir().unwrap();
        let dead = dir.path().join("tmp/1.dead");
        std::fs::create_dir_all(&dead).unwrap();
        std::fs::write(dead.join("lock"), "").unwrap();
        let one = Home::open(dir.path()).unwrap();
        let mine = one.tmp();
        assert!(mine.is_dir() && !dead.exists());
        let two = Home::open(dir.path()).unwrap();
        assert!(two.tmp().is_dir() && mine.is_dir());
        drop(one);
        assert!(!mine.exists());
    }
}
