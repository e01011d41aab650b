//! What the tests share.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use zagi_sandbox::{Child, Exit, Plan, Profile};

/// This program: helper and attacker.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("has a file")
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("owned by the test");
}

/// A temporary directory that every user can enter.
pub(crate) fn public_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    chmod(dir.path(), 0o755);
    dir
}

/// A plan that starts `argv`, with the attacker in reach as `/zagi/attack`.
pub(crate) fn plan(argv: &[&str]) -> Plan {
    Plan::new(Profile::Install, argv.iter().map(|a| (*a).to_owned()).collect())
        .bind(program(), "/zagi/attack", false)
        .env("PATH", "/usr/bin:/bin")
}

/// A plan for an agent or app at work on `workspace`.
pub(crate) fn at_work(profile: Profile, workspace: &Path, argv: &[&str]) -> Plan {
    let mut plan = Plan::new(profile, argv.iter().map(|a| (*a).to_owned()).collect())
        .bind(program(), "/zagi/attack", false)
        .bind(workspace, workspace, true)
        .env("PATH", "/usr/bin:/bin");
    plan.cwd = workspace.to_owned();
    plan
}

/// The same that attacks, as an agent.
pub(crate) fn agent(workspace: &Path, args: &[&str]) -> Plan {
    at_work(Profile::Agent, workspace, &[&["/zagi/attack", "__attack"], args].concat())
}

/// A plan that attacks.
pub(crate) fn attack(args: &[&str]) -> Plan {
    plan(&[&["/zagi/attack", "__attack"], args].concat())
}

pub(crate) fn spawn(plan: &Plan) -> Child {
    zagi_sandbox::spawn(plan, &program()).unwrap_or_else(|e| panic!("{e}; hint: {:?}", e.hint()))
}

/// Runs to the end: how it ended, and what it wrote.
pub(crate) fn run(plan: &Plan) -> (Exit, String) {
    let mut child = spawn(plan);
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("text");
    (child.wait().expect("the helper reports"), said)
}

/// What an attack prints when it worked and when it did not.
pub(crate) fn outcome(said: &str) -> Option<bool> {
    match said.split_whitespace().next() {
        Some("GOT") => Some(true),
        Some("DENIED") => Some(false),
        _ => None,
    }
}

/// The same attack without a sandbox, by the same user.
pub(crate) fn outside(args: &[&str]) -> String {
    let out = Command::new(program()).arg("__attack").args(args).output().expect("starts");
    String::from_utf8(out.stdout).expect("text")
}

/// The attack works outside and does not inside.
#[track_caller]
pub(crate) fn impossible(control: &[&str], inside: Plan) {
    let said = outside(control);
    assert_eq!(outcome(&said), Some(true), "control {control:?}: {said}");
    let (exit, said) = run(&inside);
    assert_eq!(outcome(&said), Some(false), "{:?}: {exit} {said}", inside.argv);
}
