//! A layer's file turns out corrupt.

use std::fs;
use std::path::PathBuf;

use zagi_integration::machine::{Machine, Who};

use super::{mounted, text};

/// Where the shared clone keeps the object `id`.
fn object(machine: &Machine, id: &str) -> PathBuf {
    let clones = fs::read_dir(machine.home().join("repos")).expect("there is a clone");
    let place = format!("objects/{}/{}", &id[..2], &id[2..]);
    let mut places = clones.flatten().map(|clone| clone.path().join(&place));
    places.find(|path| path.exists()).expect("the clone has it as a file of its own")
}

fn goes_on(who: Who) {
    let machine = Machine::new(who);
    let dir = mounted(&machine);
    let id = machine.git(&dir, &["rev-parse", "HEAD:alpha.txt"]).ok().out;
    let object = object(&machine, id.trim());
    let sound = fs::read(&object).expect("it can be read");
    fs::remove_file(&object).expect("it is no longer needed");
    fs::write(&object, &sound[..sound.len() / 2]).expect("there is room");
    machine.give(&object);
    machine.sh(&dir, "cat alpha.txt").fails(1, "Input/output error");
    machine.sh(&dir, "cat sub/beta.txt; echo new >made; cat made").ok();
    let log = fs::read_to_string(machine.home().join("daemon.log")).expect("there is a log");
    assert!(log.contains(text(&dir.join("alpha.txt"))), "{log}");
    assert!(!log.contains("beta"), "{log}");
    fs::write(&object, sound).expect("there is room");
    assert_eq!(machine.sh(&dir, "cat alpha.txt").ok().out, "alpha\n");
}

#[test]
fn is_named_and_can_be_mended_as_root() {
    goes_on(Who::Me);
}

#[test]
fn is_named_and_can_be_mended_as_an_ordinary_user() {
    goes_on(Who::Ordinary);
}
