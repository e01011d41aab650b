//! What stays as it is in a workspace that an agent may write to.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use zagi_sandbox::{Exit, Plan, Profile, SandboxError, Step};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_pinned_path_stays", a_pinned_path_stays),
    ("what_is_missing_cannot_be_made", what_is_missing_cannot_be_made),
    ("a_directory_above_cannot_be_exchanged", a_directory_above_cannot_be_exchanged),
    ("a_hidden_path_cannot_be_read", a_hidden_path_cannot_be_read),
    ("a_pin_leads_through_no_link", a_pin_leads_through_no_link),
    ("a_pin_is_seen_nowhere_else", a_pin_is_seen_nowhere_else),
    (
        "what_somebody_outside_exchanges_is_pinned_again",
        what_somebody_outside_exchanges_is_pinned_again,
    ),
    ("one_end_leaves_the_other_pinned", one_end_leaves_the_other_pinned),
    ("git_works_beside_pins", git_works_beside_pins),
    ("what_git_reads_by_its_being_there", what_git_reads_by_its_being_there),
];

/// A workspace as git and zagi make them, without secrets.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("made");
    for (path, text) in [
        (".git/config", "[core]\n\tbare = false\n"),
        (".git/hooks/pre-commit.sample", "#!/bin/sh\n"),
        (".zagi/agents.toml", "version = 1\n"),
        ("src/main.rs", "fn main() {}\n"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, text).expect("written");
    }
    dir
}

const PINS: [(&str, bool); 4] = [
    (".git/config", false),
    (".git/hooks", true),
    (".zagi/agents.toml", false),
    (".zagi/secrets.enc", false),
];

fn pinned(mut plan: Plan, workspace: &Path) -> Plan {
    for (path, directory) in PINS {
        plan = plan.pin(workspace.join(path), directory);
    }
    plan
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Everything below a directory, with its content.
fn contents(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.push((path.clone(), String::new()));
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read_to_string(&path).expect("text")));
        }
    }
    found.sort();
    found
}

fn a_pinned_path_stays() {
    for path in [".git/config", ".git/hooks/pre-commit", ".git/hooks", ".zagi/agents.toml"] {
        let (control, dir) = (workspace(), workspace());
        let before = contents(dir.path());
        let file = dir.path().join(path);
        impossible(
            &["plant", text(&control.path().join(path))],
            pinned(agent(dir.path(), &["plant", text(&file)]), dir.path()),
        );
        assert_eq!(contents(dir.path()), before, "{path}");
    }
    // The rest is as writable as ever.
    let dir = workspace();
    let file = dir.path().join(".git/index");
    let plan = pinned(agent(dir.path(), &["plant", text(&file)]), dir.path());
    assert_eq!(outcome(&run(&plan).1), Some(true));
    assert_eq!(fs::read_to_string(&file).expect("made"), "planted");
    // And what is pinned can be read.
    let plan = pinned(agent(dir.path(), &["read", ".zagi/agents.toml"]), dir.path());
    assert_eq!(run(&plan).1.trim(), "GOT version = 1");
}

fn what_is_missing_cannot_be_made() {
    for (missing, path) in [
        (".zagi/secrets.enc", ".zagi/secrets.enc"),
        (".zagi", ".zagi/secrets.enc"),
        (".zagi", ".zagi/agents.toml"),
        (".git/hooks", ".git/hooks/pre-commit"),
        (".git", ".git/hooks/pre-commit"),
    ] {
        let (control, dir) = (workspace(), workspace());
        for dir in [&control, &dir] {
            // The first of them does not exist.
            let _ = fs::remove_dir_all(dir.path().join(missing));
        }
        let before = contents(dir.path());
        let file = dir.path().join(path);
        impossible(
            &["plant", text(&control.path().join(path))],
            pinned(agent(dir.path(), &["plant", text(&file)]), dir.path()),
        );
        assert_eq!(contents(dir.path()), before, "{path}: nothing is left behind");
    }
    // A file where a directory is to be (a git worktree's `.git`) is all there is to pin.
    let dir = workspace();
    fs::remove_dir_all(dir.path().join(".git")).expect("there");
    fs::write(dir.path().join(".git"), "gitdir: elsewhere\n").expect("written");
    let file = dir.path().join(".git/hooks/pre-commit");
    let plan = pinned(agent(dir.path(), &["plant", text(&file)]), dir.path());
    assert_eq!(outcome(&run(&plan).1), Some(false));
    let plan = pinned(agent(dir.path(), &["plant", text(&dir.path().join(".git"))]), dir.path());
    assert_eq!(outcome(&run(&plan).1), Some(false));
}

fn a_directory_above_cannot_be_exchanged() {
    for (above, below) in
        [(".zagi", "agents.toml"), (".git", "config"), (".git", "hooks/pre-commit")]
    {
        let (control, dir) = (workspace(), workspace());
        let before = contents(dir.path());
        let at = |dir: &tempfile::TempDir| text(&dir.path().join(above)).to_owned();
        impossible(
            &["replace", &at(&control), below],
            pinned(agent(dir.path(), &["replace", &at(&dir), below]), dir.path()),
        );
        assert_eq!(contents(dir.path()), before, "{above}");
    }
    // Nor the workspace itself, whose name is in a directory that the agent does not have.
    let (control, dir) = (workspace(), workspace());
    let move_it = |dir: &tempfile::TempDir| text(dir.path()).to_owned();
    impossible(
        &["replace", &move_it(&control), "x"],
        pinned(agent(dir.path(), &["replace", &move_it(&dir), "x"]), dir.path()),
    );
    fs::remove_dir_all(format!("{}.away", text(control.path()))).expect("the control moved it");
}

fn a_hidden_path_cannot_be_read() {
    let dir = workspace();
    for (path, directory) in [(".zagi/agents.toml", false), (".git", true), ("missing", false)] {
        let file = dir.path().join(path);
        let read = if directory { "read" } else { "open-read" };
        let target = if directory { file.join("config") } else { file.clone() };
        let mut plan = agent(dir.path(), &["read", text(&target)]).pin(&file, directory);
        plan.pins[0].hidden = true;
        if path != "missing" {
            assert_eq!(outcome(&outside(&["read", text(&target)])), Some(true), "{read}");
        }
        let (exit, said) = run(&plan);
        assert_eq!(outcome(&said), Some(false), "{path}: {exit} {said}");
    }
}

fn a_pin_leads_through_no_link() {
    let secret = tempfile::tempdir().expect("made");
    fs::write(secret.path().join("id"), "canary").expect("written");
    for place in [".git/hooks", ".git"] {
        let dir = workspace();
        let at = dir.path().join(place);
        fs::remove_dir_all(&at).expect("there");
        symlink(secret.path(), &at).expect("made");
        let plan = pinned(agent(dir.path(), &["list", "."]), dir.path());
        match zagi_sandbox::spawn(&plan, &program()) {
            Err(e @ SandboxError::Setup { step: Step::Pin, .. }) => {
                assert!(e.to_string().contains("is a link"), "{e}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!dir.path().join(".zagi/secrets.enc").exists(), "nothing is left behind");
    }
}

fn a_pin_is_seen_nowhere_else() {
    let dir = workspace();
    let plan = pinned(agent(dir.path(), &["list", "."]), dir.path());
    let twice = plan.clone().bind(dir.path(), "/zagi/workspace", true);
    match zagi_sandbox::spawn(&twice, &program()) {
        Err(e @ SandboxError::Setup { step: Step::Pin, .. }) => {
            assert!(e.to_string().contains("/zagi/workspace/.git/config"), "{e}");
        }
        other => panic!("{other:?}"),
    }
    let both = pinned(twice, Path::new("/zagi/workspace"));
    assert_eq!(run(&both).0, Exit::Code(0));
    let below = plan.clone().bind(dir.path().join(".git"), "/zagi/git", true);
    assert!(zagi_sandbox::spawn(&below, &program()).is_err());
    let read_only = plan.bind(dir.path(), "/zagi/workspace", false);
    assert_eq!(run(&read_only).0, Exit::Code(0));
    let nowhere = agent(dir.path(), &["list", "."]).pin("/nowhere/at/all", false);
    assert!(matches!(
        zagi_sandbox::spawn(&nowhere, &program()),
        Err(SandboxError::Setup { step: Step::Pin, .. })
    ));
}

/// `git config` writes a new file and renames it over the old one, which takes the mount away.
fn what_somebody_outside_exchanges_is_pinned_again() {
    let dir = workspace();
    let script = "echo ready; read -r go <.go; sleep 0.2; cat .git/config; \
                  echo bad 2>/dev/null >>.git/config && echo WRITTEN; \
                  mv .zagi x 2>/dev/null && echo MOVED; exit 0";
    assert!(Command::new("mkfifo").arg(dir.path().join(".go")).status().expect("runs").success());
    let plan = at_work(Profile::Agent, dir.path(), &["/bin/sh", "-c", script]);
    let mut child = spawn(&pinned(plan, dir.path()));
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    fs::write(dir.path().join("new"), "exchanged\n").expect("written");
    fs::rename(dir.path().join("new"), dir.path().join(".git/config")).expect("renamed");
    // And one that was made to be pinned is taken away.
    fs::remove_file(dir.path().join(".zagi/secrets.enc")).expect("it stands there");
    let mut go = fs::OpenOptions::new().write(true).open(dir.path().join(".go")).expect("a pipe");
    go.write_all(b"go\n").expect("read");
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert_eq!(rest, ["exchanged"]);
    assert_eq!(child.wait().expect("reported"), Exit::Code(0));
    assert!(!dir.path().join(".zagi/secrets.enc").exists());
}

/// Two agents in one workspace, one of which made what both pin.
fn one_end_leaves_the_other_pinned() {
    let dir = workspace();
    let secrets = dir.path().join(".zagi/secrets.enc");
    let plan = |script: &str| {
        pinned(at_work(Profile::Agent, dir.path(), &["/bin/sh", "-c", script]), dir.path())
    };
    let mut first = spawn(&plan("sleep 60"));
    assert!(secrets.exists());
    let inode = fs::metadata(&secrets).expect("there").ino();
    let script =
        "echo ready; sleep 0.6; echo bad 2>/dev/null >.zagi/secrets.enc && echo WRITTEN; exit 0";
    let mut second = spawn(&plan(script));
    let mut lines = BufReader::new(second.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    first.kill().expect("kills");
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert!(rest.is_empty(), "{rest:?}; it was inode {inode}");
    assert_eq!(second.wait().expect("reported"), Exit::Code(0));
    assert!(!secrets.exists(), "the last one out takes it away");
}

fn git_works_beside_pins() {
    let dir = tempfile::tempdir().expect("made");
    let git = |args: &[&str]| {
        let out = Command::new("git").arg("-C").arg(dir.path()).args(args).output().expect("runs");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["config", "user.email", "a@b.c"]);
    git(&["config", "user.name", "a"]);
    fs::write(dir.path().join("file"), "one\n").expect("written");
    let script = "set -e; git add file; git commit -qm one; git switch -qc topic; \
                  echo two >>file; git stash -q; git stash pop -q; git commit -qam two; \
                  git switch -q main; git merge -q topic; git gc -q; git log --oneline | wc -l; \
                  git config core.fsmonitor evil 2>/dev/null && echo CONFIGURED; exit 0";
    let mut plan =
        pinned(at_work(Profile::Agent, dir.path(), &["/bin/sh", "-c", script]), dir.path());
    // The test machine's git may be one of its own.
    let path = std::env::var("PATH").unwrap_or_default();
    let local =
        path.split(':').find(|dir| Path::new(dir).join("git").exists()).unwrap_or("/usr/bin");
    plan = plan.env("PATH", &format!("{local}:/usr/bin:/bin")).env("HOME", "/zagi/home");
    let (exit, said) = run(&plan);
    assert_eq!((exit, said.trim()), (Exit::Code(0), "2"));
}

/// `.git/commondir` leads git to another directory's configuration, whose monitor it then runs.
fn what_git_reads_by_its_being_there() {
    let repository = || {
        let dir = tempfile::tempdir().expect("made");
        let script = "git init -q . && cp -r .git other && echo '[core] fsmonitor = \"echo ran >&2; false\"' >> other/config";
        let made = Command::new("sh").args(["-c", script]).current_dir(dir.path()).status();
        assert!(made.expect("runs").success());
        dir
    };
    let status = |dir: &Path| {
        let out = Command::new("git").arg("status").current_dir(dir).output().expect("runs");
        assert!(out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let attack = "echo ../other > .git/commondir";
    let control = repository();
    let made = Command::new("sh").args(["-c", attack]).current_dir(control.path()).status();
    assert!(made.expect("runs").success());
    assert!(status(control.path()).contains("ran"), "the control");
    let dir = repository();
    let common = dir.path().join(".git/commondir");
    let script =
        format!("({attack}); (rm -f .git/commondir; {attack}); cat .git/commondir; sleep 60");
    let mut plan = at_work(Profile::Agent, dir.path(), &["/bin/sh", "-c", &script]);
    plan = pinned(plan, dir.path()).pin(&common, false);
    plan.pins.last_mut().expect("added").meanwhile = ".\n".into();
    let mut child = spawn(&plan);
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut said).expect("text");
    // Git outside works meanwhile, and does not do what the other configuration says.
    assert!(!status(dir.path()).contains("ran"));
    assert_eq!(said, ".\n");
    child.kill().expect("kills");
    assert!(!common.exists(), "it is taken away");
    assert!(!status(dir.path()).contains("ran"));
    // What somebody else put there stays.
    let mut child = spawn(&plan);
    fs::write(&common, "../.git\n").expect("written");
    child.kill().expect("kills");
    assert_eq!(fs::read_to_string(&common).expect("there"), "../.git\n");
}
