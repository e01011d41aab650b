//! Suites for file systems, on a mount and beside it on ext4: nothing fails on the mount that
//! passes there.

use std::path::PathBuf;

use zagi_integration::machine::{Machine, Said, Who};
use zagi_integration::suites::{Ext4, counts, fsx, pjdfstest, seed, worse};

/// What passes on ext4 and is not expected to pass here, each with the reason.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "link::link_count_max",
    "skipped: the C library knows the limit of a few kernel file systems by their number, and \
     says of all others, every FUSE among them, that it is unknown; there is none here",
)];

/// A mount of a small repository. Others than root must be let in to see what they may do.
fn mounted(machine: &Machine, arguments: &[&str]) -> PathBuf {
    let origin = super::git::repository(machine, "letters");
    let all = [&["mount"], arguments, &[origin.to_str().unwrap(), "w"]].concat();
    machine.zagi(&all).ok();
    machine.work().join("w")
}

fn pjdfstest_passes(who: Who, arguments: &[&str], at_least: usize) {
    let machine = Machine::new(who);
    let ext4 = Ext4::new(&machine, "300M");
    let native = pjdfstest(&machine, ext4.path());
    let mount = pjdfstest(&machine, &mounted(&machine, arguments));
    let mut worse = worse(&native, &mount);
    worse.retain(|line| !EXCEPTIONS.iter().any(|(name, _)| line.starts_with(name)));
    assert!(worse.is_empty(), "passes on ext4 only:\n{}", worse.join("\n"));
    assert!(counts(&mount)[0] >= at_least, "{:?} passed, skipped, failed", counts(&mount));
    assert_eq!(counts(&native)[2], 0, "ext4 itself fails: {native:?}");
}

#[test]
fn pjdfstest_as_root() {
    pjdfstest_passes(Who::Me, &["--allow-other"], 380);
}

#[test]
fn pjdfstest_as_an_ordinary_user() {
    pjdfstest_passes(Who::Ordinary, &[], 200);
}

fn fsx_agrees(who: Who) {
    let machine = Machine::new(who);
    let dir = mounted(&machine, &[]);
    let first = seed();
    for seed in [first, first + 1] {
        let said = Said::of(&mut fsx(&machine, &dir, seed, 20_000));
        assert_eq!(said.code, 0, "ZAGI_TEST_SEED={seed}\n{}\n{}", said.out, said.err);
    }
}

#[test]
fn fsx_as_root() {
    fsx_agrees(Who::Me);
}

#[test]
fn fsx_as_an_ordinary_user() {
    fsx_agrees(Who::Ordinary);
}
