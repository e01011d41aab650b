//! Where git's configuration leads inside a workspace: to hooks, by `core.hooksPath`, and to more configuration,
//! by what is included.
//!
//! It may name anything. A directory of hooks or a file is kept as it is; but not where the agent is at work
//! itself (`core.hooksPath = .`), and not by a link in the workspace, which can be made to lead elsewhere at any
//! time. That is said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::context::Context;
use crate::ordinary;
use crate::source::configuration::{LARGEST, Leads};

/// So is a directory called which starts the hooks that lie beside it.
const STARTS: &str = "_";
/// As many links on a way as the kernel follows.
const LINKS: usize = 40;

/// What is led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Led {
    /// Below the workspace; whether each would be a directory, where it is not there.
    pub kept: BTreeMap<PathBuf, bool>,
    /// What cannot be kept, for people.
    pub open: BTreeSet<String>,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// To what an agent does not see.
    Outside,
    /// To this, below the workspace.
    Inside(PathBuf),
    /// By this, which an agent can exchange; below the workspace.
    Loose(PathBuf),
}

/// What is led to in the workspace at `files`, in which there are the repositories `inner`.
pub(super) fn led(ctx: &Context, files: &Path, inner: &[PathBuf]) -> Led {
    let mut led = Led::default();
    let Ok(files) = files.canonicalize() else { return led };
    let user = Leads::of_user(ctx);
    let trees: Vec<(&Path, PathBuf)> = [Path::new("")]
        .into_iter()
        .chain(inner.iter().map(PathBuf::as_path))
        .filter_map(|tree| Some((tree, git_directory(&files.join(tree))?)))
        .collect();
    let whole: BTreeSet<PathBuf> =
        trees.iter().flat_map(|(tree, git)| [files.join(tree), git.clone()]).collect();
    for (tree, git) in &trees {
        let mut leads = user.clone();
        for name in ["config", "config.worktree"] {
            leads.follow(ctx, git.join(name));
        }
        for hooks in &leads.hooks {
            // Those of a push that comes in are run in the latter.
            for base in [&files.join(tree), git] {
                if !led.hooks(&files, &whole, (base, hooks)) {
                    break;
                }
            }
        }
        for (base, file) in &leads.files {
            led.keep(&files, lead(&files, (base, file)), false);
        }
        for file in leads.unread {
            led.open.insert(format!(
                "`{}` is a part of git's configuration and was not read: hooks and files that it names are not \
                 kept as they are",
                file.display()
            ));
        }
    }
    led
}

impl Led {
    /// Adds those that are at `hooks` from `base`, unless that is one of `whole`; whether it did.
    fn hooks(
        &mut self,
        files: &Path,
        whole: &BTreeSet<PathBuf>,
        (base, hooks): (&Path, &Path),
    ) -> bool {
        let way = match lead(files, (base, hooks)) {
            Way::Inside(path) if whole.contains(&files.join(&path)) => {
                // Without a slash at its end.
                let there: PathBuf = files.join(path).components().collect();
                self.open.insert(format!(
                    "git's hooks are in `{}` itself (`core.hooksPath`), which an agent or app may change: git will run \
                     what is called like a hook there; a directory of their own would be kept as it is",
                    there.display()
                ));
                return false;
            }
            Way::Inside(path) if path.file_name().is_some_and(|name| name == STARTS) => {
                let beside = path.parent().filter(|dir| !whole.contains(&files.join(dir)));
                Way::Inside(beside.unwrap_or(&path).to_owned())
            }
            other => other,
        };
        self.keep(files, way, true);
        true
    }

    fn keep(&mut self, files: &Path, way: Way, directory: bool) {
        match way {
            Way::Inside(path) if !path.as_os_str().is_empty() => {
                *self.kept.entry(path).or_default() |= directory;
            }
            Way::Inside(_) | Way::Outside => {}
            Way::Loose(path) => {
                self.open.insert(format!(
                    "git's configuration leads to hooks or more of it by `{}`, which an agent or app may exchange: git \
                     will run what it then leads to",
                    files.join(path).display()
                ));
            }
        }
    }
}

/// The directory of the repository that `tree` is the work tree of.
fn git_directory(tree: &Path) -> Option<PathBuf> {
    let git = tree.join(".git");
    let about = git.symlink_metadata().ok()?;
    if about.is_dir() {
        return Some(git);
    }
    let text = ordinary::read(&git, LARGEST).ok()?;
    let path = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
    tree.join(gix::path::try_from_byte_slice(path).ok()?).canonicalize().ok()
}

/// Where `path` leads from `base`, which stays where it is. Both `root` and `base` have no link on the way.
fn lead(root: &Path, (base, path): (&Path, &Path)) -> Way {
    let parts = |path: &Path| -> VecDeque<OsString> {
        path.components().map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut at, mut rest, mut links, mut went) = (base.to_owned(), parts(path), 0, false);
    // What is strictly below the workspace.
    let inside = |at: &Path| {
        at.strip_prefix(root).ok().filter(|at| !at.as_os_str().is_empty()).map(Path::to_owned)
    };
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => match inside(&at).filter(|_| went) {
                // A link may be put into its place.
                Some(loose) => return Way::Loose(loose),
                None => {
                    at.pop();
                }
            },
            Some(Component::Normal(name)) => {
                at.push(name);
                went = true;
                let Ok(target) = fs::read_link(&at) else { continue };
                if let Some(loose) = inside(&at) {
                    return Way::Loose(loose);
                }
                links += 1;
                if links > LINKS {
                    return Way::Outside;
                }
                at.pop();
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            _ => {}
        }
    }
    at.strip_prefix(root).map_or(Way::Outside, |path| Way::Inside(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Tree {
        files: PathBuf,
        ctx: Context,
        _dir: tempfile::TempDir,
    }

    /// A workspace, whose user's configuration is `user`; in both texts `{}` is the directory around it.
    fn tree(own: &str, user: &str) -> Tree {
        let dir = tempfile::tempdir().expect("made");
        let at = dir.path().canonicalize().expect("there");
        let here = |text: &str| text.replace("{}", at.to_str().expect("UTF-8"));
        let files = at.join("w");
        fs::create_dir_all(files.join(".git")).expect("made");
        fs::write(files.join(".git/config"), here(own)).expect("written");
        fs::write(at.join("user"), here(user)).expect("written");
        let vars = [("GIT_CONFIG_NOSYSTEM", "1".into()), ("GIT_CONFIG_GLOBAL", at.join("user"))];
        let ctx = Context::of_test(
            &at.join("zagi"),
            vars.map(|(key, value)| (key.into(), value.into())).into(),
        );
        Tree { files, ctx, _dir: dir }
    }

    impl Tree {
        fn led(&self, inner: &[&str]) -> (Vec<(String, bool)>, Vec<String>) {
            let inner: Vec<PathBuf> = inner.iter().map(PathBuf::from).collect();
            let led = led(&self.ctx, &self.files, &inner);
            let kept = led
                .kept
                .into_iter()
                .map(|(path, directory)| (path.display().to_string(), directory));
            (kept.collect(), led.open.into_iter().collect())
        }

        fn make(&self, directory: &str) {
            fs::create_dir_all(self.files.join(directory)).expect("made");
        }
    }

    fn kept(all: &[(&str, bool)]) -> Vec<(String, bool)> {
        all.iter().map(|(path, directory)| ((*path).to_owned(), *directory)).collect()
    }

    #[test]
    fn hooks_in_the_tree_are_kept_there_or_not() {
        let tree = tree("[core]\n\thooksPath = tools/./hooks/\n", "");
        let expected = kept(&[(".git/tools/hooks", true), ("tools/hooks", true)]);
        assert_eq!(tree.led(&[]), (expected.clone(), vec![]));
        tree.make("tools/hooks");
        assert_eq!(tree.led(&[]), (expected, vec![]));
    }

    #[test]
    fn the_users_own_hooks_path_leads_into_every_tree() {
        let tree = tree("[core]\n\thooksPath = {}/w/a\n", "[core]\n\thooksPath = h\n");
        tree.make("in/.git");
        tree.make(".git/modules/sub");
        tree.make("sub");
        fs::write(tree.files.join("sub/.git"), "gitdir: ../.git/modules/sub\n").expect("written");
        let own = "[core]\n\thooksPath = ../b\n[include]\n\tpath = ../../../sub/more\n";
        fs::write(tree.files.join(".git/modules/sub/config"), own).expect("written");
        let (found, open) = tree.led(&["in", "sub"]);
        let expected = [
            (".git/h", true),
            (".git/modules/b", true),
            (".git/modules/sub/h", true),
            ("a", true),
            ("b", true),
            ("h", true),
            ("in/.git/h", true),
            ("in/h", true),
            ("sub/h", true),
            ("sub/more", false),
        ];
        assert_eq!(found, kept(&expected));
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn what_starts_the_hooks_beside_it_is_kept_with_them() {
        let tree = tree("[core]\n\thooksPath = .hooks/_\n", "[core]\n\thooksPath = _\n");
        let expected = [(".git/.hooks", true), (".git/_", true), (".hooks", true), ("_", true)];
        assert_eq!(tree.led(&[]), (kept(&expected), vec![]));
    }

    #[test]
    fn what_is_outside_is_not_seen_by_an_agent() {
        for hooks in [
            "../hooks",
            "~/hooks",
            "~nobody-is-called-so/hooks",
            "/x/../hooks",
            "{}/hooks",
            "{}/w/../h",
        ] {
            let tree =
                tree(&format!("[core]\n\thooksPath = {hooks}\n[include]\n\tpath = ../../x\n"), "");
            assert_eq!(tree.led(&[]).1, [""; 0], "{hooks}");
            // From `.git`, where hooks of a push that comes in are run.
            let inside = tree.led(&[]).0;
            let below = if hooks == "../hooks" { kept(&[("hooks", true)]) } else { vec![] };
            assert_eq!(inside, below, "{hooks}");
        }
    }

    #[test]
    fn a_tree_that_is_all_hooks_is_said() {
        for hooks in [".", "./", "..", "{}/w", "sub", "sub/.git", ".git"] {
            let tree = tree(&format!("[core]\n\thooksPath = {hooks}\n"), "");
            tree.make("sub/.git");
            let (found, open) = tree.led(&["sub"]);
            let whole = |said: &String| said.contains("itself (`core.hooksPath`)");
            assert!(!open.is_empty() && open.iter().all(whole), "{hooks}: {open:?}");
            let wholly = ["", ".git", "sub", "sub/.git"];
            assert!(
                !found.iter().any(|(path, _)| wholly.contains(&path.as_str())),
                "{hooks}: {found:?}"
            );
        }
    }

    #[test]
    fn included_files_are_kept_and_what_they_include() {
        let own =
            "[include]\n\tpath = ../.gitconfig\n[includeIf \"onbranch:x\"]\n\tpath = {}/w/c/gone\n";
        let tree = tree(own, "[include]\n\tpath = w/users\n");
        tree.make("c");
        fs::write(tree.files.join(".gitconfig"), "[include]\n\tpath = c/one\n").expect("written");
        fs::write(
            tree.files.join("c/one"),
            "[include]\n\tpath = ../two\n[core]\n\thooksPath = h\n",
        )
        .expect("written");
        let expected = [
            (".git/h", true),
            (".gitconfig", false),
            ("c/gone", false),
            ("c/one", false),
            ("h", true),
            ("two", false),
            ("users", false),
        ];
        assert_eq!(tree.led(&[]), (kept(&expected), vec![]));
    }

    #[test]
    fn links_in_the_tree_are_said_and_those_outside_followed() {
        let own = "[core]\n\thooksPath = way/hooks\n[include]\n\tpath = {}/aside/more\n\tpath = ../linked\n";
        let tree = tree(own, "[core]\n\thooksPath = {}/w/a/../b\n");
        let around = tree.files.parent().expect("it is in one").to_owned();
        symlink("elsewhere", tree.files.join("way")).expect("made");
        symlink("more", tree.files.join("linked")).expect("made");
        symlink("first", around.join("aside")).expect("made");
        symlink(&tree.files, around.join("first")).expect("made");
        let (found, open) = tree.led(&[]);
        // Where a link leads is none of what is kept.
        assert_eq!(found, kept(&[(".git/way/hooks", true), ("more", false)]));
        let loose =
            ["a", "linked", "way"].map(|name| format!("by `{}`", tree.files.join(name).display()));
        assert_eq!(open.len(), loose.len(), "{open:?}");
        for (said, name) in open.iter().zip(loose) {
            assert!(said.contains(&name), "{said}");
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let tree = tree("[include]\n\tpath = ../pipe\n", "");
        let pipe = tree.files.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let (found, open) = tree.led(&[]);
        assert_eq!(found, kept(&[("pipe", false)]));
        assert!(open.len() == 1 && open[0].contains("was not read"), "{open:?}");
    }
}
