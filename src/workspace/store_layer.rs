//! A tree of the store as a layer: the dependencies, at the place where they now stand.
//!
//! A captured tree names the path that it was made under. Files that do are listed beside
//! it ([`Relocations`]); here they are rewritten when they are looked at, so attaching a
//! tree at a new place costs nothing beforehand and nothing on disk. A key is one byte for
//! the kind and the store's id, or the link's target.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use clru::CLruCache;
use zagi_fuse::layer::{Entry, Key, Kind, Layer, Node};

use super::git_layer::copy_from;
use crate::dependencies::relocate::{self, Relocations};
use crate::source::name::is_name;
use crate::store::{self, FileId, Store, StoreError, Tree, TreeId};

/// Open files kept. A process may have 1024, and there may be many mounts.
const OPEN: NonZeroUsize = NonZeroUsize::new(32).expect("is not zero");
/// Rewritten files kept; they are small (scripts, `.pth`, `RECORD`).
const REWRITTEN: NonZeroUsize = NonZeroUsize::new(64).expect("is not zero");

const DIRECTORY: u8 = b'd';
const FILE: u8 = b'f';
const EXECUTABLE: u8 = b'x';
const LINK: u8 = b'l';

/// A tree of the store. See the module.
pub struct StoreLayer {
    store: Store,
    tree: TreeId,
    mtime: i64,
    relocations: Relocations,
    /// Where it stands now.
    place: String,
    open: Mutex<CLruCache<FileId, Arc<File>>>,
    rewritten: Mutex<CLruCache<FileId, Arc<Vec<u8>>>>,
}

impl StoreLayer {
    /// `tree`, every file dated `mtime`, as if it had been made under `place`.
    pub fn new(
        store: Store,
        tree: TreeId,
        mtime: i64,
        relocations: Relocations,
        place: &str,
    ) -> StoreLayer {
        StoreLayer {
            store,
            tree,
            mtime,
            relocations,
            place: place.to_owned(),
            open: Mutex::new(CLruCache::new(OPEN)),
            rewritten: Mutex::new(CLruCache::new(REWRITTEN)),
        }
    }

    fn node(&self, entry: &store::Entry) -> Node {
        let (kind, mode, size, key) = match &entry.kind {
            store::Kind::Directory(id) => {
                (Kind::Directory, 0o755, 0, key(DIRECTORY, id.as_bytes()))
            }
            store::Kind::File { id, exec, size } => {
                let size = self.relocations.len_after(id, *size, &self.place);
                let (mode, tag) = if *exec { (0o755, EXECUTABLE) } else { (0o644, FILE) };
                (Kind::File, mode, size, key(tag, id.as_bytes()))
            }
            store::Kind::Symlink(target) => {
                let target = relocate::rewrite(target, &self.relocations.prefix, &self.place);
                (Kind::Symlink, 0o777, target.len() as u64, key(LINK, &target))
            }
        };
        Node { kind, mode, size, mtime: self.mtime, key }
    }

    /// Whether the tree may have something called `name` in `dir`. Its root is the workspace's:
    /// a `.git` there would be laid over the workspace's own, with its settings and hooks.
    fn may_stand(&self, dir: &Key, name: &[u8]) -> bool {
        is_name(name) || dir.split_first() != Some((&DIRECTORY, self.tree.as_bytes()))
    }

    fn directory(&self, key: &Key) -> io::Result<Arc<Tree>> {
        match key.split_first() {
            Some((&DIRECTORY, id)) => {
                self.store.tree(&TreeId::from_bytes(bytes(id)?)).map_err(io_error)
            }
            _ => Err(io::Error::other("not a directory of this layer")),
        }
    }

    fn open_file(&self, id: &FileId, exec: bool) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(file.clone());
        }
        let file = Arc::new(self.store.open_file(id, exec).map_err(io_error)?);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).put(*id, file.clone());
        Ok(file)
    }

    fn rewritten(&self, id: &FileId) -> io::Result<Arc<Vec<u8>>> {
        if let Some(data) = self.rewritten.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(data.clone());
        }
        let data = self.store.read_file(id).map_err(io_error)?;
        let data = relocate::rewrite(&data, &self.relocations.prefix, &self.place);
        let data = Arc::new(data.into_owned());
        self.rewritten.lock().unwrap_or_else(PoisonError::into_inner).put(*id, data.clone());
        Ok(data)
    }
}

impl Layer for StoreLayer {
    fn root(&self) -> Node {
        Node {
            kind: Kind::Directory,
            mode: 0o755,
            size: 0,
            mtime: self.mtime,
            key: key(DIRECTORY, self.tree.as_bytes()),
        }
    }

    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        if !self.may_stand(dir, name) {
            return Ok(None);
        }
        Ok(self.directory(dir)?.get(name).map(|entry| self.node(entry)))
    }

    fn list(&self, dir: &Key) -> io::Result<Vec<Entry>> {
        let tree = self.directory(dir)?;
        Ok(tree
            .entries
            .iter()
            .filter(|entry| self.may_stand(dir, &entry.name))
            .map(|entry| Entry { name: entry.name.clone(), node: self.node(entry) })
            .collect())
    }

    fn read(&self, file: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match file.split_first() {
            Some((&LINK, target)) => Ok(copy_from(target, offset, buf)),
            Some((&tag, id)) if tag == FILE || tag == EXECUTABLE => {
                let id = FileId::from_bytes(bytes(id)?);
                if self.relocations.concerns(&id, &self.place) {
                    return Ok(copy_from(&self.rewritten(&id)?, offset, buf));
                }
                read_full(&*self.open_file(&id, tag == EXECUTABLE)?, offset, buf)
            }
            _ => Err(io::Error::other("not a file of this layer")),
        }
    }

    fn file(&self, file: &Key) -> io::Result<Option<Arc<File>>> {
        match file.split_first() {
            Some((&tag, id)) if tag == FILE || tag == EXECUTABLE => {
                let id = FileId::from_bytes(bytes(id)?);
                if self.relocations.concerns(&id, &self.place) {
                    return Ok(None);
                }
                self.open_file(&id, tag == EXECUTABLE).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn key(tag: u8, rest: &[u8]) -> Key {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key.into()
}

fn bytes(id: &[u8]) -> io::Result<[u8; 32]> {
    id.try_into().map_err(io::Error::other)
}

fn io_error(e: StoreError) -> io::Error {
    io::Error::other(e)
}

/// Reads until `buf` is full or the file ends.
fn read_full(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever an installation left behind, it does not get at the settings and hooks of the
    /// workspace's own `.git`.
    #[test]
    fn no_tree_stands_where_git_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let link = |name: &str, to: &str| store::Entry {
            name: name.as_bytes().into(),
            kind: store::Kind::Symlink(to.as_bytes().into()),
        };
        let hooks = store.put_tree(vec![link("pre-commit", "/bin/evil")]).unwrap();
        let directory = |name: &str, id| store::Entry {
            name: name.as_bytes().into(),
            kind: store::Kind::Directory(id),
        };
        let inside = store.put_tree(vec![directory(".git", hooks)]).unwrap();
        let names = [".GIT", ".git", "git~1", "modules"];
        let entries = names.map(|name| directory(name, inside)).to_vec();
        let tree = store.put_tree(entries).unwrap();
        let layer = StoreLayer::new(store, tree, 0, Relocations::default(), "/w");
        let root = layer.root().key;
        let list = |dir: &Key| -> Vec<Vec<u8>> {
            layer.list(dir).unwrap().into_iter().map(|entry| entry.name.into()).collect()
        };
        assert_eq!(list(&root), [b"modules"]);
        for name in &names[..3] {
            assert_eq!(layer.lookup(&root, name.as_bytes()).unwrap(), None, "{name}");
        }
        // That of a module belongs to the module.
        let modules = layer.lookup(&root, b"modules").unwrap().unwrap().key;
        assert_eq!(list(&modules), [b".git"]);
        assert!(layer.lookup(&modules, b".git").unwrap().is_some());
    }
}
