//! The state of the metadata: what replaying the log from its beginning gives.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use super::format::{CREATED, FileKind, Node, Op, ROOT, Time, lower_ino};
use super::places::Places;

/// The deepest that something can be and still have a path: as deep as layers may be, twice.
const MAX_DEPTH: usize = 4096;

/// `name` in the directory `dir`, a path relative to the root.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, name].join(&b'/') }
}

/// Where a name of the delta leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// To this node.
    Node {
        /// Its inode number.
        ino: u64,
        /// Whether the layers have the name too.
        over: bool,
    },
    /// Nowhere, though the layers have the name.
    Whiteout,
}

/// How many of the operations done last are remembered. A process that was killed can have left
/// as many unanswered as it had threads.
const DONE: usize = 256;

/// Names are ordered by their hash: the hash is the position in a listing, and stays
/// what it is while other names come and go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64, Box<[u8]>);

/// The entries that the delta has in one directory.
#[derive(Debug, Clone, Default)]
pub struct Children(BTreeMap<Key, Child>);

impl Children {
    /// Where `name` leads; `cookie` is its hash in this directory.
    pub fn get(&self, cookie: u64, name: &[u8]) -> Option<Child> {
        self.from(cookie)
            .take_while(|(at, ..)| *at == cookie)
            .find(|(_, other, _)| *other == name)
            .map(|(.., child)| child)
    }

    /// Everything from the hash `cookie` on, in order.
    pub fn from(&self, cookie: u64) -> impl Iterator<Item = (u64, &[u8], Child)> {
        let start = Bound::Included(Key(cookie, Box::default()));
        self.0.range((start, Bound::Unbounded)).map(|(key, child)| (key.0, &*key.1, *child))
    }

    /// Whether there are entries other than whiteouts.
    pub fn any_node(&self) -> bool {
        self.0.values().any(|child| *child != Child::Whiteout)
    }

    fn set(&mut self, cookie: u64, name: &[u8], child: Option<Child>) -> Option<Child> {
        let key = Key(cookie, name.into());
        match child {
            Some(child) => self.0.insert(key, child),
            None => self.0.remove(&key),
        }
    }
}

/// A node and how it hangs in the tree.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The node itself.
    pub node: Node,
    /// How many names lead to it.
    pub links: u32,
    /// How many of the delta's entries of a directory lead to directories.
    pub subdirectories: u32,
    /// Where its names stand.
    pub places: Places,
    /// The delta's entries of a directory.
    pub children: Children,
}

impl Slot {
    /// A node that no name leads to.
    pub fn new(node: Node) -> Slot {
        Slot {
            node,
            links: 0,
            subdirectories: 0,
            places: Places::default(),
            children: Children::default(),
        }
    }
}

/// Why an operation cannot be applied: the log contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A directory is named that the delta does not know.
    #[error("an entry in a directory that is not there")]
    Parent,
    /// An entry leads to a node that the delta does not know.
    #[error("an entry that leads nowhere")]
    Target,
    /// A directory that is not empty lost its last name.
    #[error("a directory removed with its content")]
    NotEmpty,
    /// A node's kind changed, or the root is not a directory.
    #[error("a node of the wrong kind")]
    Kind,
    /// A directory has two places, or is inside itself.
    #[error("a directory that is not in one place")]
    Place,
    /// There are no such inode numbers.
    #[error("a number beyond the last")]
    Next,
}

/// What `op` gives a name.
fn entered(op: &Op) -> Option<u64> {
    if let Op::Entry { ino, .. } = op { Some(*ino) } else { None }
}

/// All nodes and entries.
#[derive(Debug, Default)]
pub struct Index {
    nodes: HashMap<u64, Slot>,
    /// Nodes without a name that somebody may still use.
    orphans: HashMap<u64, Slot>,
    /// The operations done last, each with the inode it made or named (or 0).
    done: VecDeque<(u64, u64)>,
    /// The next number to give out, without [`CREATED`].
    pub next: u64,
    /// Whether the last operation was [`Op::Closed`].
    pub closed: bool,
}

impl Index {
    /// An empty one.
    pub fn new() -> Index {
        Index { next: 1, closed: true, ..Index::default() }
    }

    /// The node `ino`, with a name or without.
    pub fn slot(&self, ino: u64) -> Option<&Slot> {
        self.nodes.get(&ino).or_else(|| self.orphans.get(&ino))
    }

    /// The node `ino`, if it has a name (or is the root).
    pub fn named(&self, ino: u64) -> Option<&Slot> {
        self.nodes.get(&ino)
    }

    /// The paths of the node `ino`, relative to the root; none of one without a name.
    pub fn paths(&self, ino: u64) -> Vec<Vec<u8>> {
        if ino == ROOT {
            return vec![Vec::new()];
        }
        let Some(slot) = self.nodes.get(&ino) else { return Vec::new() };
        let places = slot.places.iter();
        places.flat_map(|place| self.names_at(ino, place)).collect()
    }

    /// The path of the directory `ino`, if it is in the tree.
    pub fn path(&self, ino: u64) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = ino;
        while at != ROOT {
            let (parent, cookie) = self.nodes.get(&at)?.places.last()?;
            // Of a log that makes a circle, nothing has a path.
            if names.len() > MAX_DEPTH {
                return None;
            }
            names.push(self.names_of(at, parent, cookie).next()?);
            at = parent;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    fn names_at(&self, ino: u64, (parent, cookie): (u64, u64)) -> Vec<Vec<u8>> {
        let Some(dir) = self.path(parent) else { return Vec::new() };
        self.names_of(ino, parent, cookie).map(|name| join(&dir, name)).collect()
    }

    /// The names with the hash `cookie` that lead to `ino` in `parent`: one, but for accidents.
    fn names_of(&self, ino: u64, parent: u64, cookie: u64) -> impl Iterator<Item = &[u8]> {
        let entries =
            self.nodes.get(&parent).into_iter().flat_map(move |s| s.children.from(cookie));
        entries
            .take_while(move |(at, ..)| *at == cookie)
            .filter(move |(.., child)| matches!(child, Child::Node { ino: to, .. } if *to == ino))
            .map(|(_, name, _)| name)
    }

    /// All nodes that have a name.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, &Slot)> {
        self.nodes.iter().map(|(ino, slot)| (*ino, slot))
    }

    /// Keeps the nameless node of something of the layers that was never changed.
    pub fn add_orphan(&mut self, ino: u64, node: Node) {
        self.orphans.entry(ino).or_insert_with(|| Slot::new(node));
    }

    /// All nodes without a name.
    pub fn orphans(&self) -> impl Iterator<Item = (u64, &Slot)> {
        self.orphans.iter().map(|(ino, slot)| (*ino, slot))
    }

    /// What the operation `operation` made or named (or 0), if it was done not long ago.
    pub fn done(&self, operation: u64) -> Option<u64> {
        self.done.iter().rev().find(|(done, _)| *done == operation).map(|(_, ino)| *ino)
    }

    fn record_done(&mut self, operation: u64, ino: u64) {
        if self.done.len() == DONE {
            self.done.pop_front();
        }
        self.done.push_back((operation, ino));
    }

    /// Lets go of the nameless node `ino`.
    pub fn remove_orphan(&mut self, ino: u64) -> Option<Slot> {
        self.orphans.remove(&ino)
    }

    /// Whether every entry of `ops` would stand in a known directory and lead to a known node:
    /// asked before they are written, since a log that contradicts itself is refused.
    pub fn check(&self, ops: &[Op]) -> Result<(), ApplyError> {
        let new = |ino| ops.iter().any(|op| matches!(op, Op::Node { ino: new, .. } if *new == ino));
        let known = |ino| self.nodes.contains_key(&ino) || new(ino);
        for op in ops {
            match op {
                Op::Entry { parent, ino, .. } => {
                    if !known(*parent) {
                        return Err(ApplyError::Parent);
                    }
                    if !known(*ino) {
                        return Err(ApplyError::Target);
                    }
                }
                Op::Whiteout { parent, .. } | Op::Remove { parent, .. } if !known(*parent) => {
                    return Err(ApplyError::Parent);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Applies one transaction. Nodes that have lost their last name become orphans; their
    /// numbers are returned.
    pub fn apply(&mut self, ops: Vec<Op>) -> Result<Vec<u64>, ApplyError> {
        let mut loose = Vec::new();
        let entered: Vec<u64> = ops.iter().filter_map(entered).collect();
        self.closed = false;
        for op in ops {
            match op {
                Op::Node { ino, node } => {
                    if self.nodes.get(&ino).is_none_or(|slot| slot.links == 0) {
                        loose.push(ino);
                    }
                    self.put(ino, *node)?;
                }
                Op::Entry { parent, name, ino, over, time } => {
                    self.enter(parent, &name, ino, over, time, &mut loose)?;
                }
                Op::Whiteout { parent, name, time } => {
                    self.set(parent, &name, Some(Child::Whiteout), time, &mut loose)?;
                }
                Op::Remove { parent, name, time } => {
                    self.set(parent, &name, None, time, &mut loose)?;
                }
                Op::Next(next) if next & CREATED != 0 => return Err(ApplyError::Next),
                Op::Next(next) => self.next = self.next.max(next),
                Op::Closed => {
                    self.closed = true;
                    self.orphans.clear();
                    self.done.clear();
                }
                Op::Done { operation, ino } => self.record_done(operation, ino),
            }
        }
        let loose = self.drop_loose(loose)?;
        super::check::places(self, &entered, self.nodes.len())?;
        Ok(loose)
    }

    fn put(&mut self, ino: u64, node: Node) -> Result<(), ApplyError> {
        if ino & CREATED != 0 {
            self.next = self.next.max((ino & !CREATED) + 1);
        }
        if ino == ROOT && node.kind != FileKind::Directory {
            return Err(ApplyError::Kind);
        }
        match self.nodes.get_mut(&ino) {
            Some(slot) if slot.node.kind != node.kind => return Err(ApplyError::Kind),
            Some(slot) => slot.node = node,
            None => {
                self.orphans.remove(&ino);
                self.nodes.insert(ino, Slot::new(node));
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        parent: u64,
        name: &[u8],
        ino: u64,
        over: bool,
        time: Option<Time>,
        loose: &mut Vec<u64>,
    ) -> Result<(), ApplyError> {
        let slot = self.nodes.get_mut(&ino).ok_or(ApplyError::Target)?;
        slot.links += 1;
        if let Some(time) = time {
            slot.node.ctime = time;
        }
        self.set(parent, name, Some(Child::Node { ino, over }), time, loose)
    }

    fn set(
        &mut self,
        parent: u64,
        name: &[u8],
        child: Option<Child>,
        time: Option<Time>,
        loose: &mut Vec<u64>,
    ) -> Result<(), ApplyError> {
        let is_dir = matches!(child, Some(Child::Node { ino, .. }) if self.is_directory(ino));
        let slot = self.nodes.get_mut(&parent).ok_or(ApplyError::Parent)?;
        if slot.node.kind != FileKind::Directory {
            return Err(ApplyError::Parent);
        }
        slot.subdirectories += u32::from(is_dir);
        if let Some(time) = time {
            (slot.node.mtime, slot.node.ctime) = (time, time);
        }
        let place = (parent, lower_ino(parent, name));
        let before = slot.children.set(place.1, name, child);
        if let Some(Child::Node { ino, .. }) = before {
            let old = self.nodes.get_mut(&ino).ok_or(ApplyError::Target)?;
            old.links -= 1;
            old.places.remove(place);
            if let Some(time) = time {
                old.node.ctime = time;
            }
            if old.links == 0 {
                loose.push(ino);
            }
            if self.is_directory(ino)
                && let Some(slot) = self.nodes.get_mut(&parent)
            {
                slot.subdirectories -= 1;
            }
        }
        if let Some(Child::Node { ino, .. }) = child
            && let Some(slot) = self.nodes.get_mut(&ino)
        {
            slot.places.add(place);
        }
        Ok(())
    }

    fn is_directory(&self, ino: u64) -> bool {
        self.nodes.get(&ino).is_some_and(|slot| slot.node.kind == FileKind::Directory)
    }

    fn drop_loose(&mut self, loose: Vec<u64>) -> Result<Vec<u64>, ApplyError> {
        let mut dropped = Vec::new();
        for ino in loose {
            if ino == ROOT || self.nodes.get(&ino).is_none_or(|slot| slot.links > 0) {
                continue;
            }
            if let Some(slot) = self.nodes.remove(&ino) {
                if slot.children.any_node() {
                    return Err(ApplyError::NotEmpty);
                }
                self.orphans.insert(ino, Slot { children: Children::default(), ..slot });
                dropped.push(ino);
            }
        }
        Ok(dropped)
    }

    /// The whole state as transactions for a new log, in an order that can be applied.
    /// A node and its first name are never parted. Nameless nodes come last.
    pub fn snapshot(&self) -> Vec<Vec<Op>> {
        let done =
            self.done.iter().map(|(operation, ino)| Op::Done { operation: *operation, ino: *ino });
        let mut out = vec![std::iter::once(Op::Next(self.next)).chain(done).collect()];
        let orphans = self
            .orphans
            .iter()
            .map(|(ino, slot)| vec![Op::Node { ino: *ino, node: Box::new(slot.node.clone()) }]);
        let orphans: Vec<_> = orphans.collect();
        let Some(root) = self.nodes.get(&ROOT) else {
            out.extend(orphans);
            return out;
        };
        out.push(vec![Op::Node { ino: ROOT, node: Box::new(root.node.clone()) }]);
        let mut written = std::collections::HashSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(parent) = todo.pop() {
            let Some(slot) = self.nodes.get(&parent) else { continue };
            for (_, name, child) in slot.children.from(0) {
                let name: Box<[u8]> = name.into();
                let Child::Node { ino, over } = child else {
                    out.push(vec![Op::Whiteout { parent, name, time: None }]);
                    continue;
                };
                let mut ops = Vec::with_capacity(2);
                if let Some(slot) = self.nodes.get(&ino).filter(|_| written.insert(ino)) {
                    ops.push(Op::Node { ino, node: Box::new(slot.node.clone()) });
                    if slot.node.kind == FileKind::Directory {
                        todo.push(ino);
                    }
                }
                ops.push(Op::Entry { parent, name, ino, over, time: None });
                out.push(ops);
            }
        }
        out.extend(orphans);
        out
    }

    /// About how long a log of [`Index::snapshot`] would be.
    pub fn weight(&self) -> u64 {
        // Nodes, and names with their frames; origins, targets and attributes are rare.
        let nodes = self.nodes.len() + self.orphans.len();
        let entries: usize = self.nodes.values().map(|slot| slot.children.0.len()).sum();
        nodes as u64 * 120 + entries as u64 * 60
    }
}
