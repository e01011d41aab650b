//! One HTTP client; npm, PyPI, Debian, crates and Nix's caches as protocols; archives.
//!
//! | file | what is in it |
//! |---|---|
//! | [`http`] | the client: cached metadata, downloads verified by digest |
//! | [`npm`], [`pypi`], [`crates`] | what a registry says about a package |
//! | [`archive`] | unpacks what they publish, hostile or not |
//! | [`upstream`] | the archives of tools' makers, each in its own layout |
//! | [`debian`] | signed suites, package indexes, dependency closures |
//! | [`nix`] | channels, signed binary caches, their archives |
//! | [`digest`] | SHA-1, SHA-256 and SHA-512 digests in every form registries write them |
//!
//! Every parser here takes bytes, so that it can be tested and fuzzed without a network.

pub mod archive;
pub mod crates;
pub mod debian;
pub mod digest;
pub mod http;
pub mod nix;
pub mod npm;
pub mod pypi;
mod text;
pub mod upstream;
