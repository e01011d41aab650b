//! Where what is to be put into a directory is made first: on the same mount, so that it is
//! put in place by renaming. What a killed process left there, the next one for the same
//! directory removes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};

use crate::store::beneath::Root;
use crate::store::error::StoreError;
use crate::store::scratch::Scratch;

/// Of the directory's own name no more goes into the staging's: names have 255 bytes.
const OF_NAME: usize = 200;

// What statfs(2) calls the file systems that write a file out before a rename puts it over
// another one (ext4: `auto_da_alloc`), or that have nothing after a power cut.
const EXT4: u64 = 0xef53;
const BTRFS: u64 = 0x9123_683e;
const TMPFS: u64 = 0x0102_1994;

/// A directory for half-made things, removed when dropped.
pub struct Staging {
    scratch: Scratch,
}

/// `.<name>.zagi-`
fn prefix(dir: &Path) -> OsString {
    let name = dir.file_name().unwrap_or(OsStr::new("root")).as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(OF_NAME)]));
    prefix.push(".zagi-");
    prefix
}

impl Staging {
    /// Beside `dir`.
    pub fn beside(dir: &Path) -> Result<Staging, StoreError> {
        let scratch = Scratch::named(parent(dir), &prefix(dir));
        Ok(Staging { scratch: scratch.map_err(StoreError::restore(dir))? })
    }

    /// For a directory that exists: beside it or, where nothing can be renamed from there
    /// (a mount point) or made (a parent of somebody else's), in it.
    pub fn for_existing(dir: &Path) -> Result<Staging, StoreError> {
        if mount(dir).is_some_and(|id| mount(parent(dir)) == Some(id))
            && let Ok(staging) = Staging::beside(dir)
        {
            return Ok(staging);
        }
        let scratch = Scratch::named(dir, &prefix(dir)).map_err(StoreError::restore(dir))?;
        Ok(Staging { scratch })
    }

    /// Removes what dead processes left for `dir`.
    pub fn sweep(dir: &Path) {
        for place in [parent(dir), dir] {
            // What cannot be looked at or removed does no harm.
            let _ = Scratch::sweep_named(place, &prefix(dir));
        }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Makes a directory in it.
    pub fn make(&self, name: &str) -> Result<Root, StoreError> {
        let path = self.path(name);
        let make = || -> io::Result<Root> {
            std::fs::create_dir(&path)?;
            Root::open(&path)
        };
        make().map_err(StoreError::restore(&path))
    }

    /// Whether the file `from` can have another name in here.
    pub fn can_link(&self, from: &Path) -> bool {
        let to = self.path("probe");
        std::fs::hard_link(from, &to).and_then(|()| std::fs::remove_file(&to)).is_ok()
    }

    /// To be called before what is in here is renamed over other files: after a power cut
    /// there must not be a name that has lost its old content and not got its new one.
    /// Some file systems see to it themselves, as they write a file out before it replaces
    /// another; on others it is one call for however many files there are.
    pub fn settle(&self) -> Result<(), StoreError> {
        let path = self.scratch.path();
        let settle = || -> io::Result<()> {
            let directory = std::fs::File::open(path)?;
            match rustix::fs::fstatfs(&directory)?.f_type as u64 {
                EXT4 | BTRFS | TMPFS => Ok(()),
                _ => Ok(rustix::fs::syncfs(&directory)?),
            }
        };
        settle().map_err(StoreError::restore(path))
    }
}

fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => dir,
    }
}

/// Which mount a path is on, where the kernel says so (5.8).
fn mount(path: &Path) -> Option<u64> {
    let flags = StatxFlags::MNT_ID;
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), flags).ok()?;
    (found.stx_mask & flags.bits() != 0).then_some(found.stx_mnt_id)
}
