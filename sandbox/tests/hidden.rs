//! What is kept from a program and from a look, wherever somebody leads them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use zagi_sandbox::{Exit, Hidden, Plan, SandboxError, Step, without};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_is_hidden_is_shown_by_no_bind", what_is_hidden_is_shown_by_no_bind),
    ("what_is_hidden_is_read_by_no_way", what_is_hidden_is_read_by_no_way),
];

/// A directory with something to keep, and beside it what somebody else has.
struct Kept {
    _dir: tempfile::TempDir,
    state: PathBuf,
    theirs: PathBuf,
}

fn kept() -> Kept {
    let dir = tempfile::tempdir().expect("made");
    let at = dir.path().canonicalize().expect("there");
    let (state, theirs) = (at.join("state"), at.join("theirs"));
    for dir in [state.join("own"), theirs.clone()] {
        fs::create_dir_all(dir).expect("made");
    }
    fs::write(state.join("identity"), "canary").expect("written");
    fs::write(state.join("own/file"), "own").expect("written");
    fs::write(theirs.join("file"), "theirs").expect("written");
    symlink(&state, theirs.join("link")).expect("made");
    symlink("/proc/self/root", theirs.join("root")).expect("made");
    Kept { _dir: dir, state, theirs }
}

fn what_is_hidden_is_shown_by_no_bind() {
    let Kept { state, theirs, _dir } = kept();
    let find = "find /zagi/seen -type f | sort | xargs -r grep -h .";
    let show = |source: &Path, hide: bool| {
        let mut plan: Plan = plan(&["sh", "-c", find]).bind(source, "/zagi/seen", false);
        plan = plan.bind(state.join("own"), "/zagi/own", false);
        let (path, but, only) = (state.clone(), vec![state.join("own")], BTreeMap::new());
        plan.hidden = hide.then_some(Hidden { path, but, only });
        plan
    };
    let refused = |plan: &Plan| {
        let error = zagi_sandbox::spawn(plan, &program()).map(drop);
        let source = matches!(&error, Err(SandboxError::Setup { step: Step::Source, .. }));
        assert!(source, "{:?}: {error:?}", plan.binds);
    };
    let within_root = theirs.join("root").join(state.strip_prefix("/").expect("absolute"));
    let ways = [state.clone(), theirs.join("link"), theirs.join("../state"), within_root];
    for way in &ways {
        let (exit, said) = run(&show(way, false));
        assert_eq!((exit, said.contains("canary")), (Exit::Code(0), true), "{way:?}: {said}");
        let (exit, said) = run(&show(way, true));
        assert!(exit == Exit::Code(0) && said.is_empty(), "{way:?}: {said}");
    }
    // What was named to be shown is, and what is beside.
    for (way, seen) in [(&state.join("own"), "own"), (&theirs, "theirs")] {
        assert_eq!(run(&show(way, true)).1.trim(), seen);
    }
    let around = state.parent().expect("it has one");
    for way in [around, Path::new("/"), Path::new("/proc"), &theirs.join("root")] {
        refused(&show(way, true));
    }
    // What is another than was looked at.
    let id = |at: &Path| fs::metadata(at).map(|about| (about.dev(), about.ino())).expect("there");
    for (at, fits) in [(&theirs, true), (&state.join("own"), false)] {
        let mut plan = show(&theirs, true);
        let only = &mut plan.hidden.as_mut().expect("it is to be hidden").only;
        only.insert(theirs.clone(), id(at));
        match fits {
            true => assert_eq!(run(&plan).1.trim(), "theirs"),
            false => refused(&plan),
        }
    }
}

fn what_is_hidden_is_read_by_no_way() {
    let Kept { state, theirs, _dir } = kept();
    let within_root = theirs.join("root").join(state.strip_prefix("/").expect("absolute"));
    let by_process = format!("/proc/{}/root{}", std::process::id(), state.display());
    let open = fs::File::open(&state).expect("there");
    let by_descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    let ways =
        [state.clone(), theirs.join("link"), within_root, by_process.into(), by_descriptor.into()];
    for way in &ways {
        let read = || (fs::read(way.join("identity")), fs::read_dir(way).map(drop));
        let outside = read();
        assert!(outside.0.is_ok() && outside.1.is_ok(), "{way:?}: {outside:?}");
        let apart = without(&state, &[&state.join("own")], read).expect("the kernel can");
        assert!(apart.0.is_err() && apart.1.is_err(), "{way:?}: {apart:?}");
    }
    // A program that is started there is held, too; and this thread is not.
    let cat = || run_out("cat", &state.join("identity"));
    assert_eq!(
        (cat().as_str(), without(&state, &[], cat).expect("it can").as_str()),
        ("canary", "")
    );
    let both = || (fs::read(state.join("own/file")), fs::read(theirs.join("file")));
    let (own, other) = without(&state, &[&state.join("own")], both).expect("the kernel can");
    assert_eq!((own.expect("kept"), other.expect("beside")), (b"own".into(), b"theirs".into()));
    // Other processes are not looked into, either; but by root, whom the kernel asks no further
    // (CAP_PERFMON).
    let mut other = Command::new("sleep").arg("60").env("CANARY", "1").spawn().expect("starts");
    let environ = format!("/proc/{}/environ", other.id());
    let read = || fs::read_to_string(&environ).is_ok_and(|text| text.contains("CANARY=1"));
    let begun = Instant::now();
    while !read() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the control");
    }
    let seen = (read(), without(&state, &[], read).expect("the kernel can"));
    let _ = other.kill();
    let _ = other.wait();
    assert_eq!(seen, (true, nix::unistd::geteuid().is_root()));
}

fn run_out(program: &str, argument: &Path) -> String {
    let out = Command::new(program).arg(argument).output().expect("starts");
    String::from_utf8(out.stdout).expect("text")
}
