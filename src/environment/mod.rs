//! Tools, system packages, variables: asked for in `env.toml`, pinned in `env.lock`,
//! realised for this home.
//!
//! [`detect`] reads what a repository says about itself, through [`files`], as constraints
//! of [`version`]'s language, each with the file and line that it came from. The result has
//! the shape of [`spec`], the `env.toml` that a person would have written. From there on
//! only names and constraints count: which versions exist, where they are and how they are
//! unpacked is the catalogue's and the providers' business.
//!
//! | step | file | what is in it |
//! |---|---|---|
//! | detect | [`detect`], [`files`], [`spec`], [`version`] | what is asked for, and where it was read |
//! | resolve | [`catalog`] (`catalog.toml`), [`words`] | where tools come from: data, with templates |
//! | | [`provider`] | npm, PyPI, Debian, Nix caches, this machine: which versions, which files |
//! | | [`resolve`] | the decisions, as [`lock`] (`env.lock`) |
//! | | [`system`] (`system.toml`) | system packages: names, and the one tree that they become |
//! | | [`stranger`] | what a lock that comes with a repository may not say |
//! | edit | [`edit`] | the text of `env.toml`, changed in one place |
//! | | [`remedy`] (`remedies.toml`) | what failing builds and tests say, and what may help |
//! | realise | `fetch` | parts into the store, as published |
//! | | `place`, [`tree`], [`elf`] | a tool's tree in the farm, fixed up for this home |
//! | | [`realise`], `bins` | `envs/<key>`: programs and `activate.json` |
//! | | `view`, [`launch`] | what programs of a Nix store see, and how they are started |
//! | | `native` | the machine's own Nix, where it has one |
//! | | [`flake`] | a `flake.nix`, evaluated by that Nix into an entry of the lock |
//! | activate | [`activate`] | clean environments, the shell hook |

pub mod activate;
mod bins;
pub mod catalog;
pub mod detect;
pub mod edit;
pub mod elf;
mod fetch;
pub mod files;
pub mod flake;
pub mod launch;
pub mod lock;
mod native;
mod place;
pub mod provider;
pub mod realise;
pub mod remedy;
pub mod resolve;
pub mod spec;
pub mod stranger;
pub mod system;
pub mod tree;
pub mod version;
mod view;
pub mod words;
