//! The same lock, realised and installed in two empty homes: the same bytes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zagi_integration::machine::{Machine, Who};

/// What every file below `root` is: its mode and the digest of its content, or where it leads.
fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let is = if entry.path_is_symlink() {
            format!("-> {}", std::fs::read_link(entry.path()).unwrap().display())
        } else {
            let mode = entry.metadata().unwrap().permissions().mode();
            let content = match entry.file_type().is_dir() {
                true => String::new(),
                false => blake3::hash(&std::fs::read(entry.path()).unwrap()).to_string(),
            };
            format!("{mode:o} {content}")
        };
        found.insert(entry.path().strip_prefix(root).unwrap().to_owned(), is);
    }
    found
}

/// Mounts `source` in an empty home and puts that home aside: what was said, and the home.
fn made(machine: &Machine, source: &Path, name: &str) -> (serde_json::Value, PathBuf) {
    let said = machine.zagi(&["mount", "--json", source.to_str().unwrap(), "w"]).ok().json();
    machine.zagi(&["discard", "--force", "w"]).ok();
    machine.zagi(&["daemon", "stop"]).ok();
    let aside = machine.home().with_file_name(name);
    std::fs::rename(machine.home(), &aside).unwrap();
    (said, aside)
}

#[test]
fn two_homes_get_the_same() {
    let machine = Machine::new(Who::Me);
    let source = machine.work().join("source");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mixed");
    machine.sh(&machine.work(), &format!("cp -r '{}' source", fixture.display())).ok();
    machine.git(&source, &["init", "-q"]).ok();
    machine.zagi(&["init", "source"]).ok();
    machine.git(&source, &["add", "-A"]).ok();
    machine.git(&source, &["commit", "-q", "-m", "with its lock"]).ok();
    std::fs::remove_dir_all(machine.home()).unwrap();

    // One after the other at one place: absolute paths are part of what is made.
    let (first, one) = made(&machine, &source, "one");
    let (second, two) = made(&machine, &source, "two");
    for key in ["environment", "dependencies"] {
        assert!(!first[key].is_null(), "{first}");
        assert_eq!(first[key], second[key], "{key}");
    }
    assert_eq!(first["dependencies"].as_array().unwrap().len(), 2, "{first}");
    // What was made; what of it has been looked at so far (`files/`) is by chance.
    let made = |home: &Path| contents(&home.join("store/farm/trees"));
    let (one, two) = (made(&one), made(&two));
    assert!(one.len() > 1000, "{} files only", one.len());
    let differ: Vec<_> = one
        .iter()
        .filter(|(path, is)| two.get(*path) != Some(is))
        .map(|(path, is)| (path, is, two.get(path)))
        .take(20)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert_eq!(one.len(), two.len());
}
