//! What the user of an agent is told: at its start of what it sees and does not see, and at its end of
//! what it left that git would run by, outside.

use std::fs;
use std::path::{Path, PathBuf};

use crate::event::{Event, Events};
use crate::workspace::pins;

/// In the name of a file that only shows how another is to look.
const SAMPLES: [&str; 6] = ["example", "sample", "template", "dist", "schema", "vault"];
/// What `git rebase --continue` does next, which may be to run a command (git-rebase(1), `exec`).
const STEPS: &str = "rebase-merge/git-rebase-todo";

/// A workspace before an agent is at work in it.
pub(super) struct Before<'a> {
    root: &'a Path,
    events: &'a dyn Events,
    /// Repositories inside this one.
    repositories: Vec<PathBuf>,
    /// Rebases that have begun.
    rebases: Vec<PathBuf>,
}

impl<'a> Before<'a> {
    /// Looks at the workspace at `root`, and says what one may not expect.
    pub fn look(root: &'a Path, events: &'a dyn Events) -> Before<'a> {
        let (repositories, rebases) = (pins::repositories(root), rebases(root));
        let before = Before { root, events, repositories, rebases };
        if root.join(".git").symlink_metadata().is_ok_and(|about| !about.is_dir()) {
            before.warn(format!(
                "`{}` leads to a repository elsewhere, which the agent is not shown: git does not work in it; \
                 `zagi mount` makes a directory that has one of its own",
                root.join(".git").display()
            ));
        }
        for name in dotenv(root) {
            before.warn(format!(
                "the agent reads `{name}`, which the repository does not have: if there are secrets in it, \
                 `zagi secrets import {name}` takes them over, and then delete it"
            ));
        }
        before
    }

    /// Says what is there now and was not before.
    pub fn after(&self) {
        for path in pins::repositories(self.root) {
            if !self.repositories.contains(&path) {
                let path = path.display();
                self.warn(format!(
                    "the agent put a repository at `{path}` into this one: git runs what \
                     `{path}/.git/config` says as soon as you ask for the status; `rm -rf {path}/.git` first"
                ));
            }
        }
        for path in rebases(self.root) {
            if !self.rebases.contains(&path) {
                self.warn(format!(
                    "the agent left a rebase that has not ended: `git rebase --continue` would run what \
                     `{}` says; look at it first, or `git rebase --abort`",
                    path.display()
                ));
            }
        }
    }

    fn warn(&self, text: String) {
        self.events.emit(Event::Warning(text));
    }
}

/// The files at the top in which programs look for variables, where they are the user's own: the
/// repository does not have them.
fn dotenv(root: &Path) -> Vec<String> {
    let index = pins::index(root);
    let tracked = |name: &str| {
        index.as_ref().is_some_and(|index| index.entry_by_path(name.as_bytes().into()).is_some())
    };
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name == ".env" || name.starts_with(".env."))
        .filter(|name| !SAMPLES.iter().any(|sample| name.contains(sample)) && !tracked(name))
        .collect();
    names.sort();
    names
}

/// Below `.git`, also of linked worktrees.
fn rebases(root: &Path) -> Vec<PathBuf> {
    let git = root.join(".git");
    let linked = fs::read_dir(git.join("worktrees")).into_iter().flatten().flatten();
    let all = [git].into_iter().chain(linked.map(|entry| entry.path()));
    all.map(|dir| dir.join(STEPS)).filter(|path| path.symlink_metadata().is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    #[test]
    fn only_the_users_own_variables_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [".env", ".env.local", ".env.example", ".env.test", ".envrc", "x.env"] {
            fs::write(root.join(name), "A=1").unwrap();
        }
        fs::create_dir(root.join(".env.d")).unwrap();
        assert_eq!(dotenv(root), [".env", ".env.local", ".env.test"]);
        for args in [&["init", "-q"][..], &["add", ".env.test", ".envrc"]] {
            let git = Command::new("git").arg("-C").arg(root).args(args).status();
            assert!(git.unwrap().success());
        }
        assert_eq!(dotenv(root), [".env", ".env.local"]);
    }
}
