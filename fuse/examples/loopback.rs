//! Presents a directory, read-only, with a delta over it, until it is unmounted.
//!
//! ```text
//! cargo run -p zagi-fuse --example loopback -- [--allow-other] LOWER DELTA MOUNTPOINT
//! ```
//! For running file system test suites and benchmarks against a mount.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use zagi_fuse::directory::Directory;
use zagi_fuse::driver::{Driver, Start};
use zagi_fuse::linux::LinuxDriver;
use zagi_fuse::mount::{MountOptions, find_fusermount3, mount};
use zagi_fuse::overlay::{Attached, Options, Overlay};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let before = arguments.len();
    arguments.retain(|argument| argument != "--allow-other");
    let allow_other = arguments.len() < before;
    let [lower, delta, dir] = arguments.try_into().map_err(|_| "LOWER DELTA MOUNTPOINT")?;
    let layer = Arc::new(Directory::open(&PathBuf::from(lower))?);
    let overlay = Overlay::open(Options {
        layers: vec![Attached { at: PathBuf::new(), layer }],
        delta: delta.into(),
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
    })?;
    let path = std::env::var_os("PATH");
    let fusermount3 = find_fusermount3(path.as_deref());
    let options = MountOptions { fs_name: "loopback".into(), allow_other, fusermount3 };
    let device = mount(&PathBuf::from(dir), &options)?;
    LinuxDriver::new()?.serve(device, Arc::new(overlay), Start::Mounted)?.wait()?;
    Ok(())
}
