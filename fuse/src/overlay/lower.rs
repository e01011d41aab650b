//! The layers, merged into one read-only tree.
//!
//! Nothing is looked up before it is asked for: a [`LowerNode`] knows which layers have a
//! part in it, and finds its children when somebody wants them.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::errno::Errno;

use crate::delta::format::{MAX_ORIGIN, MAX_TARGET, ROOT, lower_ino, valid_name};
use crate::delta::{FileKind, Time, errno};
use crate::layer::{Key, Kind, Layer, Node};

/// How many listings of directories are kept.
const LISTINGS: usize = 64;

/// How deep the layers may be: what is deeper cannot be entered. (PATH_MAX allows 2048.)
const MAX_DEPTH: u32 = 2048;

/// A layer and the place where its root stands.
#[derive(Clone)]
pub struct Attached {
    /// Relative to the root of the overlay; empty for the root itself. Directories on the way
    /// that no layer has are there nevertheless.
    pub at: PathBuf,
    /// The layer. Those attached later lie above those attached earlier.
    pub layer: Arc<dyn Layer>,
}

/// One file, directory or link of the merged tree.
pub(crate) struct LowerNode {
    /// Its inode number: a hash of the place.
    pub ino: u64,
    /// Where it is; `None` for the root.
    pub place: Option<(Arc<LowerNode>, Box<[u8]>)>,
    /// Permission bits.
    pub mode: u16,
    /// Length of file or target.
    pub size: u64,
    /// Modification time in seconds.
    pub mtime: i64,
    /// How many names there are in its path.
    depth: u32,
    body: Body,
}

enum Body {
    File(usize, Key),
    Symlink(usize, Key),
    Directory(Vec<Part>),
}

/// What one layer contributes to a directory.
#[derive(Clone)]
enum Part {
    /// A directory of the layer.
    Inside(usize, Key),
    /// Directories that lead to the layer's root: this many of them are behind us.
    Above(usize, usize),
}

/// The children of a directory, in the order of their inode numbers.
pub(crate) type Listing = Arc<[Arc<LowerNode>]>;

/// All layers.
pub(crate) struct Layers {
    /// The uppermost first: that is the order in which they are asked.
    layers: Vec<Placed>,
    listings: Mutex<VecDeque<(u64, Listing)>>,
    /// Who is told what failed; see [`super::Overlay::complain_to`].
    pub complain: OnceLock<Complain>,
}

/// Takes a path of the merged tree, and what its layer said.
pub(crate) type Complain = Box<dyn Fn(&Path, &io::Error) + Send + Sync>;

/// A layer and the names that lead to its root.
struct Placed {
    at: Vec<Box<[u8]>>,
    layer: Arc<dyn Layer>,
}

/// A child under construction: the topmost thing found, and what lies under it.
struct Merge {
    kind: Kind,
    attributes: Option<(u16, u64, i64)>,
    /// The time of a directory that no layer has: of the layer attached below it.
    implied: Option<i64>,
    layer: usize,
    key: Option<Key>,
    parts: Vec<Part>,
    /// Something that is not a directory hides all that comes below.
    closed: bool,
}

impl LowerNode {
    /// What it is.
    pub fn kind(&self) -> FileKind {
        match self.body {
            Body::File(..) => FileKind::File,
            Body::Symlink(..) => FileKind::Symlink,
            Body::Directory(_) => FileKind::Directory,
        }
    }

    /// All its times: they are the same, so that they never change.
    pub fn time(&self) -> Time {
        Time { secs: self.mtime, nanos: 0 }
    }

    /// Its path in the layers.
    pub fn path(&self) -> Result<Box<[u8]>, Errno> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut node = self;
        while let Some((parent, name)) = &node.place {
            names.push(name);
            node = parent;
        }
        names.reverse();
        let path = names.join(&b'/');
        if path.len() > MAX_ORIGIN { Err(Errno::ENAMETOOLONG) } else { Ok(path.into()) }
    }

    fn parts(&self) -> Result<&[Part], Errno> {
        match &self.body {
            Body::Directory(_) if self.depth >= MAX_DEPTH => Err(Errno::ENAMETOOLONG),
            Body::Directory(parts) => Ok(parts),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Its name; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.place.as_ref().map_or(b"", |(_, name)| name)
    }
}

impl Layers {
    /// Takes the layers in order, the lowest first. Fails with a path that cannot be one to
    /// attach to.
    pub fn new(attached: Vec<Attached>) -> Result<Layers, PathBuf> {
        let mut layers = Vec::new();
        for Attached { at, layer } in attached.into_iter().rev() {
            let mut names: Vec<Box<[u8]>> = Vec::new();
            for component in at.components() {
                match component {
                    Component::Normal(name) if valid_name(name.as_bytes()) => {
                        names.push(name.as_bytes().into());
                    }
                    Component::CurDir => {}
                    _ => return Err(at),
                }
            }
            layers.push(Placed { at: names, layer });
        }
        Ok(Layers { layers, listings: Mutex::default(), complain: OnceLock::new() })
    }

    /// The root of the merged tree.
    pub fn root(&self) -> Arc<LowerNode> {
        let mut merge = Merge::new(Kind::Directory, 0, None);
        for index in 0..self.layers.len() {
            self.enter(&mut merge, index, 0);
        }
        let (mode, size, mtime) = merge.attributes.unwrap_or((0o755, 0, 0));
        let body = Body::Directory(merge.parts);
        Arc::new(LowerNode { ino: ROOT, place: None, mode, size, mtime, depth: 0, body })
    }

    /// Adds what the layer `index` has `depth` names down its own prefix.
    fn enter(&self, merge: &mut Merge, index: usize, depth: usize) {
        let Placed { at, layer } = &self.layers[index];
        let root = layer.root();
        if depth == at.len() {
            merge.add(index, &root);
        } else if !merge.closed && merge.kind == Kind::Directory {
            merge.parts.push(Part::Above(index, depth));
            // Only when no layer has the directory is it made up.
            merge.implied.get_or_insert(root.mtime);
        }
    }

    /// The child `name` of `dir`.
    pub fn child(
        &self,
        dir: &Arc<LowerNode>,
        name: &[u8],
    ) -> Result<Option<Arc<LowerNode>>, Errno> {
        let parts = dir.parts()?;
        let ino = lower_ino(dir.ino, name);
        if let Some(listing) = self.cached(dir.ino) {
            let start = listing.partition_point(|child| child.ino < ino);
            let same = listing[start..].iter().take_while(|child| child.ino == ino);
            return Ok(same.into_iter().find(|child| child.name() == name).cloned());
        }
        let mut merge: Option<Merge> = None;
        for part in parts {
            match part {
                Part::Inside(index, key) => {
                    if merge.as_ref().is_some_and(|merge| merge.closed) {
                        break;
                    }
                    if let Some(node) = self.layers[*index]
                        .layer
                        .lookup(key, name)
                        .map_err(|e| self.failed(dir, e))?
                    {
                        Merge::begin(&mut merge, *index, &node).add(*index, &node);
                    }
                }
                Part::Above(index, depth) => self.step(&mut merge, *index, *depth, name),
            }
        }
        Ok(merge.map(|merge| merge.finish(ino, dir, name)))
    }

    /// Goes one name down the prefix of the layer `index`, if `name` is the next one.
    fn step(&self, merge: &mut Option<Merge>, index: usize, depth: usize, name: &[u8]) {
        let Placed { at, layer } = &self.layers[index];
        if *at[depth] == *name {
            let merge = Merge::begin(merge, index, &layer.root());
            self.enter(merge, index, depth + 1);
        }
    }

    /// All children of `dir`.
    pub fn list(&self, dir: &Arc<LowerNode>) -> Result<Listing, Errno> {
        if let Some(listing) = self.cached(dir.ino) {
            return Ok(listing);
        }
        let listing = self.list_anew(dir)?;
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        listings.push_front((dir.ino, Arc::clone(&listing)));
        listings.truncate(LISTINGS);
        Ok(listing)
    }

    /// As [`Layers::list`], and nothing is kept.
    pub fn list_anew(&self, dir: &Arc<LowerNode>) -> Result<Listing, Errno> {
        let parts = dir.parts()?;
        let mut merged: BTreeMap<Box<[u8]>, Option<Merge>> = BTreeMap::new();
        for part in parts {
            match part {
                Part::Inside(index, key) => {
                    let layer = &self.layers[*index].layer;
                    for entry in layer.list(key).map_err(|e| self.failed(dir, e))? {
                        let merge = merged.entry(entry.name).or_default();
                        Merge::begin(merge, *index, &entry.node).add(*index, &entry.node);
                    }
                }
                Part::Above(index, depth) => {
                    let name = self.layers[*index].at[*depth].clone();
                    let merge = merged.entry(name.clone()).or_default();
                    self.step(merge, *index, *depth, &name);
                }
            }
        }
        let mut children: Vec<Arc<LowerNode>> = merged
            .into_iter()
            .filter(|(name, _)| valid_name(name))
            .filter_map(|(name, merge)| Some((lower_ino(dir.ino, &name), name, merge?)))
            .map(|(ino, name, merge)| merge.finish(ino, dir, &name))
            .collect();
        children.sort_by_key(|child| child.ino);
        Ok(children.into())
    }

    fn cached(&self, dir: u64) -> Option<Listing> {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let at = listings.iter().position(|(ino, _)| *ino == dir)?;
        let found = listings.remove(at)?;
        let listing = Arc::clone(&found.1);
        listings.push_front(found);
        Some(listing)
    }

    /// Tells of a failure at `node`. What its caller is told.
    fn failed(&self, node: &LowerNode, error: io::Error) -> Errno {
        if let (Some(complain), Ok(path)) = (self.complain.get(), node.path()) {
            complain(Path::new(OsStr::from_bytes(&path)), &error);
        }
        errno(error)
    }

    /// The node at `path`, which is an origin: `None` if the layers have it no more.
    pub fn resolve(
        &self,
        root: &Arc<LowerNode>,
        path: &[u8],
    ) -> Result<Option<Arc<LowerNode>>, Errno> {
        let mut node = Arc::clone(root);
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            match self.child(&node, name) {
                Ok(Some(child)) => node = child,
                Ok(None) | Err(Errno::ENOTDIR) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(Some(node))
    }

    /// Reads from a file or link; fewer bytes than `buf` has only at its end.
    pub fn read(&self, node: &LowerNode, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let (Body::File(index, key) | Body::Symlink(index, key)) = &node.body else {
            return Err(Errno::EISDIR);
        };
        // Knowing the length spares the question whether there is more.
        let want = buf.len().min(node.size.saturating_sub(offset) as usize);
        let mut done = 0;
        while done < want {
            let (layer, at) = (&self.layers[*index].layer, offset + done as u64);
            match layer.read(key, at, &mut buf[done..want]).map_err(|e| self.failed(node, e))? {
                // The layer promised more; and it was asked for no more.
                count if count == 0 || count > want - done => {
                    let error = io::Error::other("its content is not as long as it should be");
                    return Err(self.failed(node, error));
                }
                count => done += count,
            }
        }
        Ok(done)
    }

    /// The real file that holds the content of `node`, if there is one as long as the layer
    /// says. (One that is not is read like anything else, and found out there.)
    pub fn file(&self, node: &LowerNode) -> Result<Option<Arc<File>>, Errno> {
        let Body::File(index, key) = &node.body else { return Ok(None) };
        let file = self.layers[*index].layer.file(key).map_err(|e| self.failed(node, e))?;
        let Some(file) = file else { return Ok(None) };
        let length = file.metadata().map_err(errno)?.len();
        Ok(Some(file).filter(|_| length == node.size))
    }

    /// The target of a link.
    pub fn target(&self, node: &LowerNode) -> Result<Vec<u8>, Errno> {
        if node.size > MAX_TARGET as u64 {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut buf = vec![0; node.size as usize];
        self.read(node, 0, &mut buf)?;
        // No disk could hold such a link.
        if buf.is_empty() || buf.contains(&0) { Err(Errno::EIO) } else { Ok(buf) }
    }
}

impl Merge {
    fn new(kind: Kind, layer: usize, key: Option<Key>) -> Merge {
        Merge {
            kind,
            attributes: None,
            implied: None,
            layer,
            key,
            parts: Vec::new(),
            closed: false,
        }
    }

    /// The merge in `slot`, begun with `node` if that is the first thing found.
    fn begin<'a>(slot: &'a mut Option<Merge>, layer: usize, node: &Node) -> &'a mut Merge {
        slot.get_or_insert_with(|| Merge::new(node.kind, layer, Some(Arc::clone(&node.key))))
    }

    fn add(&mut self, layer: usize, node: &Node) {
        if self.closed {
            return;
        }
        if node.kind != Kind::Directory {
            self.closed = true;
        }
        // A file under a directory is hidden, and so is everything under it.
        if self.kind == Kind::Directory && node.kind == Kind::Directory {
            self.parts.push(Part::Inside(layer, Arc::clone(&node.key)));
        }
        if self.kind == node.kind {
            self.attributes.get_or_insert((node.mode & 0o777, node.size, node.mtime));
        }
    }

    fn finish(self, ino: u64, dir: &Arc<LowerNode>, name: &[u8]) -> Arc<LowerNode> {
        let implied = (0o755, 0, self.implied.unwrap_or(0));
        let (mode, size, mtime) = self.attributes.unwrap_or(implied);
        let body = match (self.kind, self.key) {
            (Kind::File, Some(key)) => Body::File(self.layer, key),
            (Kind::Symlink, Some(key)) => Body::Symlink(self.layer, key),
            _ => Body::Directory(self.parts),
        };
        let place = Some((Arc::clone(dir), name.into()));
        Arc::new(LowerNode { ino, place, mode, size, mtime, depth: dir.depth + 1, body })
    }
}

#[cfg(test)]
mod tests;
