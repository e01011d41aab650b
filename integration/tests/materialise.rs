//! Real files, where there is no FUSE.

use zagi_integration::machine::{Machine, Said, Who};

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

#[test]
fn where_fuse_is_missing_it_is_said_and_done_without() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "letters");
    // A machine of its own as far as devices go, with all but FUSE.
    let script = format!(
        "mkdir dev && mount -t tmpfs none dev && cp -a /dev/null /dev/zero /dev/urandom dev/ && \
         mount --move dev /dev && exec {} mount {} w",
        machine.program().display(),
        origin.display()
    );
    let work = machine.work();
    let mut unshare = machine.command("unshare", &work);
    let said = Said::of(unshare.args(["--mount", "sh", "-ec", &script])).ok();
    assert!(said.err.contains("no FUSE here") && said.err.contains("materialised"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(work.join("w/alpha.txt")).unwrap(), "alpha\n");
    assert_eq!(machine.git(&work.join("w"), &["status", "--porcelain"]).ok().out, "");
    assert_eq!(machine.zagi(&["daemon", "status", "--json"]).ok().json()["running"], false);
}
