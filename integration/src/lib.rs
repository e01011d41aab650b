//! What the integration tests and the benchmarks share: a program under test, a home of its
//! own, a user to be, and a git server.

pub mod broker;
pub mod https;
pub mod machine;
pub mod publish;
#[path = "../redteam/mod.rs"]
pub mod redteam;
pub mod suites;

/// Real git, as the library's own tests serve it.
#[allow(missing_docs)]
#[path = "../../tests/support/git.rs"]
pub mod git;

/// A server of a few lines, likewise.
#[allow(missing_docs)]
#[path = "../../tests/support/http.rs"]
pub mod http;
