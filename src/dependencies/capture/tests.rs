//! What is captured of each manager's installation, and what is refused or reported.

use super::*;
use crate::environment::detect::Project;

fn write(base: &Path, path: &str, text: &str) {
    let path = base.join(path);
    fs::create_dir_all(path.parent().expect("below base")).expect("made");
    fs::write(path, text).expect("written");
}

fn plan(ecosystem: Ecosystem, directories: &[&str], nested: Option<&str>, outputs: bool) -> Plan {
    Plan {
        project: Project::new(ecosystem, "", 0),
        manager: "test".into(),
        steps: Vec::new(),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        vars: BTreeMap::new(),
        caches: Vec::new(),
        hosts: Vec::new(),
        directories: directories.iter().map(|d| (*d).to_owned()).collect(),
        nested: nested.map(Into::into),
        outputs,
        disagrees: None,
        inputs: BTreeMap::new(),
        key: String::new(),
    }
}

/// Files and links below `dir`, with what is in them.
fn contents(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(dir, Path::new(""), &mut |path, kind| {
        let at = dir.join(path);
        let what = match kind {
            k if k.is_symlink() => format!("-> {}", fs::read_link(&at).expect("a link").display()),
            k if k.is_file() => fs::read_to_string(&at).expect("text"),
            _ => return true,
        };
        found.insert(path.to_string_lossy().into_owned(), what);
        true
    })
    .expect("readable");
    found
}

fn names(dir: &Path) -> Vec<String> {
    contents(dir).into_keys().collect()
}

#[test]
fn the_managers_directories_are_taken_and_the_source_is_not() {
    let dir = tempfile::tempdir().expect("made");
    let (workspace, staged) = (dir.path().join("w"), dir.path().join("s"));
    write(&workspace, "index.js", "source");
    write(&workspace, "packages/a/index.js", "source");
    let plan = plan(Ecosystem::Node, &["node_modules"], Some("node_modules"), false);
    let before = Before::look(&plan, &workspace).expect("looked");
    write(&workspace, "node_modules/x/index.js", "x");
    write(&workspace, "node_modules/x/node_modules/y/index.js", "y");
    write(&workspace, "packages/a/node_modules/z/index.js", "z");
    write(&workspace, "built.js", "not asked for");
    let taken = stage(&plan, &before, &workspace, &staged).expect("staged");
    assert_eq!(taken, ["node_modules", "packages/a/node_modules"].map(PathBuf::from));
    assert_eq!(
        names(&staged),
        [
            "node_modules/x/index.js",
            "node_modules/x/node_modules/y/index.js",
            "packages/a/node_modules/z/index.js",
        ]
    );
}

#[test]
fn what_a_build_leaves_in_the_source_is_taken() {
    let dir = tempfile::tempdir().expect("made");
    let (workspace, staged) = (dir.path().join("w"), dir.path().join("s"));
    write(&workspace, "src/a/__init__.py", "source");
    write(&workspace, "src/a.egg-info/PKG-INFO", "committed");
    let plan = plan(Ecosystem::Python, &[".venv"], None, true);
    let before = Before::look(&plan, &workspace).expect("looked");
    for made in [
        ".venv/bin/python",
        "src/a/_speedups.so",
        "src/a/_version.py",
        "src/a.egg-info/SOURCES.txt",
        "build/lib/a.py",
        "src/a/__pycache__/b.pyc",
        "src/a/c.pyc",
        ".git/x",
    ] {
        write(&workspace, made, "made");
    }
    write(&workspace, "src/a.egg-info/PKG-INFO", "changed");
    stage(&plan, &before, &workspace, &staged).expect("staged");
    assert_eq!(
        names(&staged),
        [
            ".venv/bin/python",
            "src/a.egg-info/SOURCES.txt",
            "src/a/_speedups.so",
            "src/a/_version.py"
        ]
    );
}

#[test]
fn no_link_of_a_strangers_is_followed() {
    let dir = tempfile::tempdir().expect("made");
    let (workspace, staged) = (dir.path().join("w"), dir.path().join("s"));
    write(dir.path(), "home/registry/secret", "secret");
    fs::create_dir_all(workspace.join(".zagi")).expect("made");
    symlink(dir.path().join("home"), workspace.join(".zagi/cargo")).expect("linked");
    let plan = plan(Ecosystem::Rust, &[".zagi/cargo/registry"], None, false);
    let before = Before::look(&plan, &workspace).expect("looked");
    stage(&plan, &before, &workspace, &staged).expect("staged");
    assert_eq!(names(&staged), [""; 0]);
    assert!(dir.path().join("home/registry/secret").exists());
}

#[test]
fn what_cannot_be_stored_is_made_storable() {
    let dir = tempfile::tempdir().expect("made");
    let staged = dir.path();
    write(staged, "bin/deep/tool", "#!/zagi/workspace/.venv/bin/python");
    write(staged, "locked/file", "x");
    symlink("/zagi/workspace/lib/x", staged.join("bin/deep/link")).expect("linked");
    symlink("/zagi/workspace", staged.join("root")).expect("linked");
    symlink("/usr/bin/python3", staged.join("bin/python")).expect("linked");
    symlink("/tmp/home/store/python3", staged.join("bin/python3")).expect("linked");
    symlink("/zagi/cache/npm/x", staged.join("bin/away")).expect("linked");
    nix::unistd::mkfifo(&staged.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    fs::set_permissions(staged.join("locked/file"), fs::Permissions::from_mode(0o000))
        .expect("set");
    fs::set_permissions(staged.join("locked"), fs::Permissions::from_mode(0o500)).expect("set");
    let seen = look(&plan(Ecosystem::Python, &[], None, true), staged, Path::new("/tmp/home"))
        .expect("looked");
    let found = contents(staged);
    assert_eq!(found["bin/deep/link"], "-> ../../lib/x");
    assert_eq!(found["root"], "-> .");
    assert_eq!(found["bin/python"], "-> /usr/bin/python3");
    assert_eq!(found["locked/file"], "x");
    assert!(!staged.join("pipe").exists());
    assert_eq!(seen.warnings.len(), 1, "{:?}", seen.warnings);
    assert!(seen.warnings[0].contains("bin/away"), "{:?}", seen.warnings);
    let tool = FileId::of(found["bin/deep/tool"].as_bytes());
    assert_eq!(seen.relocations.files, [(tool, Holds::Text { plain: 1, urls: 0 })].into());
}

#[test]
fn a_binary_that_cannot_follow_is_reported() {
    let dir = tempfile::tempdir().expect("made");
    write(dir.path(), "lib/x.so", "\0/zagi/workspace/lib\0");
    let seen = look(&plan(Ecosystem::Python, &[], None, true), dir.path(), Path::new("/tmp/home"))
        .expect("looked");
    assert_eq!(seen.relocations.live_binaries, ["lib/x.so"]);
    assert!(
        seen.warnings[0].starts_with("1 installed binaries hold the path"),
        "{:?}",
        seen.warnings
    );
}

#[test]
fn packages_are_counted_as_each_manager_leaves_them() {
    let dir = tempfile::tempdir().expect("made");
    let count = |ecosystem, manager: &str| {
        let plan = Plan { manager: manager.into(), ..plan(ecosystem, &[], None, false) };
        look(&plan, dir.path(), Path::new("/tmp/home")).expect("looked").packages
    };
    let lock = r#"{"packages":{"node_modules/a":{},"node_modules/b":{}}}"#;
    write(dir.path(), "node_modules/.package-lock.json", lock);
    write(dir.path(), "node_modules/.pnpm/a@1.0.0/node_modules/a/package.json", "{}");
    write(dir.path(), "node_modules/.pnpm/a@1.0.0/node_modules/a/test/package.json", "{}");
    write(dir.path(), "node_modules/.pnpm/@s+b@1.0.0/node_modules/@s/b/package.json", "{}");
    write(dir.path(), ".venv/lib/python3/site-packages/a-1.dist-info/METADATA", "");
    write(dir.path(), ".zagi/cargo/registry/cache/r/a-1.crate", "");
    write(dir.path(), ".zagi/zig/p/hash/build.zig", "");
    assert_eq!(count(Ecosystem::Node, "npm"), 2);
    assert_eq!(count(Ecosystem::Node, "pnpm"), 2);
    write(dir.path(), "node_modules/a/package.json", "{}");
    write(dir.path(), "node_modules/@s/b/package.json", "{}");
    write(dir.path(), "node_modules/a/lib/package.json", "{}");
    write(dir.path(), ".yarn/cache/c-npm-1.0.0.zip", "");
    assert_eq!(count(Ecosystem::Node, "bun"), 5);
    assert_eq!(count(Ecosystem::Python, "pip"), 1);
    assert_eq!(count(Ecosystem::Rust, "cargo"), 1);
    assert_eq!(count(Ecosystem::Zig, "zig"), 1);
}

#[test]
fn when_uv_looked_last_is_forgotten() {
    let dir = tempfile::tempdir().expect("made");
    let info = "site-packages/board-1.0.dist-info";
    write(dir.path(), &format!("{info}/uv_cache.json"), "{\"timestamp\":1}");
    write(dir.path(), "site-packages/board/uv_cache.json", "its own");
    let record = "board.py,sha256=a,1\nboard-1.0.dist-info/uv_cache.json,sha256=b,2\nc.py,,\n";
    write(dir.path(), &format!("{info}/RECORD"), record);
    let (mut files, mut links) = (Vec::new(), BTreeMap::new());
    normalise(dir.path(), Path::new(""), &mut files, &mut links).expect("normal");
    forget_clock(dir.path(), &mut files).expect("forgotten");
    assert_eq!(files.len(), 2, "{files:?}");
    let left = contents(dir.path());
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(left["site-packages/board/uv_cache.json"], "its own");
    assert_eq!(left[&format!("{info}/RECORD")], "board.py,sha256=a,1\nc.py,,\n");
}
