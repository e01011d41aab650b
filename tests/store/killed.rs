//! `zagi restore` killed at any moment: every path has what it had or what it is to have,
//! and to run it again finishes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{describe, noise};

const FILES: u64 = 400;
const ROUNDS: u64 = 12;

fn zagi(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zagi"));
    command.args(arguments).env_clear().env("ZAGI_HOME", home).env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The last word that it prints.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().last().unwrap_or_default().to_owned()
}

/// Two trees that differ in every way: contents, types, whole directories.
fn make(root: &Path, version: u64) {
    for n in 0..FILES {
        let shared = if n % 3 == 0 { 0 } else { version };
        let directory = root.join(format!("d{}", n % 20));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("f{n}"));
        match (n % 7, version) {
            (5, 1) | (6, 2) => fs::create_dir_all(path.join(format!("was{version}"))).unwrap(),
            _ => fs::write(path, noise(n * 10 + shared, 500 + n as usize)).unwrap(),
        }
    }
    fs::create_dir_all(root.join(format!("only{version}/below"))).unwrap();
    fs::write(root.join(format!("only{version}/below/file")), "1").unwrap();
}

/// What is at each path.
fn paths(root: &Path) -> BTreeMap<String, String> {
    let split = |line: String| {
        let (path, what) = line.split_once(' ').unwrap();
        (path.to_owned(), what.to_owned())
    };
    describe(root).into_iter().map(split).collect()
}

fn wait(child: &mut Child, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_restore_that_is_killed_leaves_old_or_new_at_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let out = dir.path().join("out");
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let trees: Vec<(String, BTreeMap<String, String>)> = (1..=2)
        .map(|version| {
            let root = dir.path().join(format!("v{version}"));
            make(&root, version);
            (said(&mut zagi(&home, &["snapshot", &text(&root)])), paths(&root))
        })
        .collect();
    said(&mut zagi(&home, &["restore", &trees[0].0, &text(&out)]));
    let began = Instant::now();
    said(&mut zagi(&home, &["restore", &trees[1].0, &text(&out)]));
    let whole = began.elapsed();
    let mut torn = 0;
    for round in 0..ROUNDS {
        let (tree, _) = &trees[round as usize % 2];
        let mut child = zagi(&home, &["restore", tree, &text(&out)]).spawn().unwrap();
        // Most of it is over before the first name is changed.
        wait(&mut child, whole * (4 + round as u32) / 16);
        child.kill().unwrap();
        child.wait().unwrap();
        let now = paths(&out);
        let of = |tree: usize, path: &String| trees[tree].1.get(path);
        for path in now.keys().chain(trees[0].1.keys()).chain(trees[1].1.keys()) {
            let found = now.get(path);
            let either = [of(0, path), of(1, path)].contains(&found);
            assert!(either, "round {round}: {path} has neither: {found:?}");
        }
        torn += u32::from(now != trees[0].1 && now != trees[1].1);
    }
    eprintln!("{torn} of {ROUNDS} were killed in the middle");
    said(&mut zagi(&home, &["restore", &trees[0].0, &text(&out)]));
    assert_eq!(paths(&out), trees[0].1);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name} was left");
    }
}
