//! The overlay (layers and a delta make one tree) and the kernel adapter that presents it.
//!
//! | room | what |
//! |---|---|
//! | [`layer`] | the trait that read-only sources of files implement |
//! | [`directory`] | a layer over a real directory |
//! | [`delta`] | the read-write part, on the disk; its format |
//! | [`overlay`] | layers and a delta as one tree; POSIX operations by inode |
//! | `call` | the request that a thread works on |
//! | [`driver`] | the seam between an overlay and what presents it |
//! | [`fuser_driver`] | presents it through the kernel's FUSE, by the crate `fuser` |
//! | `linux` | presents it through the kernel's FUSE on Linux, by our own reading of the protocol |
//! | [`nfs`] | presents it through NFS, by the crate `nfsserve` |
//! | [`mount`] | mounting and unmounting, as root and as anybody |
//! | [`sys`] | every `unsafe` of this crate; descriptors through sockets |
//!
//! Invariants: `overlay` and `delta` know nothing of FUSE. A file of a layer is copied when it
//! is first written, never when it is opened or read. Nothing of a layer is looked at before
//! somebody asks for it. No descriptor is held per inode.

#![deny(unsafe_code)]

mod call;
pub mod delta;
mod descriptors;
pub mod directory;
pub mod driver;
pub mod fuser_driver;
pub mod layer;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod mount;
pub mod nfs;
pub mod overlay;
pub mod sys;
