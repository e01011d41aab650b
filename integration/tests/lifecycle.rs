//! mount, list, status, unmount, resume, discard.

use std::path::{Path, PathBuf};

use zagi_integration::machine::{Machine, Who};

/// A machine with a small local repository, which needs no tool at all.
fn with_repository(who: Who) -> (Machine, PathBuf) {
    let machine = Machine::new(who);
    let repository = super::git::repository(&machine, "letters");
    (machine, repository)
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn round(who: Who) {
    let (machine, repository) = with_repository(who);
    let dir = machine.work().join("a");
    machine.zagi(&["mount", str(&repository), "a"]).ok();
    let sh = |script: &str| machine.sh(&dir, script).ok().out;
    assert_eq!(
        sh("cat alpha.txt sub/beta.txt; readlink link; ./run"),
        "alpha\nbeta\nsub/beta.txt\nran\n"
    );

    sh("echo more >> alpha.txt; mkdir -p new/deep; echo n > new/deep/file; rm sub/beta.txt;
         ln alpha.txt hard; chmod 600 run");
    let status = machine.zagi(&["status", "--json", "a"]).ok().json();
    let changes = status["source"]["changes"].as_array().unwrap();
    let kind = |path: &str| {
        let found = changes.iter().find(|c| c["path"] == path);
        found.unwrap_or_else(|| panic!("{path} is not in {changes:?}"))["kind"].clone()
    };
    assert_eq!(kind("alpha.txt"), "modified");
    assert_eq!(kind("sub/beta.txt"), "deleted");
    assert_eq!(kind("new/deep/file"), "created");
    assert_eq!(kind("run"), "modified");

    let list = machine.zagi(&["list", "--json"]).ok().json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["path"], str(&dir));
    assert_eq!(list[0]["presented"], "fuse");
    assert_eq!(list[0]["mounted"], true);

    machine.zagi(&["unmount", "a"]).ok();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    assert_eq!(machine.zagi(&["list", "--json"]).ok().json()[0]["mounted"], false);

    machine.zagi(&["mount", "./a"]).ok();
    assert_eq!(
        sh("cat alpha.txt hard new/deep/file; ls sub; stat -c %a run"),
        "alpha\nmore\nalpha\nmore\nn\n600\n"
    );

    let loss = machine.zagi(&["discard", "--dry-run", "a"]).ok().err;
    assert!(loss.contains("alpha.txt") && loss.contains("new/deep/file"), "{loss}");
    machine.zagi(&["discard", "a"]).fails(1, "--yes");
    assert_eq!(sh("cat new/deep/file"), "n\n");
    machine.zagi(&["discard", "--yes", "a"]).ok();
    assert!(!dir.exists());
    assert_eq!(machine.zagi(&["list", "--json"]).ok().json().as_array().unwrap().len(), 0);
    let kept = std::fs::read_dir(machine.home().join("workspaces")).unwrap().flatten();
    assert_eq!(kept.filter(|e| e.file_name() != "by-path").count(), 0);
}

#[test]
fn round_as_root() {
    round(Who::Me);
}

#[test]
fn round_as_an_ordinary_user() {
    round(Who::Ordinary);
}

#[test]
fn busy_is_refused_and_forced() {
    let (machine, repository) = with_repository(Who::Me);
    machine.zagi(&["mount", str(&repository), "a"]).ok();
    let dir = machine.work().join("a");
    std::fs::write(dir.join("kept"), "kept").unwrap();
    let mut user = machine.command("sleep", &dir).arg("60").spawn().unwrap();
    machine.zagi(&["unmount", "a"]).fails(1, "in use");
    assert_eq!(std::fs::read(dir.join("kept")).unwrap(), b"kept");
    machine.zagi(&["unmount", "--force", "a"]).ok();
    user.kill().unwrap();
    user.wait().unwrap();
    machine.zagi(&["mount", "a"]).ok();
    assert_eq!(std::fs::read(dir.join("kept")).unwrap(), b"kept");
}

#[test]
fn two_workspaces_of_one_repository_share_all_but_changes() {
    let (machine, repository) = with_repository(Who::Me);
    for name in ["a", "b"] {
        machine.zagi(&["mount", "--offline", str(&repository), name]).ok();
    }
    let (a, b) = (machine.work().join("a"), machine.work().join("b"));
    std::fs::write(a.join("alpha.txt"), "mine").unwrap();
    assert_eq!(std::fs::read(b.join("alpha.txt")).unwrap(), b"alpha\n");
    use std::os::unix::fs::MetadataExt;
    let (one, two) = (a.join("sub").metadata().unwrap(), b.join("sub").metadata().unwrap());
    assert_eq!((one.ino(), one.mtime()), (two.ino(), two.mtime()));
    let clones = std::fs::read_dir(machine.home().join("repos")).unwrap().flatten();
    assert_eq!(clones.filter(|e| e.path().join("objects").is_dir()).count(), 1);
}
