//! Sources on this machine: git repositories and plain directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zagi::context::Context;
use zagi::environment::files::Files as _;
use zagi::registry::http::Client;
use zagi::source::{Address, GitFiles, How, Resolved, SourceError, checkout, resolve};

use crate::support::Machine;
use crate::support::git::{Repository, git};

fn source(ctx: &Context, text: &str) -> Result<Resolved, SourceError> {
    let cwd = ctx.home.root().parent().expect("the home is in the machine");
    let address = Address::parse(text, "github.com", cwd).expect("it is an address");
    resolve(ctx, &Client::new(ctx), &address)
}

fn machine() -> (Machine, Context) {
    let machine = Machine::new();
    let ctx = machine.context("http://127.0.0.1:1");
    (machine, ctx)
}

#[test]
fn a_local_repository_is_taken_once_and_then_looked_up() {
    let (machine, ctx) = machine();
    let web = Repository::create(&machine.dir.path().join("web"));
    web.write("README", "one");
    let commit = web.commit("first");
    web.git(&["tag", "v1"]);
    let first = source(&ctx, "./web").expect("it is here");
    assert_eq!((&first.commit, &first.how), (&commit, &How::Fetched));
    assert_eq!(first.branch.as_deref(), Some("main"));
    assert_eq!(first.tags, [("v1".to_owned(), commit)]);

    // Not even git is started.
    let bare = Context { vars: Arc::new(BTreeMap::new()), ..ctx.clone() };
    let second = source(&bare, "./web").expect("it is here");
    assert_eq!(second, Resolved { how: How::Cached, fetched_bytes: 0, ..first.clone() });

    web.write("README", "two");
    let commit = web.commit("second");
    let third = source(&ctx, "./web").expect("it is here");
    assert_eq!((&third.commit, &third.how), (&commit, &How::Fetched));
    let before = source(&ctx, "./web@HEAD~1").expect("it is here");
    assert_eq!(before.commit, first.commit);
    assert!(machine.events.warnings().is_empty(), "{:?}", machine.events.warnings());
}

#[test]
fn a_workspace_outlives_the_repository_it_came_from() {
    let (machine, ctx) = machine();
    let web = Repository::create(&machine.dir.path().join("web"));
    web.write("README", "kept");
    web.commit("first");
    // One that borrows its objects itself, as a clone with --shared does.
    let shared = machine.dir.path().join("shared");
    let shared = shared.to_str().expect("the test's own");
    git(machine.dir.path(), &["clone", "-q", "--shared", "web", shared]);
    for name in ["./web", "./shared"] {
        let resolved = source(&ctx, name).expect("it is here");
        assert!(!resolved.repo.join("objects/info/alternates").exists(), "{name} is borrowed from");
        let aside = machine.dir.path().join("aside");
        fs::rename(machine.dir.path().join("web"), &aside).expect("it is ours");
        let dest = machine.dir.path().join(format!("out/{name}"));
        checkout(&ctx, &resolved, &[], &dest).expect("it needs nothing else");
        assert_eq!(fs::read(dest.join("README")).expect("it is there"), b"kept");
        fs::rename(&aside, machine.dir.path().join("web")).expect("it is ours");
    }
}

#[test]
fn what_is_not_committed_is_left_out_aloud() {
    let (machine, ctx) = machine();
    let web = Repository::create(&machine.dir.path().join("web"));
    web.write("README", "committed");
    web.commit("first");
    source(&ctx, "./web").expect("it is here");
    assert!(machine.events.warnings().is_empty(), "{:?}", machine.events.warnings());
    web.write("README", "changed since");
    let resolved = source(&ctx, "./web").expect("it is here");
    let files = GitFiles::open(&resolved.repo, &resolved.tree).expect("it was resolved");
    assert_eq!(files.read("README").as_deref(), Some(&b"committed"[..]));
    let warnings = machine.events.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("not committed"), "{warnings:?}");
}

#[test]
fn bare_and_odd_repositories() {
    let (machine, ctx) = machine();
    let web = Repository::create(&machine.dir.path().join("web"));
    assert!(matches!(source(&ctx, "./web"), Err(SourceError::Empty { .. })));
    web.write("README", "one");
    let commit = web.commit("first");
    git(machine.dir.path(), &["clone", "-q", "--bare", "web", "web.git"]);
    let bare = source(&ctx, "./web.git@main").expect("it is here");
    assert_eq!((bare.commit.as_str(), bare.name.as_str()), (commit.as_str(), "web"));
    web.git(&["worktree", "add", "-q", "--detach", "../tree"]);
    let worktree = source(&ctx, "./tree").expect("it is here");
    assert_eq!((worktree.commit.as_str(), worktree.branch), (commit.as_str(), None));
    match source(&ctx, "./web@mian") {
        Err(SourceError::NoRevision { nearest, .. }) => assert_eq!(nearest, ["main"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_becomes_a_commit_by_its_files_alone() {
    let (machine, ctx) = machine();
    let root = machine.dir.path();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for dir in ["a/plain", "b/plain"] {
        let dir = root.join(dir);
        fs::create_dir_all(dir.join("bin")).expect("it is ours");
        fs::create_dir_all(dir.join("node_modules/x")).expect("it is ours");
        fs::create_dir_all(dir.join("empty")).expect("it is ours");
        for (name, text) in [
            (".gitignore", "*.log\n"),
            ("crlf.txt", "a\r\nb\r\n"),
            (".gitattributes", "* text=auto\n"),
            ("bin/run", "#!/bin/sh\n"),
            ("x.log", "ignored"),
            ("node_modules/x/index.js", "installed"),
        ] {
            let path = dir.join(name);
            fs::write(&path, text).expect("it is ours");
            let file = fs::File::options().write(true).open(&path).expect("it is ours");
            file.set_modified(time).expect("it is ours");
        }
        let run = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join("bin/run"), run).expect("it is ours");
        std::os::unix::fs::symlink("bin/run", dir.join("run")).expect("it is ours");
        let link = ["touch", "-h", "-d", "@1600000000"];
        let touched = std::process::Command::new(link[0])
            .args(&link[1..])
            .arg(dir.join("run"))
            .status()
            .expect("touch is installed");
        assert!(touched.success());
    }
    let a = source(&ctx, "./a/plain").expect("it is here");
    let b = source(&ctx, "./b/plain").expect("it is here");
    assert_eq!(a.tree, b.tree);
    assert_eq!(a.tree, "bf54f4424a28843baf6a0937c162368d9fe7d19e", "the same anywhere");
    assert_eq!((a.date, a.name.as_str()), (1_600_000_000, "plain"));
    let listed = git(&a.repo, &["ls-tree", "-r", "--format=%(objectmode) %(path)", &a.commit]);
    assert_eq!(
        listed,
        "100644 .gitattributes\n100644 .gitignore\n100755 bin/run\n100644 crlf.txt\n120000 run"
    );
    let files = GitFiles::open(&a.repo, &a.tree).expect("it was resolved");
    assert_eq!(files.read("crlf.txt").as_deref(), Some(&b"a\r\nb\r\n"[..]), "as it is on disk");

    fs::write(root.join("a/plain/crlf.txt"), "a\r\nb\r\n").expect("it is ours");
    let same = source(&ctx, "./a/plain").expect("it is here");
    assert_eq!((same.commit, same.how), (a.commit.clone(), How::Cached), "only touched");
    fs::write(root.join("a/plain/crlf.txt"), "changed").expect("it is ours");
    let other = source(&ctx, "./a/plain").expect("it is here");
    assert_ne!(other.commit, a.commit);
    let dest = root.join("out");
    checkout(&ctx, &a, &[], &dest).expect("the first is still there");
    assert_eq!(git(&dest, &["rev-parse", "HEAD"]), a.commit);

    assert!(machine.events.warnings().is_empty(), "{:?}", machine.events.warnings());
    Repository::create(&root.join("a/plain/vendor")).commit("inside");
    source(&ctx, "./a/plain").expect("it is here");
    let warnings = machine.events.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("vendor"), "{warnings:?}");

    fs::create_dir(root.join("nothing")).expect("it is ours");
    assert!(matches!(source(&ctx, "./nothing"), Err(SourceError::NoFiles { .. })));
    assert!(matches!(source(&ctx, "./a/plain@v1"), Err(SourceError::NoRevision { .. })));
}

#[test]
fn files_of_a_commit() {
    let (machine, ctx) = machine();
    let web = Repository::create(&machine.dir.path().join("web"));
    web.write("pkg/package.json", "{}");
    web.write("README", "read me");
    for (link, target) in [
        ("readme.md", "README"),
        ("packages", "pkg"),
        ("out", "../outside"),
        ("absolute", "/etc/passwd"),
        ("pkg/up", ".."),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(target, web.dir.join(link)).expect("it is ours");
    }
    web.commit("first");
    let resolved = source(&ctx, "./web").expect("it is here");
    let files = GitFiles::open(&resolved.repo, &resolved.tree).expect("it was resolved");
    let read = |path: &str| files.read(path).map(|b| String::from_utf8(b).expect("text"));
    assert_eq!(read("README").as_deref(), Some("read me"));
    assert_eq!(read("readme.md").as_deref(), Some("read me"));
    assert_eq!(read("packages/package.json").as_deref(), Some("{}"));
    assert_eq!(read("packages/up/README").as_deref(), Some("read me"));
    for path in ["out", "absolute", "loop", "pkg", "", "../README", "pkg/../README", "missing"] {
        assert_eq!(read(path), None, "{path}");
        assert!(!files.exists(path), "{path}");
    }
    assert_eq!(files.read_start("README", 4).as_deref(), Some(&b"read"[..]));
    let list = |dir: &str| -> Vec<(String, bool)> {
        files.list(dir).into_iter().map(|e| (e.name, e.directory)).collect()
    };
    let entry = |name: &str, directory: bool| (name.to_owned(), directory);
    assert_eq!(
        list(""),
        [
            entry("README", false),
            entry("packages", true),
            entry("pkg", true),
            entry("readme.md", false)
        ]
    );
    assert_eq!(list("pkg"), [entry("package.json", false), entry("up", true)]);
    assert_eq!(list("missing"), []);
    assert!(GitFiles::open(&resolved.repo, "nonsense").is_err());
}
