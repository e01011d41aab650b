//! Detection over small repositories that are written here.

mod bounds;
mod compiled;
mod javascript;
mod others;
mod python;
mod services;
mod system;

use std::collections::{BTreeMap, BTreeSet};

use zagi::context::Platform;
use zagi::environment::detect::{Detected, detect_knowing};
use zagi::environment::files::Files;

/// 2025-06-15.
const DATE: i64 = 1_750_000_000;

fn files(all: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    all.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

/// A catalogue, so that what is found does not depend on what is provided by now.
const KNOWN: [&str; 24] = [
    "bun", "cc", "cmake", "composer", "deno", "go", "gradle", "java", "just", "make", "maven",
    "meson", "ninja", "node", "npm", "perl", "php", "pnpm", "python", "ruby", "rust", "uv", "yarn",
    "zig",
];

fn detected(files: &dyn Files) -> Detected {
    let platform = Platform { os: "linux".into(), arch: "x86_64".into() };
    let known: BTreeSet<String> = KNOWN.map(str::to_owned).into();
    let found = detect_knowing(files, DATE, &platform, &known);
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
    for name in &found.spec.system {
        lines.push(format!("system {name}"));
        for e in found.system_evidence.get(name).into_iter().flatten() {
            lines.push(format!("    {:?} {}:{} {}", e.strength, e.file, e.line, e.text));
        }
    }
    for service in &found.services {
        lines.push(format!("service {} {}", service.tool, service.constraint));
        for e in &service.evidence {
            lines.push(format!("    {:?} {}:{} {}", e.strength, e.file, e.line, e.text));
        }
    }
    lines.extend(found.spec.env.iter().map(|(name, value)| format!("env {name}={value}")));
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
    env A=b
    Node . npm -
        inputs package.json
    test: make check
    build: npm run build
    note: no version of node is both `node "22"` (.zagi/env.toml) and `18` (.nvmrc); the former is kept [.zagi/env.toml:2 .nvmrc:1]
    note: no version of node is both `node "22"` (.zagi/env.toml) and `engines.node "<20"` (package.json); the former is kept [.zagi/env.toml:2 package.json:1]
    "#);
    let text = shown(&[(".zagi/env.toml", "[tool]\nnode = \"22\"\n")]);
    insta::assert_snapshot!(text, @"note: .zagi/env.toml:1: unknown key `tool` in the file; allowed here: version, [tools], [system], [dependencies], [services], [env], [secrets], [run]; the file was not used [.zagi/env.toml:1]");
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
    ruby 3.3 (firm 3) pinned
        Pin mise.toml:4 ruby "3.3"
        Default mise.toml:4 ruby "3.3"
    rust *
        Default .tool-versions:3 rust nightly-2025-01-01
    test: make test
    note: npm:prettier in `mise.toml`: not provided yet [mise.toml:1]
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
