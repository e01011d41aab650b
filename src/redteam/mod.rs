//! What a sandboxed agent is to be kept from, tried for real: `zagi doctor --attack`, and the
//! integration tests' matrix.
//!
//! ```text
//! canary   values that nobody else has; finding them again, however they were written
//! victim   a process of the user's that holds them: in memory, files, sockets, keys
//! attempts what somebody tries to get at them; one process each
//! judge    whether a value, a descriptor or a change came of it
//! ```
//!
//! Everything is tried twice by the same code: unconfined, where it must work (else nothing is
//! shown), and inside, where it must not. What is planted is made for that alone and gone
//! afterwards; nothing else of the user's is touched.

mod attempts;
pub mod canary;
mod files;
mod judge;
mod kernel;
mod process;
mod sockets;
mod victim;

pub use attempts::{ATTEMPTS, Attempt, Hunts, Tried, linger, one, seed, try_all};
pub use canary::{Canaries, Canary, PLANTED};
pub use judge::{Row, Run, Verdict, judge};
pub use victim::{Case, VARIABLE, be};

/// The first argument by which the program is asked to be one of these.
pub const ARGUMENT: &str = "__attack";
