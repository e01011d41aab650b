//! The trees of a walk whose contents are all known, from the bottom up. What has not changed
//! keeps its id and costs nothing; the rest is encoded by a few threads, each at a run of
//! whole subtrees, whose records so stand together.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use super::listing::{Node, Place};
use super::walk::Walk;
use crate::store::error::StoreError;
use crate::store::format::content::Links;
use crate::store::format::pack::TREE_FRAME;
use crate::store::format::tree::{self, Entry, Kind};
use crate::store::format::{RecordId, TreeId};
use crate::store::objects::Writer;
use crate::store::pack::FrameBuilder;
use crate::store::parallel;

/// A thread takes subtrees of about this many directories in all.
const RUN: usize = 256;

/// Writes the trees that are new. Gives each directory's id, and the length of all files.
pub fn write(writer: &Writer<'_>, walk: &Walk<'_>) -> Result<(Vec<TreeId>, u64), StoreError> {
    let ids: Vec<OnceLock<TreeId>> = vec![OnceLock::new(); walk.directories.len()];
    let (runs, above) = runs(walk);
    let done = parallel::run(runs, |queue| {
        let mut trees = Trees { writer, walk, ids: &ids, frame: FrameBuilder::default(), bytes: 0 };
        while let Some(run) = queue.next() {
            run.rev().try_for_each(|number| trees.directory(number))?;
        }
        trees.finish()
    })?;
    let mut trees = Trees { writer, walk, ids: &ids, frame: FrameBuilder::default(), bytes: 0 };
    above.into_iter().rev().try_for_each(|number| trees.directory(number))?;
    let bytes = done.into_iter().sum::<u64>() + trees.finish()?;
    let id = |id: OnceLock<TreeId>| id.into_inner().expect("every directory is in a run or above");
    Ok((ids.into_iter().map(id).collect(), bytes))
}

/// Runs of subtrees, and the directories above them.
fn runs(walk: &Walk<'_>) -> (Vec<Range<usize>>, Vec<usize>) {
    let (mut runs, mut above): (Vec<Range<usize>>, Vec<usize>) = Default::default();
    let mut at = 0;
    while at < walk.directories.len() {
        let end = walk.directories[at].end as usize;
        if end - at > RUN {
            above.push(at);
            at += 1;
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == at && end - run.start <= RUN => run.end = end,
            _ => runs.push(at..end),
        }
        at = end;
    }
    (runs, above)
}

/// One thread's share.
struct Trees<'t> {
    writer: &'t Writer<'t>,
    walk: &'t Walk<'t>,
    ids: &'t [OnceLock<TreeId>],
    frame: FrameBuilder,
    bytes: u64,
}

impl Trees<'_> {
    /// Makes one directory's tree; those below it have been made.
    fn directory(&mut self, number: usize) -> Result<(), StoreError> {
        let directory = &self.walk.directories[number];
        let child = |number: u32| {
            *self.ids[number as usize].get().expect("what is below stands behind in the order")
        };
        let entries = directory.entries();
        let mut former = directory.former;
        for entry in entries.iter() {
            match entry.node {
                Node::File { stamp, .. } => self.bytes += stamp.size,
                Node::Directory(below) => {
                    let below = below as usize;
                    if self.walk.directories[below].former != self.ids[below].get().copied() {
                        former = None;
                    }
                }
                Node::Symlink { .. } => {}
            }
        }
        let id = match former {
            Some(id) => id,
            None => {
                let kinds = entries.iter().map(|entry| Entry {
                    name: directory.name(entry).into(),
                    kind: match entry.node {
                        Node::File { stamp, exec, content, .. } => {
                            let id = content.id().expect("trees are made when all files are read");
                            Kind::File { exec, id, size: stamp.size }
                        }
                        Node::Directory(below) => Kind::Directory(child(below)),
                        Node::Symlink { .. } => Kind::Symlink(directory.target(entry).into()),
                    },
                });
                let encoded = tree::encode(&kinds.collect::<Vec<_>>());
                let (id, record) = encoded.map_err(|source| {
                    let path = self.walk.path(&self.walk.below(number as u32));
                    StoreError::Unrepresentable { path, source }
                })?;
                if self.writer.claim(RecordId::tree(&id))? {
                    self.writer.add(&mut self.frame, TREE_FRAME, RecordId::tree(&id), &record)?;
                }
                id
            }
        };
        // Each is made once.
        let _ = self.ids[number].set(id);
        Ok(())
    }

    fn finish(mut self) -> Result<u64, StoreError> {
        self.writer.flush(&mut self.frame)?;
        Ok(self.bytes)
    }
}

/// Puts the list of hard links beside the tree `root`, if there are any and it is not there.
/// `others` are names of an inode whose first name stands before them.
pub fn write_links(
    writer: &Writer<'_>,
    walk: &Walk<'_>,
    root: &TreeId,
    others: &[(Place, Place)],
) -> Result<(), StoreError> {
    let mut names: HashMap<Place, Vec<Box<[u8]>>> = HashMap::new();
    for (first, other) in others {
        let path = |place| walk.below_entry(place).into_boxed_slice();
        names.entry(*first).or_insert_with(|| vec![path(*first)]).push(path(*other));
    }
    if names.is_empty() || !writer.claim(RecordId::links(root))? {
        return Ok(());
    }
    let mut groups: Vec<_> = names.into_values().collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.sort_unstable();
    let record = Links { groups }
        .encode()
        .map_err(|source| StoreError::Unrepresentable { path: walk.path(b""), source })?;
    let mut frame = FrameBuilder::default();
    writer.add(&mut frame, TREE_FRAME, RecordId::links(root), &record)?;
    writer.flush(&mut frame)
}
