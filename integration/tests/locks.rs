//! `.zagi/env.toml` and `.zagi/env.lock` in a tree.

use zagi_integration::machine::{Machine, Who};

#[test]
fn what_init_writes_is_mounted_as_written_and_a_lying_lock_is_refused() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "letters");
    let script = "mkdir .zagi && printf '[tools]\\nmake = \"4\"\\n[env]\\nGREETING = \"hello\"\\n' \
         > .zagi/env.toml && printf 'all:\\n\\t@echo $$GREETING\\n' > Makefile";
    machine.sh(&origin, script).ok();
    machine.git(&origin, &["add", "-A"]).ok();
    machine.git(&origin, &["commit", "-q", "-m", "env"]).ok();
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    assert_eq!(machine.exec(&w, "make").ok().out, "hello\n");

    machine.zagi(&["init", "w"]).fails(1, "left as it is");
    machine.zagi(&["init", "--force", "w"]).ok();
    let lock = machine.sh(&w, "cat .zagi/env.lock").ok().out;
    assert!(lock.contains("version = 1") && lock.contains("sha256:"), "{lock}");
    machine.git(&w, &["add", "-A"]).ok();
    machine.git(&w, &["commit", "-q", "-m", "locked"]).ok();
    machine.zagi(&["mount", "--offline", w.to_str().unwrap(), "again"]).ok();
    let list = machine.zagi(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["environment"], list[1]["environment"]);
    assert_eq!(machine.exec(&machine.work().join("again"), "make").ok().out, "hello\n");

    machine.sh(&w, "sed -i 's/^\\[tool.bins.make\\]/[tool.bins.ls]/' .zagi/env.lock").ok();
    machine.git(&w, &["commit", "-q", "-a", "-m", "a lie"]).ok();
    machine.zagi(&["mount", w.to_str().unwrap(), "lie"]).fails(1, "a program `ls`");
    assert!(!machine.work().join("lie").exists());
}
