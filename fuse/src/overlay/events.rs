//! The journal's notes as paths; what a delta holds as if it had just happened.

use std::sync::Arc;

use nix::errno::Errno;

use super::inode::Inode;
use super::journal::{About, EventKind, Journal, Note};
use super::{Overlay, Target};
use crate::delta::{Child, FileKind, Index, ROOT, join};

/// Something that happened to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// Relative to the root, without `/` around it; empty for the root itself.
    pub path: Vec<u8>,
    /// A directory is there, or was until it went.
    pub directory: bool,
    /// All that is or was below the path may be something else.
    pub below: bool,
    /// A directory came here with what is in it, of which nothing more is said.
    pub arrived: bool,
}

/// Leaves a note of new content when it goes, however what it stands for ended.
pub(super) struct Noting<'a> {
    journal: &'a Journal,
    inode: &'a Inode,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.journal.node(self.inode.ino, &self.inode.noted, EventKind::Changed);
    }
}

impl Overlay {
    /// What changes, and who waits for it.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What happened after `position`, the oldest first, and the position of now. `None`:
    /// nobody knows any more; everything may be something else.
    pub fn events(&self, position: u64) -> Option<(u64, Vec<Event>)> {
        let (now, notes) = self.journal.since(position)?;
        let index = self.delta.read();
        Some((now, notes.into_iter().flat_map(|note| of_note(&index, note)).collect()))
    }

    /// All that differs from the layers, as if it had just happened. Takes the position of now
    /// first, from which the journal goes on.
    pub fn differences(&self) -> (u64, Vec<Event>) {
        let position = self.journal.position();
        (position, collect(&self.delta.read()))
    }

    /// The paths of the directory at `path` and of all below it, except what is called
    /// `without`; `None` if they are more than `limit`. What goes away meanwhile may be missing.
    pub fn directories(
        &self,
        path: &[u8],
        without: &[u8],
        limit: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, Errno> {
        let Some(ino) = self.find(path)? else { return Ok(Some(Vec::new())) };
        let (mut found, mut todo) = (Vec::new(), vec![(ino, path.to_vec())]);
        let mut result = Ok(());
        while let Some((ino, path)) = todo.pop() {
            if result.is_ok() && found.len() < limit {
                result = self.subdirectories(ino, &path, without, &mut todo);
            }
            self.forget(ino, 1);
            found.push(path);
        }
        result.map(|()| (found.len() <= limit).then_some(found))
    }

    /// Looks up the directories in `ino` and puts them into `todo`.
    fn subdirectories(
        &self,
        ino: u64,
        path: &[u8],
        without: &[u8],
        todo: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), Errno> {
        let mut names = Vec::new();
        let skip: [&[u8]; 3] = [b".", b"..", without];
        let listed = self.readdir(ino, 0, false, &mut |entry| {
            if entry.kind == FileKind::Directory && !skip.contains(&entry.name) {
                names.push(entry.name.to_vec());
            }
            false
        });
        match listed {
            Err(Errno::ESTALE | Errno::ENOENT) => return Ok(()),
            other => other?,
        }
        for name in names {
            if let Some(child) = self.directory_at(ino, &name)? {
                todo.push((child, join(path, &name)));
            }
        }
        Ok(())
    }

    /// The directory at `path`, looked up; `None` if there is none.
    fn find(&self, path: &[u8]) -> Result<Option<u64>, Errno> {
        let mut at = ROOT;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let next = self.directory_at(at, name);
            self.forget(at, 1);
            match next? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn directory_at(&self, parent: u64, name: &[u8]) -> Result<Option<u64>, Errno> {
        match self.lookup(parent, name) {
            Ok(attr) if attr.kind == FileKind::Directory => Ok(Some(attr.ino)),
            Ok(attr) => {
                self.forget(attr.ino, 1);
                Ok(None)
            }
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Notes new content of `inode` when the answer goes.
    pub(super) fn noting<'a>(&'a self, inode: &'a Inode) -> Noting<'a> {
        Noting { journal: &self.journal, inode }
    }

    /// Notes that something stands at `name` in `parent` that was not there before.
    pub(super) fn note_created(&self, parent: u64, name: &[u8], inode: &Inode) {
        let directory = inode.kind == FileKind::Directory;
        let about = About::Name(parent, name.into());
        let kind = EventKind::Created;
        let note = Note { about, kind, directory, below: directory, arrived: false };
        self.journal.name(note, Some(&inode.noted));
    }

    /// Notes that something came to `name` in `parent` from elsewhere, with all that is in it.
    pub(super) fn note_moved(&self, parent: u64, name: &[u8], directory: bool, below: bool) {
        let about = About::Name(parent, name.into());
        let kind = EventKind::Created;
        self.journal.name(Note { about, kind, directory, below, arrived: directory }, None);
    }

    /// Notes that `name` in `parent` is gone.
    pub(super) fn note_removed(&self, parent: u64, name: &[u8], directory: bool) {
        let about = About::Name(parent, name.into());
        let kind = EventKind::Removed;
        let note = Note { about, kind, directory, below: directory, arrived: false };
        self.journal.name(note, None);
    }

    /// Notes that names of a file have changed, which those see who know another one.
    pub(super) fn note_others(&self, target: &Target) {
        let is_file = |inode: &Inode| inode.kind != FileKind::Directory;
        if let Some(inode) = self.inodes.get(target.ino()).filter(|inode| is_file(inode))
            && self.delta.read().named(inode.ino).is_some()
        {
            self.note_attributes(&inode);
        }
    }

    /// Notes that attributes of `inode` are others.
    pub(super) fn note_attributes(&self, inode: &Inode) {
        self.journal.node(inode.ino, &inode.noted, EventKind::Attributes);
    }
}

/// A note under every path that it speaks of: none, if what it is about was removed, or is in
/// something that was; there is a note of that, then.
fn of_note(index: &Index, note: Note) -> Vec<Event> {
    let Note { about, mut kind, directory, below, arrived } = note;
    let (paths, directory) = match about {
        About::Node(ino) => {
            let is_directory = |ino| index.named(ino).map(|slot| slot.node.kind);
            (index.paths(ino), is_directory(ino) == Some(FileKind::Directory))
        }
        About::Name(parent, name) => {
            let path = index.path(parent).map(|dir| join(&dir, &name));
            // Of two at once the note of the first may be the newer one.
            let entry = index.named(parent).and_then(|slot| {
                slot.children.get(crate::delta::format::lower_ino(parent, &name), &name)
            });
            kind = match entry {
                Some(Child::Node { .. }) => EventKind::Created,
                _ => EventKind::Removed,
            };
            (path.into_iter().collect(), directory)
        }
    };
    let event = |path| Event { kind, path, directory, below, arrived };
    paths.into_iter().map(event).collect()
}

fn collect(index: &Index) -> Vec<Event> {
    let mut events = Vec::new();
    let mut todo = vec![(ROOT, Vec::new())];
    while let Some((parent, path)) = todo.pop() {
        let Some(slot) = index.named(parent) else { continue };
        for (cookie, name, child) in slot.children.from(0) {
            let path = join(&path, name);
            let Some(slot) = (match child {
                Child::Node { ino, .. } => index.named(ino),
                Child::Whiteout => None,
            }) else {
                let (kind, below) = (EventKind::Removed, true);
                events.push(Event { kind, path, directory: false, below, arrived: false });
                continue;
            };
            let (node, directory) = (&slot.node, slot.node.kind == FileKind::Directory);
            let moved = node.origin.as_ref().is_none_or(|origin| **origin != *path);
            if moved || node.own || node.changed {
                events.push(Event {
                    kind: if moved { EventKind::Created } else { EventKind::Changed },
                    path: path.clone(),
                    directory,
                    below: moved,
                    arrived: moved && directory && node.origin.is_some(),
                });
            }
            if let Child::Node { ino, .. } = child
                && slot.places.last() == Some((parent, cookie))
            {
                todo.push((ino, path));
            }
        }
    }
    events
}
