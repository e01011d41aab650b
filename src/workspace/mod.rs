//! A directory that runs: layers, delta and environment, mounted or materialised; the
//! daemon that holds the mounts.
//!
//! | file | what |
//! |---|---|
//! | `create` | REPO and DIR → a workspace, or the one that is there resumed |
//! | `prepare` | the road up to the mount, and the cache of plans |
//! | `flakes` | what a plan makes of a `flake.nix` |
//! | `amend` | `env.toml` and `env.lock` changed: add, remove, update, lock |
//! | `verify` | builds and tests that fail, and what is added so that they do not |
//! | `description` | what a workspace is, on disk |
//! | `gitdir` | its own `.git` |
//! | `layers`, `git_layer`, `store_layer`, `index_layer` | what the overlay is made of |
//! | `listings` | the directories of a git tree, kept by tree |
//! | `git_index` | git's index of a tree that nobody has touched |
//! | `materialise` | the same directory of real files |
//! | `fsmonitor` | what git is told of changes |
//! | `differ` | what was changed: `status`, and what `discard` would lose |
//! | `manage` | list, find, unmount, discard, init |
//! | `services` | what it asks for, and how that is run |
//! | `roots` | what workspaces stand on, for the store's collector |
//! | `audit` | what an environment takes on trust |
//! | `tools` | its tools, as a sandbox sees them |
//! | `confined` | what an app and an agent have in common |
//! | `run` | its app, with its secrets |
//! | `theirs` | what a user may have shown to an app that the broker of system mode runs |
//! | `session` | `zagi run` from inside an agent |
//! | `agent` | somebody's agent at work in it, confined |
//! | `checkout` | ordinary checkouts that have an environment |
//! | `ready` | what a command works in, with its tools |
//! | `daemon` | who holds the mounts |
//! | `doctor` | what this machine offers |
//! | `mounts` | what the kernel says is mounted |
//! | `nfs` | what a server is known by, and how the kernel mounts it |

pub mod agent;
pub mod amend;
pub mod audit;
mod checkout;
mod confined;
mod create;
pub mod daemon;
pub mod description;
mod differ;
pub mod doctor;
mod error;
mod flakes;
pub mod fsmonitor;
mod git_index;
mod git_layer;
mod gitdir;
mod index_layer;
mod layers;
mod listings;
mod manage;
mod materialise;
mod mounts;
mod nfs;
mod pins;
mod prepare;
mod ready;
mod roots;
pub mod run;
pub mod services;
pub mod session;
mod store_layer;
mod theirs;
mod tools;
pub mod verify;

pub use checkout::Checkout;
pub use create::{Request, mount};
pub use description::{Description, Presentation};
pub use differ::{Loss, Status, loss, status};
pub use error::WorkspaceError;
pub use manage::{Listed, around, directory, discard, follow, init, known, list, unmount};
pub use nfs::{NfsMount, attach};
pub use prepare::detected;
pub use ready::ready;
pub use roots::{RootsError, collect, roots};
