//! A directory of the repository, and paths below it.

use std::collections::BTreeSet;

/// One directory's names.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub root: String,
    pub files: BTreeSet<String>,
    pub directories: BTreeSet<String>,
}

impl Place {
    /// The path in the repository of `name` in this directory.
    pub fn path(&self, name: &str) -> String {
        join(&self.root, name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains(name)
    }

    /// The paths of those of `names` that are here.
    pub fn present(&self, names: &[&str]) -> Vec<String> {
        names.iter().filter(|name| self.has(name)).map(|name| self.path(name)).collect()
    }

    pub fn is_root(&self) -> bool {
        self.root.is_empty()
    }
}

/// `dir/name`, or `name` at the root.
pub(super) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
