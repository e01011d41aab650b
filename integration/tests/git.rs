//! Unmodified git inside a workspace.

use std::path::PathBuf;

use zagi_integration::machine::{Machine, Said, Who};

/// A small repository in the machine's work directory.
pub fn repository(machine: &Machine, name: &str) -> PathBuf {
    let dir = machine.work().join(format!("{name}-origin"));
    let script = r#"
        mkdir -p "$1/sub" && cd "$1" && git init -q -b main
        echo alpha > alpha.txt; echo beta > sub/beta.txt; ln -s sub/beta.txt link
        printf '#!/bin/sh\necho ran\n' > run; chmod +x run
        export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@localhost GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@localhost
        git add -A && git commit -q -m first && git tag v1
        echo two >> alpha.txt && git commit -q -a -m second && git checkout -q -b side HEAD~1
        git checkout -q main && git reset -q --hard HEAD~1
    "#;
    let work = machine.work();
    let mut sh = machine.command("sh", &work);
    Said::of(sh.args(["-ec", script, "sh"]).arg(&dir)).ok();
    dir
}

fn works(who: Who) {
    let machine = Machine::new(who);
    let origin = repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");

    assert_eq!(machine.git(&w, &["status", "--porcelain"]).ok().out, "");
    assert_eq!(machine.git(&w, &["log", "--format=%s"]).ok().out, "first\n");
    assert_eq!(machine.git(&w, &["branch", "--show-current"]).ok().out, "main\n");
    assert_eq!(machine.git(&w, &["tag"]).ok().out, "v1\n");
    machine.git(&w, &["fsck", "--strict"]).ok();

    machine.sh(&w, "echo changed > alpha.txt; rm sub/beta.txt; echo new > new.txt").ok();
    let status = machine.git(&w, &["status", "--porcelain"]).ok().out;
    assert_eq!(status, " M alpha.txt\n D sub/beta.txt\n?? new.txt\n");
    machine.git(&w, &["add", "-A"]).ok();
    machine.git(&w, &["commit", "-q", "-m", "mine"]).ok();
    assert_eq!(machine.git(&w, &["status", "--porcelain"]).ok().out, "");
    assert_eq!(machine.git(&w, &["log", "--format=%s"]).ok().out, "mine\nfirst\n");

    // The commit is this workspace's alone, survives a remount, and is said to be lost.
    machine.zagi(&["unmount", "w"]).ok();
    machine.zagi(&["mount", "w"]).ok();
    assert_eq!(machine.git(&w, &["log", "--format=%s"]).ok().out, "mine\nfirst\n");
    assert_eq!(machine.git(&w, &["status", "--porcelain"]).ok().out, "");
    assert_eq!(machine.git(&origin, &["log", "--format=%s"]).ok().out, "first\n");
    let loss = machine.zagi(&["discard", "--dry-run", "w"]).ok().err;
    assert!(loss.contains("mine"), "{loss}");

    machine.git(&w, &["checkout", "-q", "-b", "other", "v1"]).ok();
    assert_eq!(machine.sh(&w, "cat alpha.txt").ok().out, "alpha\n");
    machine.git(&w, &["stash", "list"]).ok();
    machine.git(&w, &["gc", "-q"]).ok();
    machine.git(&w, &["fsck", "--strict"]).ok();
}

#[test]
fn works_as_root() {
    works(Who::Me);
}

#[test]
fn works_as_an_ordinary_user() {
    works(Who::Ordinary);
}

#[test]
fn the_first_status_reads_no_file() {
    let machine = Machine::new(Who::Me);
    let origin = repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    // Git compares stat data first: where they agree it reads nothing, and says so.
    let mut git = machine.command("git", &w);
    git.args(["diff-files", "--raw"]);
    assert_eq!(Said::of(&mut git).ok().out, "", "the index does not carry our stat data");
}

#[test]
fn revisions_are_mounted_as_asked() {
    let machine = Machine::new(Who::Me);
    let origin = repository(&machine, "letters");
    let origin = origin.to_str().unwrap();
    machine.zagi(&["mount", &format!("{origin}@v1"), "tag"]).ok();
    machine.zagi(&["mount", &format!("{origin}@side"), "branch"]).ok();
    machine.zagi(&["mount", &format!("{origin}@nowhere"), "none"]).fails(1, "nowhere");
    assert!(!machine.work().join("none").exists());
    for name in ["tag", "branch"] {
        assert_eq!(
            std::fs::read_to_string(machine.work().join(name).join("alpha.txt")).unwrap(),
            "alpha\n"
        );
    }
}

/// The directories of a tree are kept for its next workspace, and a file that is damaged is
/// worth as much as none.
#[test]
fn what_is_kept_of_a_tree_is_not_believed_when_damaged() {
    let machine = Machine::new(Who::Me);
    let origin = repository(&machine, "kept");
    let origin = origin.to_str().unwrap();
    let sizes = "find . -path ./.git -prune -o -printf '%p %s %i\\n' | sort";
    machine.zagi(&["mount", origin, "w"]).ok();
    let w = machine.work().join("w");
    machine.git(&w, &["status"]).ok();
    let first = machine.sh(&w, sizes).ok().out;
    assert!(first.contains("sub/beta.txt 5 "), "{first}");
    let trees = machine.home().join("cache/trees");
    let kept: Vec<PathBuf> =
        std::fs::read_dir(&trees).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [kept] = &kept[..] else { panic!("there is one tree: {kept:?}") };
    let sound = std::fs::read(kept).unwrap();
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.iter_mut().skip(24).for_each(|byte| *byte ^= 0x55),
        |bytes| bytes.clear(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        std::fs::write(kept, bytes).unwrap();
        let name = format!("w{number}");
        machine.zagi(&["mount", origin, &name]).ok();
        let w = machine.work().join(name);
        assert_eq!(machine.sh(&w, sizes).ok().out, first);
        assert_eq!(machine.git(&w, &["status", "--porcelain"]).ok().out, "");
        assert_eq!(std::fs::read(kept).unwrap(), sound, "it was made anew");
    }
    // The same of the index itself, which is kept for when the workspace is mounted again.
    machine.zagi(&["unmount", "w0"]).ok();
    let workspaces = machine.home().join("workspaces");
    for entry in std::fs::read_dir(workspaces).unwrap() {
        let index = entry.unwrap().path().join("index");
        if let Ok(mut bytes) = std::fs::read(&index) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&index, bytes).unwrap();
        }
    }
    machine.zagi(&["mount", "w0"]).ok();
    let w = machine.work().join("w0");
    assert_eq!(machine.git(&w, &["status", "--porcelain"]).ok().out, "");
    machine.git(&w, &["fsck", "--strict"]).ok();
}
