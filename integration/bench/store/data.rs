//! What is stored in the benchmark: real packages from npm, before and after a set of patch
//! and minor bumps.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages before and after the bumps.
type Packages = &'static [(&'static str, &'static str, &'static str)];

/// Some 70,000 files of a front end, without what it could be built for.
const MODULES: Packages = &[
    ("react-scripts", "5.0.1", "5.0.1"),
    ("lodash", "4.17.21", "4.17.21"),
    ("next", "14.0.4", "14.1.0"),
    ("typescript", "5.3.2", "5.3.3"),
    ("@mui/material", "5.15.0", "5.15.6"),
    ("aws-sdk", "2.1520.0", "2.1540.0"),
    ("esbuild", "0.19.9", "0.19.12"),
    ("eslint", "8.55.0", "8.56.0"),
    ("prettier", "3.1.0", "3.2.4"),
    ("three", "0.159.0", "0.160.0"),
    ("antd", "5.12.1", "5.13.0"),
];

/// A few large programs.
const BINARIES: Packages = &[
    ("@next/swc-linux-x64-gnu", "14.0.3", "14.0.4"),
    ("@swc/core-linux-x64-gnu", "1.3.100", "1.3.101"),
    ("@esbuild/linux-x64", "0.19.9", "0.19.12"),
    ("turbo-linux-64", "1.11.1", "1.11.2"),
    ("@biomejs/cli-linux-x64", "1.4.1", "1.5.0"),
];

/// One set of files, at one place, in two states.
pub struct Data {
    /// What it is.
    pub name: &'static str,
    /// The directory that is stored. It holds the first state between measurements.
    pub tree: PathBuf,
    before: PathBuf,
    after: PathBuf,
    /// Regular files of the first state, and their lengths in all.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
}

/// Both sets, installed below `dir` unless an earlier run has left them there.
pub fn all(dir: &Path) -> [Data; 2] {
    [("node_modules", MODULES), ("binaries", BINARIES)].map(|(name, packages)| {
        let dir = dir.join(name);
        let before = install(&dir.join("before"), packages, |p| p.1, None);
        let after = install(&dir.join("after"), packages, |p| p.2, Some(&before));
        let tree = dir.join("tree");
        if !tree.exists() {
            copy(&before, &tree);
        }
        let mut data = Data { name, tree, before, after, files: 0, bytes: 0 };
        data.rewind();
        for entry in walkdir::WalkDir::new(&data.tree) {
            let found = entry.and_then(|e| e.metadata()).expect("it was just made");
            if found.is_file() {
                data.files += 1;
                data.bytes += found.len();
            }
        }
        data
    })
}

fn install(
    project: &Path,
    packages: Packages,
    version: impl Fn(&(&str, &'static str, &'static str)) -> &'static str,
    start: Option<&Path>,
) -> PathBuf {
    let modules = project.join("node_modules");
    if project.join("done").exists() {
        return modules;
    }
    let _ = std::fs::remove_dir_all(project);
    match start {
        // So that all else stays what it is.
        Some(start) => copy(start.parent().expect("it is in a project"), project),
        None => {
            std::fs::create_dir_all(project).expect("the directory is ours");
            std::fs::write(project.join("package.json"), "{\"private\":true}").expect("so is this");
        }
    }
    let mut npm = Command::new("npm");
    npm.current_dir(project).args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.args(["--legacy-peer-deps", "--force", "--save-exact"]);
    npm.args(packages.iter().map(|p| format!("{}@{}", p.0, version(p))));
    assert!(npm.status().expect("npm is on PATH").success(), "npm install failed");
    std::fs::write(project.join("done"), "").expect("so is this");
    modules
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp is there").success(), "cp failed");
}

impl Data {
    /// Empties the page cache, where this may, and reads the tree into it: what others have
    /// left in it must not be in anybody's way.
    pub fn warm(&self) {
        nix::unistd::sync();
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
        for entry in walkdir::WalkDir::new(&self.tree) {
            let entry = entry.expect("the tree can be read");
            if entry.file_type().is_file() {
                std::fs::read(entry.path()).expect("it can be read");
            }
        }
    }

    /// Brings the tree to the second state, as a package manager does: only what differs is
    /// touched.
    pub fn bump(&self) {
        sync(&self.after, &self.tree);
    }

    /// Brings the tree back to the first state.
    pub fn rewind(&self) {
        sync(&self.before, &self.tree);
    }

    /// Asserts that `other` holds what the tree holds now.
    ///
    /// # Panics
    /// Where it does not.
    pub fn assert_same(&self, other: &Path) {
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference", "-q"]).arg(&self.tree).arg(other);
        assert!(diff.status().expect("diff is there").success(), "{} differs", other.display());
    }
}

/// Makes `to` what `from` is, touching only what differs.
fn sync(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(to).contents_first(true) {
        let entry = entry.expect("the tree can be read");
        let other = from.join(entry.path().strip_prefix(to).expect("it is below"));
        if !is_same(entry.path(), &other) {
            match entry.file_type().is_dir() {
                // One that has become something else, or is gone.
                true if !other.is_dir() => std::fs::remove_dir(entry.path()).expect("it is empty"),
                true => {}
                false => std::fs::remove_file(entry.path()).expect("it is ours"),
            }
        }
    }
    for entry in walkdir::WalkDir::new(from).min_depth(1) {
        let entry = entry.expect("the tree can be read");
        let target = to.join(entry.path().strip_prefix(from).expect("it is below"));
        if std::fs::symlink_metadata(&target).is_ok() {
            continue;
        }
        let kind = entry.file_type();
        if kind.is_dir() {
            std::fs::create_dir(&target).expect("its parent came before it");
        } else if kind.is_symlink() {
            let to = std::fs::read_link(entry.path()).expect("it is a link");
            std::os::unix::fs::symlink(to, &target).expect("nothing is there");
        } else {
            std::fs::copy(entry.path(), &target).expect("nothing is there");
        }
    }
}

fn is_same(a: &Path, b: &Path) -> bool {
    let (Ok(one), Ok(other)) = (std::fs::symlink_metadata(a), std::fs::symlink_metadata(b)) else {
        return false;
    };
    if one.is_dir() || other.is_dir() {
        return one.is_dir() && other.is_dir();
    }
    if one.is_symlink() || other.is_symlink() {
        return std::fs::read_link(a).ok() == std::fs::read_link(b).ok();
    }
    one.len() == other.len()
        && one.mode() & 0o100 == other.mode() & 0o100
        && std::fs::read(a).ok() == std::fs::read(b).ok()
}

/// The first `files` files of a tree, in the order of their names.
pub fn some(tree: &Path, files: usize, to: &Path) {
    if to.exists() {
        return;
    }
    let mut left = files;
    for entry in walkdir::WalkDir::new(tree).sort_by_file_name() {
        let entry = entry.expect("the tree can be read");
        let target = to.join(entry.path().strip_prefix(tree).expect("it is below"));
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target).expect("the directory is ours");
        } else if entry.file_type().is_file() {
            std::fs::copy(entry.path(), &target).expect("nothing is there");
            left -= 1;
        }
        if left == 0 {
            return;
        }
    }
}

/// `files` small files, different, a hundred a directory.
pub fn many(files: usize, to: &Path) {
    if to.exists() {
        return;
    }
    for i in 0..files {
        let sub = to.join(format!("d{:03}/e{:02}", i / 10_000, i / 100 % 100));
        if i % 100 == 0 {
            std::fs::create_dir_all(&sub).expect("the directory is ours");
        }
        let content = format!("module.exports = require('./f{i}')\n").repeat(1 + i % 7);
        std::fs::write(sub.join(format!("file-{i}.js")), content).expect("so is this");
    }
}
