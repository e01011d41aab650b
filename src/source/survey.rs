//! A revision, looked through once before any of it is shown: what is missing of it, what its
//! user must know, and whether git could check it out.
//!
//! Whoever made the objects may be hostile. A tree is read once, wherever and however often it
//! stands; what a tree holds in all is then summed up from below. So a few trees that stand
//! for a thousand million paths, or for a path without end, cost what they take on disk.
//!
//! Refused is what git itself would refuse or what no disk could hold, and what would keep
//! git's index from being made. Links are data: where they lead is for whoever follows them.

use std::collections::HashMap;

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::tree::{EntryKind, EntryRef, name_order};
use gix::objs::{Kind, TreeRefIter};

use super::error::SourceError;
use super::name::{fault, shown};
use crate::store::MAX_TARGET;

/// The longest path that Linux opens.
const MAX_PATH: usize = 4095;
/// The longest object that is taken for a directory: one of a few million names.
const MAX_TREE: u64 = 256 << 20;
/// The largest index of git's that is made of a tree, in bytes; that is some ten million paths.
const MAX_INDEX: u64 = 1 << 30;
/// What a path takes in git's index, besides itself.
const INDEXED: u64 = 70;
/// Files that say how others are converted and are longer are not read for their notice.
const MAX_ATTRIBUTES: u64 = 1 << 20;

/// What a commit's tree holds.
pub(super) struct Survey {
    /// Blobs that are not here.
    pub missing: Vec<ObjectId>,
    /// The repository, as errors name it.
    address: String,
    /// Every tree, the root first.
    trees: Vec<Tree>,
    /// Where in `trees` one is.
    known: HashMap<ObjectId, usize>,
    /// The targets of links, and where one of each stands.
    links: HashMap<ObjectId, (usize, Box<[u8]>)>,
    attributes: Vec<ObjectId>,
    submodules: Vec<String>,
    /// Entries of all trees, each counted once.
    entries: u64,
}

/// A tree, where it was met first.
struct Tree {
    id: ObjectId,
    /// In which tree, and as which of those below it.
    place: Option<(usize, usize)>,
    /// The length of its path.
    path: usize,
    sum: Sum,
    /// The trees in it, each with its name.
    below: Vec<(usize, Box<[u8]>)>,
}

/// What a tree adds up to, with all that is below.
#[derive(Clone, Copy, Default)]
struct Sum {
    paths: u64,
    /// Of all those paths, seen from the tree.
    bytes: u64,
    /// Of them, too.
    longest: usize,
}

impl Survey {
    /// Looks through the whole tree of `commit`. `address` is what errors call the repository.
    ///
    /// # Errors
    /// [`SourceError::Refused`], [`SourceError::TooLarge`], or trees that cannot be read.
    pub fn of(
        repo: &gix::Repository,
        address: &str,
        commit: ObjectId,
    ) -> Result<Survey, SourceError> {
        let mut repo = repo.clone();
        // Many may be missing; looking for each on the disk again would take long.
        repo.objects.refresh_never();
        let error = |e| SourceError::repository(repo.git_dir())(e);
        let commit = repo.find_commit(commit).map_err(|e| error(Box::new(e)))?;
        let root = commit.tree_id().map_err(|e| error(Box::new(e)))?.detach();
        Survey::of_tree(&repo, address, root)
    }

    pub(super) fn of_tree(
        repo: &gix::Repository,
        address: &str,
        root: ObjectId,
    ) -> Result<Survey, SourceError> {
        let mut survey = Survey {
            missing: Vec::new(),
            address: address.to_owned(),
            trees: Vec::new(),
            known: HashMap::new(),
            links: HashMap::new(),
            attributes: Vec::new(),
            submodules: Vec::new(),
            entries: 0,
        };
        survey.meet(root, None, 0);
        let mut at = 0;
        while at < survey.trees.len() {
            survey.look(repo, at)?;
            at += 1;
        }
        survey.sum_up()?;
        for list in [&mut survey.missing, &mut survey.attributes] {
            list.sort_unstable();
            list.dedup();
        }
        Ok(survey)
    }

    /// The number of a tree that stands at `place`, by a path of `path` bytes.
    fn meet(&mut self, id: ObjectId, place: Option<(usize, usize)>, path: usize) -> usize {
        *self.known.entry(id).or_insert_with(|| {
            let (sum, below) = (Sum::default(), Vec::new());
            self.trees.push(Tree { id, place, path, sum, below });
            self.trees.len() - 1
        })
    }

    /// Looks at everything in the tree `at`.
    fn look(&mut self, repo: &gix::Repository, at: usize) -> Result<(), SourceError> {
        let data = self.read(repo, at)?;
        let Ok(entries) = TreeRefIter::from_bytes(&data, repo.object_hash()).entries() else {
            return Err(self.refused(at, b"", "is a directory that cannot be read"));
        };
        if written(&entries) != data {
            return Err(self.refused(at, b"", "is a directory that git would not have written"));
        }
        self.entries += entries.len() as u64;
        if self.entries.saturating_mul(INDEXED) > MAX_INDEX {
            return Err(self.too_large(self.entries));
        }
        for pair in entries.windows(2) {
            let [one, next] = pair else { continue };
            let (is_tree, next_is_tree) = (one.mode.is_tree(), next.mode.is_tree());
            if name_order(one.filename, is_tree, next.filename, next_is_tree).is_gt() {
                return Err(self.refused(at, next.filename, "is not where git's order has it"));
            }
        }
        let mut names: Vec<_> = entries.iter().map(|entry| entry.filename).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.refused(at, pair[0], "is there twice"));
        }
        entries.iter().try_for_each(|entry| self.entry(repo, at, entry))
    }

    /// The bytes of the tree `at`, which are what its id says: so no tree holds itself.
    fn read(&self, repo: &gix::Repository, at: usize) -> Result<Vec<u8>, SourceError> {
        let id = self.trees[at].id;
        let error = |e| SourceError::repository(repo.git_dir())(e);
        let header = repo.find_header(id).map_err(|e| error(Box::new(e)))?;
        if header.kind() != Kind::Tree {
            return Err(self.refused(at, b"", "is called a directory, and is none"));
        }
        if header.size() > MAX_TREE {
            return Err(self.refused(at, b"", "is a directory of more than 256 MiB"));
        }
        let data = repo.find_object(id).map_err(|e| error(Box::new(e)))?.detach().data;
        let hash = gix::objs::compute_hash(repo.object_hash(), Kind::Tree, &data);
        match hash.is_ok_and(|hash| hash == id) {
            true => Ok(data),
            false => Err(self.refused(at, b"", "is not what its hash says")),
        }
    }

    fn entry(
        &mut self,
        repo: &gix::Repository,
        at: usize,
        entry: &EntryRef<'_>,
    ) -> Result<(), SourceError> {
        let (name, kind, id) = (entry.filename, entry.mode.kind(), entry.oid.to_owned());
        if !is_mode(entry.mode.value()) {
            return Err(self.refused(at, name, "is of a kind that is unknown"));
        }
        if let Some(why) = fault(name, kind == EntryKind::Link) {
            return Err(self.refused(at, name, why));
        }
        let path = self.trees[at].path + usize::from(at > 0) + name.len();
        if path > MAX_PATH {
            return Err(self.refused(at, name, "is a path of more than 4,095 bytes"));
        }
        let sum = &mut self.trees[at].sum;
        sum.paths += 1;
        sum.bytes += name.len() as u64;
        sum.longest = sum.longest.max(name.len());
        match kind {
            EntryKind::Tree => {
                let place = (at, self.trees[at].below.len());
                let tree = self.meet(id, Some(place), path);
                self.trees[at].below.push((tree, name.to_vec().into()));
                return Ok(());
            }
            EntryKind::Commit => {
                self.submodules.push(shown(&self.path(at, name)));
                return Ok(());
            }
            EntryKind::Link => {
                self.links.entry(id).or_insert_with(|| (at, name.to_vec().into()));
            }
            EntryKind::Blob | EntryKind::BlobExecutable if name == ".gitattributes" => {
                self.attributes.push(id);
            }
            EntryKind::Blob | EntryKind::BlobExecutable => {}
        }
        if !repo.has_object(id) {
            self.missing.push(id);
        }
        Ok(())
    }

    /// Adds to each tree what is below it, wherever that stands.
    fn sum_up(&mut self) -> Result<(), SourceError> {
        let mut above = vec![0_usize; self.trees.len()];
        let below = self.trees.iter().flat_map(|tree| &tree.below);
        below.for_each(|(tree, _)| above[*tree] += 1);
        // Each comes after all that it stands in.
        let mut order = vec![0];
        let mut next = 0;
        while let Some(at) = order.get(next).copied() {
            for (tree, _) in &self.trees[at].below {
                above[*tree] -= 1;
                if above[*tree] == 0 {
                    order.push(*tree);
                }
            }
            next += 1;
        }
        for at in order.into_iter().rev() {
            let mut sum = self.trees[at].sum;
            for (tree, name) in &self.trees[at].below {
                let Sum { paths, bytes, longest } = self.trees[*tree].sum;
                let name = name.len() + 1;
                sum.paths = sum.paths.saturating_add(paths);
                let names = paths.saturating_mul(name as u64);
                sum.bytes = sum.bytes.saturating_add(bytes).saturating_add(names);
                sum.longest = sum.longest.max(name.saturating_add(longest));
            }
            self.trees[at].sum = sum;
        }
        let Sum { paths, bytes, longest } = self.trees[0].sum;
        if longest > MAX_PATH {
            let why = "is a path of more than 4,095 bytes";
            return Err(self.refused_at(&self.longest(), why));
        }
        match paths.saturating_mul(INDEXED).saturating_add(bytes) > MAX_INDEX {
            true => Err(self.too_large(paths)),
            false => Ok(()),
        }
    }

    /// The way down to the longest of all paths.
    fn longest(&self) -> Vec<u8> {
        let (mut path, mut at) = (Vec::new(), 0);
        let all = |(tree, name): &&(usize, Box<[u8]>)| name.len() + self.trees[*tree].sum.longest;
        while let Some((tree, name)) = self.trees[at].below.iter().max_by_key(all) {
            path.extend_from_slice(name);
            path.push(b'/');
            at = *tree;
        }
        path.pop();
        path
    }

    /// The path of `name` in the tree `at`; of the tree itself if there is no name.
    fn path(&self, at: usize, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut tree = &self.trees[at];
        while let Some((above, number)) = tree.place {
            tree = &self.trees[above];
            names.push(&tree.below[number].1);
        }
        names.reverse();
        names.join(&b'/')
    }

    fn refused(&self, at: usize, name: &[u8], why: &'static str) -> SourceError {
        self.refused_at(&self.path(at, name), why)
    }

    fn refused_at(&self, path: &[u8], why: &'static str) -> SourceError {
        let path = if path.is_empty() { "/".to_owned() } else { shown(path) };
        SourceError::Refused { address: self.address.clone(), path, why }
    }

    fn too_large(&self, paths: u64) -> SourceError {
        SourceError::TooLarge { address: self.address.clone(), paths }
    }

    /// Looks again whether blobs are missing, in a repository that was opened since.
    pub fn look_again(&mut self, repo: &gix::Repository) {
        let mut repo = repo.clone();
        repo.objects.refresh_never();
        self.missing.retain(|id| !repo.has_object(id));
    }

    /// Looks at the links' targets, now that nothing is missing.
    ///
    /// # Errors
    /// [`SourceError::Refused`] for one that no link of Linux's can have.
    pub fn check_links(&self, repo: &gix::Repository) -> Result<(), SourceError> {
        let error = |e| SourceError::repository(repo.git_dir())(e);
        for (id, (at, name)) in &self.links {
            let header = repo.find_header(*id).map_err(|e| error(Box::new(e)))?;
            let why = match header.size() {
                _ if header.kind() != Kind::Blob => "is called a link, and is none",
                0 => "is a link to nothing",
                size if size > MAX_TARGET as u64 => "is a link to more than 4,095 bytes",
                _ => {
                    let target = repo.find_object(*id).map_err(|e| error(Box::new(e)))?;
                    match target.data.contains(&0) {
                        true => "is a link to a path with a NUL in it",
                        false => continue,
                    }
                }
            };
            return Err(self.refused(*at, name, why));
        }
        Ok(())
    }

    /// What a user must know about it: submodules, and files that a filter is to make.
    pub fn notices(&self, repo: &gix::Repository) -> Vec<String> {
        let mut notices = Vec::new();
        if !self.submodules.is_empty() {
            notices.push(format!(
                "its submodules are left out ({}); run `git submodule update --init` inside",
                some(&self.submodules)
            ));
        }
        let mut filters = self.filters(repo);
        if filters.iter().any(|filter| filter == "lfs") {
            let text = "it keeps files in Git LFS, of which there are only pointers here; \
                        run `git lfs pull` inside";
            notices.push(text.to_owned());
        }
        filters.retain(|filter| filter != "lfs");
        if !filters.is_empty() {
            notices.push(format!(
                "its files are shown as they are stored, without the filters {}; \
                 set them up and run `git checkout .` inside",
                some(&filters)
            ));
        }
        notices
    }

    /// The filters that its attributes name, sorted.
    fn filters(&self, repo: &gix::Repository) -> Vec<String> {
        let mut filters = Vec::new();
        for id in &self.attributes {
            let short = repo.find_header(*id).is_ok_and(|header| header.size() <= MAX_ATTRIBUTES);
            let Some(Ok(blob)) = short.then(|| repo.find_blob(*id)) else { continue };
            for line in blob.data.lines().filter(|line| !line.starts_with(b"#")) {
                let attributes = line.split(|c| c.is_ascii_whitespace()).skip(1);
                filters.extend(attributes.filter_map(|a| a.strip_prefix(b"filter=")).map(shown));
            }
        }
        filters.sort_unstable();
        filters.dedup();
        filters
    }
}

/// Directory, link, submodule, or a regular file; of whose bits git minds only one, since old
/// versions of it wrote others.
fn is_mode(mode: u16) -> bool {
    matches!(mode, 0o040_000 | 0o120_000 | 0o160_000) || mode & !0o777 == 0o100_000
}

/// The entries as git writes them. Readers do not agree about what is written otherwise.
fn written(entries: &[EntryRef<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(entry.mode.as_bytes(&mut [0; 6]));
        bytes.push(b' ');
        bytes.extend_from_slice(entry.filename);
        bytes.push(0);
        bytes.extend_from_slice(entry.oid.as_bytes());
    }
    bytes
}

/// The first few of `names`.
fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
