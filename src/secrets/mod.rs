//! Secrets: encrypted in the tree, signed, released only against a row in the audit log.
//!
//! ```text
//! place ─▶ document ─▶ (signature) ─▶ pins ─▶ unlock ─▶ expose      `vault` holds them in order
//! text     parsed      verified       not     values    a value,
//!                                     older             with a receipt of `audit`
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `place` | `.zagi/secrets.enc` read and written without leaving the tree |
//! | `document`, `policy`, `sign` | its format; what each secret may be used for; who wrote it |
//! | `payload` | what is encrypted in it |
//! | `pins` | what was seen before, so that nothing older is taken for new |
//! | `identity` | the keys that open it, the recipients that it is made for |
//! | `audit` | the record of each use |
//! | `broker` | who holds the values while something runs |
//! | `dotenv` | `NAME=value` lines, for import and edit |
//! | `process` | a process that is not dumped |
//!
//! # Invariants
//!
//! - Nothing is decrypted that is not verified and compared with the pins first.
//! - A value is in [`zagi_sandbox::Pages`], and passes through buffers of the crate `age` that it
//!   wipes or that are in a process which cannot be dumped ([`process::harden`]). No type that
//!   holds one has `Debug`, `Display`, `Clone` or `Serialize`; no error holds one.
//! - [`vault::Values::expose`] and [`vault::Vault::commit`] take the receipt of an audit row that
//!   is on disk.

pub mod audit;
pub mod broker;
pub mod document;
pub mod dotenv;
mod error;
pub mod identity;
mod payload;
pub mod pins;
pub mod place;
pub mod policy;
pub mod process;
mod sign;
#[cfg(test)]
mod tests;
pub mod vault;

pub use error::SecretsError;
pub use sign::Signer;
pub use zagi_sandbox::{Kept, Pages};

/// A directory of the home that only its owner may enter.
fn private_directory(dir: &std::path::Path) -> Result<(), SecretsError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(error::at(dir))
}
