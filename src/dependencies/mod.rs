//! What the project's own package manager installs: planned, installed once in the
//! sandbox, captured, attached.
//!
//! | file | what is in it |
//! |---|---|
//! | `plan.rs`, `plan/` | which commands install a project, and the key over all they read |
//! | `relocate.rs` | paths in captured files |
pub mod plan;
pub mod relocate;

/// Where every project is installed, in the sandbox.
pub const WORKSPACE: &str = "/zagi/workspace";
