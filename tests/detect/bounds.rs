//! What hostile or very large repositories may cost, and what may not come of them.

use std::cell::Cell;

use zagi::environment::files::{Directory, FileEntry, Files};
use zagi::environment::spec::Spec;

use super::{detected, files};

/// Counts what is looked at.
struct Counted<'f> {
    inner: &'f dyn Files,
    looks: Cell<u32>,
}

impl Files for Counted<'_> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.looks.set(self.looks.get() + 1);
        self.inner.read(path)
    }
    fn list(&self, dir: &str) -> Vec<FileEntry> {
        self.looks.set(self.looks.get() + 1);
        self.inner.list(dir)
    }
    fn exists(&self, path: &str) -> bool {
        self.looks.set(self.looks.get() + 1);
        self.inner.exists(path)
    }
}

#[test]
fn the_cost_does_not_grow_with_the_repository() {
    let looks = |directories: usize, each: usize| {
        let mut all = files(&[
            ("pyproject.toml", "[project]\nname = \"x\"\n"),
            ("package.json", r#"{"workspaces": ["packages/**"]}"#),
            ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n"),
            ("go.mod", "module x\n"),
        ]);
        for directory in 0..directories {
            for file in 0..each {
                for root in ["src", "tests", "packages", "crates"] {
                    all.insert(format!("{root}/d{directory}/f{file}/test_{file}.py"), Vec::new());
                }
            }
        }
        let counted = Counted { inner: &all, looks: Cell::new(0) };
        detected(&counted);
        counted.looks.get()
    };
    let (small, large) = (looks(30, 20), looks(30, 800));
    assert!(large <= small + 700, "{small} looks at 2,400 files and {large} at 96,000");
    assert!(looks(2000, 1) < 2500, "a workspace of thousands is cut");
}

#[test]
fn hostile_files_are_notes() {
    let deep_json = format!("{{\"engines\": {}", "[".repeat(200_000));
    let deep_toml = format!("a = {}", "[".repeat(200_000));
    let large = " ".repeat(5 << 20);
    let mut all = files(&[
        ("package.json", &deep_json),
        ("pyproject.toml", &deep_toml),
        ("Cargo.toml", &large),
        ("setup.py", "extras_require={\"é\\"),
        ("tox.ini", "[testenv]\ndeps = {[testenv]deps}\n"),
        ("noxfile.py", "@nox.session\ndef tests(s):\n    session.install((((("),
        ("requirements.txt", "-r requirements.txt\n-r ../../etc/passwd\n"),
        (".nvmrc", "lts/../../x"),
    ]);
    all.insert(".tool-versions".into(), b"nodejs \xff\xfe\nzig \xc3(\n".to_vec());
    all.insert("go.mod".into(), b"go \xff1.2\n".to_vec());
    let found = detected(&all);
    let notes: Vec<&str> = found.notes.iter().map(|note| note.text.as_str()).collect();
    insta::assert_snapshot!(notes.join("\n"), @"
    `.tool-versions` is not UTF-8; what cannot be read is left out
    `nodejs ��` does not say which versions of node will do
    `zig �(` does not say which versions of zig will do
    `pyproject.toml` is not valid TOML and was not used
    `lts/../../x` does not say which versions of node will do
    `package.json` is not valid JSON and was not used
    `Cargo.toml` is larger than 4 MB and was not read
    `go.mod` is not UTF-8; what cannot be read is left out
    `go �1.2` does not say which versions of go will do
    ");
    for tool in &found.tools {
        assert!(tool.evidence.iter().all(|e| e.text.len() < 700), "{tool:?}");
    }
}

/// Manifests of every kind, for what damages them.
const MANIFESTS: [(&str, &str); 36] = [
    (
        "package.json",
        r#"{"engines":{"node":">=1"},"volta":{"node":"1.2.3"},"workspaces":["p/*"],"packageManager":"pnpm@9.1.2"}"#,
    ),
    ("pnpm-workspace.yaml", "packages:\n  - 'p/*'\n  - [\"x\"]\n"),
    ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n"),
    (
        "pyproject.toml",
        "[project]\nname=\"é\"\n[dependency-groups]\ntests=[\"a\",{include-group=\"tests\"}]\n[tool.poetry.dependencies]\npython=\"^3.8\"\na={version=\"~1\"}\n[tool.tox]\nenv_list=[\"3.1{1,2}\"]\n",
    ),
    (
        "setup.py",
        "setup(python_requires='>=3.8', extras_require={'tests': ['é', \"b\"]}, tests_require=[\n'''c''' # d\n])",
    ),
    ("setup.cfg", "[options]\npython_requires = >=3\n[options.extras_require]\ntest =\n  a\n"),
    (
        "tox.ini",
        "[tox]\nenvlist = py{38,39}-é{a,b}\n[testenv]\ndeps =\n  {[testenv:x]deps}\n  -r{toxinidir}/r.txt\n  .[tests]\n[testenv:x]\ndeps={[testenv]deps}\n",
    ),
    (
        "noxfile.py",
        "@nox.session(python=['3.9'])\ndef tests(session):\n  session.install('-r', 'r.txt', *nox.dependency_groups(p, 'é'))\n",
    ),
    ("requirements.txt", "-r requirements.txt\na==1 # é\n"),
    ("Cargo.toml", "[package]\nrust-version=\"1.8\"\n[workspace]\nmembers=[\"**\",\"c-*\"]\n"),
    ("rust-toolchain.toml", "[toolchain]\nchannel=\"1.8\"\ntargets=[\"é\"]\n"),
    ("go.work", "go 1.2\nuse (\n ./é\n)\n"),
    ("build.zig.zon", ".{ .minimum_zig_version = \"0.1.2-dev.é\", }"),
    ("build.zig", "step(\"test\""),
    ("mise.toml", "[tools]\nnode=[\"2\",{version=\"3\"}]\n"),
    (".tool-versions", "nodejs 1.2 # é\n"),
    ("Dockerfile", "ARG V=é$V${V}\nFROM python:${V}-x\n"),
    (
        ".devcontainer/devcontainer.json",
        "\"image\": \"python:1-3\", \"a/features/go:1\"\n\"version\": \"1\"",
    ),
    (".github/workflows/a.yml", "python-version: ['3.9', é]\nnode:\n  - 1\n"),
    (".zagi/env.toml", "[tools]\nnode=\"^1 || 2\"\n[run]\ntest=\"é\"\n"),
    ("Makefile", "test: é\n"),
    ("tests/test_é.py", "import pytest\n"),
    (
        "compose.yaml",
        "x: &a [é]\nservices:\n  db: {image: 'postgres:16'}\n  app:\n    build: .\n    environment: [A=b]\n  c: *a\n",
    ),
    (".env.example", "A=b # é\nexport K=\"v\"\nPG_URL=postgres://x\n"),
    ("devbox.json", "{\"packages\": [\"nodejs@22\", \"é\"], \"env\": {\"A\": \"b\"},}"),
    ("environment.yml", "dependencies:\n  - python=3.1\n  - pip: [é]\n"),
    ("Gemfile.lock", "GEM\n  specs:\n    pg (1)\n    nokogiri (é)\nRUBY VERSION\n   ruby 3.1p2\n"),
    ("Gemfile", "ruby \"~> 3\"\ngem 'é'\n"),
    ("pom.xml", "<java.version>17</java.version>é"),
    ("build.gradle", "jvmToolchain(17)\nsourceCompatibility = 'é'\n"),
    ("composer.json", "{\"require\": {\"php\": \"^8|é\"}}"),
    (
        "CMakeLists.txt",
        "find_package(ZLIB)#é\npkg_check_modules(A é>=1 glib-2.0)\nadd_subdirectory(é)\n",
    ),
    ("meson.build", "dependency('é', 'zlib')\nsubdir('meson.build')\n"),
    ("configure.ac", "dnl é\nPKG_CHECK_MODULES([A], [glib-2.0 >= é\n"),
    ("apt.txt", "libpq-dev é\n"),
    ("Cargo.lock", "name = \"openssl-sys\"\n \"é\n"),
];

/// Bytes cut, doubled and changed: whatever comes of it, it ends, and what it says can be
/// kept. `ZAGI_TEST_SEED=n` runs the same again.
#[test]
fn damaged_manifests_do_no_harm() {
    let seed = std::env::var("ZAGI_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::process::id().into());
    eprintln!("ZAGI_TEST_SEED={seed}");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    for _ in 0..400 {
        let mut all = files(&MANIFESTS);
        for bytes in all.values_mut() {
            for _ in 0..below(4) {
                let (at, to) = (below(bytes.len()), below(bytes.len()));
                match below(4) {
                    0 => bytes.truncate(at),
                    1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
                    2 if at < to => drop(bytes.drain(at..to)),
                    _ => bytes.extend_from_within(at.min(to)..to),
                }
            }
        }
        let found = detected(&all);
        let text = found.env_toml();
        let again = Spec::parse("env.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!((again.run, again.tools), (found.run, found.spec.tools));
    }
}

#[test]
fn a_directory_on_disk() {
    let root = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(root.path().join("package.json"), "{}").expect("written");
    std::fs::create_dir(root.path().join("Cargo.toml")).expect("made");
    std::os::unix::fs::symlink("/etc/passwd", root.path().join(".nvmrc")).expect("linked");
    let found = detected(&Directory::new(root.path()));
    let names: Vec<&str> = found.tools.iter().map(|tool| tool.tool.as_str()).collect();
    assert_eq!(names, ["node", "npm"]);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
}
