//! `.git/index`, made when somebody first looks at it.
//!
//! Git trusts an index entry whose stat data is that of the file; otherwise its first
//! `git status` reads and hashes everything. Everything in a mounted tree has stat data
//! that is known beforehand (inode numbers by path, the commit's date for every time), so
//! the index can be written without a look at a file. It costs a walk of the tree objects,
//! which is why it waits until git asks; the mount itself stays independent of the
//! repository's size.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use zagi_fuse::delta::format::{ROOT, lower_ino};
use zagi_fuse::layer::{Entry, Key, Kind, Layer, Node};

use super::git_layer::{GitLayer, copy_from};

/// A directory that holds one file, `index`. To be attached at `.git`.
pub struct IndexLayer {
    source: Arc<GitLayer>,
    owner: Owner,
    /// Later than every file it speaks of, or git would suspect each of a change within
    /// the same second.
    mtime: i64,
    made: Mutex<Option<Arc<Vec<u8>>>>,
}

/// Who owns the files of the workspace, as `stat` says.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

const NAME: &[u8] = b"index";

impl IndexLayer {
    /// The index of all of `source`, dated `mtime` (seconds since the epoch).
    pub fn new(source: Arc<GitLayer>, owner: Owner, mtime: i64) -> IndexLayer {
        IndexLayer { source, owner, mtime, made: Mutex::default() }
    }

    fn content(&self) -> io::Result<Arc<Vec<u8>>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*made {
            return Ok(index.clone());
        }
        let index = Arc::new(self.build()?);
        *made = Some(index.clone());
        Ok(index)
    }

    fn build(&self) -> io::Result<Vec<u8>> {
        let repo = self.source.repository();
        let mut index = repo.index_from_tree(&self.source.tree()).map_err(io::Error::other)?;
        let date = self.source.root().mtime;
        let time = gix::index::entry::stat::Time { secs: low(date as u64), nsecs: 0 };
        let mut inodes = Inodes::default();
        for (entry, path) in index.entries_mut_with_paths() {
            let size = match entry.mode {
                gix::index::entry::Mode::COMMIT => 0,
                _ => repo.find_header(entry.id).map_err(io::Error::other)?.size(),
            };
            entry.stat = gix::index::entry::Stat {
                mtime: time,
                ctime: time,
                dev: 0, // not compared unless git was built to
                ino: low(inodes.of(path)),
                uid: self.owner.uid,
                gid: self.owner.gid,
                size: low(size),
            };
        }
        let mut out = Vec::new();
        index
            .write_to(&mut out, gix::index::write::Options::default())
            .map_err(io::Error::other)?;
        Ok(out)
    }

    fn index(&self) -> io::Result<Node> {
        let size = self.content()?.len() as u64;
        Ok(Node { kind: Kind::File, mode: 0o644, size, mtime: self.mtime, key: NAME.into() })
    }
}

impl Layer for IndexLayer {
    fn root(&self) -> Node {
        Node {
            kind: Kind::Directory,
            mode: 0o755,
            size: 0,
            mtime: self.mtime,
            key: Key::from(&b""[..]),
        }
    }

    fn lookup(&self, _: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        if name == NAME { self.index().map(Some) } else { Ok(None) }
    }

    fn list(&self, _: &Key) -> io::Result<Vec<Entry>> {
        Ok(vec![Entry { name: NAME.into(), node: self.index()? }])
    }

    fn read(&self, _: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(copy_from(&self.content()?, offset, buf))
    }
}

/// Git keeps the low 32 bits of every number in an index.
fn low(n: u64) -> u32 {
    n as u32
}

/// Inode numbers by path; those of directories are kept, since every file below asks.
#[derive(Default)]
struct Inodes {
    directories: HashMap<Vec<u8>, u64>,
}

impl Inodes {
    fn of(&mut self, path: &[u8]) -> u64 {
        match path.iter().rposition(|&b| b == b'/') {
            None => lower_ino(ROOT, path),
            Some(i) => lower_ino(self.directory(&path[..i]), &path[i + 1..]),
        }
    }

    fn directory(&mut self, path: &[u8]) -> u64 {
        if let Some(&ino) = self.directories.get(path) {
            return ino;
        }
        let ino = self.of(path);
        self.directories.insert(path.to_vec(), ino);
        ino
    }
}
