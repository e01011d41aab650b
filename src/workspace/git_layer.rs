//! A commit's tree as a layer: read lazily from the object database.
//!
//! A key is the object's id. Nothing is read before it is asked for; directories that were
//! listed once are kept (they are small), contents in a bounded cache, since the kernel
//! reads a file in pieces and an object must be inflated whole. Whoever looks at many
//! directories is soon helped by [`Listings`].
//!
//! What git cannot check out as a file is shown as git itself would leave it: a submodule
//! is an empty directory. Conversions that `.gitattributes` asks for (`eol`, `filter`,
//! `ident`) are not made; the source room says so aloud.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use clru::{CLruCache, CLruCacheConfig, WeightScale};
use gix::{ObjectId, ThreadSafeRepository};
use zagi_fuse::layer::{Entry, Key, Kind, Layer, Node};

use super::listings::{self, Listings};
use crate::source::name::is_name;

/// Inflated contents kept, in bytes, of one layer.
const CONTENTS: NonZeroUsize = NonZeroUsize::new(16 << 20).expect("is not zero");

/// Why a commit cannot be a layer.
#[derive(Debug, thiserror::Error)]
pub enum GitLayerError {
    /// The clone cannot be opened.
    #[error("cannot open the repository `{path}`: {source}")]
    Open {
        /// The bare clone.
        path: PathBuf,
        /// What git's reader says.
        source: Box<gix::open::Error>,
    },
    /// The id in the workspace's description is not one.
    #[error("`{0}` is not the id of a tree")]
    BadId(String),
}

/// Whoever looks at so many directories looks at all.
const MANY: usize = 64;

struct ByLength;

impl WeightScale<ObjectId, Arc<Vec<u8>>> for ByLength {
    fn weight(&self, _: &ObjectId, value: &Arc<Vec<u8>>) -> usize {
        value.len()
    }
}

type Contents = CLruCache<ObjectId, Arc<Vec<u8>>, std::hash::RandomState, ByLength>;

/// One commit's tree. See the module.
pub struct GitLayer {
    repo: ThreadSafeRepository,
    tree: ObjectId,
    mtime: i64,
    directories: RwLock<HashMap<ObjectId, Arc<Vec<Entry>>>>,
    listings: Arc<Listings>,
    /// How many directories nobody knew the sizes of; a large one counts as several.
    unknown: AtomicUsize,
    contents: Mutex<Contents>,
}

impl GitLayer {
    /// The tree `tree` (hex) of the bare clone `repo`, every file dated `mtime`. What is found
    /// out about trees is kept in the directory `cache`.
    pub fn open(
        repo: &Path,
        tree: &str,
        mtime: i64,
        cache: &Path,
    ) -> Result<GitLayer, GitLayerError> {
        let tree = ObjectId::from_hex(tree.as_bytes())
            .map_err(|_| GitLayerError::BadId(tree.to_owned()))?;
        // Isolated: neither the user's nor the system's git configuration can change what
        // a tree contains.
        let repo = ThreadSafeRepository::open_opts(repo, gix::open::Options::isolated()).map_err(
            |source| GitLayerError::Open { path: repo.to_owned(), source: Box::new(source) },
        )?;
        let contents = CLruCache::with_config(CLruCacheConfig::new(CONTENTS).with_scale(ByLength));
        let listings = Arc::new(Listings::new(repo.clone(), tree, cache));
        Ok(GitLayer {
            repo,
            tree,
            mtime,
            directories: RwLock::default(),
            listings,
            unknown: AtomicUsize::new(0),
            contents: Mutex::new(contents),
        })
    }

    /// The object database, for those who need more than files of it.
    pub(super) fn repository(&self) -> gix::Repository {
        self.repo.to_thread_local()
    }

    /// All its directories.
    pub(super) fn listings(&self) -> &Listings {
        &self.listings
    }

    /// The tree's id.
    pub(super) fn tree(&self) -> ObjectId {
        self.tree
    }

    fn directory(&self, key: &Key) -> io::Result<Arc<Vec<Entry>>> {
        if key.is_empty() {
            return Ok(Arc::default()); // a submodule
        }
        let id = object_id(key)?;
        if let Some(entries) =
            self.directories.read().unwrap_or_else(PoisonError::into_inner).get(&id)
        {
            return Ok(entries.clone());
        }
        let items = match self.listings.cached(&id) {
            Some(items) => items,
            None => {
                let items = self.listings.list(&id)?;
                self.learn(items.len());
                items
            }
        };
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            if !is_name(&item.name) {
                return Err(io::Error::other("a tree holds a name that cannot be"));
            }
            let (kind, mode) = match item.kind {
                listings::Kind::Directory | listings::Kind::Submodule => (Kind::Directory, 0o755),
                listings::Kind::Link => (Kind::Symlink, 0o777),
                listings::Kind::Executable => (Kind::File, 0o755),
                listings::Kind::File => (Kind::File, 0o644),
            };
            let submodule = item.kind == listings::Kind::Submodule;
            let key = if submodule { &[][..] } else { item.id.as_slice() };
            let node = self.node(kind, mode, item.size, key);
            entries.push(Entry { name: item.name, node });
        }
        let entries = Arc::new(entries);
        self.directories
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, entries.clone());
        Ok(entries)
    }

    /// One more directory, of so many entries, was not known. After some, or a large one, all are
    /// made known, by a thread that nobody waits for.
    fn learn(&self, entries: usize) {
        let more = 1 + entries / MANY;
        let before = self.unknown.fetch_add(more, Ordering::Relaxed);
        if before < MANY && before + more >= MANY {
            let listings = Arc::clone(&self.listings);
            // What could not be found out is asked for again where it is needed.
            let _ =
                std::thread::Builder::new().name("listings".into()).spawn(move || listings.make());
        }
    }

    fn content(&self, id: ObjectId) -> io::Result<Arc<Vec<u8>>> {
        if let Some(data) = self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(data.clone());
        }
        let object = self.repo.to_thread_local().find_object(id).map_err(broken)?.detach();
        if object.kind != gix::objs::Kind::Blob {
            return Err(io::Error::other("a tree calls something a file that is none"));
        }
        let data = Arc::new(object.data);
        // One that is larger than the whole cache is not kept.
        let _ = self
            .contents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put_with_weight(id, data.clone());
        Ok(data)
    }

    fn node(&self, kind: Kind, mode: u16, size: u64, key: &[u8]) -> Node {
        Node { kind, mode, size, mtime: self.mtime, key: key.into() }
    }
}

impl Layer for GitLayer {
    fn root(&self) -> Node {
        self.node(Kind::Directory, 0o755, 0, self.tree.as_bytes())
    }

    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        let entries = self.directory(dir)?;
        let found = entries.binary_search_by(|e| (*e.name).cmp(name));
        Ok(found.ok().map(|i| entries[i].node.clone()))
    }

    fn list(&self, dir: &Key) -> io::Result<Vec<Entry>> {
        Ok(self.directory(dir)?.to_vec())
    }

    fn read(&self, file: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let data = self.content(object_id(file)?)?;
        Ok(copy_from(&data, offset, buf))
    }
}

/// Copies what stands in `data` from `offset` on; fewer bytes than `buf` holds only at the
/// end.
pub(super) fn copy_from(data: &[u8], offset: u64, buf: &mut [u8]) -> usize {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
    let n = buf.len().min(data.len() - start);
    buf[..n].copy_from_slice(&data[start..start + n]);
    n
}

fn object_id(key: &Key) -> io::Result<ObjectId> {
    ObjectId::try_from(&**key).map_err(io::Error::other)
}

fn broken(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::{Odd, Parts, Random};

    /// The source room refuses hostile trees before they are mounted; here they are shown as
    /// they are, or not at all.
    #[test]
    fn mutated_trees_are_shown_as_they_are_or_not_at_all() {
        let odd = Odd::new();
        let parts = Parts::new(&odd);
        let mut shown = 0;
        for seed in 10_000..13_000 {
            let bytes = parts.mutant(&mut Random::new(seed));
            let expected = parts.model(&bytes);
            let tree = odd.raw(&bytes).to_string();
            let layer = GitLayer::open(odd.dir.path(), &tree, 0, &odd.dir.path().join("none"));
            let (layer, place) = (layer.unwrap(), bytes.escape_ascii());
            let listed = layer.list(&layer.root().key);
            for entry in listed.iter().flatten() {
                assert!(is_name(&entry.name), "{seed}: {place}");
                assert!(layer.lookup(&layer.root().key, &entry.name).unwrap().is_some());
                let mut content = vec![0; 5000];
                if let (false, Ok(n)) = (
                    entry.node.kind == Kind::Directory,
                    layer.read(&entry.node.key, 0, &mut content),
                ) {
                    assert_eq!(n as u64, entry.node.size, "{seed}: {place}");
                }
            }
            let Some(expected) = expected else { continue };
            if expected.values().any(|(_, length)| *length == usize::MAX) {
                continue; // a tree that is called a file: shown, and not to be read
            }
            let listed = listed.unwrap_or_else(|e| panic!("{seed}: {place}: {e}"));
            let seen = listed.iter().map(|entry| {
                let kind = match (entry.node.kind, entry.node.mode) {
                    (Kind::Directory, _) => 'd',
                    (Kind::Symlink, _) => 'l',
                    (Kind::File, 0o755) => 'x',
                    (Kind::File, _) => 'f',
                };
                (entry.name.to_vec(), (kind, entry.node.size as usize))
            });
            let seen: Vec<_> = seen.collect();
            let kind = |kind| if kind == 'm' { 'd' } else { kind };
            let model = expected.into_iter().map(|(name, (k, length))| (name, (kind(k), length)));
            assert_eq!(seen, model.collect::<Vec<_>>(), "{seed}: {place}");
            shown += 1;
        }
        assert!(shown > 400, "{shown}");
    }
}
