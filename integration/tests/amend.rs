//! `zagi add`, `remove`, `update`, `lock`, `env`, `why`, with the real registries.

use std::fs;
use std::path::Path;

use zagi_integration::machine::{Machine, Said, Who};

fn zagi(machine: &Machine, dir: &Path, arguments: &[&str]) -> Said {
    Said::of(&mut machine.zagi_in(dir, arguments))
}

/// Files are read and written by whose mount it is.
fn file(machine: &Machine, dir: &Path, name: &str) -> String {
    machine.sh(dir, &format!("cat {name}")).ok().out
}

fn tools_come_and_go(who: Who) {
    let machine = Machine::new(who);
    let repository = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", repository.to_str().unwrap(), "w"]).ok();
    let dir = machine.work().join("w");
    let zagi = |arguments: &[&str]| zagi(&machine, &dir, arguments);
    let node = || machine.exec(&dir, "node -v").ok().out;

    let said = zagi(&["add", "node@22", "uv"]).ok().err;
    assert!(said.contains("added    node 22."), "{said}");
    assert!(node().starts_with("v22."), "{}", node());
    let uv = machine.exec(&dir, "uv --version").ok().out;
    let text = file(&machine, &dir, ".zagi/env.toml");
    assert!(text.starts_with("[tools]\nnode = \"22\"\nuv = \""), "{text}");
    // Beside the workspace's own, as the hook and editors find them.
    assert!(machine.sh(&dir, ".zagi/env/bin/node -v").ok().out.starts_with("v22."));

    machine.sh(&dir, "sed -i 's/^node.*/# ours\\n&   # CI has it/' .zagi/env.toml").ok();
    let said = zagi(&["add", "node@20"]).ok().err;
    assert!(said.contains("changed  node 22.") && !said.contains("uv"), "{said}");
    assert!(node().starts_with("v20."), "{}", node());
    let text = file(&machine, &dir, ".zagi/env.toml");
    assert!(text.contains("# ours\nnode = \"20\"   # CI has it\n"), "{text}");
    assert_eq!(machine.exec(&dir, "uv --version").ok().out, uv);

    let status = zagi(&["status", "--json"]).ok().json();
    assert_eq!(status["environment"]["changed"], true);
    let paths: Vec<_> = status["source"]["changes"].as_array().unwrap().iter().collect();
    assert_eq!(paths.len(), 2, "{status}"); // env.toml and env.lock

    let why = zagi(&["why", "node"]).ok().out;
    assert!(why.contains(".zagi/env.toml:3: node \"20\" (spec)"), "{why}");
    let env = zagi(&["env", "--json"]).ok().json();
    let tool = env["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "node").unwrap();
    assert!(tool["version"].as_str().unwrap().starts_with("20."), "{env}");
    assert_eq!(tool["provider"], "npm");

    zagi(&["remove", "uv"]).ok();
    assert_eq!(machine.exec(&dir, "command -v uv").code, 127);
    zagi(&["remove", "uv"]).fails(1, "uv is not asked for in .zagi/env.toml");

    wrong_inputs_change_nothing(&machine, &dir);

    zagi(&["lock", "--check"]).ok();
    machine.sh(&dir, "sed -i 's/\"20\"/\"22\"/' .zagi/env.toml").ok();
    zagi(&["lock", "--check"]).fails(1, ".zagi/env.lock has no node");
    zagi(&["lock"]).ok();
    zagi(&["lock", "--check"]).ok();
    assert!(node().starts_with("v22."), "{}", node());
    what_is_locked_stays_until_an_update(&machine, &dir);

    machine.zagi(&["unmount", "w"]).ok();
    zagi(&["add", "uv"]).fails(1, "is not mounted");
    machine.zagi(&["mount", "--offline", "./w"]).ok();
    assert!(node().starts_with("v22."), "{}", node());
    let status = machine.git(&dir, &["status", "--porcelain", "-uall"]).ok().out;
    assert_eq!(status, "?? .zagi/env.lock\n?? .zagi/env.toml\n");
}

/// Though there is newer that would do.
fn what_is_locked_stays_until_an_update(machine: &Machine, dir: &Path) {
    zagi(machine, dir, &["add", "node@=22.11.0"]).ok();
    let edit = r#"sed -i 's/"=22.11.0"/"22"/' .zagi/env.toml
        printf '[env]\nLEVEL = "7"\n' >> .zagi/env.toml"#;
    machine.sh(dir, edit).ok();
    let said = zagi(machine, dir, &["lock"]).ok().err;
    assert!(said.contains("no tool is another"), "{said}");
    assert_eq!(machine.exec(dir, "node -v; echo $LEVEL").ok().out, "v22.11.0\n7\n");
    let said = zagi(machine, dir, &["update", "node"]).ok().err;
    assert!(said.contains("changed  node 22.11.0 -> 22."), "{said}");
    zagi(machine, dir, &["update", "zig"]).fails(1, "zig is not asked for");
    machine.zagi(&["init", "--force", "w"]).ok();
    let text = file(machine, dir, ".zagi/env.toml");
    assert!(text.contains("LEVEL = \"7\"") && text.contains("node = \"22\""), "{text}");
}

fn wrong_inputs_change_nothing(machine: &Machine, dir: &Path) {
    let both = || {
        let files = [".zagi/env.toml", ".zagi/env.lock"];
        files.map(|name| file(machine, dir, name))
    };
    let before = both();
    for (wrong, code, says) in [
        ("nodde", 1, "there is node"),
        ("node@99", 1, "no node matches"),
        ("node@x y z", 2, "node@x y z"),
        ("a b", 1, "there is no tool and no system package `a b`"),
    ] {
        zagi(machine, dir, &["add", wrong]).fails(code, says);
        assert_eq!(both(), before, "{wrong}");
    }
    zagi(machine, dir, &["--offline", "add", "zig@0.12"]).fails(1, "--offline");
    assert_eq!(both(), before);
    zagi(machine, dir, &["why", "zig"]).fails(1, "nothing asks for `zig`");
    machine.sh(dir, "cp .zagi/env.toml kept; echo '[tools' >> .zagi/env.toml").ok();
    zagi(machine, dir, &["add", "uv"]).fails(1, ".zagi/env.toml:");
    machine.sh(dir, "mv kept .zagi/env.toml").ok();
}

#[test]
fn tools_come_and_go_as_root() {
    tools_come_and_go(Who::Me);
}

#[test]
fn tools_come_and_go_as_an_ordinary_user() {
    tools_come_and_go(Who::Ordinary);
}

#[test]
fn an_ordinary_checkout_is_written_to_and_nothing_outside_of_it() {
    let machine = Machine::new(Who::Me);
    let repository = super::git::repository(&machine, "letters");
    let sub = repository.join("sub");
    zagi(&machine, &sub, &["add", "node@22"]).ok();
    let lock = fs::read_to_string(repository.join(".zagi/env.lock")).unwrap();
    assert!(lock.contains("name = \"node\"\nversion = \"22."), "{lock}");
    assert!(!sub.join(".zagi").exists());

    let outside = machine.work().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(repository.join(".zagi")).unwrap();
    std::os::unix::fs::symlink(&outside, repository.join(".zagi")).unwrap();
    zagi(&machine, &repository, &["add", "node@22"]).fails(1, "is a symbolic link");
    zagi(&machine, &repository, &["init"]).fails(1, "is a symbolic link");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
