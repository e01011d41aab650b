//! `$ZAGI_HOME/config.toml`: addresses and the default host. Every key is optional; an
//! unknown key is an error that names it.
//!
//! ```toml
//! default-host = "github.com"            # what `owner/repo` means
//! [addresses]
//! npm = "https://registry.npmjs.org"
//! pypi = "https://pypi.org"
//! debian = "http://deb.debian.org/debian"
//! crates-index = "https://index.crates.io"
//! crates-files = "https://static.crates.io/crates"
//! nix-cache = "https://cache.nixos.org"
//! nix-channel = "https://channels.nixos.org/nixos-25.05"
//! # Tools' makers, asked for versions that no registry has.
//! nodejs = "https://nodejs.org/dist"
//! go = "https://go.dev/dl"
//! zig = "https://ziglang.org/download"
//! rust = "https://static.rust-lang.org"
//! python-builds = "https://releases.astral.sh/github"
//! adoptium = "https://api.adoptium.net"
//! [install]
//! # What installations reach beside the registries and where lock files have packages.
//! hosts = ["github.com", "*.example.net", "mirror.example.org:8443"]
//! [secrets]
//! identities = ["~/.ssh/id_ed25519"]     # beside $ZAGI_HOME/secrets/identity
//! broker = "/run/zagi-broker/socket"     # of system mode, where there is one
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Base addresses of the registries, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Addresses {
    /// The npm registry.
    pub npm: String,
    /// The Python package index: `/simple/`, `/pypi/NAME/json`.
    pub pypi: String,
    /// A Debian mirror: `/dists/`, `/pool/`.
    pub debian: String,
    /// The sparse index of crates.
    pub crates_index: String,
    /// The files of crates: `/NAME/NAME-VERSION.crate`.
    pub crates_files: String,
    /// A Nix binary cache: `/nix-cache-info`, `/HASH.narinfo`.
    pub nix_cache: String,
    /// A channel of what is in it: `/store-paths.xz`.
    pub nix_channel: String,
    /// Node's releases: `/index.json`, `/vVERSION/`.
    pub nodejs: String,
    /// Go's releases: `/?mode=json`, and the files.
    pub go: String,
    /// Zig's releases: `/index.json`, `/VERSION/`.
    pub zig: String,
    /// Rust's channels: `/manifests.txt`, `/dist/`.
    pub rust: String,
    /// Builds of Python: `/versions/`, `/python-build-standalone/`.
    pub python_builds: String,
    /// Eclipse Adoptium's API: `/v3/`.
    pub adoptium: String,
}

impl Addresses {
    /// Those that stand in the catalogue's texts, under the names that they have in the file.
    pub fn words(&self) -> [(&'static str, &str); 9] {
        [
            ("debian", &self.debian),
            ("nodejs", &self.nodejs),
            ("go", &self.go),
            ("zig", &self.zig),
            ("rust", &self.rust),
            ("python-builds", &self.python_builds),
            ("adoptium", &self.adoptium),
            ("nix-cache", &self.nix_cache),
            ("nix-channel", &self.nix_channel),
        ]
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Addresses {
            npm: "https://registry.npmjs.org".into(),
            pypi: "https://pypi.org".into(),
            debian: "http://deb.debian.org/debian".into(),
            crates_index: "https://index.crates.io".into(),
            crates_files: "https://static.crates.io/crates".into(),
            nix_cache: "https://cache.nixos.org".into(),
            nix_channel: "https://channels.nixos.org/nixos-25.05".into(),
            nodejs: "https://nodejs.org/dist".into(),
            go: "https://go.dev/dl".into(),
            zig: "https://ziglang.org/download".into(),
            rust: "https://static.rust-lang.org".into(),
            python_builds: "https://releases.astral.sh/github".into(),
            adoptium: "https://api.adoptium.net".into(),
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The host that `owner/repo` is looked for on.
    pub default_host: String,
    /// Where registries are.
    pub addresses: Addresses,
    /// What installations may do.
    pub install: Install,
    /// Whose secrets can be opened.
    pub secrets: Secrets,
}

/// `[install]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Install {
    /// Hosts that they reach beside the registries, as [`crate::config`] shows them.
    pub hosts: Vec<String>,
}

/// `[secrets]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Secrets {
    /// Files of identities beside the home's own: absolute, or `~/` and a path in the user's home.
    pub identities: Vec<PathBuf>,
    /// Where the broker of system mode is asked; it is in use where this is.
    pub broker: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            default_host: "github.com".into(),
            addresses: Addresses::default(),
            install: Install::default(),
            secrets: Secrets::default(),
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The file is not what this module describes.
    #[error("`{path}` is not a valid configuration: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        source: Box<toml_edit::de::Error>,
    },
}

impl Config {
    /// Reads `path`; a missing file is the default.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        toml_edit::de::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}
