//! zagi as its users run it: the real program, real FUSE, real registries, as root and as an
//! ordinary user. Nothing here skips: what cannot be had fails.

mod activation;
mod agent;
mod amend;
mod bad_input;
mod checkout;
mod daemon;
mod disks;
mod events;
mod faults;
mod git;
mod git_walk;
mod hostile;
mod lifecycle;
mod locks;
mod managers;
mod materialise;
mod nfs;
mod nix;
mod posix;
mod privacy;
mod programs;
mod projects;
mod push;
mod redteam;
mod run;
mod same_bytes;
mod services;
mod store;
mod system;
mod system_mode;
mod verify;
