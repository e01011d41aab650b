//! `zagi verify`, with real compilers, interpreters and registries: what builds and tests fail for
//! want of is added, and stays only where it helped.

use std::path::{Path, PathBuf};

use serde_json::Value;

use zagi_integration::machine::{Machine, Said, Who};

/// Makes a repository of what `script` writes, and mounts it.
fn mounted(machine: &Machine, name: &str, script: &str) -> PathBuf {
    let work = machine.work();
    let commit = "git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m first";
    let make = format!("mkdir {name}-origin; cd {name}-origin; git init -q\n{script}\n{commit}");
    machine.sh(&work, &make).ok();
    machine.zagi(&["mount", &format!("./{name}-origin"), name]).ok();
    work.join(name)
}

fn verify(machine: &Machine, dir: &Path) -> Said {
    Said::of(&mut machine.zagi_in(dir, &["verify", "--json"]))
}

/// What was added, with the reasons.
fn added(said: &Value) -> Vec<(&str, &str)> {
    let added = said["added"].as_array().unwrap().iter();
    added.map(|a| (a["what"].as_str().unwrap(), a["why"].as_str().unwrap())).collect()
}

const PYTHON: &str = r#"
    printf '[project]\nname = "letters"\nversion = "1"\ndependencies = []\n' > pyproject.toml
    mkdir tests
    printf 'import yaml\n\ndef test_it(mocker):\n    assert yaml.safe_load("a: 1") == {"a": 1}\n' > tests/test_it.py
"#;

fn modules_that_nothing_declares(who: Who) {
    let machine = Machine::new(who);
    let dir = mounted(&machine, "letters", PYTHON);
    assert_eq!(machine.exec(&dir, "pytest").code, 2);
    let said = verify(&machine, &dir).ok().json();
    let expected = [
        ("PyYAML", "the module yaml was missing"),
        ("pytest-mock", "the fixture mocker was missing"),
    ];
    assert_eq!(added(&said), expected);
    // As they are without zagi's sandbox, too.
    machine.exec(&dir, "pytest").ok();
    let text = machine.sh(&dir, "cat .zagi/env.toml").ok().out;
    assert!(text.contains("    # the module yaml was missing\n    \"PyYAML\",\n"), "{text}");

    // Once that is committed, a mount has them from the start.
    let push = "git add .zagi/env.toml .zagi/env.lock && git -c user.name=T -c user.email=t@localhost \
                commit -q -m env && git -C ../letters-origin pull -q ../letters HEAD";
    machine.sh(&dir, push).ok();
    let said =
        machine.zagi(&["mount", "--verify", "--json", "./letters-origin", "again"]).ok().json();
    assert_eq!(said["verified"]["passed"], true);
    assert_eq!(added(&said["verified"]), []);
}

#[test]
fn modules_that_nothing_declares_as_root() {
    modules_that_nothing_declares(Who::Me);
}

#[test]
fn modules_that_nothing_declares_as_an_ordinary_user() {
    modules_that_nothing_declares(Who::Ordinary);
}

#[test]
fn a_header_and_its_library_that_nothing_declares() {
    let machine = Machine::new(Who::Me);
    let script = r#"
        printf '#include <git2.h>\n#include <stdio.h>\nint main(void) { int a, b, c; git_libgit2_version(&a, &b, &c); return printf("git2 %%d.%%d", a, b) < 0; }\n' > q.c
        # A makefile would say it: detection reads `-lgit2` there.
        mkdir .zagi; printf '[run]\ntest = "./t.sh"\n' > .zagi/env.toml
        printf '#!/bin/sh\nset -e\ncc q.c -o q -lgit2\n./q\n' > t.sh; chmod +x t.sh
    "#;
    let dir = mounted(&machine, "linked", script);
    let said = verify(&machine, &dir).ok().json();
    assert!(added(&said).contains(&("libgit2", "git2.h was missing")), "{said}");
    assert_eq!(machine.sh(&dir, "./q").ok().out, "git2 1.5");
}

#[test]
fn a_command_that_nothing_declares() {
    let machine = Machine::new(Who::Me);
    let script = r#"
        mkdir .zagi; printf '[run]\ntest = "./t.sh"   # ours\n' > .zagi/env.toml
        printf '#!/bin/sh\ncmake --version\n' > t.sh; chmod +x t.sh
    "#;
    let dir = mounted(&machine, "called", script);
    let said = verify(&machine, &dir).ok().json();
    assert_eq!(added(&said), [("cmake", "the command cmake was missing")]);
    let text = machine.sh(&dir, "cat .zagi/env.toml").ok().out;
    assert!(text.starts_with("[run]\ntest = \"./t.sh\"   # ours\n"), "{text}");
    assert!(text.contains(" # the command cmake was missing\n"), "{text}");
    machine.exec(&dir, "./t.sh").ok();
}

/// Whatever was tried on the way.
#[test]
fn what_no_remedy_helps_stays_as_it_was() {
    let machine = Machine::new(Who::Me);
    let script = format!("{PYTHON}\nprintf '    assert False, \"never\"\\n' >> tests/test_it.py");
    let dir = mounted(&machine, "never", &script);
    let state = "git status --porcelain; ls .zagi; readlink .zagi/env";
    let clean = format!("find . -name __pycache__ -path './tests/*' | xargs rm -r; {state}");
    let before = machine.sh(&dir, state).ok().out;
    let said =
        Said::of(&mut machine.zagi_in(&dir, &["verify"])).fails(1, "`pytest` failed (exit code 1)");
    assert!(said.err.contains("AssertionError: never"), "{}", said.err);
    let log = said.err.split("the whole log is in `").nth(1).unwrap().split('`').next().unwrap();
    let log = machine.sh(&dir, &format!("cat {log}")).ok().out;
    assert!(log.contains("No module named 'yaml'") && log.contains("never"), "{log}");
    assert_eq!(machine.sh(&dir, &clean).ok().out, before);
    assert_eq!(machine.exec(&dir, "python -c 'import yaml'").code, 1);

    let dir = mounted(&machine, "nothing", "echo hello > README");
    verify(&machine, &dir).fails(1, "nobody says how");
}
