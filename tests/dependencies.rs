//! Installing once, in the real sandbox, with the shell as the package manager: what the
//! room promises whoever the manager is. Real managers and registries are in
//! `integration/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zagi::config::Config;
use zagi::context::{Context, Platform};
use zagi::dependencies::plan::{Otherwise, Step};
use zagi::dependencies::{DependenciesError, Plan, Provided, Tools, WORKSPACE, lookup, provide};
use zagi::environment::detect::{Ecosystem, Project};
use zagi::event::{Event, Events};
use zagi::home::Home;
use zagi::store::Store;

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Events for Told {
    fn emit(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().expect("nothing panics with it held").push(text);
        }
    }
}

struct World {
    ctx: Context,
    store: Store,
    tools: Tools,
    told: Arc<Told>,
    dir: PathBuf,
}

impl World {
    /// A home in `dir`, which may have one from an earlier process.
    fn open(dir: &Path) -> World {
        let told = Arc::new(Told::default());
        let home = Home::open(&dir.join("home")).expect("made");
        let store = Store::open(&home.store()).expect("made");
        let ctx = Context {
            home,
            config: Arc::new(Config::default()),
            offline: true,
            platform: Platform::current(),
            now: 0,
            events: told.clone(),
            vars: Arc::default(),
            program: env!("CARGO_BIN_EXE_zagi").into(),
        };
        let tools = dir.join("tools");
        fs::create_dir_all(tools.join("bin")).expect("made");
        let vars = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        let tools = Tools { dir: tools, trees: Vec::new(), vars, view: None };
        World { ctx, store, tools, told, dir: dir.to_owned() }
    }

    fn provide(&self, plan: &Plan) -> Result<Provided, DependenciesError> {
        provide(&self.ctx, &self.store, &self.tools, plan, &|to| {
            fs::write(to.join("source.txt"), "source")
        })
    }

    fn scratch(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.ctx.home.tmp()).expect("there");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths.filter(|path| !path.ends_with("lock")).collect()
    }
}

fn world() -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().expect("made");
    let world = World::open(dir.path());
    (dir, world)
}

fn shell(script: &str) -> Step {
    Step { argv: ["/bin/sh", "-ec", script].map(String::from).to_vec(), otherwise: Vec::new() }
}

/// A plan that runs `scripts` one after the other; every one has a key of its own.
fn plan(scripts: &[&str]) -> Plan {
    let mut project = Project::new(Ecosystem::Node, "", 0);
    project.lock = Some("package-lock.json".into());
    Plan {
        project,
        manager: "npm".into(),
        steps: scripts.iter().map(|script| shell(script)).collect(),
        env: BTreeMap::from([("SETTING".to_owned(), "set".to_owned())]),
        files: BTreeMap::new(),
        vars: BTreeMap::new(),
        caches: vec!["npm".into()],
        hosts: Vec::new(),
        directories: vec!["node_modules".into()],
        nested: None,
        outputs: false,
        disagrees: None,
        inputs: BTreeMap::new(),
        key: blake3::hash(scripts.join("\n").as_bytes()).to_hex().to_string(),
    }
}

const INSTALL: &str = "mkdir -p node_modules/a; echo one >>/zagi/cache/npm/installs; \
                       echo \"$PWD $SETTING $(cat source.txt)\" >node_modules/a/index.js";

#[test]
fn installed_once_and_looked_up_ever_after() {
    let (_dir, mut world) = world();
    let plan = plan(&[INSTALL]);
    assert_eq!(lookup(&world.store, &plan.key).expect("asked"), None);
    let first = world.provide(&plan).expect("installed");
    assert!(!first.cached);
    assert_eq!((first.files, first.manager.as_str()), (1, "npm"));
    // Neither the source nor a program is needed any more.
    world.ctx.program = "/no/such/program".into();
    let asked = AtomicUsize::new(0);
    let again = provide(&world.ctx, &world.store, &world.tools, &plan, &|_| {
        asked.fetch_add(1, Ordering::Relaxed);
        Err(io::Error::other("not to be asked"))
    });
    let again = again.expect("looked up");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(again, Provided { cached: true, ..first.clone() });
    assert_eq!(world.scratch(), [] as [PathBuf; 0]);

    let dest = world.dir.join("elsewhere");
    world.store.restore(&again.tree, &dest).expect("restored");
    let to = dest.to_str().expect("text");
    let rewritten = again.relocations.apply(&world.store, &again.tree, &dest, to);
    assert_eq!(rewritten.expect("rewritten"), 1);
    let text = fs::read_to_string(dest.join("node_modules/a/index.js")).expect("there");
    assert_eq!(text, format!("{to} set source\n"));
    // What is in the store still speaks of the place of installation.
    let (id, _) = again.relocations.files.first_key_value().expect("one");
    let stored = world.store.read_file(id).expect("there");
    assert_eq!(String::from_utf8_lossy(&stored), format!("{WORKSPACE} set source\n"));
    assert_eq!(again.relocations.len_after(id, stored.len() as u64, to), text.len() as u64);
}

#[test]
fn a_record_that_makes_no_sense_is_made_again() {
    let (_dir, world) = world();
    let plan = plan(&[INSTALL]);
    let broken = world.dir.join("broken");
    fs::create_dir_all(broken.join("tree")).expect("made");
    fs::write(broken.join("record.json"), r#"{"version":1}"#).expect("written");
    let captured = world.store.capture(&broken).expect("captured");
    let name = format!("dependencies/{}", plan.key);
    world.store.set_ref(&name, &captured.tree).expect("set");
    assert!(matches!(lookup(&world.store, &plan.key), Err(DependenciesError::Record(_))));
    assert!(!world.provide(&plan).expect("installed").cached);
    assert!(lookup(&world.store, &plan.key).expect("asked").is_some());
    // One of a newer program's is not touched.
    fs::write(broken.join("record.json"), r#"{"version":2}"#).expect("written");
    let captured = world.store.capture(&broken).expect("captured");
    world.store.set_ref(&name, &captured.tree).expect("set");
    let error = world.provide(&plan).expect_err("refused");
    assert!(error.to_string().contains("recorded in version 2"), "{error}");
}

#[test]
fn whoever_comes_at_the_same_time_waits() {
    let dir = tempfile::tempdir().expect("made");
    let plan = plan(&[&format!("sleep 0.3; {INSTALL}")]);
    let provided: Vec<Provided> = std::thread::scope(|scope| {
        let one = || World::open(dir.path()).provide(&plan).expect("provided");
        let all: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join().expect("does not panic")).collect()
    });
    assert_eq!(provided.iter().filter(|p| !p.cached).count(), 1);
    let installs = fs::read_to_string(dir.path().join("home/cache/npm/installs")).expect("there");
    assert_eq!(installs, "one\n");
}

#[test]
fn a_failure_says_why_and_leaves_nothing() {
    let (_dir, world) = world();
    let plan = plan(&["echo 'npm http fetch GET 200'; echo the reason >&2; exit 3"]);
    let error = world.provide(&plan).expect_err("it fails");
    assert!(error.to_string().ends_with("failed (exit code 3):\nthe reason"), "{error}");
    let DependenciesError::Install { log, .. } = &error else { panic!("{error:?}") };
    let log = fs::read_to_string(log).expect("kept");
    // Two streams: which of them is read first is not said.
    let mut lines: Vec<&str> = log.split_inclusive('\n').collect();
    lines.sort_unstable();
    assert_eq!(lines, ["npm http fetch GET 200\n", "the reason\n"]);
    assert!(error.hint().expect("one").contains("--no-deps"));
    assert_eq!(lookup(&world.store, &plan.key).expect("asked"), None);
    assert_eq!(world.scratch(), [] as [PathBuf; 0]);
}

#[test]
fn a_refused_lock_and_a_missing_download_are_told_apart() {
    let (_dir, world) = world();
    let says = |text: &str| {
        world.provide(&plan(&[&format!("echo '{text}' >&2; exit 1")])).expect_err("it fails")
    };
    let error = says("npm error `npm ci` can only install packages when your package.json …");
    assert!(matches!(error, DependenciesError::LockDisagrees { .. }), "{error}");
    assert_eq!(
        error.hint().expect("one"),
        "run `npm install` and commit `package-lock.json`, or mount with `--no-deps`"
    );
    let error =
        says("npm error code ENOTCACHED request to https://registry.npmjs.org/left-pad failed");
    assert!(
        matches!(&error, DependenciesError::Offline { missing, .. } if missing.contains("left-pad"))
    );
}

#[test]
fn a_second_way_is_taken_aloud() {
    let (_dir, world) = world();
    let mut plan = plan(&["echo 'No solution found'; exit 1"]);
    let otherwise = |when: &str| {
        let Step { argv, .. } = shell(INSTALL);
        vec![Otherwise { when: vec![when.into()], argv, warning: "today's versions".into() }]
    };
    plan.steps[0].otherwise = otherwise("something else");
    world.provide(&plan).expect_err("not for this reason");
    plan.steps[0].otherwise = otherwise("No solution");
    let provided = world.provide(&plan).expect("the second way works");
    assert_eq!(provided.warnings, ["today's versions"]);
    assert_eq!(*world.told.0.lock().expect("held by nobody"), ["today's versions"]);
}

#[test]
fn what_was_installed_before_a_failure_that_is_forgiven_is_kept() {
    let (_dir, world) = world();
    let script = format!("{INSTALL}\necho '> p@1 prepare'\nexit 1");
    let mut plan = plan(&[&script]);
    let forgiven = |when: &str| {
        let warning = "`prepare` failed".into();
        vec![Otherwise { when: vec![when.into()], argv: Vec::new(), warning }]
    };
    plan.steps[0].otherwise = forgiven("> p@1 install\n");
    world.provide(&plan).expect_err("another script's failure is not");
    plan.steps[0].otherwise = forgiven("> p@1 prepare\n");
    let provided = world.provide(&plan).expect("it is forgiven");
    assert!(provided.files > 0, "{provided:?}");
    assert_eq!(provided.warnings, ["`prepare` failed"]);
}

#[test]
fn an_installation_reaches_nothing_else_of_the_user() {
    let (_dir, mut world) = world();
    for (name, value) in
        [("GIVEN", "given"), ("SSH_AUTH_SOCK", "/run/a"), ("https_proxy", "http://u:secret@p")]
    {
        world.tools.vars.insert(name.into(), value.into());
    }
    let secret = world.dir.join("secret");
    fs::create_dir(&secret).expect("made");
    fs::write(secret.join("key"), "canary").expect("written");
    let other = world.ctx.home.cache("uv");
    fs::create_dir_all(&other).expect("made");
    let home = world.ctx.home.root();
    for (path, control) in [
        (secret.join("key"), "cat"),
        (home.join("version"), "cat"),
        (home.join("store"), "ls"),
        (home.join("cache/uv"), "ls"),
    ] {
        assert!(Command::new(control).arg(&path).status().expect("starts").success(), "control");
        let script = format!("{control} {} && exit 1; {INSTALL}", path.display());
        world.provide(&plan(&[&script])).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let script = format!("echo x >{}/x && exit 1; {INSTALL}", world.tools.dir.display());
    world.provide(&plan(&[&script])).expect("the tools cannot be written to");
    let script = format!(
        "test \"$HOME\" = /zagi/home; test \"$GIVEN\" = given; \
         test -z \"$SSH_AUTH_SOCK$https_proxy\"; {INSTALL}"
    );
    world.provide(&plan(&[&script])).expect("nothing of the caller's variables");
}

#[test]
fn a_command_cannot_name_what_the_next_one_sees() {
    let (_dir, world) = world();
    let secret = world.dir.join("secret");
    fs::create_dir(&secret).expect("made");
    fs::write(secret.join("key"), "canary").expect("written");
    let borrowed = world.dir.join("objects");
    fs::create_dir(&borrowed).expect("made");
    fs::write(borrowed.join("object"), "history").expect("written");
    let first = format!(
        "grep -q history {}/object; echo {} >.git/objects/info/alternates",
        borrowed.display(),
        secret.display()
    );
    let second = format!("cat {}/key && exit 1; {INSTALL}", secret.display());
    let provided =
        provide(&world.ctx, &world.store, &world.tools, &plan(&[&first, &second]), &|to| {
            fs::write(to.join("source.txt"), "source")?;
            fs::create_dir_all(to.join(".git/objects/info"))?;
            let line = format!("{}\n", borrowed.display());
            fs::write(to.join(".git/objects/info/alternates"), line)
        });
    provided.expect("its own history is there, the secret is not");
}

#[test]
fn configuration_is_not_written_through_a_link_of_the_source() {
    let (_dir, world) = world();
    let outside = world.dir.join("outside");
    fs::create_dir(&outside).expect("made");
    let mut plan = plan(&[INSTALL]);
    plan.files.insert(".zagi/cargo/config.toml".into(), "x".into());
    let error = provide(&world.ctx, &world.store, &world.tools, &plan, &|to| {
        std::os::unix::fs::symlink(&outside, to.join(".zagi"))
    });
    assert!(matches!(error, Err(DependenciesError::File { .. })), "{error:?}");
    assert!(!outside.join("cargo/config.toml").exists());
}

const KILLED: &str = "ZAGI_TEST_KILLED_INSTALL";

/// The installer that is killed, when the test below starts this program again.
#[test]
fn killed_installer() {
    if let Some(dir) = std::env::var_os(KILLED) {
        let world = World::open(Path::new(&dir));
        let result = world.provide(&plan(&["echo >/zagi/cache/npm/started; sleep 97531"]));
        unreachable!("killed before: {result:?}");
    }
}

#[test]
fn an_installer_that_is_killed_leaves_nothing_that_counts() {
    let dir = tempfile::tempdir().expect("made");
    let mut installer = Command::new(std::env::current_exe().expect("has a file"))
        .args(["--exact", "dependencies::killed_installer"])
        .env(KILLED, dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    let started = dir.path().join("home/cache/npm/started");
    let begin = Instant::now();
    while !started.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it never started");
        std::thread::sleep(Duration::from_millis(10));
    }
    installer.kill().expect("ours");
    installer.wait().expect("ours");
    // The key is free again, what was half-made is swept, and nothing goes on running.
    let world = World::open(dir.path());
    let swept = Home::open(&dir.path().join("home")).expect("there").tmp();
    let plan = Plan {
        steps: vec![shell(INSTALL)],
        ..plan(&["echo >/zagi/cache/npm/started; sleep 97531"])
    };
    assert!(!world.provide(&plan).expect("installed").cached);
    let left: Vec<_> = fs::read_dir(dir.path().join("home/tmp"))
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| *path != world.ctx.home.tmp() && *path != swept)
        .collect();
    assert_eq!(left, [] as [PathBuf; 0]);
    let running = fs::read_dir("/proc").expect("mounted").flatten().any(|process| {
        fs::read(process.path().join("cmdline")).is_ok_and(|c| c == b"sleep\x0097531\0")
    });
    assert!(!running);
}
