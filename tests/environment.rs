//! Environments from registries on the loopback interface: a Debian archive with a key of
//! its own, an npm registry, a Python index.

mod archive;
mod services;
mod shells;
mod sources;
mod suits;
mod upstream;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zagi::context::Context;
use zagi::environment::detect::{Detected, Evidence, Requirement, Strength};
use zagi::environment::lock::Lock;
use zagi::environment::provider::ProviderError;
use zagi::environment::realise::{FetchError, RealiseError, Realised, realise};
use zagi::environment::resolve::{ResolveError, resolve};
use zagi::environment::version::Constraint;
use zagi::registry::debian::DebianError;
use zagi::registry::http::{Client, HttpError, Limits};
use zagi::store::Store;

use self::archive::{Archive, deb, npm_package, sri};
use crate::support::http::{Reply, Request, Server};
use crate::support::{Machine, NOW, program};

const DAY: i64 = 86_400;
/// A day that the registry does not tell.
const UNKNOWN: i64 = i64::MAX;
/// Files by path; a path that is not there does not exist.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

fn serve(files: &Files) -> Server {
    let files = files.clone();
    Server::start(move |request: &Request| {
        match files.lock().expect("no handler panics").get(&request.path) {
            Some(file) => Reply::ok(file.clone()),
            None => Reply::not_found(),
        }
    })
}

fn asked(tool: &str, constraint: &str) -> Requirement {
    let constraint = Constraint::parse(constraint).expect("tests ask for what can be read");
    Requirement {
        tool: tool.into(),
        firm: constraint.clone(),
        constraint,
        pinned: false,
        evidence: vec![Evidence {
            file: "pin".into(),
            line: 3,
            text: String::new(),
            strength: Strength::Pin,
        }],
    }
}

fn lock_of(ctx: &Context, tools: Vec<Requirement>, date: i64) -> Result<Lock, ResolveError> {
    let limits = Limits { connect: Duration::from_millis(300), ..Limits::default() };
    let client = Client::with_limits(ctx, limits);
    resolve(ctx, &client, &Detected { tools, ..Detected::default() }, date, &Lock::default())
}

fn realised(ctx: &Context, lock: &Lock) -> Result<Realised, RealiseError> {
    let store = Store::open(&ctx.home.store()).expect("the store can be made");
    realise(ctx, &Client::new(ctx), &store, lock)
}

fn catalogue(ctx: &Context, text: &str) {
    std::fs::write(ctx.home.root().join("catalog.toml"), text).expect("the home is writable");
    let keys = include_str!("environment/archive.pub.asc");
    std::fs::write(ctx.home.root().join("archive.asc"), keys).expect("the home is writable");
}

const DEBIAN: &str = r#"version = 1
[platform.linux-x86_64]
debian-arch = "test"
[platform.linux-aarch64]
debian-arch = "test"
[keyring.ours]
file = "archive.asc"
[suite.stable]
address = "{debian}"
suite = "stable"
keyring = "ours"
snapshot = "{debian}-snapshot/{time}"
[pool.stable]
suites = [["stable"]]
[tool.greet]
[[tool.greet.source]]
provider = "debian"
pool = "stable"
package = "greet"
bins = { greet = "usr/bin/greet" }
env = { GREETING = "{root}" }
fixups = { replace = [{ file = "usr/bin/greet", from = "/usr/share", to = "{root}/usr/share" }], exclude = ["usr/share/doc"] }
"#;

fn debian() -> Archive {
    let mut archive = Archive::new("stable");
    let greet = deb(&[
        (
            "./usr/bin/greet",
            0o755,
            b"#!/bin/sh\nread -r word < /usr/share/word; echo \"$word $1\"\n",
        ),
        ("./usr/share/doc/greet", 0o644, b"not needed"),
    ]);
    archive.add("greet", "1:2.5.1+ds-3", "words (>= 1) | nothing", &greet);
    let words = deb(&[("./usr/share/word", 0o644, b"hello\n"), ("./lib/in-lib", 0o644, b"x")]);
    archive.add("words", "1.2", "", &words);
    archive
}

fn run(program: &Path, argument: &str) -> String {
    let mut command = Command::new(program);
    command.arg(argument).env_clear();
    let out = loop {
        match command.output() {
            // This process wrote it, and a child of another test may have it open yet.
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            out => break out.expect("it starts"),
        }
    };
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).expect("it says text")
}

#[test]
fn a_closure_of_debian_packages_is_verified_and_runs() {
    let files: Files = Arc::default();
    debian().publish(&files, "archive");
    let server = serve(&files);
    let machine = Machine::new();
    let mut ctx = machine.context(&server.base);
    catalogue(&ctx, DEBIAN);

    let lock = lock_of(&ctx, vec![asked("greet", "2")], NOW).expect("the archive is sound");
    let tool = &lock.tools[0];
    assert_eq!((tool.version.as_str(), tool.provider.as_str()), ("2.5.1", "debian"));
    let parts: Vec<&str> = tool.parts.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(parts, ["greet", "words"]);
    let snapshot = format!("{}/debian-snapshot/20250801T140000Z/pool/greet.deb", server.base);
    assert_eq!(tool.parts[0].mirrors, [snapshot]);
    assert_eq!(Lock::parse("env.lock", &lock.render()).expect("it was just written"), lock);

    let first = realised(&ctx, &lock).expect("all parts are there");
    assert!(!first.cached);
    assert_eq!(run(&first.dir.join("bin/greet"), "you"), "hello you\n");
    assert_eq!(first.activation.vars["GREETING"], first.trees[0].display().to_string());
    assert!(!first.trees[0].join("usr/share/doc").exists());
    assert!(first.trees[0].join("lib/in-lib").is_file(), "merged, under both names");

    // Once more: a look-up, and nothing is asked for, even where nothing could be.
    let requests = server.requests().len();
    ctx.offline = true;
    let again = realised(&ctx, &lock).expect("it is there");
    assert!(again.cached && again.dir == first.dir);
    let same = lock_of(&ctx, vec![asked("greet", "2")], NOW).expect("the index was kept");
    assert_eq!(same, lock);
    assert_eq!(server.requests().len(), requests);
    // And of a tree that was removed it is built again, from the store alone.
    zagi::store::remove_tree(&first.trees[0]).expect("it is ours");
    let rebuilt = realised(&ctx, &lock).expect("the store has the parts");
    assert!(!rebuilt.cached);
    assert_eq!(run(&rebuilt.dir.join("bin/greet"), "you"), "hello you\n");
}

#[test]
fn an_archive_that_was_tampered_with_is_refused() {
    let edit = |files: &Files, from: &str, to: &str| {
        let mut files = files.lock().expect("no handler panics");
        let release = files.get_mut("/debian/dists/stable/InRelease").expect("it is published");
        let text = String::from_utf8(std::mem::take(release)).expect("it is text");
        assert!(text.contains(from), "{text}");
        *release = text.replace(from, to).into_bytes();
    };
    let unsigned = |files: &Files| {
        let mut files = files.lock().expect("no handler panics");
        let text = b"Codename: stable\n".to_vec();
        files.insert("/debian/dists/stable/InRelease".into(), text);
    };
    type Tamper<'a> = Box<dyn Fn(&Files) + 'a>;
    let cases: [(&str, &str, Tamper<'_>); 3] = [
        (
            "archive",
            "does not fit",
            Box::new(|files| edit(files, "Codename: stable", "Codename: stabel")),
        ),
        ("stranger", "no key", Box::new(|_| {})),
        ("archive", "not signed", Box::new(unsigned)),
    ];
    for (key, reason, tamper) in cases {
        let files: Files = Arc::default();
        debian().publish(&files, key);
        tamper(&files);
        let server = serve(&files);
        let machine = Machine::new();
        let ctx = machine.context(&server.base);
        catalogue(&ctx, DEBIAN);
        let error = lock_of(&ctx, vec![asked("greet", "*")], NOW).expect_err("it is not sound");
        let ResolveError::Refused { source, .. } = &error else { panic!("{error}") };
        assert!(
            matches!(**source, ProviderError::Debian(DebianError::Signature { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(server.requests().len(), 1, "nothing else was fetched");
    }
}

#[test]
fn text_around_the_signed_text_is_not_read() {
    let files: Files = Arc::default();
    debian().publish(&files, "archive");
    {
        let mut files = files.lock().expect("no handler panics");
        let release = files.get_mut("/debian/dists/stable/InRelease").expect("it is published");
        let mut text = b"SHA256:\n 00 1 main/binary-test/Packages.xz\n\n".to_vec();
        text.append(release);
        *release = text;
    }
    let server = serve(&files);
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    catalogue(&ctx, DEBIAN);
    // Either is sound: to refuse it, or to read what was signed and no more.
    match lock_of(&ctx, vec![asked("greet", "*")], NOW) {
        Ok(lock) => assert_eq!(lock.tools[0].version, "2.5.1"),
        Err(error) => assert!(matches!(error, ResolveError::Refused { .. }), "{error}"),
    }
}

#[test]
fn a_package_that_is_not_what_was_locked_is_refused_and_leaves_nothing() {
    let files: Files = Arc::default();
    debian().publish(&files, "archive");
    let server = serve(&files);
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    catalogue(&ctx, DEBIAN);
    let lock = lock_of(&ctx, vec![asked("greet", "*")], NOW).expect("the archive is sound");
    let put = |file: Vec<u8>| {
        files.lock().expect("no handler panics").insert("/debian/pool/words.deb".into(), file)
    };
    let good = put(deb(&[("./usr/share/word", 0o644, b"evil\n")])).expect("it was published");
    let error = realised(&ctx, &lock).expect_err("the hash is another one");
    assert!(
        matches!(
            error,
            RealiseError::Fetch(FetchError::Http { source: HttpError::Mismatch { .. }, .. })
        ),
        "{error}"
    );
    assert!(std::fs::read_dir(ctx.home.envs()).expect("it is a directory").next().is_none());
    put(good);
    let whole = realised(&ctx, &lock).expect("now it is what was locked");
    assert_eq!(run(&whole.dir.join("bin/greet"), "again"), "hello again\n");
}

#[test]
fn what_vanished_from_the_archive_is_taken_from_the_snapshot_aloud() {
    let files: Files = Arc::default();
    debian().publish(&files, "archive");
    let server = serve(&files);
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    catalogue(&ctx, DEBIAN);
    let lock = lock_of(&ctx, vec![asked("greet", "*")], NOW).expect("the archive is sound");
    {
        let mut files = files.lock().expect("no handler panics");
        let gone = files.remove("/debian/pool/greet.deb").expect("it was published");
        files.insert("/debian-snapshot/20250801T140000Z/pool/greet.deb".into(), gone);
    }
    let found = realised(&ctx, &lock).expect("the snapshot has it");
    assert_eq!(run(&found.dir.join("bin/greet"), "still"), "hello still\n");
    let said = machine.events.warnings();
    assert!(said.iter().any(|w| w.contains("snapshot")), "{said:?}");
}

/// An npm registry with one tool, in these versions and released on these days.
fn npm(files: &Files, base: &str, name: &str, versions: &[(&str, i64)]) {
    let mut entries = serde_json::Map::new();
    let mut times = serde_json::Map::new();
    let mut files = files.lock().expect("no handler panics");
    for (version, day) in versions {
        let package =
            npm_package(&[("bin/x", 0o755, format!("#!/bin/sh\necho {version}\n").as_bytes())]);
        let path = format!("/npm/{name}/-/{name}-{version}.tgz");
        let dist =
            serde_json::json!({"tarball": format!("{base}{path}"), "integrity": sri(&package)});
        let time = (*day != UNKNOWN).then(|| jiff_text(NOW + day * DAY));
        entries.insert((*version).into(), serde_json::json!({"version": version, "dist": dist}));
        times.extend(time.map(|time| ((*version).to_owned(), time.into())));
        files.insert(path, package);
    }
    let document =
        serde_json::json!({"name": name, "versions": entries, "time": times, "dist-tags": {}});
    files.insert(format!("/npm/{name}"), document.to_string().into_bytes());
}

fn jiff_text(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).expect("it is a time").to_string()
}

const NPM: &str = r#"version = 1
[tool.x]
needs = ["y"]
line = 2
[[tool.x.source]]
provider = "npm"
package = "x"
bins = { x = "bin/x" }
[tool.y]
suits = [{ tool = "x", when = "1", take = "5" }]
[[tool.y.source]]
provider = "npm"
package = "y"
bins = { y = { path = "bin/x", with = "x", shim = true } }
"#;

fn x_and_y() -> (Files, Server, Machine, Context) {
    let files: Files = Arc::default();
    let server = serve(&files);
    let x = [("1.0.0", -90), ("1.1.0", -60), ("1.1.1", -30), ("2.0.0", -10), ("3.0.0-rc.1", -5)];
    npm(&files, &server.base, "x", &x);
    npm(&files, &server.base, "y", &[("5.0.0", -80), ("5.1.0", -20), ("6.0.0", -15)]);
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    catalogue(&ctx, NPM);
    (files, server, machine, ctx)
}

#[test]
fn the_newest_that_will_do_and_had_been_released() {
    let (_files, _server, _machine, ctx) = x_and_y();
    let version = |constraint: &str, day: i64| {
        let lock =
            lock_of(&ctx, vec![asked("x", constraint)], NOW + day * DAY).expect("there is one");
        let of = |name: &str| lock.tools.iter().find(|t| t.name == name).map(|t| t.version.clone());
        (of("x").expect("it was asked for"), of("y").expect("x needs it"))
    };
    let is = |x: &str, y: &str| (x.to_owned(), y.to_owned());
    assert_eq!(version("*", 0), is("2.0.0", "6.0.0"), "no pre-release unless it is asked for");
    assert_eq!(version("*", -40), is("1.1.0", "5.0.0"));
    assert_eq!(version("1", 0), is("1.1.1", "5.1.0"), "y goes with x");
    assert_eq!(version("=3.0.0-rc.1", 0).0, "3.0.0-rc.1");
    assert_eq!(version("=2.0.0", -100).0, "2.0.0", "what is asked for beats the date");
    assert_eq!(version(">=1.1", -100).0, "1.1.1", "the newest of the nearest line");
}

#[test]
fn of_what_has_a_calendar_the_first_that_is_not_older_than_what_was_current() {
    let (files, server, _machine, ctx) = x_and_y();
    let versions = ["1.0.0", "1.1.0", "1.1.1", "1.3.0"].map(|version| (version, UNKNOWN));
    npm(&files, &server.base, "w", &versions);
    // 1.1 came on the 1st of July, 1.2 on the 31st, 1.3 on the 30th of August.
    let calendar = r#"[tool.w]
line = 2
calendar = { version = "1.0", date = "2025-06-01", days = 30 }
[[tool.w.source]]
provider = "npm"
package = "w"
bins = { w = "bin/x" }
"#;
    catalogue(&ctx, &format!("{NPM}{calendar}"));
    let at = |day: i64| {
        let lock = lock_of(&ctx, vec![asked("w", "*")], NOW + day * DAY).expect("there is one");
        lock.tools[0].version.clone()
    };
    assert_eq!(at(-50), "1.1.1", "on the 13th of July 1.1 was current");
    assert_eq!(at(-20), "1.3.0", "on the 12th of August 1.2 was, which cannot be had");
    assert_eq!(at(-80), "1.0.0");
    assert_eq!(at(900), "1.3.0", "nothing newer can be had");
}

#[test]
fn a_version_that_does_not_exist_names_the_nearest() {
    let (_files, _server, _machine, ctx) = x_and_y();
    let error = lock_of(&ctx, vec![asked("x", "=1.0.5")], NOW).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "no x matches `=1.0.5` (pin:3); the nearest are 1.0.0, 1.1.0, 1.1.1, 2.0.0"
    );
    assert_eq!(error.hint().as_deref(), Some("ask for x 1.1.0 in .zagi/env.toml"));
    let error = lock_of(&ctx, vec![asked("nod", "1")], NOW).expect_err("no such tool");
    assert_eq!(error.to_string(), "no tool is called `nod` (pin:3); there is node");
}

#[test]
fn what_is_merely_tested_yields_to_what_must_hold_aloud() {
    let (_files, _server, machine, ctx) = x_and_y();
    let mut wish = asked("x", ">=9");
    wish.firm = Constraint::parse(">=1").expect("it is one");
    let lock = lock_of(&ctx, vec![wish], NOW).expect("2.0.0 will do");
    assert_eq!(lock.tools[0].version, "2.0.0");
    let said = machine.events.warnings();
    assert!(said.iter().any(|w| w.contains(">=9") && w.contains("2.0.0")), "{said:?}");

    let tolerant = NPM.replace("line = 2", "line = 2\ntolerant = true");
    catalogue(&ctx, &tolerant);
    let lock = lock_of(&ctx, vec![asked("x", ">=9")], NOW).expect("the newest is tried");
    assert_eq!(lock.tools[0].version, "2.0.0");
    let said = machine.events.warnings();
    assert!(said.iter().any(|w| w.contains("newest that can be had")), "{said:?}");
}

#[test]
fn programs_run_by_others_and_their_workspace() {
    let (_files, _server, machine, ctx) = x_and_y();
    let lock = lock_of(&ctx, vec![asked("x", "1.0.0")], NOW).expect("there is one");
    let env = realised(&ctx, &lock).expect("all is served");
    let workspace = machine.dir.path().join("work space");
    std::fs::create_dir_all(workspace.join(".zagi")).expect("it can be made");
    std::os::unix::fs::symlink(&env.dir, workspace.join(".zagi/env")).expect("it can be made");
    // `y` is run by `x`, a script that says its own version.
    assert_eq!(run(&workspace.join(".zagi/env/bin/y"), ""), "1.0.0\n");
    assert_eq!(run(&workspace.join(".zagi/env/bin/x"), ""), "1.0.0\n");
}

#[test]
fn a_program_of_this_machine_is_adopted_aloud_and_by_its_hash() {
    let machine = Machine::new();
    let mut ctx = machine.context("http://127.0.0.1:1");
    let bin = machine.dir.path().join("bin");
    std::fs::create_dir(&bin).expect("it can be made");
    let put = |text: &str| program::write(&bin.join("t"), text.as_bytes());
    put("#!/bin/sh\necho \"T, version 4.2.1 (test)\"\n");
    let mut vars = (*ctx.vars).clone();
    vars.insert("PATH".into(), bin.clone().into());
    ctx.vars = Arc::new(vars);
    catalogue(
        &ctx,
        "version = 1\n[tool.t]\n[[tool.t.source]]\nprovider = \"host\"\npackage = \"t\"\nbins = { t = \"t\" }\n",
    );
    let lock = lock_of(&ctx, vec![asked("t", ">=4")], NOW).expect("it is on PATH");
    assert_eq!(lock.tools[0].version, "4.2.1");
    let said = machine.events.warnings();
    assert!(said.iter().any(|w| w.contains("this machine's own")), "{said:?}");
    let env = realised(&ctx, &lock).expect("it is still the same");
    assert_eq!(run(&env.dir.join("bin/t"), ""), "T, version 4.2.1 (test)\n");
    std::fs::remove_dir_all(&env.dir).expect("it is ours");
    put("#!/bin/sh\necho 5.0\n");
    let error = realised(&ctx, &lock).expect_err("it is another program now");
    assert!(matches!(error, RealiseError::Adopted { .. }), "{error}");
}

#[test]
fn a_strangers_lock_cannot_set_what_is_not_a_tools_to_set_nor_be_for_another_machine() {
    let (_files, _server, _machine, ctx) = x_and_y();
    let lock = lock_of(&ctx, vec![asked("x", "1.0.0")], NOW).expect("there is one");
    let mut hostile = lock.clone();
    hostile.tools[0].env.insert("LD_PRELOAD".into(), "{workspace}/evil.so".into());
    let error = realised(&ctx, &hostile).expect_err("no tool needs that");
    assert!(matches!(error, RealiseError::Variable { .. }), "{error}");
    let mut elsewhere = lock;
    for tool in &mut elsewhere.tools {
        tool.platform = "plan9-mips".into();
    }
    let error = realised(&ctx, &elsewhere).expect_err("nothing is for this machine");
    assert!(error.to_string().contains("plan9-mips"), "{error}");
}
