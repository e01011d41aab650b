//! What is executed inside is told to the caller, and nothing inside is the slower or the worse for
//! it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zagi_sandbox::{Exit, Plan, Profile, Ran, SandboxError, Step, Weaker};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_is_executed_is_told", what_is_executed_is_told),
    ("each_way_to_execute_is_told", each_way_to_execute_is_told),
    (
        "links_that_lead_elsewhere_for_others_are_told",
        links_that_lead_elsewhere_for_others_are_told,
    ),
    ("what_fails_fails_as_ever", what_fails_fails_as_ever),
    ("long_commands_are_cut", long_commands_are_cut),
    ("many_at_once_are_told_once_each", many_at_once_are_told_once_each),
    ("nobody_waits_for_who_does_not_read", nobody_waits_for_who_does_not_read),
    ("a_signal_does_not_stop_it", a_signal_does_not_stop_it),
    ("a_caller_that_dies_lets_nobody_wait", a_caller_that_dies_lets_nobody_wait),
    ("who_asks_is_not_reached_inside", who_asks_is_not_reached_inside),
    ("it_is_told_or_said_not_to_be", it_is_told_or_said_not_to_be),
];

fn watched(dir: &Path, argv: &[&str]) -> Plan {
    let mut plan = at_work(Profile::Agent, dir, argv);
    plan.watch = true;
    plan
}

/// Runs to the end: how it ended, what it wrote, what it executed.
fn told(plan: &Plan) -> (Exit, String, Vec<Ran>) {
    let mut child = spawn(plan);
    let mut said = String::new();
    let runs = child.runs.take().expect("asked for");
    let runs = std::thread::spawn(move || {
        let mut runs = runs;
        let all: Vec<Ran> = runs.by_ref().collect();
        assert_eq!(runs.lost(), 0);
        all
    });
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    let exit = child.wait().expect("the helper reports");
    (exit, said, runs.join().expect("does not panic"))
}

fn shell(script: &str) -> (Exit, String, Vec<Ran>) {
    let dir = tempfile::tempdir().expect("made");
    told(&watched(dir.path(), &["/bin/sh", "-c", script]))
}

fn python(script: &str) -> (Exit, String, Vec<Ran>) {
    let dir = tempfile::tempdir().expect("made");
    told(&watched(dir.path(), &["/usr/bin/python3", "-c", script]))
}

/// The words, and where it differs the program before them.
fn lines(runs: &[Ran]) -> Vec<String> {
    let line = |ran: &Ran| match ran.argv.first() == Some(&ran.program) {
        true => ran.argv.join(" "),
        false => format!("{}: {}", ran.program, ran.argv.join(" ")),
    };
    runs.iter().map(line).collect()
}

fn what_is_executed_is_told() {
    // A name is looked for; the plan's own program is known.
    let (exit, said, runs) =
        shell("ls / >/dev/null; /bin/echo a 'b c'; sh -c 'true; /bin/true x'; exec /bin/echo end");
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "a b c\nend\n"));
    let expected = ["/usr/bin/ls: ls /", "/bin/echo a b c", "/usr/bin/sh: sh -c true; /bin/true x"];
    assert_eq!(lines(&runs)[..3], expected);
    assert_eq!(lines(&runs)[3..], ["/bin/true x", "/bin/echo end"]);
    assert!(runs.iter().all(|ran| !ran.cut));
    // Looked for in `PATH` by trying, of which one is there; the program, too.
    let dir = tempfile::tempdir().expect("made");
    let mut plan = watched(dir.path(), &["env", "X=1", "env", "sh", "-c", "exit 5"]);
    plan = plan.env("PATH", "/none:/usr/none:/usr/bin:/bin");
    let (exit, _, runs) = told(&plan);
    assert_eq!(exit, Exit::Code(5));
    assert_eq!(lines(&runs), ["/usr/bin/env: env sh -c exit 5", "/usr/bin/sh: sh -c exit 5"]);
    // Nothing but the program.
    assert_eq!(told(&watched(dir.path(), &["/bin/true"])).2, []);
}

fn each_way_to_execute_is_told() {
    // Scripts, by a name from here and through links that lead somewhere only inside.
    let script = "mkdir bin; printf '#!/bin/sh -e\\necho $0 $1\\n' > bin/script; chmod +x bin/script; \
                  bin/script 1; cd bin; ./script 2; ln -s /zagi/bin/true far; ./far; \
                  ln -s script near; ../bin/near 3; rm -rf ../gone; mkdir ../gone; cd ../gone; /bin/true";
    let dir = tempfile::tempdir().expect("made");
    let plan = watched(dir.path(), &["/bin/sh", "-c", script]).bind("/usr/bin", "/zagi/bin", false);
    let (exit, said, runs) = told(&plan);
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(
        (exit, &said[..]),
        (Exit::Code(0), &["bin/script 1", "./script 2", "../bin/near 3"][..])
    );
    let lines = lines(&runs);
    for expected in ["bin/script 1", "./script 2", "./far", "../bin/near 3", "/bin/true"] {
        assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:?}");
    }
    // By a descriptor (execveat(2), and what leads there by name), by a thread, by a process
    // whose words are not as they seem.
    let (exit, said, runs) = python(
        "import os, threading\n\
         def run(f, *a):\n\
         \x20   p = os.fork()\n\
         \x20   if p == 0:\n\
         \x20       try: f(*a)\n\
         \x20       finally: os._exit(99)\n\
         \x20   print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]), flush=True)\n\
         fd = os.open('/bin/true', os.O_RDONLY)\n\
         run(os.execve, fd, ['by-fd', '1'], {})\n\
         run(os.execv, f'/proc/self/fd/{fd}', ['by-name', '2'])\n\
         run(os.execv, f'/dev/fd/{fd}', ['by-dev', '3'])\n\
         run(os.execv, '/bin/true', ['an honest name', '4'])\n\
         t = threading.Thread(target=run, args=(os.execv, '/bin/true', ['by-thread', '5']))\n\
         t.start(); t.join()\n\
         p = os.posix_spawn('/bin/true', ['by-spawn', '6'], {})\n\
         print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))\n",
    );
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "0\n0\n0\n0\n0\n0\n"));
    let first = |ran: &Ran| (ran.program.clone(), ran.argv.join(" "));
    let all: Vec<(String, String)> = runs.iter().map(first).collect();
    let words: Vec<&str> = all.iter().map(|(_, words)| words.as_str()).collect();
    let expected =
        ["by-fd 1", "by-name 2", "by-dev 3", "an honest name 4", "by-thread 5", "by-spawn 6"];
    assert_eq!(words, expected);
    assert!(all[0].0.ends_with("bin/true") && all[3].0 == "/bin/true", "{all:?}");
    // From a directory that is open.
    let dir = tempfile::tempdir().expect("made");
    let plan =
        watched(dir.path(), &["/bin/sh", "-c", "/zagi/attack __attack execveat /usr/bin true"]);
    let (exit, _, runs) = told(&plan);
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(runs[1].program, "/usr/bin/true");
}

/// What `/proc/self` is depends on who looks, and a directory that was removed has no name.
fn links_that_lead_elsewhere_for_others_are_told() {
    let (exit, said, runs) = shell(
        "ln -s /proc/self/root/usr/bin/uname x; ./x >/dev/null; ln -s x y; ./y >/dev/null; \
         ln -s /proc/thread-self/root/usr/bin d; d/true; ln -s d/.. e; e/bin/true 2; \
         cd /proc; self/root/usr/bin/true 3; cd self/root/usr/bin; ./true 4; cd /; proc/self/root/bin/true 5",
    );
    assert_eq!((exit, said.as_str()), (Exit::Code(0), ""));
    let expected = [
        "./x",
        "./y",
        "d/true",
        "e/bin/true 2",
        "self/root/usr/bin/true 3",
        "./true 4",
        "proc/self/root/bin/true 5",
    ];
    let run = lines(&runs).into_iter().filter(|line| !line.starts_with("/usr/bin/ln"));
    assert_eq!(run.collect::<Vec<_>>(), expected);
    let (exit, said, runs) =
        shell("cp /bin/true evil; mkdir gone; cd gone; rmdir ../gone; ../evil; PATH=..; evil");
    assert_eq!((exit, said.as_str()), (Exit::Code(0), ""));
    assert_eq!(lines(&runs)[3..], ["../evil", "../evil: evil"]);
    // A name that is looked for in vain is not, be it through links that are there.
    let (_, _, runs) =
        shell("ln -s /usr far; PATH=far/none:far/bin:none/x; true; uname; ls / | none");
    let programs: Vec<&str> = runs.iter().map(|ran| ran.program.as_str()).collect();
    assert_eq!(programs, ["/usr/bin/ln", "far/bin/uname", "far/bin/ls"]);
}

fn what_fails_fails_as_ever() {
    let (exit, said, runs) = python(
        "import os, errno\n\
         open('plain', 'w').write('x'); open('odd', 'w').write('no format'); os.chmod('odd', 0o755)\n\
         os.mkdir('dir')\n\
         for f in ['/none', 'plain/x', 'plain', 'odd', 'dir']:\n\
         \x20   try: os.execv(f, [f])\n\
         \x20   except OSError as e: print(errno.errorcode[e.errno])\n",
    );
    assert_eq!(
        (exit, said.as_str()),
        (Exit::Code(0), "ENOENT\nENOTDIR\nEACCES\nENOEXEC\nEACCES\n")
    );
    // What is not there was not executed.
    assert_eq!(lines(&runs), ["plain", "odd", "dir"]);
    // Bad pointers are the program's own mistake, and no reason to say nothing.
    let dir = tempfile::tempdir().expect("made");
    let (_, said, runs) =
        told(&watched(dir.path(), &["/bin/sh", "-c", "/zagi/attack __attack bad-exec; true"]));
    assert_eq!(said, "DENIED Bad address (os error 14)\n");
    assert_eq!(runs[1..], [Ran::default()]);
    for argv in [&["no-such-program"][..], &["/none/at/all"]] {
        let result = zagi_sandbox::spawn(&watched(dir.path(), argv), &program());
        assert!(matches!(result, Err(SandboxError::Exec { .. })), "{result:?}");
    }
    assert_eq!(told(&watched(dir.path(), &[])).2, []);
}

fn long_commands_are_cut() {
    let (exit, _, runs) = python(
        "import os\n\
         for a in [['x'] * 64, ['x'] * 65, ['y' * 4094, 'z'], ['y' * 5000], ['z', '']]:\n\
         \x20   os.waitpid(os.posix_spawn('/bin/true', a, {}), 0)\n",
    );
    assert_eq!(exit, Exit::Code(0));
    let seen: Vec<_> = runs
        .iter()
        .map(|ran| (ran.argv.len(), ran.argv.iter().map(String::len).sum::<usize>(), ran.cut))
        .collect();
    let expected =
        [(64, 64, false), (64, 64, true), (2, 4095, false), (1, 4096, true), (2, 1, false)];
    assert_eq!(seen, expected);
}

fn many_at_once_are_told_once_each() {
    let (exit, said, runs) = shell("seq 500 | xargs -P 8 -n 1 /bin/true");
    assert_eq!((exit, said.as_str()), (Exit::Code(0), ""));
    let numbers: Vec<&str> =
        runs.iter().filter(|r| r.program == "/bin/true").map(|r| r.argv[1].as_str()).collect();
    let distinct: BTreeSet<&str> = numbers.iter().copied().collect();
    assert_eq!((numbers.len(), distinct.len()), (500, 500));
}

fn nobody_waits_for_who_does_not_read() {
    let dir = tempfile::tempdir().expect("made");
    let plan = watched(dir.path(), &["/bin/sh", "-c", "seq 1300 | xargs -P 4 -n 1 /bin/true"]);
    let mut child = spawn(&plan);
    let mut runs = child.runs.take().expect("asked for");
    assert_eq!(child.wait().expect("reported"), Exit::Code(0));
    let read = runs.by_ref().count() as u64;
    assert!(read >= 1000 && runs.lost() > 0, "{read}");
    // And `seq` and `xargs`.
    assert_eq!(read + runs.lost(), 1302);
    let mut child = spawn(&plan);
    drop(child.runs.take());
    assert_eq!(child.wait().expect("reported"), Exit::Code(0));
}

fn a_signal_does_not_stop_it() {
    // Ignored by what is executed; by who executes it handled, so that it interrupts.
    let (exit, said, runs) = python(
        "import os, signal\n\
         signal.signal(signal.SIGURG, lambda *a: None); signal.siginterrupt(signal.SIGURG, False)\n\
         bad = 0\n\
         for n in range(200):\n\
         \x20   p = os.fork()\n\
         \x20   if p == 0:\n\
         \x20       try: os.execv('/bin/true', ['true'])\n\
         \x20       finally: os._exit(99)\n\
         \x20   for _ in range(20): os.kill(p, signal.SIGURG)\n\
         \x20   bad += os.waitpid(p, 0)[1] != 0\n\
         kept = 0\n\
         for n in range(200):\n\
         \x20   p = os.fork()\n\
         \x20   if p == 0:\n\
         \x20       try: os.execv('/bin/true', ['killed'])\n\
         \x20       finally: os._exit(99)\n\
         \x20   os.kill(p, signal.SIGKILL); os.waitpid(p, 0)\n\
         print(bad, os.system('/bin/true last'))\n",
    );
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "0 0\n"));
    let of = |word: &str| runs.iter().filter(|ran| ran.argv[0] == word).count();
    // Twice, where an older kernel let a signal in.
    assert!(of("true") >= 200 && of("/bin/true") == 1, "{} {}", of("true"), of("killed"));
    assert!(of("killed") <= 200);
}

/// The caller that is stopped and killed: something inside executes something all the time.
pub(crate) fn caller() -> ExitCode {
    let dir = tempfile::tempdir().expect("made");
    let plan = watched(dir.path(), &["/bin/sh", "-c", "while /bin/true; do :; done"]);
    let mut child = spawn(&plan);
    println!("started");
    let _ = child.wait();
    ExitCode::FAILURE
}

fn a_caller_that_dies_lets_nobody_wait() {
    let mut caller =
        Command::new(program()).arg("__watching").stdout(Stdio::piped()).spawn().expect("starts");
    let mut line = String::new();
    let stdout = caller.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    assert_eq!(line, "started\n");
    let pid = Pid::from_raw(caller.id() as i32);
    let below = descendants(caller.id());
    assert!(below.len() >= 3, "{below:?}");
    kill(pid, Signal::SIGSTOP).expect("ours");
    // Someone comes to wait for an answer, and stays.
    until(|| descendants(caller.id()).iter().any(|pid| is_asking(*pid)));
    kill(pid, Signal::SIGKILL).expect("ours");
    caller.wait().expect("ours");
    until(|| below.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
}

fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.flat_map(|pid| [vec![pid], descendants(pid)].concat()).collect()
}

/// Whether the process is about to execute something, and waits.
fn is_asking(pid: u32) -> bool {
    let number = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    number.split(' ').next() == Some(&libc::SYS_execve.to_string())
}

fn who_asks_is_not_reached_inside() {
    let dir = tempfile::tempdir().expect("made");
    let inside = |args: &[&str]| {
        told(&watched(dir.path(), &[&["/zagi/attack", "__attack"], args].concat())).1
    };
    assert_eq!(outcome(&inside(&["descriptors"])), Some(false));
    // Nobody inside can answer in the caller's place.
    assert_eq!(inside(&["listen"]), "DENIED Device or resource busy (os error 16)\n");
    let ask = "ls -l /proc/1/fd /proc/1/fd/* 2>/dev/null | grep -c seccomp";
    assert_eq!(shell(ask).1, "0\n");
}

/// In a process where somebody is asked already, as by a container's manager.
pub(crate) fn without() -> ExitCode {
    crate::process::listen().expect("asks");
    let dir = public_dir();
    let plan = watched(dir.path(), &["/bin/true"]);
    match zagi_sandbox::spawn(&plan, &program()) {
        Err(SandboxError::Setup { step: Step::Filter, source, .. }) => println!("{source}"),
        other => panic!("{other:?}"),
    }
    let mut weaker = plan.clone();
    weaker.weaker.push(Weaker::Watch);
    let mut child = spawn(&weaker);
    assert_eq!(child.enforced().missing, [Weaker::Watch]);
    assert!(child.runs.is_none());
    assert_eq!(child.wait().expect("reported"), Exit::Code(0));
    ExitCode::SUCCESS
}

fn it_is_told_or_said_not_to_be() {
    let out = Command::new(program()).arg("__without-watch").output().expect("starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("busy"), "{said}");
    let dir = tempfile::tempdir().expect("made");
    let child = spawn(&watched(dir.path(), &["/bin/true"]));
    assert!(child.enforced().missing.is_empty());
    let child = spawn(&at_work(Profile::Agent, dir.path(), &["/bin/true"]));
    assert!(child.runs.is_none(), "nobody asked for it");
}
