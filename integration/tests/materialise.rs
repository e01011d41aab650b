//! Real files, where there is no FUSE.

use zagi_integration::machine::{Machine, Who};

#[test]
fn the_same_directory_and_edits_never_reach_the_store() {
    let machine = Machine::new(Who::Me);
    let said = machine.zagi(&["mount", "--materialise", "pypi:itsdangerous", "m"]).ok();
    assert!(said.err.contains("materialised"), "{}", said.err);
    let m = machine.work().join("m");
    let pytest = "pytest -q 2>&1 | tail -1";
    assert!(machine.exec(&m, pytest).ok().out.contains(" passed"));
    let list = machine.zagi(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["presented"], "materialised");
    machine.zagi(&["unmount", "m"]).fails(1, "real files");

    // In place, as root, in every file that a manager installed.
    let script = "find .venv -type f -name '*.py' -exec sh -c 'echo broken >> \"$1\"' _ {} \\;";
    machine.sh(&m, script).ok();
    machine.zagi(&["mount", "pypi:itsdangerous", "other"]).ok();
    let other = machine.work().join("other");
    assert!(machine.exec(&other, pytest).ok().out.contains(" passed"));

    let loss = machine.zagi(&["discard", "--dry-run", "m"]).ok().err;
    assert!(!loss.contains(".venv"), "dependencies can be had again: {loss}");
    machine.zagi(&["discard", "--yes", "m"]).ok();
    assert!(!m.exists());
}
