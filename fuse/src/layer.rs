//! A read-only source of files, as the overlay sees it.
//!
//! A layer is a tree of [`Node`]s. Every node has a [`Key`], which only the layer that gave
//! it out understands (a git object id, a store id, a path); the overlay hands it back.
//! What a layer answers never changes while the layer lives: the kernel caches it for ever.

use std::fs::File;
use std::io;
use std::sync::Arc;

/// What a layer calls one of its nodes. Cheap to clone; equal keys mean equal content.
pub type Key = Arc<[u8]>;

/// The kinds of node a layer can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its target is the node's content.
    Symlink,
}

/// One file, directory or link of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (`0o644`, `0o755`); for links `0o777`.
    pub mode: u16,
    /// Length of the content in bytes; 0 for directories.
    pub size: u64,
    /// Modification time, seconds since the epoch. Deterministic.
    pub mtime: i64,
    /// The layer's own name for it.
    pub key: Key,
}

/// A name in a directory of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// One path component: not empty, not `.` or `..`, without `/` and NUL.
    pub name: Box<[u8]>,
    /// What stands there.
    pub node: Node,
}

/// A read-only source of files. Called from several threads at once. An `io::Error` with
/// an OS code goes to the caller of the file system as it is; any other becomes `EIO`.
pub trait Layer: Send + Sync {
    /// The root directory.
    fn root(&self) -> Node;

    /// The node called `name` in the directory `dir`, if there is one.
    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>>;

    /// Everything in the directory `dir`, sorted by name.
    fn list(&self, dir: &Key) -> io::Result<Vec<Entry>>;

    /// Reads the content of the file or link `file` from byte `offset` on into `buf`; returns
    /// how many bytes were read, fewer than `buf.len()` only at the end.
    fn read(&self, file: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The real file that holds the whole content of `file`, if there is one: the kernel then
    /// copies or shares it, and knows its holes. Its position is nobody's.
    fn file(&self, _file: &Key) -> io::Result<Option<Arc<File>>> {
        Ok(None)
    }
}
