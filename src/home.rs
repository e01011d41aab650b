//! `$ZAGI_HOME`: one directory to move, size or delete.
//!
//! ```text
//! version               "1\n"; a newer number is refused
//! config.toml           addresses, default host (optional)
//! store/                packs, index.db, farm, refs        (room `store`)
//! repos/                shared bare clones                 (room `source`)
//! workspaces/<id>/      description and delta              (room `workspace`)
//! cache/                downloads and registry answers; may be deleted at any time
//! envs/<key>/           realised environments              (room `environment`)
//! tmp/                  half-made things; removed when nobody holds their lock
//! run/                  sockets, where there is no $XDG_RUNTIME_DIR
//! ```

use std::io;
use std::path::{Path, PathBuf};

/// The version of the layout above.
pub const VERSION: u32 = 1;

/// The home directory of one user's zagi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
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

impl Home {
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
                let tmp = root.join(format!("tmp/version.{}", std::process::id()));
                std::fs::write(&tmp, format!("{VERSION}\n")).map_err(io(&tmp))?;
                std::fs::rename(&tmp, &version).map_err(io(&version))?;
            }
            Err(source) => return Err(HomeError::Io { path: version, source }),
        }
        Ok(Home { root: root.to_owned() })
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
    /// Half-made things; on the same file system as all else.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}
