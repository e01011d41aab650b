//! The names below a directory, as they are kept in memory: half a million files must fit
//! into little, so a directory is two allocations: its names, one after the other, and its
//! entries.

use std::sync::{Mutex, MutexGuard};

use crate::store::format::{FileId, TreeId};
use crate::store::known::Stamp;

/// Why a lock of a list can be taken.
pub const UNPOISONED: &str = "nothing panics with it held";

/// The number of a directory, and which of its entries.
pub type Place = (u32, u32);

/// What is known of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing yet, but perhaps what stood there before.
    Unread(Option<FileId>),
    /// It is as it was when it was recorded.
    Known(FileId),
    /// It was read. Whether its stamp is settled.
    Read(FileId, bool),
}

impl Content {
    /// The content, once it is known.
    pub fn id(&self) -> Option<FileId> {
        match self {
            Content::Unread(_) => None,
            Content::Known(id) | Content::Read(id, _) => Some(*id),
        }
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy)]
pub enum Node {
    /// A regular file.
    File {
        /// What the kernel says of it.
        stamp: Stamp,
        /// Its owner may execute it.
        exec: bool,
        /// The inode, which is on the directory's file system, has other names too.
        linked: bool,
        /// Its content, as far as it is known.
        content: Content,
    },
    /// A directory: its number.
    Directory(u32),
    /// A symbolic link. Its target stands behind its name.
    Symlink {
        /// What the kernel says of it.
        stamp: Stamp,
        /// Whether the stamp is settled.
        settled: bool,
    },
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Where its name begins among the directory's names.
    pub at: u32,
    /// The length of what follows the name: the target of a symbolic link.
    pub target: u16,
    /// The length of the name.
    pub length: u8,
    /// What stands there.
    pub node: Node,
}

/// One directory. Its number is its place in depth-first order.
pub struct Directory {
    /// The number of the one that holds it, and which of its entries it is.
    pub parent: Place,
    /// The numbers of all below it end before this one.
    pub end: u32,
    /// The file system it is on.
    pub device: u64,
    /// The tree that it was, if nothing in it but perhaps its directories has changed.
    pub former: Option<TreeId>,
    /// All names and targets.
    pub names: Box<[u8]>,
    /// See [`Directory::entries`].
    pub list: Mutex<Box<[Entry]>>,
}

impl Directory {
    /// Its entries, in the order of the names' bytes.
    pub fn entries(&self) -> MutexGuard<'_, Box<[Entry]>> {
        self.list.lock().expect(UNPOISONED)
    }

    /// The name of an entry.
    pub fn name(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.at as usize..][..entry.length.into()]
    }

    /// Where an entry that is a symbolic link leads.
    pub fn target(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.at as usize + usize::from(entry.length)..][..entry.target.into()]
    }
}

/// Gives the directories the numbers of a walk through them from the top, children in the
/// order of their names.
pub fn in_depth_first_order(mut found: Vec<Option<Directory>>) -> Vec<Directory> {
    let mut numbers = vec![0u32; found.len()];
    let mut directories: Vec<Directory> = Vec::with_capacity(found.len());
    let mut pending = vec![0u32];
    let mut open: Vec<u32> = Vec::new();
    while let Some(at) = pending.pop() {
        let Some(mut directory) = found[at as usize].take() else { continue };
        let number = directories.len() as u32;
        numbers[at as usize] = number;
        directory.parent.0 = numbers[directory.parent.0 as usize];
        while open.last().is_some_and(|last| *last != directory.parent.0) {
            let closed = open.pop().expect("there was a last one");
            directories[closed as usize].end = number;
        }
        open.push(number);
        let entries = directory.list.get_mut().expect(UNPOISONED);
        pending.extend(entries.iter().rev().filter_map(|entry| match entry.node {
            Node::Directory(child) => Some(child),
            _ => None,
        }));
        directories.push(directory);
    }
    let end = directories.len() as u32;
    open.into_iter().for_each(|number| directories[number as usize].end = end);
    for directory in &mut directories {
        for entry in directory.list.get_mut().expect(UNPOISONED).iter_mut() {
            if let Node::Directory(child) = &mut entry.node {
                *child = numbers[*child as usize];
            }
        }
    }
    directories
}
