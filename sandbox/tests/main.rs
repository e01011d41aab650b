//! What must be impossible in the sandbox, each with its control: the same attack, by the
//! same user, outside, where it works.
//!
//! The test program is also the sandbox helper, the attacker and the caller that is killed,
//! so it has its own `main`. As root it runs every test twice: as root, and as an ordinary
//! user. A machine without user namespaces fails; nothing is skipped.

mod app;
mod attack;
mod hidden;
mod hold;
mod life;
mod pinned;
mod process;
mod reach;
mod support;
mod sys;
mod terminal;
mod watch;

use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

type Test = (&'static str, fn());

fn main() -> ExitCode {
    zagi_sandbox::main_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("__attack") => return attack::main(&args[1..]),
        Some("__caller") => return life::caller(),
        Some("__launch") => return terminal::launch(&args[1..]),
        Some("__without-landlock") => return hold::without_landlock(),
        Some("__watching") => return watch::caller(),
        Some("__without-watch") => return watch::without(),
        _ => {}
    }
    sys::heed_hangups();
    let tests: Vec<Test> = [
        reach::TESTS,
        hidden::TESTS,
        hold::TESTS,
        pinned::TESTS,
        terminal::TESTS,
        life::TESTS,
        app::TESTS,
        watch::TESTS,
    ]
    .concat();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|a| !a.starts_with("--"));
    let chosen = tests.into_iter().filter(|(name, _)| filter.is_none_or(|f| name.contains(f)));
    let root = nix::unistd::geteuid().is_root();
    let mut failed = run(if root { "root" } else { "user" }, chosen.collect());
    if root {
        failed += usize::from(!as_user(filter));
    }
    println!("\ntest result: {}", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(who: &str, tests: Vec<Test>) -> usize {
    let mut failed = 0;
    for (name, test) in tests {
        let result = catch_unwind(AssertUnwindSafe(test));
        println!("test {who}::{name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(result.is_err());
    }
    failed
}

/// The same again as a user who owns nothing, from a copy that this user can reach.
fn as_user(filter: Option<&String>) -> bool {
    const NOBODY: u32 = 65534;
    let dir = support::public_dir();
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().expect("has a file"), &program).expect("copies");
    let setuid = dir.path().join("setuid");
    std::fs::copy(&program, &setuid).expect("copies");
    support::chmod(&setuid, 0o4755);
    Command::new(&program)
        .args(filter)
        .env("ZAGI_TEST_SETUID", &setuid)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .status()
        .expect("starts")
        .success()
}
