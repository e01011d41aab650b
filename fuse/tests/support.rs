//! What the tests share: random numbers that can be replayed, and a look at an overlay by path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use zagi_fuse::delta::{FileKind, ROOT};
use zagi_fuse::directory::Directory;
use zagi_fuse::overlay::{Attached, Attr, Caller, Options, Overlay};

/// The user who runs the tests.
pub fn me() -> Caller {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    Caller { uid, gid, umask: 0 }
}

/// SplitMix64: all of its state is the seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The seeds to run: `ZAGI_TEST_SEED` replays one.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("ZAGI_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("ZAGI_TEST_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

/// An overlay of real directories, each at its prefix, the lowest first.
pub fn open(layers: &[(&str, &Path)], delta: &Path) -> Overlay {
    let attach = |(at, dir): &(&str, &Path)| Attached {
        at: at.into(),
        layer: Arc::new(Directory::open(dir).expect("the layer opens")),
    };
    let Caller { uid, gid, .. } = me();
    let layers = layers.iter().map(attach).collect();
    Overlay::open(Options { layers, delta: delta.into(), uid, gid }).expect("the overlay opens")
}

/// Looks up a path without following links; the lookups are never forgotten, as with a kernel
/// that has much memory.
pub fn find(overlay: &Overlay, path: &str) -> Result<Attr, Errno> {
    let mut attr = overlay.getattr(ROOT)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        attr = overlay.lookup(attr.ino, name.as_bytes())?;
    }
    Ok(attr)
}

/// The directory that `path` stands in, and its last name.
pub fn parent<'a>(overlay: &Overlay, path: &'a str) -> Result<(u64, &'a [u8]), Errno> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((find(overlay, dir)?.ino, name.as_bytes()))
}

/// All of a file.
pub fn content(overlay: &Overlay, attr: &Attr) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; attr.size as usize + 1];
    let count = overlay.read(attr.ino, 0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The names in a directory, read in pieces of `piece`.
pub fn names(overlay: &Overlay, dir: u64, piece: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut offset = 0;
    loop {
        let mut count = 0;
        overlay
            .readdir(dir, offset, false, &mut |entry| {
                if count == piece {
                    return true;
                }
                count += 1;
                offset = entry.next;
                names.push(String::from_utf8_lossy(entry.name).into_owned());
                false
            })
            .expect("lists");
        if count == 0 {
            break;
        }
    }
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// What a tree holds, as far as a model can hold it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: FileKind,
    pub mode: u16,
    pub links: u32,
    pub content: Vec<u8>,
    pub xattr: Option<Vec<u8>>,
    /// The first path that leads to the same file.
    pub same: String,
}

/// Everything in an overlay, by path.
pub fn see(overlay: &Overlay) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(dir) = todo.pop() {
        let ino = find(overlay, &dir).expect("the directory is there").ino;
        for name in names(overlay, ino, 7) {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            let attr = find(overlay, &path).unwrap_or_else(|errno| panic!("{path}: {errno}"));
            let content = match attr.kind {
                FileKind::File => content(overlay, &attr).expect("reads"),
                FileKind::Symlink => overlay.readlink(attr.ino).expect("reads"),
                _ => Vec::new(),
            };
            let xattr = overlay.getxattr(attr.ino, b"user.test").ok().map(Into::into);
            if attr.kind == FileKind::Directory {
                todo.push(path.clone());
            }
            let links = if attr.kind == FileKind::Directory { 0 } else { attr.links };
            let (kind, mode) = (attr.kind, attr.mode);
            inodes.entry(attr.ino).or_insert_with(Vec::new).push(path.clone());
            let same = path.clone();
            seen.insert(path, Seen { kind, mode, links, content, xattr, same });
        }
    }
    for paths in inodes.values() {
        let first = paths.iter().min().expect("there is one");
        for path in paths {
            seen.get_mut(path).expect("seen").same.clone_from(first);
        }
    }
    seen
}
