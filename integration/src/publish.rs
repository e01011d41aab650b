//! Directories as repositories that a git server publishes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a bare repository `name` below `root` that holds the files of `from` in one commit
/// with a fixed date, and lets it be fetched partially.
pub fn publish(from: &Path, root: &Path, name: &str) -> PathBuf {
    let work = tempfile::tempdir().expect("a temporary directory");
    let git = |dir: &Path, arguments: &[&str]| {
        let out = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", "2025-06-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2025-06-01T00:00:00Z")
            .output()
            .expect("git is there");
        assert!(
            out.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    let tree = work.path().join("tree");
    let copied = Command::new("cp").arg("-r").arg(from).arg(&tree).status();
    assert!(copied.is_ok_and(|s| s.success()), "cannot copy {}", from.display());
    git(&tree, &["init", "-q", "-b", "main"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-q", "-m", "first"]);
    let bare = root.join(name);
    git(root, &["clone", "-q", "--bare", tree.to_str().expect("UTF-8"), name]);
    git(&bare, &["config", "uploadpack.allowFilter", "true"]);
    git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    bare
}
