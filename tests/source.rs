//! Where sources come from, with real git and its own server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zagi::context::Context;
use zagi::environment::files::Files as _;
use zagi::registry::http::Client;
use zagi::source::{Address, GitFiles, How, Resolved, SourceError, checkout, resolve};

use crate::support::git::{Repository, git, is_fetch, serve, serve_well};
use crate::support::http::{Reply, Server};
use crate::support::{Machine, program};

/// Resolves `text` as a command in the machine's directory would.
fn source(ctx: &Context, host: &str, text: &str) -> Result<Resolved, SourceError> {
    let cwd = ctx.home.root().parent().expect("the home is in the machine");
    let address = Address::parse(text, host, cwd).expect("it is an address");
    resolve(ctx, &Client::new(ctx), &address)
}

/// A published repository `acme/web`: two commits, of which the first holds a file that the
/// second does not, a tag at each, and a branch that goes on.
fn web(machine: &Machine) -> Repository {
    let web = Repository::create(&machine.dir.path().join("served/acme/web"));
    web.git(&["config", "uploadpack.allowFilter", "true"]);
    web.write("old", "only in the first commit");
    web.write("README", "one");
    web.commit("first");
    web.git(&["tag", "v1.0"]);
    fs::remove_file(web.dir.join("old")).expect("it is ours");
    web.write("README", "two");
    for n in 0..100 {
        web.write(&format!("src/{n}.txt"), &format!("file {n}"));
    }
    web.commit("second");
    web.git(&["tag", "-a", "v2.0", "-m", "annotated"]);
    web.git(&["checkout", "-q", "-b", "feature/x"]);
    web.write("feature", "x");
    web.commit("third");
    web.git(&["checkout", "-q", "main"]);
    web
}

fn served(machine: &Machine) -> Server {
    serve_well(&machine.dir.path().join("served"))
}

/// How often something was asked of `git-upload-pack`, listing refs aside.
fn fetches(server: &Server) -> usize {
    server.requests().iter().filter(|request| is_fetch(request)).count()
}

/// What git says is in the commit, read with no way to fetch more.
fn read(resolved: &Resolved, path: &str) -> Option<String> {
    let files = GitFiles::open(&resolved.repo, &resolved.tree).expect("it was resolved");
    files.read(path).map(|bytes| String::from_utf8(bytes).expect("the tests write text"))
}

/// A context in which no program can be started.
fn without_programs(ctx: &Context) -> Context {
    Context { vars: Arc::new(BTreeMap::new()), ..ctx.clone() }
}

#[test]
fn a_remote_is_fetched_in_part_and_its_files_at_once() {
    let machine = Machine::new();
    let web = web(&machine);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let resolved = source(&ctx, &server.base, "acme/web").expect("it is served");
    assert_eq!(resolved.commit, web.git(&["rev-parse", "main"]));
    assert_eq!(resolved.tree, web.git(&["rev-parse", "main^{tree}"]));
    assert_eq!(resolved.date, 1_700_000_000);
    assert_eq!((resolved.name.as_str(), resolved.branch.as_deref()), ("web", Some("main")));
    assert_eq!(resolved.how, How::Fetched);
    assert!(resolved.fetched_bytes > 1000, "{}", resolved.fetched_bytes);
    let tags: Vec<&str> = resolved.tags.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(tags, ["v1.0", "v2.0"]);
    assert_eq!(read(&resolved, "README").as_deref(), Some("two"));
    assert_eq!(read(&resolved, "src/99.txt").as_deref(), Some("file 99"));
    // Commits and trees, then a hundred files, whatever their number.
    assert_eq!(fetches(&server), 2);
    let old = web.git(&["rev-parse", "v1.0:old"]);
    let there = Command::new("git")
        .args(["cat-file", "-e", &old])
        .env("GIT_DIR", &resolved.repo)
        .env("GIT_NO_LAZY_FETCH", "1")
        .status()
        .expect("git is installed");
    assert!(!there.success(), "files of old revisions are left out");
}

#[test]
fn what_cannot_move_is_never_asked_about_again() {
    let machine = Machine::new();
    let web = web(&machine);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let commit = web.git(&["rev-parse", "v1.0"]);
    for revision in ["v1.0", "v2.0", &commit, &commit[..10]] {
        let text = format!("acme/web@{revision}");
        let first = source(&ctx, &server.base, &text).expect("it is served");
        let asked = server.requests().len();
        // Not even git is started.
        let second = source(&without_programs(&ctx), &server.base, &text).expect("it is here");
        assert_eq!(second, Resolved { how: How::Cached, fetched_bytes: 0, ..first });
        assert_eq!(server.requests().len(), asked, "{revision}");
    }
}

#[test]
fn a_branch_is_asked_about_once_a_command() {
    let machine = Machine::new();
    let web = web(&machine);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let branch = || source(&ctx, &server.base, "acme/web@feature/x").expect("it is served");
    let first = branch();
    assert_eq!(first.branch.as_deref(), Some("feature/x"));
    assert_eq!(read(&first, "feature").as_deref(), Some("x"));
    let fetched = fetches(&server);
    assert_eq!(branch().how, How::Cached);
    assert_eq!(fetches(&server), fetched, "it did not move");

    web.git(&["checkout", "-q", "feature/x"]);
    web.write("feature", "moved");
    let moved = web.commit("moved");
    let second = branch();
    assert_eq!((second.commit, &second.how), (moved, &How::Fetched));
    web.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(branch().commit, first.commit, "also back");
}

#[test]
fn a_commit_that_no_branch_leads_to() {
    let machine = Machine::new();
    let web = web(&machine);
    web.write("README", "amended away");
    let lost = web.commit("lost");
    web.git(&["reset", "-q", "--hard", "HEAD~1"]);
    web.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let text = format!("acme/web@{lost}");
    let resolved = source(&ctx, &server.base, &text).expect("the server still has it");
    assert_eq!((resolved.commit.as_str(), resolved.branch.as_deref()), (lost.as_str(), None));
    assert_eq!(read(&resolved, "README").as_deref(), Some("amended away"));
}

#[test]
fn a_server_that_cannot_filter_sends_everything() {
    let machine = Machine::new();
    let web = web(&machine);
    web.git(&["config", "uploadpack.allowFilter", "false"]);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let resolved = source(&ctx, &server.base, "acme/web").expect("it is served");
    assert_eq!(read(&resolved, "src/0.txt").as_deref(), Some("file 0"));
    assert_eq!(fetches(&server), 1);
}

#[test]
fn a_server_without_git_is_read_as_files() {
    let machine = Machine::new();
    let web = web(&machine);
    web.git(&["update-server-info"]);
    let root = machine.dir.path().join("served");
    let server = Server::start(move |request| {
        let path = request.path.replace("/acme/web/", "/acme/web/.git/");
        match fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(bytes) => Reply::ok(bytes),
            Err(_) => Reply::not_found(),
        }
    });
    let ctx = machine.context(&server.base);
    let resolved = source(&ctx, &server.base, "acme/web").expect("it is served");
    assert_eq!(read(&resolved, "src/0.txt").as_deref(), Some("file 0"));
}

#[test]
fn a_remote_that_does_not_answer_is_as_it_was_aloud() {
    let machine = Machine::new();
    let web = web(&machine);
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let server = serve(&machine.dir.path().join("served"), move |_, reply| {
        if is_down.load(Ordering::SeqCst) { Reply::new(503, "") } else { reply }
    });
    let ctx = machine.context(&server.base);
    let first = source(&ctx, &server.base, "acme/web").expect("it is served");
    web.write("README", "three");
    web.commit("not seen");
    down.store(true, Ordering::SeqCst);
    let second = source(&ctx, &server.base, "acme/web").expect("it was fetched");
    assert_eq!(second.commit, first.commit);
    assert!(matches!(&second.how, How::Fallback { why } if why.contains("503")), "{second:?}");
    assert_eq!(machine.events.warnings().len(), 1);
    let never = source(&ctx, &server.base, "acme/web@feature/x");
    assert!(matches!(never, Err(SourceError::Unreachable { .. })), "{never:?}");
}

#[test]
fn what_the_server_refuses_has_a_name() {
    let machine = Machine::new();
    let web = web(&machine);
    Repository::create(&machine.dir.path().join("served/acme/empty"));
    let server = serve(&machine.dir.path().join("served"), |request, reply| {
        match request.path.contains("secret") {
            true => Reply::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
            false => reply,
        }
    });
    let ctx = machine.context(&server.base);
    let missing = source(&ctx, &server.base, "acme/missing");
    assert!(matches!(missing, Err(SourceError::NoRepository { .. })), "{missing:?}");
    let secret = source(&ctx, &server.base, "acme/secret");
    assert!(matches!(secret, Err(SourceError::Denied { .. })), "{secret:?}");
    let empty = source(&ctx, &server.base, "acme/empty");
    assert!(matches!(empty, Err(SourceError::Empty { .. })), "{empty:?}");
    match source(&ctx, &server.base, "acme/web@v1.1") {
        Err(SourceError::NoRevision { revision, nearest, .. }) => {
            assert_eq!(revision, "v1.1");
            assert_eq!(nearest, ["v1.0", "v2.0"]);
        }
        other => panic!("{other:?}"),
    }
    for unknown in [&"1".repeat(40), "1234567"] {
        let text = format!("acme/web@{unknown}");
        let unknown = source(&ctx, &server.base, &text);
        assert!(matches!(unknown, Err(SourceError::NoRevision { .. })), "{unknown:?}");
    }
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}", listener.local_addr().expect("it is bound"))
    };
    let nobody = source(&ctx, &closed, "acme/web");
    assert!(matches!(nobody, Err(SourceError::Unreachable { .. })), "{nobody:?}");
    let no_git = source(&without_programs(&ctx), &server.base, "acme/web");
    assert!(matches!(no_git, Err(SourceError::NoGit)), "{no_git:?}");
    drop(web);
}

/// A context whose only git is this shell script.
fn with_git(machine: &Machine, ctx: &Context, script: &str) -> Context {
    let bin = machine.dir.path().join("bin");
    fs::create_dir_all(&bin).expect("it is ours");
    program::write(&bin.join("git"), format!("#!/bin/sh\n{script}").as_bytes());
    let path = [bin.as_path(), Path::new("/usr/bin"), Path::new("/bin")];
    let path = std::env::join_paths(path).expect("no colon is in them");
    Context { vars: Arc::new(BTreeMap::from([("PATH".into(), path)])), ..ctx.clone() }
}

#[test]
fn a_git_that_is_too_old() {
    let machine = Machine::new();
    let ctx = machine.context("http://127.0.0.1:1");
    let ctx = with_git(&machine, &ctx, "echo git version 2.20.1\n");
    match source(&ctx, "http://127.0.0.1:1", "acme/web") {
        Err(SourceError::OldGit { found, needed, .. }) => {
            assert_eq!((found.as_str(), needed), ("git version 2.20.1", "2.31"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_remote_that_hangs_is_given_up() {
    let machine = Machine::new();
    let _web = web(&machine);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let first = source(&ctx, &server.base, "acme/web").expect("it is served");
    // Its helper is killed with it, or it would keep the pipe open for a minute.
    let script = "case $* in *--version) echo git version 2.47.0;; *) sleep 60; exit 1;; esac\n";
    let ctx = with_git(&machine, &ctx, script);
    let begun = Instant::now();
    let second = source(&ctx, &server.base, "acme/web").expect("it was fetched");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(second.commit, first.commit);
    assert!(matches!(second.how, How::Fallback { .. }), "{second:?}");
}

#[test]
fn a_password_in_an_address_is_used_and_kept_nowhere() {
    let machine = Machine::new();
    let _web = web(&machine);
    let server = serve(&machine.dir.path().join("served"), |request, reply| {
        match request.header("authorization") {
            // `printf user:hunter2 | base64`
            Some("Basic dXNlcjpodW50ZXIy") => reply,
            _ => Reply::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
        }
    });
    let ctx = machine.context(&server.base);
    let host = server.base.replace("http://", "http://user:hunter2@");
    let resolved = source(&ctx, &host, "acme/web").expect("the password is right");
    let shown = format!("{resolved:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("user"), "{shown}");
    for file in walkdir::WalkDir::new(&resolved.repo) {
        let file = file.expect("it can be listed");
        if file.file_type().is_file() {
            let bytes = fs::read(file.path()).expect("it can be read");
            let found = bytes.windows(7).any(|window| window == b"hunter2");
            assert!(!found, "{}", file.path().display());
        }
    }
    let wrong = source(&ctx, &host.replace("hunter2", "wrong"), "acme/web@feature/x");
    let Err(SourceError::Denied { address, reason }) = wrong else { panic!("{wrong:?}") };
    assert!(!address.contains("wrong") && !reason.contains("wrong"), "{address}: {reason}");
}

#[test]
fn offline_names_what_was_never_fetched() {
    let machine = Machine::new();
    let _web = web(&machine);
    let server = served(&machine);
    let mut ctx = machine.context(&server.base);
    source(&ctx, &server.base, "acme/web").expect("it is served");
    let asked = server.requests().len();
    ctx.offline = true;
    let again = source(&ctx, &server.base, "acme/web").expect("it was fetched");
    assert_eq!(again.how, How::Cached);
    match source(&ctx, &server.base, "acme/web@feature/x") {
        Err(SourceError::Offline { missing, .. }) => assert_eq!(missing, "revision feature/x"),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn many_at_once_fetch_once() {
    let machine = Machine::new();
    let _web = web(&machine);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let commits: Vec<String> = std::thread::scope(|scope| {
        let one = || source(&ctx, &server.base, "acme/web").expect("it is served").commit;
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|t| t.join().expect("no thread panics")).collect()
    });
    assert!(commits.iter().all(|commit| *commit == commits[0]));
    assert_eq!(fetches(&server), 2);
}

#[test]
fn a_fetch_that_breaks_off_goes_on_with_what_there_is() {
    let machine = Machine::new();
    let _web = web(&machine);
    let answers = Arc::new(AtomicUsize::new(0));
    let count = answers.clone();
    let server = serve(&machine.dir.path().join("served"), move |request, reply| {
        // The second fetch is of the files; half of its pack comes.
        match is_fetch(request) && count.fetch_add(1, Ordering::SeqCst) == 1 {
            true => Reply { break_off: Some(reply.body.len() / 2), ..reply },
            false => reply,
        }
    });
    let ctx = machine.context(&server.base);
    let broken = source(&ctx, &server.base, "acme/web");
    assert!(matches!(broken, Err(SourceError::Unreachable { .. })), "{broken:?}");
    let resolved = source(&ctx, &server.base, "acme/web").expect("it goes on");
    assert_eq!(read(&resolved, "src/0.txt").as_deref(), Some("file 0"));
    let commits = answers.load(Ordering::SeqCst);
    assert!(commits <= 4, "commits and trees were kept: {commits}");
    assert_eq!(litter(&resolved.repo), [] as [String; 0]);
}

/// What a killed git leaves behind.
fn litter(repo: &Path) -> Vec<String> {
    let entries = fs::read_dir(repo.join("objects/pack")).expect("it is a repository");
    let names = entries.map(|e| e.expect("it can be listed").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("tmp_")).collect()
}

#[test]
fn killed_in_the_middle() {
    const CHILD: &str = "ZAGI_TEST_KILLED_BASE";
    let child = |machine_home: &str, base: &str| {
        let machine = Machine::at(Path::new(machine_home));
        let ctx = machine.context(base);
        source(&ctx, base, "acme/web").expect_err("it is killed before that");
    };
    if let Ok(base) = std::env::var(CHILD) {
        return child(&std::env::var("ZAGI_TEST_KILLED_DIR").expect("set with it"), &base);
    }
    let machine = Machine::new();
    let _web = web(&machine);
    let server = serve(&machine.dir.path().join("served"), |request, reply| {
        let hang = is_fetch(request).then_some(reply.body.len() / 2);
        Reply { hang, ..reply }
    });
    let mut killed = Command::new(std::env::current_exe().expect("this is it"))
        .args(["source::killed_in_the_middle", "--exact", "--quiet"])
        .env(CHILD, &server.base)
        .env("ZAGI_TEST_KILLED_DIR", machine.dir.path())
        .spawn()
        .expect("this program can be started");
    let begun = Instant::now();
    while fetches(&server) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never fetched");
        std::thread::sleep(Duration::from_millis(10));
    }
    killed.kill().expect("it is ours");
    killed.wait().expect("it is ours");
    // Its git lives on, holding the lock, until its connection ends.
    server.release();

    let ctx = machine.context(&server.base);
    let resolved = {
        let whole = source(&ctx, &server.base, "acme/web");
        whole.expect("what was half-made is no obstacle")
    };
    assert_eq!(read(&resolved, "src/0.txt").as_deref(), Some("file 0"));
    assert_eq!(litter(&resolved.repo), [] as [String; 0]);
}

#[test]
fn a_checkout_is_an_ordinary_repository() {
    let machine = Machine::new();
    let web = web(&machine);
    let server = served(&machine);
    let ctx = machine.context(&server.base);
    let resolved = source(&ctx, &server.base, "acme/web").expect("it is served");
    let dest = machine.dir.path().join("checkout");
    checkout(&ctx, &resolved, &[], &dest).expect("it can be written");
    assert_eq!(git(&dest, &["status", "--porcelain", "-b"]), "## main...origin/main");
    assert_eq!(git(&dest, &["describe"]), "v2.0");
    assert_eq!(
        git(&dest, &["describe", "--tags", "--match", "v1*"]).split('-').next(),
        Some("v1.0")
    );
    assert_eq!(git(&dest, &["log", "--format=%s"]), "second\nfirst");
    // What was left out comes when it is looked at.
    assert_eq!(git(&dest, &["show", "v1.0:old"]), "only in the first commit");
    fs::write(dest.join("new"), "mine").expect("it is ours");
    git(&dest, &["add", "new"]);
    git(&dest, &["commit", "-q", "-m", "mine"]);
    let mine = git(&dest, &["rev-parse", "HEAD"]);
    assert!(!git(&resolved.repo, &["rev-list", "--all"]).contains(&mine), "it is private");

    let tagged = source(&ctx, &server.base, "acme/web@v1.0").expect("it is served");
    let dest = machine.dir.path().join("tagged");
    checkout(&ctx, &tagged, &[], &dest).expect("it can be written");
    assert_eq!(git(&dest, &["status", "--porcelain", "-b"]), "## HEAD (no branch)");
    assert_eq!(git(&dest, &["rev-parse", "HEAD"]), web.git(&["rev-parse", "v1.0"]));
}

#[test]
fn what_is_left_out_is_said() {
    let machine = Machine::new();
    let web = Repository::create(&machine.dir.path().join("web"));
    let other = Repository::create(&machine.dir.path().join("other"));
    other.commit("something");
    web.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "../other",
        "vendor/other",
    ]);
    web.write("data/.gitattributes", "# filter=comment\n*.bin filter=lfs -text\n*.x filter=mine\n");
    web.commit("odd");
    let ctx = machine.context("http://127.0.0.1:1");
    for _ in 0..2 {
        source(&ctx, "h", "./web").expect("it is here");
    }
    let warnings = machine.events.warnings();
    let [submodules, lfs, filter, ..] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(submodules.contains("vendor/other"), "{submodules}");
    assert!(lfs.contains("git lfs pull"), "{lfs}");
    assert!(filter.contains("mine") && !filter.contains("comment"), "{filter}");
    assert_eq!(warnings.len(), 6, "also when it was here");
}
