//! Rust, Go and Zig.

use super::shown;

#[test]
fn rust() {
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
}

#[test]
fn go_in_a_module_and_a_workspace() {
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
}

#[test]
fn zig_with_and_without_a_build_file() {
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
