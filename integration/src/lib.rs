//! What the integration tests and the benchmarks share: a program under test, a home of its
//! own, a user to be, and a git server.

pub mod git_server;
pub mod machine;
