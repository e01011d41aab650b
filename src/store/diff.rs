//! What differs between two trees: both are walked at once, in the order of the names, and
//! what has one id is not looked into. In memory are only the directories that the walk is
//! in.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Store;
use super::beneath::join;
use super::error::StoreError;
use super::format::TreeId;
use super::format::tree::Kind;
use super::tree::Tree;

/// One path at which two trees differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'c> {
    /// The path, relative to the trees' roots, with `/`.
    pub path: &'c [u8],
    /// What the first tree has there.
    pub before: Option<&'c Kind>,
    /// What the second tree has there; one of the two is something.
    pub after: Option<&'c Kind>,
}

/// The sort of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The path is new.
    Added,
    /// Another content, execute bit or target.
    Modified,
    /// The path is gone.
    Deleted,
    /// A file became a directory or a link, or the like.
    Type,
}

impl ChangeKind {
    /// As version control systems have it.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'M',
            ChangeKind::Deleted => 'D',
            ChangeKind::Type => 'T',
        }
    }
}

impl Change<'_> {
    /// Its sort.
    pub fn kind(&self) -> ChangeKind {
        match (self.before, self.after) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Deleted,
            (Some(Kind::File { .. }), Some(Kind::File { .. }))
            | (Some(Kind::Symlink(_)), Some(Kind::Symlink(_))) => ChangeKind::Modified,
            _ => ChangeKind::Type,
        }
    }

    /// Whether only the execute bit differs.
    pub fn is_mode_only(&self) -> bool {
        let id = |kind: Option<&Kind>| match kind {
            Some(Kind::File { id, .. }) => Some(*id),
            _ => None,
        };
        id(self.before).is_some_and(|before| id(self.after) == Some(before))
    }
}

/// A directory that the walk is in, on both sides or on one.
struct Level {
    path: Box<[u8]>,
    before: Option<Arc<Tree>>,
    after: Option<Arc<Tree>>,
    // The next entry of each.
    next: (usize, usize),
}

impl Level {
    /// The next entries that differ.
    fn next(&mut self) -> Option<(Option<usize>, Option<usize>)> {
        loop {
            let (i, j) = self.next;
            let one = self.before.as_ref().and_then(|tree| tree.entries.get(i));
            let other = self.after.as_ref().and_then(|tree| tree.entries.get(j));
            let order = match (one, other) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.name.cmp(&other.name),
            };
            match order {
                Ordering::Less => self.next.0 += 1,
                Ordering::Greater => self.next.1 += 1,
                Ordering::Equal => self.next = (i + 1, j + 1),
            }
            match order {
                Ordering::Less => return Some((Some(i), None)),
                Ordering::Greater => return Some((None, Some(j))),
                Ordering::Equal if one == other => {}
                Ordering::Equal => return Some((Some(i), Some(j))),
            }
        }
    }
}

impl Store {
    /// Tells `visit` each path at which the trees `before` and `after` differ, in the order
    /// of a walk: names by their bytes, a directory before what is in it. A directory that is
    /// on both sides is no change itself. `visit` says whether to go on with what is below
    /// a directory that is on one side only.
    pub fn diff<E: From<StoreError>>(
        &self,
        before: &TreeId,
        after: &TreeId,
        mut visit: impl FnMut(&Change<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let level = |path, before: Option<&TreeId>, after: Option<&TreeId>| {
            let get = |id: Option<&TreeId>| id.map(|id| self.tree(id)).transpose();
            Ok::<_, StoreError>(Level {
                path,
                before: get(before)?,
                after: get(after)?,
                next: (0, 0),
            })
        };
        if before == after {
            return Ok(());
        }
        let mut levels = vec![level(Box::default(), Some(before), Some(after))?];
        while let Some(top) = levels.last_mut() {
            let Some((i, j)) = top.next() else {
                levels.pop();
                continue;
            };
            let trees = (top.before.clone(), top.after.clone());
            let before = i.and_then(|i| trees.0.as_ref()?.entries.get(i));
            let after = j.and_then(|j| trees.1.as_ref()?.entries.get(j));
            let Some(entry) = before.or(after) else { continue };
            let path = join(&top.path, &entry.name);
            let (before, after) = (before.map(|e| &e.kind), after.map(|e| &e.kind));
            let id = |kind: Option<&Kind>| match kind {
                Some(Kind::Directory(id)) => Some(*id),
                _ => None,
            };
            let (one, other) = (id(before), id(after));
            let both = one.is_some() && other.is_some();
            if (both || visit(&Change { path: &path, before, after })?)
                && (one.is_some() || other.is_some())
            {
                levels.push(level(path, one.as_ref(), other.as_ref())?);
            }
        }
        Ok(())
    }
}
