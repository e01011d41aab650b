//! The daemon's processes are killed while programs work in the mount.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zagi_integration::machine::{Machine, Said, Who, install};
use zagi_integration::suites::{fsx, seed};

use super::{Lots, content, kill_hard, mounted, pids, text, time};

/// Kills the worker every second until `done`; how often.
fn kill_every_second(machine: &Machine, done: &AtomicBool) -> usize {
    let mut kills = 0;
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_secs(1));
        if let Some((_, worker, _)) = pids(machine) {
            kill_hard(worker);
            kills += 1;
        }
    }
    kills
}

/// A repository with a crate and all that it depends on.
fn crate_with_dependencies(machine: &Machine) -> PathBuf {
    let dir = machine.work().join("crate-origin");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vendored");
    let script = r#"
        cp -r "$1" "$2" && cd "$2" && mkdir .cargo .zagi && "$3" vendor --locked >.cargo/config.toml
        # Neither tools nor dependencies are zagi's here: what builds is what builds zagi.
        : >.zagi/env.toml && echo '/target*' >.gitignore && git init -q -b main && git add -A -f
        git -c user.name=T -c user.email=t@localhost commit -q -m first"#;
    let mut sh = Command::new("sh");
    sh.args(["-ec", script, "sh"]).arg(fixture).arg(&dir).arg(cargo());
    Said::of(&mut sh).ok();
    dir
}

/// The cargo that runs this test, beside which its rustc lies.
fn cargo() -> PathBuf {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    PathBuf::from(cargo).canonicalize().expect("it is there")
}

fn build(machine: &Machine, dir: &Path, target: &str) -> Said {
    let cargo = cargo();
    let bin = cargo.parent().expect("a file is in a directory");
    let mut command = machine.command(&cargo, dir);
    command.env("PATH", format!("{}:/usr/bin:/bin", text(bin)));
    command.args(["build", "--offline", "--locked", "--target-dir", target]);
    Said::of(&mut command)
}

#[test]
fn a_build_and_fsx_end_right_while_the_worker_is_killed_every_second() {
    let machine = Machine::new(Who::Me);
    let origin = crate_with_dependencies(&machine);
    machine.zagi(&["mount", "--no-deps", text(&origin), "w"]).ok();
    let dir = machine.work().join("w");
    let (done, begun, seed, time) = (AtomicBool::new(false), Instant::now(), seed(), time(10));
    let (kills, built, runs) = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_every_second(&machine, &done));
        let builder = scope.spawn(|| {
            let mut built = Vec::new();
            while built.is_empty() || (begun.elapsed() < time && built.last() == Some(&0)) {
                let target = format!("target-{}", built.len());
                let said = build(&machine, &dir, &target);
                println!("{}", said.err);
                built.push(said.code);
            }
            done.store(true, Ordering::Relaxed);
            built
        });
        let tester = scope.spawn(|| {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                let seed = seed + runs;
                let said = Said::of(&mut fsx(&machine, &dir, seed, 5_000));
                assert_eq!(said.code, 0, "ZAGI_TEST_SEED={seed}\n{}\n{}", said.out, said.err);
                runs += 1;
            }
            runs
        });
        // The builder first: it is what ends the other two.
        let built = builder.join().unwrap();
        (killer.join().unwrap(), built, tester.join().unwrap())
    });
    println!("{} builds, {runs} runs of fsx, {kills} kills", built.len());
    assert!(built.iter().all(|code| *code == 0), "a build failed: {built:?}");
    assert!(kills >= 3 && runs >= 1, "{kills} kills, {runs} runs of fsx");
    let counted = r#"{"words":{"build":2,"not":1,"or":1,"to":2}}"#;
    for n in 0..built.len() {
        let program = dir.join(format!("target-{n}/debug/vendored"));
        let said = Said::of(&mut machine.command(&program, &dir)).ok();
        assert_eq!(said.out.trim(), counted, "{}", program.display());
    }
    assert_eq!(machine.git(&dir, &["status", "--porcelain", "-uno"]).ok().out, "");
    let (_, _, starts) = pids(&machine).unwrap();
    assert!(starts as usize > kills / 2, "{starts} workers, {kills} kills");
}

#[test]
fn the_program_is_upgraded_under_an_open_file() {
    let machine = Machine::new(Who::Me);
    let dir = mounted(&machine);
    let mut file = File::create_new(dir.join("open")).unwrap();
    file.write_all(b"before, ").unwrap();
    let mut layer = File::open(dir.join("alpha.txt")).unwrap();
    let (supervisor, old, _) = pids(&machine).unwrap();

    // As installers do it: the new one beside the old, and then in its place.
    let program = machine.program();
    let new = program.with_extension("new");
    install(program, &new);
    fs::rename(&new, program).unwrap();
    kill_hard(old);

    file.write_all(b"and after").unwrap();
    let mut text = String::new();
    layer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "alpha\n");
    assert_eq!(fs::read_to_string(dir.join("open")).unwrap(), "before, and after");
    file.rewind().unwrap();
    file.set_len(6).unwrap();
    assert_eq!(fs::read_to_string(dir.join("open")).unwrap(), "before");
    let (same, worker, _) = pids(&machine).unwrap();
    assert_eq!(same, supervisor);
    assert_ne!(worker, old);
    let runs = fs::metadata(format!("/proc/{worker}/exe")).unwrap().ino();
    assert_eq!(runs, fs::metadata(program).unwrap().ino(), "the old program is still at work");
}

/// Writes files, on and on, until one fails; how many were acknowledged.
fn write_on(dir: &Path, from: u64) -> u64 {
    let wrote = |number: &u64| {
        let path = dir.join(format!("f{number}"));
        let Ok(mut file) = File::create_new(&path) else { return false };
        let whole = content(*number);
        let (head, tail) = whole.split_at(whole.len() / 2);
        file.write_all(head).and_then(|()| file.write_all(tail)).is_ok()
    };
    (from..).find(|number| !wrote(number)).unwrap_or(u64::MAX)
}

/// Supervisor and worker at once, at any moment: what was written is there after the next
/// command, whether it was synced or not, for the machine did not stop.
#[test]
fn killed_altogether_nothing_written_is_lost() {
    let machine = Machine::new(Who::Me);
    let dir = mounted(&machine);
    let mut lots = Lots(seed());
    println!("ZAGI_TEST_SEED={}", lots.0);
    let mut next = 0;
    for round in 0..3 {
        let (supervisor, worker, _) = pids(&machine).unwrap();
        let wait = Duration::from_millis(100 + lots.draw(400));
        let end = thread::scope(|scope| {
            let writer = scope.spawn(|| write_on(&dir, next));
            thread::sleep(wait);
            kill_hard(supervisor);
            kill_hard(worker);
            writer.join().unwrap()
        });
        assert!(end > next, "round {round}: nothing was written in {wait:?}");
        let list = machine.zagi(&["list", "--json"]).ok().json();
        assert_eq!(list[0]["mounted"], true, "round {round}");
        for number in 0..end {
            let found = fs::read(dir.join(format!("f{number}"))).unwrap();
            assert!(found == content(number), "round {round}: f{number} of {end}");
        }
        // The one that failed is there in part or not at all.
        let last = dir.join(format!("f{end}"));
        if let Ok(found) = fs::read(&last) {
            assert!(content(end).starts_with(&found), "round {round}: f{end}");
            fs::remove_file(last).unwrap();
        }
        next = end;
    }
    println!("{next} files");
}
