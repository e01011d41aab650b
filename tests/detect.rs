//! Detection over small repositories that are written here.

mod bounds;

use std::collections::BTreeMap;

use zagi::context::Platform;
use zagi::environment::detect::{Detected, detect};
use zagi::environment::files::Files;

/// 2025-06-15.
const DATE: i64 = 1_750_000_000;

fn files(all: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    all.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

fn detected(files: &dyn Files) -> Detected {
    let platform = Platform { os: "linux".into(), arch: "x86_64".into() };
    let found = detect(files, DATE, &platform);
    let json = serde_json::to_string(&found).expect("it is plain data");
    let back: Detected = serde_json::from_str(&json).expect("it was just written");
    assert_eq!(back, found, "what is cached is what was found");
    found
}

/// What was found, a line a fact.
fn shown(all: &[(&str, &str)]) -> String {
    let found = detected(&files(all));
    let mut lines = Vec::new();
    for tool in &found.tools {
        let pinned = if tool.pinned { " pinned" } else { "" };
        let firm = match tool.firm == tool.constraint {
            true => String::new(),
            false => format!(" (firm {})", tool.firm),
        };
        lines.push(format!("{} {}{firm}{pinned}", tool.tool, tool.constraint));
        for e in &tool.evidence {
            lines.push(format!("    {:?} {}:{} {}", e.strength, e.file, e.line, e.text));
        }
    }
    for p in &found.projects {
        let root = if p.root.is_empty() { "." } else { &p.root };
        let manager = p.manager.as_deref().unwrap_or("-");
        lines.push(format!(
            "{:?} {root} {manager} {}",
            p.ecosystem,
            p.lock.as_deref().unwrap_or("-")
        ));
        for (name, list) in [
            ("inputs", &p.manifests),
            ("extras", &p.extras),
            ("groups", &p.groups),
            ("files", &p.requirements_files),
            ("packages", &p.packages),
        ] {
            if !list.is_empty() {
                lines.push(format!("    {name} {}", list.join(", ")));
            }
        }
        let flags = [
            ("installable", p.installable),
            ("native", p.builds_native),
            ("version from git", p.version_from_git),
        ];
        let flags: Vec<&str> = flags.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        if !flags.is_empty() {
            lines.push(format!("    {}", flags.join(", ")));
        }
    }
    lines.extend(found.run.commands().map(|(key, command)| format!("{key}: {command}")));
    for note in &found.notes {
        let at: Vec<String> =
            note.evidence.iter().map(|e| format!("{}:{}", e.file, e.line)).collect();
        lines.push(format!("note: {} [{}]", note.text, at.join(" ")));
    }
    lines.join("\n")
}

#[test]
fn nothing() {
    assert_eq!(shown(&[("README.md", "# hello"), (".eslintrc", "{}")]), "");
}

#[test]
fn npm_with_a_lock() {
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{
  "name": "web",
  "engines": { "node": ">=20 <23" },
  "scripts": { "test": "node --test", "build": "tsc", "dev": "vite" },
  "dependencies": { "better-sqlite3": "^11.0.0" }
}"#),
        ("package-lock.json", "{\n  \"name\": \"web\",\n  \"lockfileVersion\": 3,\n"),
        (".npmrc", "save-exact=true\n"),
        (".nvmrc", "# ours\nlts/jod\n"),
        (".github/workflows/ci.yml", "jobs:\n  test:\n    strategy:\n      matrix:\n        node-version: [20, 22, '24.x', lts/*]\n"),
    ]), @r#"
    cc * pinned
        Default package.json:5 better-sqlite3 is compiled
    make * pinned
        Default package.json:5 better-sqlite3 is compiled
    node 22 pinned
        Pin .nvmrc:2 lts/jod
        Manifest package.json:3 engines.node ">=20 <23"
        Tested .github/workflows/ci.yml:5 node 20
        Tested .github/workflows/ci.yml:5 node 22
        Tested .github/workflows/ci.yml:5 node 24.x
        Tested .github/workflows/ci.yml:5 node lts/*
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm >=7 pinned
        Lock package-lock.json:3 lockfileVersion 3
        Default package-lock.json:1 a lock file of npm
    python *
        Default package.json:5 better-sqlite3 is compiled
    Node . npm package-lock.json
        inputs .npmrc, package-lock.json, package.json
        native
    test: npm test
    build: npm run build
    start: npm run dev
    "#);
}

#[test]
fn pnpm_workspace_with_a_pinned_manager() {
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{
  "packageManager": "pnpm@10.15.1+sha512.abc",
  "devEngines": { "runtime": { "name": "node", "version": "^22.3" } },
  "scripts": { "test": "pnpm -r test", "start": "node ." }
}"#),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n\nsettings:\n"),
        ("pnpm-workspace.yaml", "packages:\n  - 'packages/*'\n  - '!packages/old'\n"),
        ("packages/a/package.json", r#"{"dependencies": {"b": "workspace:*"}}"#),
        ("packages/b/package.json", "{}"),
        ("packages/old/package.json", "{}"),
        ("packages/none/README.md", ""),
        ("patches/x.patch", ""),
    ]), @r#"
    node >=22.3 <23
        Manifest package.json:3 devEngines.runtime node "^22.3"
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    pnpm 10.15.1 pinned
        Pin package.json:2 packageManager "pnpm@10.15.1"
        Lock pnpm-lock.yaml:1 lockfileVersion 9.0
        Default pnpm-lock.yaml:1 a lock file of pnpm
    Node . pnpm pnpm-lock.yaml
        inputs package.json, packages/a/package.json, packages/b/package.json, patches/x.patch, pnpm-lock.yaml, pnpm-workspace.yaml
    test: pnpm test
    start: pnpm start
    "#);
}

#[test]
fn managers_that_are_not_provided() {
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#),
        ("yarn.lock", "# yarn lockfile v1\n"),
    ]), @"
    node 22 (firm *)
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm *
        Default package.json:1 installs Node projects
    Node . npm -
        inputs package.json, yarn.lock
    note: yarn is not provided yet: npm installs in its place, from the manifests and as of the commit's date, without the lock file [yarn.lock:1]
    ");
    insta::assert_snapshot!(shown(&[
        ("package.json", r#"{"packageManager": "bun@1.2.0", "dependencies": {"a": "workspace:*"}}"#),
        ("bun.lock", "{}"),
    ]), @"
    node 22 (firm *)
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    Node . - -
        inputs bun.lock, package.json
    note: bun is not provided yet, and npm cannot read these manifests: no dependencies are installed [bun.lock:1]
    ");
}

#[test]
fn a_manager_that_runs_on_the_node_that_is_pinned() {
    let text = shown(&[("package.json", "{}"), (".node-version", "18.20.4\n")]);
    insta::assert_snapshot!(text, @"
    node 18.20.4 pinned
        Pin .node-version:1 18.20.4
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm <11 || >=13
        Manifest package.json:1 npm 12 runs on node ^22.22.2 || ^24.15.0 || >=26 only
        Manifest package.json:1 npm 11 runs on node ^20.17.0 || >=22.9.0 only
        Default package.json:1 installs Node projects
    Node . npm -
        inputs package.json
    ");
}

#[test]
fn python_with_groups_and_tox() {
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", r#"[project]
name = "lib"
requires-python = ">=3.9"
dependencies = ["blinker"]
classifiers = [
  "Programming Language :: Python :: 3.11",
  "Programming Language :: Python :: 3.12",
]
[build-system]
requires = ["hatchling", "hatch-vcs"]
build-backend = "hatchling.build"
[dependency-groups]
dev = ["ruff", { include-group = "tests" }]
tests = ["pytest", "trio"]
docs = ["sphinx"]
[tool.pytest.ini_options]
addopts = "-n auto"
"#),
        ("tox.ini", "[tox]\nenvlist = py3{11,13},style\n[testenv]\ndeps =\n    -r {toxinidir}/requirements/ci.txt\n    py39: backports\ncommands = pytest {posargs}\n"),
        ("requirements/ci.txt", "-r base.txt\ncoverage\n"),
        ("requirements/base.txt", "six\n"),
        ("tests/test_it.py", "import pytest\n"),
        ("uv.lock", "version = 1\n"),
    ]), @r#"
    python >=3.11 <3.14 (firm >=3.9)
        Manifest pyproject.toml:3 requires-python ">=3.9"
        Tested pyproject.toml:6 Programming Language :: Python :: 3.11
        Tested pyproject.toml:7 Programming Language :: Python :: 3.12
        Tested tox.ini:2 py311
        Tested tox.ini:2 py313
        Default pyproject.toml:1 a Python project
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    Python . uv uv.lock
        inputs pyproject.toml, requirements/base.txt, requirements/ci.txt, uv.lock
        groups tests
        files requirements/base.txt, requirements/ci.txt
        packages pytest-xdist
        installable, version from git
    test: pytest
    build: uv build
    "#);
}

#[test]
fn python_of_the_old_days() {
    insta::assert_snapshot!(shown(&[
        ("setup.py", r#"from setuptools import setup, Extension
setup(
    name="old",
    use_scm_version=True,
    python_requires='>=3.6, !=3.7.*',
    ext_modules=[Extension("old._speed", ["speed.c"])],
    extras_require={"test": ["nose", "mock"], "doc": ["sphinx"]},
)
"#),
        ("setup.cfg", "[options]\ntests_require =\n    mock>=2\n"),
        ("runtime.txt", "python-3.11.9\n"),
        ("tests/test_it.py", "import unittest\n"),
    ]), @r#"
    cc * pinned
        Default setup.py:6 ext_modules
    make * pinned
        Default setup.py:6 ext_modules
    python 3.11.9 pinned
        Pin runtime.txt:1 python-3.11.9
        Manifest setup.py:5 python_requires ">=3.6, !=3.7.*"
        Default setup.py:1 a Python project
    uv * pinned
        Default setup.py:1 installs Python projects
    Python . pip -
        inputs setup.cfg, setup.py
        extras test
        packages mock>=2
        installable, native, version from git
    test: python -m unittest discover -s tests
    build: uv build
    "#);
}

#[test]
fn poetry_and_what_is_only_development() {
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", r#"[tool.poetry]
name = "app"
package-mode = false
[tool.poetry.dependencies]
python = "^3.11"
fastapi = {version = "^0.115", extras = ["standard"]}
local = {path = "../local"}
[tool.poetry.group.dev.dependencies]
pytest = "^8.1"
black = "*"
"#),
        ("poetry.lock", ""),
        ("main.py", ""),
        ("test_main.py", "def test_it():\n    assert True\n"),
    ]), @r#"
    python >=3.11 <4
        Manifest pyproject.toml:5 poetry python "^3.11"
        Default pyproject.toml:1 a Python project
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    Python . pip -
        inputs pyproject.toml
        packages black, fastapi[standard]==0.115.*, pytest>=8.1,<9
    test: pytest
    start: python main.py
    note: poetry's dependency local has no plain version and is left out [pyproject.toml:7]
    note: lock files of poetry are not read yet: uv installs from the manifests, as of the commit's date [poetry.lock:1]
    "#);
}

#[test]
fn an_application_with_requirements_only() {
    insta::assert_snapshot!(shown(&[
        ("requirements.txt", "flask==3.0\n"),
        ("requirements-dev.txt", "-r requirements.txt\npytest\n"),
        ("requirements-docs.txt", "sphinx\n"),
        ("app.py", ""),
        (".python-version", "3.12\n"),
        ("Procfile", "web: gunicorn app:app\n"),
    ]), @"
    python 3.12 pinned
        Pin .python-version:1 3.12
        Default requirements.txt:1 a Python project
    uv * pinned
        Default requirements.txt:1 installs Python projects
    Python . pip -
        inputs requirements-dev.txt, requirements.txt
        files requirements-dev.txt, requirements.txt
    start: gunicorn app:app
    ");
}

#[test]
fn rust_go_and_zig() {
    insta::assert_snapshot!(shown(&[
        ("Cargo.toml", "[package]\nname = \"x\"\nedition = \"2024\"\nrust-version = \"1.85\"\n[build-dependencies]\ncc = \"1\"\n[workspace]\nmembers = [\"crates/*\"]\n"),
        ("crates/y/Cargo.toml", ""),
        ("Cargo.lock", ""),
        ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.88.0\"\ntargets = [\"wasm32-unknown-unknown\", \"x86_64-unknown-linux-gnu\"]\n"),
        ("src/main.rs", ""),
    ]), @r#"
    cc * pinned
        Default Cargo.toml:1 rust links with it
    make * pinned
        Default Cargo.toml:6 builds with cc
    rust 1.88.0 pinned
        Pin rust-toolchain.toml:2 channel "1.88.0"
        Manifest Cargo.toml:4 rust-version "1.85"
        Default Cargo.toml:1 a Rust project
    Rust . cargo Cargo.lock
        inputs Cargo.lock, Cargo.toml, crates/y/Cargo.toml, rust-toolchain.toml
        native
    test: cargo test
    build: cargo build
    start: cargo run
    note: the toolchain file asks for targets of other machines, which are not provided yet [rust-toolchain.toml:3]
    "#);
    insta::assert_snapshot!(shown(&[
        ("go.mod", "module x\n\ngo 1.22 // least\n\ntoolchain go1.23.4\n"),
        ("main.go", "package main\n"),
        ("x.go", "package main\n\nimport \"C\"\n"),
    ]), @r#"
    cc * pinned
        Default x.go:3 import "C"
    go >=1.23.4
        Manifest go.mod:3 go 1.22
        Manifest go.mod:5 toolchain go1.23.4
        Default go.mod:1 a Go project
    make * pinned
        Default x.go:3 import "C"
    Go . go -
        inputs go.mod
        native
    test: go test ./...
    build: go build ./...
    start: go run .
    "#);
    insta::assert_snapshot!(shown(&[
        ("go.work", "go 1.22\nuse (\n\t./a // one\n\t./gone\n)\nuse ./b\n"),
        ("a/go.mod", "module a\n"),
        ("b/go.mod", "module b\n"),
    ]), @"
    go >=1.22
        Manifest go.work:1 go 1.22
        Default go.work:1 a Go project
    Go . go -
        inputs a/go.mod, b/go.mod, go.work
    test: go test ./a/... ./b/...
    build: go build ./a/... ./b/...
    ");
    insta::assert_snapshot!(shown(&[
        ("build.zig", "const t = b.step(\"test\", \"Run the tests\");\nb.step(\"run\", \"\");\n"),
        ("build.zig.zon", ".{\n    .name = .x,\n    .minimum_zig_version = \"0.14.0\",\n}\n"),
    ]), @r#"
    zig 0.14 (firm >=0.14.0)
        Manifest build.zig.zon:3 minimum_zig_version "0.14.0"
        Default build.zig:1 a Zig project
        Default build.zig.zon:3 releases of zig break each other
    Zig . zig -
        inputs build.zig, build.zig.zon
    test: zig build test
    build: zig build
    start: zig build run
    "#);
    insta::assert_snapshot!(shown(&[
        ("src/main.zig", "pub fn main() void {}\ntest \"it\" {}\n"),
    ]), @"
    zig *
        Default src/main.zig:1 a Zig project
    Zig . zig -
    test: zig test src/main.zig
    build: zig build-exe src/main.zig
    start: zig run src/main.zig
    ");
}

#[test]
fn several_at_once_are_a_union() {
    insta::assert_snapshot!(shown(&[
        ("pyproject.toml", "[project]\nname = \"api\"\n[build-system]\nrequires = [\"maturin\"]\n"),
        ("tests/test_api.py", "import pytest\n"),
        ("frontend/package.json", r#"{"scripts": {"test": "vitest"}}"#),
        ("frontend/pnpm-lock.yaml", "lockfileVersion: 5.4\n"),
        ("libfoo/package.json", r#"{"scripts": {"test": "no part of it"}}"#),
        ("docs/package-lock.json", "{}"),
        ("docs/package.json", "{}"),
    ]), @"
    cc * pinned
        Default pyproject.toml:4 builds with maturin
    make * pinned
        Default pyproject.toml:4 builds with maturin
    node 22 (firm *)
        Default frontend/package.json:1 a Node project
        Default frontend/package.json:1 the newest long-term line that will do, as of the commit
    pnpm 7 pinned
        Lock frontend/pnpm-lock.yaml:1 lockfileVersion 5.4
        Default frontend/pnpm-lock.yaml:1 a lock file of pnpm
    python *
        Default pyproject.toml:1 a Python project
    rust *
        Default pyproject.toml:4 builds with maturin
    uv * pinned
        Default pyproject.toml:1 installs Python projects
    Python . pip -
        inputs pyproject.toml
        packages pytest
        installable, native
    Node frontend pnpm frontend/pnpm-lock.yaml
        inputs frontend/package.json, frontend/pnpm-lock.yaml
    test: pytest
    build: uv build
    ");
    insta::assert_snapshot!(shown(&[
        ("server/go.mod", "module server\ngo 1.22\n"),
        ("web/package.json", r#"{"scripts": {"test": "vitest"}}"#),
    ]), @"
    go >=1.22
        Manifest server/go.mod:2 go 1.22
        Default server/go.mod:1 a Go project
    node 22 (firm *)
        Default web/package.json:1 a Node project
        Default web/package.json:1 the newest long-term line that will do, as of the commit
    npm *
        Default web/package.json:1 installs Node projects
    Go server go -
        inputs server/go.mod
    Node web npm -
        inputs web/package.json
    test: (cd server && go test ./...) && (cd web && npm test)
    build: cd server && go build ./...
    ");
}

#[test]
fn contradictions_are_said_and_the_stronger_is_kept() {
    insta::assert_snapshot!(shown(&[
        ("package.json", "{\n\"engines\": {\"node\": \">=22\"}}"),
        (".nvmrc", "20\n"),
    ]), @r#"
    node 20 pinned
        Pin .nvmrc:1 20
        Manifest package.json:2 engines.node ">=22"
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm <12 || >=13
        Manifest package.json:2 npm 12 runs on node ^22.22.2 || ^24.15.0 || >=26 only
        Default package.json:1 installs Node projects
    Node . npm -
        inputs package.json
    note: no version of node is both `20` (.nvmrc) and `engines.node ">=22"` (package.json); the former is kept [.nvmrc:1 package.json:2]
    "#);
}

#[test]
fn env_toml_decides() {
    insta::assert_snapshot!(shown(&[
        (".zagi/env.toml", "[tools]\nnode = \"22\"\nzig = \"0.14\"\n[env]\nA = \"b\"\n[run]\ntest = \"make check\"\n"),
        ("package.json", r#"{"engines": {"node": "<20"}, "scripts": {"test": "x", "build": "y"}}"#),
        (".nvmrc", "18\n"),
    ]), @r#"
    node 22 pinned
        Spec .zagi/env.toml:2 node "22"
        Pin .nvmrc:1 18
        Manifest package.json:1 engines.node "<20"
        Default package.json:1 a Node project
        Default package.json:1 the newest long-term line that will do, as of the commit
    npm *
        Default package.json:1 installs Node projects
    zig 0.14 pinned
        Spec .zagi/env.toml:3 zig "0.14"
    Node . npm -
        inputs package.json
    test: make check
    build: npm run build
    note: no version of node is both `node "22"` (.zagi/env.toml) and `18` (.nvmrc); the former is kept [.zagi/env.toml:2 .nvmrc:1]
    note: no version of node is both `node "22"` (.zagi/env.toml) and `engines.node "<20"` (package.json); the former is kept [.zagi/env.toml:2 package.json:1]
    "#);
    let text = shown(&[(".zagi/env.toml", "[tool]\nnode = \"22\"\n")]);
    insta::assert_snapshot!(text, @"note: .zagi/env.toml:1: unknown key `tool` in the file; allowed here: version, [tools], [system], [env], [run]; the file was not used [.zagi/env.toml:1]");
}

#[test]
fn pins_of_version_managers() {
    insta::assert_snapshot!(shown(&[
        ("mise.toml", "[tools]\nnode = [\"22.11.0\", \"20\"]\npython = { version = \"3.12\" }\nruby = \"3.3\"\n\"npm:prettier\" = \"3\"\n"),
        (".tool-versions", "golang 1.22.3 # ours\nerlang 27\nrust nightly-2025-01-01\n"),
        ("Makefile", "test:\n\tgo vet\n"),
    ]), @r#"
    go 1.22.3 pinned
        Pin .tool-versions:1 golang 1.22.3
    make * pinned
        Default Makefile:1 test:
    node 22.11.0 pinned
        Pin mise.toml:2 node "22.11.0"
    python 3.12 pinned
        Pin mise.toml:3 python "3.12"
    rust *
        Default .tool-versions:3 rust nightly-2025-01-01
    test: make test
    note: ruby, npm:prettier in `mise.toml`: not provided yet [mise.toml:1]
    note: erlang in `.tool-versions`: not provided yet [.tool-versions:2]
    note: the toolchain `nightly-2025-01-01` is not provided: a stable one is taken in its place [.tool-versions:3]
    "#);
}

#[test]
fn images_and_features_are_what_it_is_tested_with() {
    insta::assert_snapshot!(shown(&[
        ("requirements.txt", ""),
        ("Dockerfile", "ARG PY=3.11\nFROM --platform=linux/amd64 docker.io/library/python:${PY}-slim AS base\nFROM node:20\n"),
        (".devcontainer/devcontainer.json", "{\n // x\n \"image\": \"mcr.microsoft.com/devcontainers/python:1-3.12-bullseye\",\n \"features\": {\n  \"ghcr.io/devcontainers/features/node:1\": {\n   \"version\": \"22\"\n }}}"),
        (".gitlab-ci.yml", "image: python:3.10\n"),
        (".github/workflows/x.yml", "python-version:\n  - '3.9'\n  - 'pypy-3.10'\nos: [a]\npython-version: 3.x\n"),
    ]), @"
    python >=3.9 <3.13 (firm *)
        Tested Dockerfile:2 FROM --platform=linux/amd64 docker.io/library/python:${PY}-slim AS base
        Tested .devcontainer/devcontainer.json:3 image mcr.microsoft.com/devcontainers/python:1-3.12-bullseye
        Tested .github/workflows/x.yml:2 python 3.9
        Tested .gitlab-ci.yml:1 image python:3.10
        Default requirements.txt:1 a Python project
    uv * pinned
        Default requirements.txt:1 installs Python projects
    Python . pip -
        inputs requirements.txt
        files requirements.txt
    ");
}

#[test]
fn what_is_written_reads_back() {
    let found = detected(&files(&[
        (
            "package.json",
            r#"{"engines": {"node": ">=22 <23"}, "scripts": {"test": "vitest", "start": "node \"a\\b\""}}"#,
        ),
        ("package-lock.json", "{\"lockfileVersion\": 3}"),
    ]));
    insta::assert_snapshot!(found.env_toml(), @r#"
    [tools]
    node = "22"                      # package.json: engines.node ">=22 <23"
    npm = "*"                        # package-lock.json: a lock file of npm
    [run]
    test = "npm test"                # package.json:1
    start = "npm start"              # package.json:1
    "#);
    let again = detected(&files(&[(".zagi/env.toml", &found.env_toml())]));
    assert_eq!(again.spec, found.spec);
}
