//! The table, by what real programs print.

use std::path::Path;

use super::*;

/// What a program prints, and what is lacking.
const SAID: &[(&str, &str)] = &[
    ("E   ModuleNotFoundError: No module named 'yaml'", "the module yaml was missing"),
    (
        "ModuleNotFoundError: No module named 'a.b'; 'a' is not a package",
        "the module a.b was missing",
    ),
    ("/w/.venv/bin/python: No module named pytest", "the module pytest was missing"),
    ("E       fixture 'mocker' not found", "the fixture mocker was missing"),
    ("__main__.py: error: unrecognized arguments: --cov=src", "the option --cov was not known"),
    ("main.c:3:10: fatal error: libpq-fe.h: No such file or directory", "libpq-fe.h was missing"),
    ("main.c:3:10: fatal error: 'zlib.h' file not found", "zlib.h was missing"),
    ("/usr/bin/ld: cannot find -lpq: No such file or directory", "-lpq was missing"),
    ("collect2: ld.lld: error: unable to find library -lpq", "-lpq was missing"),
    ("x: error while loading shared libraries: libvips.so.42: cannot open", "-lvips was missing"),
    ("Package 'libpq', required by 'virtual:world', not found", "libpq.pc was missing"),
    ("Package libffi was not found in the pkg-config search path.", "libffi.pc was missing"),
    ("No package 'gtk+-3.0' found", "gtk+-3.0.pc was missing"),
    (
        "meson.build:4:0: ERROR: Dependency \"libpq\" not found, tried pkgconfig",
        "libpq.pc was missing",
    ),
    (
        "  The system library `openssl` required by crate `openssl-sys` was not found.",
        "openssl.pc was missing",
    ),
    ("  Could NOT find ZLIB (missing: ZLIB_LIBRARY ZLIB_INCLUDE_DIR)", "CMake did not find ZLIB"),
    ("-- Could NOT find Doxygen (missing: DOXYGEN_EXECUTABLE)", ""),
    (
        "  Could not find a package configuration file provided by \"Qt6\" with any of",
        "CMake did not find Qt6",
    ),
    ("sh: 1: cmake: not found", "the command cmake was missing"),
    ("./t.sh: line 2: just: command not found", "the command just was missing"),
    ("zsh:1: command not found: jq", "the command jq was missing"),
    ("make: cmake: No such file or directory", "the command cmake was missing"),
    ("make[2]: cmake: No such file or directory", "the command cmake was missing"),
    (
        "E   FileNotFoundError: [Errno 2] No such file or directory: 'git-lfs'",
        "the command git-lfs was missing",
    ),
    ("E   FileNotFoundError: [Errno 2] No such file or directory: '/tmp/x'", ""),
    ("Error: spawn protoc ENOENT", "the command protoc was missing"),
    (
        "exec: \"golangci-lint\": executable file not found in $PATH",
        "the command golangci-lint was missing",
    ),
    ("error: linker `clang` not found", "the command clang was missing"),
    (
        "  Could not find `protoc` installation and this build crate cannot",
        "the command protoc was missing",
    ),
    (
        "ERROR: Package 'x' requires a different Python: 3.11.2 not in '>=3.12'",
        "python >=3.12 was asked for",
    ),
    (
        "x@1: The engine \"node\" is incompatible with this module. Expected version \">=22\". Got \"20.1.0\"",
        "node >=22 was asked for",
    ),
    ("npm warn EBADENGINE   required: { node: '>=22.3' },", "node >=22.3 was asked for"),
    (
        "You are using Node.js 18.0.0. Vite requires Node.js version 20.19+ or 22.12+.",
        "node >=20.19 was asked for",
    ),
    ("  clap@4.6.0 requires rustc 1.85", "rust >=1.85 was asked for"),
    ("cannot be built because it requires rustc 1.81 or newer, while", "rust >=1.81 was asked for"),
    ("  feature `edition2024` is required", "rust >=1.85 was asked for"),
    (
        "go: go.mod requires go >= 1.23 (running go 1.22.1; GOTOOLCHAIN=local)",
        "go >=1.23 was asked for",
    ),
    (
        "  CMake 3.28 or higher is required.  You are running version 3.25.1",
        "cmake >=3.28 was asked for",
    ),
    ("ERROR: Meson version is 1.0.1 but project requires >=1.2.0", "meson >=1.2.0 was asked for"),
    ("async def functions are not natively supported.", "pytest-asyncio was missing"),
    ("AssertionError: 1 != 2", ""),
    ("cat: notes.txt: No such file or directory", ""),
];

#[test]
fn what_programs_say_is_understood() {
    let table = Remedies::built_in();
    for (said, expected) in SAID {
        let lack = table.read(said).first().map(ToString::to_string).unwrap_or_default();
        assert_eq!(lack, *expected, "{said}");
    }
}

#[test]
fn the_last_word_comes_first_and_once() {
    let said = "No module named 'x'\nModuleNotFoundError: No module named 'tomllib'\n\
                During handling\nModuleNotFoundError: No module named 'tomli'\n\
                ModuleNotFoundError: No module named 'tomli'\n";
    let lacks: Vec<String> =
        Remedies::built_in().read(said).iter().map(ToString::to_string).collect();
    assert_eq!(lacks, ["the module tomli was missing", "the module tomllib was missing"]);
}

#[test]
fn what_is_lacking_has_its_remedies() {
    let table = Remedies::built_in();
    let catalog = Catalog::load(Path::new("/nonexistent/catalog.toml")).unwrap();
    let system = system::Table::built_in();
    for (lack, expected) in [
        (Lack::Module("yaml.nodes".into()), "PyYAML"),
        (Lack::Module("google.protobuf.message".into()), "protobuf"),
        (Lack::Module("typing_extensions".into()), "typing-extensions"),
        (Lack::Module("_private".into()), ""),
        (Lack::Fixture("mocker".into()), "pytest-mock"),
        (Lack::Fixture("our_own".into()), ""),
        (Lack::Header("libpq-fe.h".into()), "libpq, libpq-fe"),
        (Lack::Header("leveldb/c.h".into()), "leveldb"),
        (Lack::Library("ssl".into()), "openssl, libssl"),
        (Lack::PkgConfig("libxml-2.0".into()), "libxml2, libxml-2.0"),
        (Lack::Cmake("PostgreSQL".into()), "libpq, libpostgresql"),
        (Lack::Command("just".into()), "just, just"),
        (Lack::Command("cargo".into()), "rust, cargo"),
        (Lack::Command("dot".into()), "graphviz, dot"),
        (Lack::Command("tox".into()), "tox, tox"),
    ] {
        let remedies = table.remedies(&lack, &catalog, system);
        let names: Vec<String> = remedies.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        let begins = names == expected || names.starts_with(&format!("{expected}, "));
        assert!(begins && expected.is_empty() == names.is_empty(), "{lack}: {names}");
    }
}

#[test]
fn patterns_that_say_nothing_are_refused() {
    for text in ["{command}", "a {command}{header}", "a {command} b {header}", ""] {
        assert!(Pattern::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn hostile_output_is_no_name() {
    let table = Remedies::built_in();
    let long = "x".repeat(200);
    for said in [
        "sh: 1: $(id): not found",
        "ModuleNotFoundError: No module named '--index-url=x'",
        "fatal error: : No such file or directory",
        &format!("ModuleNotFoundError: No module named '{long}'"),
    ] {
        assert_eq!(table.read(said), [], "{said}");
    }
}
