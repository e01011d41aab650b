//! What the screen says: help, errors, exit codes. No network, no mounts.

use std::path::Path;
use std::process::{Command, Stdio};

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program in an empty home below `dir`, with nothing of the tester's environment.
fn zagi(dir: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_zagi"))
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .expect("the program was built with this test");
    let text =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(dir.to_str().expect("UTF-8"), "DIR");
    Said {
        code: output.status.code().expect("no signal ended it"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

fn empty() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("zagi-cli-").tempdir().expect("a temporary directory")
}

#[test]
fn help_of_everything() {
    let dir = empty();
    let mut all = String::new();
    let commands: &[&[&str]] = &[
        &[],
        &["mount"],
        &["unmount"],
        &["discard"],
        &["list"],
        &["status"],
        &["events"],
        &["exec"],
        &["shell"],
        &["detect"],
        &["init"],
        &["up"],
        &["down"],
        &["ps"],
        &["logs"],
        &["hook"],
        &["hook-env"],
        &["secrets"],
        &["secrets", "set"],
        &["secrets", "get"],
        &["secrets", "edit"],
        &["secrets", "list"],
        &["secrets", "remove"],
        &["secrets", "import"],
        &["secrets", "grant"],
        &["secrets", "share"],
        &["secrets", "rekey"],
        &["secrets", "accept"],
        &["secrets", "log"],
        &["snapshot"],
        &["chunk"],
        &["restore"],
        &["diff"],
        &["store"],
        &["store", "path"],
        &["store", "stats"],
        &["store", "gc"],
        &["store", "verify"],
        &["store", "repair"],
        &["run"],
        &["agent"],
        &["broker"],
        &["doctor"],
        &["daemon"],
        &["daemon", "status"],
        &["daemon", "stop"],
    ];
    for &command in commands {
        let said = zagi(dir.path(), &[command, &["--help"]].concat());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command:?}");
        all.push_str(&format!("$ zagi {} --help\n{}\n", command.join(" "), said.out));
    }
    insta::assert_snapshot!("help", all);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "help needs no home");
}

#[test]
fn usage_is_2_and_says_how() {
    let dir = empty();
    for wrong in [&["mount"][..], &["nothing"], &["mount", "--no-such", "x"], &["-q", "-v", "list"]]
    {
        let said = zagi(dir.path(), wrong);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{wrong:?}");
        assert!(said.err.starts_with("error: "), "{}", said.err);
    }
}

#[track_caller]
fn fails(dir: &Path, arguments: &[&str], code: i32, message: &str) {
    let said = zagi(dir, arguments);
    assert_eq!(said.err, message);
    assert_eq!((said.code, said.out.as_str()), (code, ""));
}

#[test]
fn errors_say_what_why_and_what_to_run() {
    let dir = empty();
    let dir = dir.path();
    fails(
        dir,
        &["exec", "--", "true"],
        1,
        "error: `DIR` is not in a workspace\n\n\
         hint: `zagi mount REPO DIR` makes one, `zagi list` shows those that there are; an ordinary checkout gets its environment by `zagi init`, and says by `git status` what changed in it\n",
    );
    fails(
        dir,
        &["events"],
        1,
        "error: `DIR` is not in a workspace\n\n\
         hint: `zagi mount REPO DIR` makes one, `zagi list` shows those that there are; an ordinary checkout gets its environment by `zagi init`, and says by `git status` what changed in it\n",
    );
    fails(
        dir,
        &["unmount", "x"],
        1,
        "error: `DIR/x` is not in a workspace\n\n\
         hint: `zagi mount REPO DIR` makes one, `zagi list` shows those that there are; an ordinary checkout gets its environment by `zagi init`, and says by `git status` what changed in it\n",
    );
    fails(
        dir,
        &["mount", "./none"],
        1,
        "error: there is no directory `DIR/none`\n\n\
         hint: REPO is a path, a git address, owner/repo, or npm:, pypi: or crate: and a name\n",
    );
    std::fs::create_dir(dir.join("full")).unwrap();
    std::fs::write(dir.join("full/file"), "mine").unwrap();
    fails(
        dir,
        &["mount", "./full", "full"],
        1,
        "error: cannot mount `DIR/full`: the directory is not empty\n\n\
         hint: choose a directory that is empty or missing, as `DIR/full-2`\n",
    );
    assert_eq!(std::fs::read(dir.join("full/file")).unwrap(), b"mine");
}

#[test]
fn a_home_or_configuration_that_cannot_be_used_is_refused() {
    let dir = empty();
    let dir = dir.path();
    std::fs::create_dir(dir.join(".zagi")).unwrap();
    std::fs::write(dir.join(".zagi/version"), "99\n").unwrap();
    fails(
        dir,
        &["list"],
        1,
        "error: `DIR/.zagi` has layout version 99, this zagi knows up to 1\n\n\
         hint: use the newer zagi, or another ZAGI_HOME\n",
    );
    std::fs::write(dir.join(".zagi/version"), "1\n").unwrap();
    std::fs::write(dir.join(".zagi/config.toml"), "default-host = 3\n").unwrap();
    let said = zagi(dir, &["list"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("DIR/.zagi/config.toml") && said.err.contains("line 1"),
        "{}",
        said.err
    );
}

#[test]
fn an_empty_home_lists_nothing_and_runs_no_daemon() {
    let dir = empty();
    let said = zagi(dir.path(), &["list", "--json"]);
    assert_eq!((said.code, said.out.as_str()), (0, "[]\n"));
    let said = zagi(dir.path(), &["daemon", "status", "--json"]);
    assert_eq!((said.code, said.out.as_str()), (0, "{\n  \"running\": false\n}\n"));
    let said = zagi(dir.path(), &["daemon", "stop"]);
    assert_eq!((said.code, said.err.as_str()), (0, "no daemon is running\n"));
}

#[test]
fn detect_shows_where_each_thing_was_read() {
    let dir = empty();
    std::fs::write(dir.path().join(".nvmrc"), "22.12.0\n").unwrap();
    std::fs::write(
        dir.path().join("package.json"),
        "{\n  \"engines\": {\"node\": \">=20\"},\n  \"scripts\": {\"test\": \"node --test\"}\n}\n",
    )
    .unwrap();
    let said = zagi(dir.path(), &["detect"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains(".nvmrc:1:") && said.out.contains("package.json:2:"), "{}", said.out);
    assert!(said.out.contains("npm test"), "{}", said.out);
    let json: serde_json::Value =
        serde_json::from_str(&zagi(dir.path(), &["detect", "--json"]).out).unwrap();
    let node = json["tools"].as_array().unwrap().iter().find(|t| t["tool"] == "node").unwrap();
    assert!(node["evidence"].as_array().unwrap().len() >= 2);
    assert_eq!(node["pinned"], true);
}
