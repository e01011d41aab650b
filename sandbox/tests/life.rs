//! How a sandbox begins and ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use zagi_sandbox::{Exit, SandboxError, Step};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("the_end_is_reported", the_end_is_reported),
    ("what_cannot_start_is_named", what_cannot_start_is_named),
    ("a_stranger_is_no_helper", a_stranger_is_no_helper),
    ("kill_reaches_all", kill_reaches_all),
    ("the_end_of_the_program_is_the_end_of_all", the_end_of_the_program_is_the_end_of_all),
    ("a_dying_caller_takes_all_along", a_dying_caller_takes_all_along),
    ("another_thread_can_kill", another_thread_can_kill),
    ("a_signal_reaches_the_program_alone", a_signal_reaches_the_program_alone),
    ("orphans_are_reaped", orphans_are_reaped),
    ("the_probe_does_it", the_probe_does_it),
    ("it_is_quick", it_is_quick),
];

fn the_end_is_reported() {
    let shell = |script: &str| run(&plan(&["/bin/sh", "-c", script]));
    assert_eq!(shell("exit 0").0, Exit::Code(0));
    assert_eq!(shell("exit 7").0, Exit::Code(7));
    assert_eq!(shell("kill -TERM $$").0, Exit::Signal(15));
    assert_eq!(shell("echo out; echo err >&2").1, "out\nerr\n");
    // Found in the plan's PATH.
    assert_eq!(run(&plan(&["true"])).0, Exit::Code(0));
    // SIGPIPE, like all signals that can be set (32 and 33 are the C library's), has its
    // default action.
    let (_, said) = shell("grep SigIgn /proc/self/status");
    let ignored = u64::from_str_radix(said.trim_start_matches("SigIgn:").trim(), 16);
    assert_eq!(ignored.expect("a mask") & 0x7fff_ffff, 0);
}

fn what_cannot_start_is_named() {
    let spawn = |plan| zagi_sandbox::spawn(&plan, &program()).map(|_| "started");
    match spawn(plan(&["no-such-program"])) {
        Err(e @ SandboxError::Exec { .. }) => assert_eq!(
            e.to_string(),
            "cannot execute `no-such-program` in the sandbox: No such file or directory (os error 2)"
        ),
        other => panic!("{other:?}"),
    }
    let missing = plan(&["true"]).bind("/no/such/source", "/zagi/x", false);
    match spawn(missing) {
        Err(e @ SandboxError::Setup { step: Step::Source, .. }) => assert_eq!(
            e.to_string(),
            "sandbox: cannot open `/no/such/source`: No such file or directory (os error 2)"
        ),
        other => panic!("{other:?}"),
    }
    for target in ["relative", "/zagi/../etc", "/"] {
        let plan = plan(&["true"]).bind("/usr", target, false);
        assert!(
            matches!(spawn(plan), Err(SandboxError::Setup { step: Step::Plan, .. })),
            "{target}"
        );
    }
    let bytes = std::ffi::OsStr::from_bytes(b"/tmp/\xff");
    let not_text = plan(&["true"]).bind(bytes, "/zagi/x", false);
    assert!(matches!(spawn(not_text), Err(SandboxError::Setup { step: Step::Plan, .. })));
    let mut root = plan(&["true"]);
    root.identity.uid = 0;
    assert!(matches!(spawn(root), Err(SandboxError::Setup { step: Step::Plan, .. })));
}

fn a_stranger_is_no_helper() {
    for stranger in ["/bin/true", "/bin/cat"] {
        let result = zagi_sandbox::spawn(&plan(&["true"]), Path::new(stranger));
        assert!(matches!(result, Err(SandboxError::Lost { .. })), "{stranger}: {result:?}");
    }
    let result = zagi_sandbox::spawn(&plan(&["true"]), Path::new("/no/such/helper"));
    assert!(matches!(result, Err(SandboxError::Helper { .. })), "{result:?}");
    // Typed by hand, with no control socket: it ends.
    let out = Command::new(program()).arg("__sandbox").stdin(Stdio::null()).status();
    assert_eq!(out.expect("starts").code(), Some(125));
}

/// A number of seconds that nobody else sleeps.
fn mark(n: u32) -> String {
    format!("9{n}{}", std::process::id())
}

/// Processes of this machine that sleep that long.
fn sleepers(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("mounted").flatten();
    let is = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|c| c == format!("sleep\0{mark}\0").as_bytes())
    };
    processes.filter(is).count()
}

/// A program with a child in its own session and one that lost its parent.
fn family(mark: &str) -> zagi_sandbox::Plan {
    let script = format!("setsid sleep {mark} & (sleep {mark} &) ; echo ready; sleep {mark}");
    plan(&["/bin/sh", "-c", &script])
}

fn wait_for(count: usize, mark: &str) {
    let start = Instant::now();
    while sleepers(mark) != count {
        assert!(start.elapsed() < Duration::from_secs(5), "{} sleep, not {count}", sleepers(mark));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill_reaches_all() {
    let mark = mark(1);
    let mut child = spawn(&family(&mark));
    wait_for(3, &mark);
    child.kill().expect("kills");
    assert_eq!(sleepers(&mark), 0, "gone when kill returns");
    // Dropping does the same.
    let child = spawn(&family(&mark));
    wait_for(3, &mark);
    drop(child);
    assert_eq!(sleepers(&mark), 0);
}

fn the_end_of_the_program_is_the_end_of_all() {
    let mark = mark(2);
    let script = format!("setsid sleep {mark} & (sleep {mark} &) ; sleep 0.2; exit 3");
    let (exit, _) = run(&plan(&["/bin/sh", "-c", &script]));
    assert_eq!(exit, Exit::Code(3));
    assert_eq!(sleepers(&mark), 0);
}

/// The caller that is killed: starts the family and waits.
pub(crate) fn caller() -> ExitCode {
    let mark = std::env::var("ZAGI_TEST_MARK").expect("given");
    let mut child = spawn(&family(&mark));
    println!("started");
    // Ends with this process being killed.
    let _ = child.wait();
    ExitCode::FAILURE
}

fn a_dying_caller_takes_all_along() {
    let mark = mark(3);
    let mut caller = Command::new(program())
        .arg("__caller")
        .env("ZAGI_TEST_MARK", &mark)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let stdout = caller.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    assert_eq!(line, "started\n");
    wait_for(3, &mark);
    caller.kill().expect("ours");
    caller.wait().expect("ours");
    wait_for(0, &mark);
}

fn another_thread_can_kill() {
    let mark = mark(4);
    let mut child = spawn(&family(&mark));
    let killer = child.killer().expect("a socket can be cloned");
    wait_for(3, &mark);
    let other = std::thread::spawn(move || killer.kill());
    assert_eq!(child.wait().expect("reported"), Exit::Signal(9));
    other.join().expect("does not panic");
    assert_eq!(sleepers(&mark), 0);
}

fn a_signal_reaches_the_program_alone() {
    let mark = mark(5);
    // The shell answers; its child, which would die of it, gets none.
    let script = format!(
        "trap 'echo asked; kill $!; exit 7' INT; sleep {mark} & echo ready; wait $!; echo no; exit 1"
    );
    let mut child = spawn(&plan(&["/bin/sh", "-c", &script]));
    let killer = child.killer().expect("a socket can be cloned");
    let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = || said.next().expect("not the end").expect("text");
    assert_eq!(line(), "ready");
    wait_for(1, &mark);
    killer.signal(Signal::SIGINT).expect("sent");
    assert_eq!(line(), "asked");
    assert_eq!(child.wait().expect("reported"), Exit::Code(7));
    assert_eq!(sleepers(&mark), 0);
    killer.signal(Signal::SIGINT).expect("nobody is there to get it");
}

fn orphans_are_reaped() {
    let script = "for i in 1 2 3 4 5; do (true &); done; sleep 0.3; \
                  grep -l '^State:.Z' /proc/[0-9]*/status; true";
    let (exit, said) = run(&plan(&["/bin/sh", "-c", script]));
    assert_eq!((exit, said.as_str()), (Exit::Code(0), ""), "no zombie is left");
}

fn the_probe_does_it() {
    let probe = zagi_sandbox::probe(&program());
    let enforced = probe.sandbox.expect("user namespaces are usable");
    assert!(enforced.mounts > 10);
    let broken = zagi_sandbox::probe(Path::new("/bin/true"));
    assert!(broken.sandbox.is_err());
}

fn it_is_quick() {
    let plan = plan(&["/bin/true"]);
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let start = Instant::now();
            run(&plan);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("    a sandboxed `true`: median {:?}, best {:?}", times[10], times[0]);
    // The aim is 15 ms over a bare spawn; ten times that means something is broken.
    assert!(times[10] < Duration::from_millis(150), "{times:?}");
}
