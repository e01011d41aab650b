//! How much of what projects need is found: system packages against what Debian builds its
//! packages with; tools and commands against what railpack and nixpacks expect of their own
//! examples; and how long finding it takes.
//!
//! ```text
//! cargo build --release --workspace
//! target/release/bench-detect time
//! target/release/bench-detect debian
//! git clone https://github.com/railwayapp/railpack && target/release/bench-detect examples railpack
//! ```
//!
//! Each prints a table for `integration/bench/RESULTS.md`.

mod debian;
mod examples;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use zagi::context::Platform;
use zagi::environment::detect::{Detected, detect};
use zagi::environment::files::{Directory, Files};
use zagi::source::files::GitFiles;

/// Measurements; the median counts.
const ROUNDS: usize = 51;
/// 2025-06-15.
const DATE: i64 = 1_750_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["time"] => time(),
        ["debian"] => debian::measure(),
        ["examples", dir] => examples::measure(Path::new(dir)),
        _ => eprintln!("usage: bench-detect time | debian | examples DIR"),
    }
}

fn found(files: &dyn Files) -> Detected {
    let platform = Platform { os: "linux".into(), arch: "x86_64".into() };
    detect(files, DATE, &platform)
}

/// Detection of 10,000 files, from a directory and from a git tree.
fn time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    make(dir.path());
    let script = "git init -q && git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m one && git rev-parse HEAD^{tree}";
    let done = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output();
    let done = done.expect("there is git");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let tree = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    let bare = dir.path().join(".git");
    println!("| from | median of {ROUNDS} |\n|---|---|");
    println!("| a directory | {} |", shown(median(|| found(&Directory::new(dir.path())))));
    let of_tree = median(|| found(&GitFiles::open(&bare, &tree).expect("the tree was just made")));
    println!("| a git tree | {} |", shown(of_tree));
}

fn median(mut once: impl FnMut() -> Detected) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            assert!(!once().tools.is_empty());
            start.elapsed()
        })
        .collect();
    all.sort();
    all[ROUNDS / 2]
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// A repository of several ecosystems with 10,000 files, workspaces of a hundred members and
/// workflows.
fn make(root: &Path) {
    let write = |path: String, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("it is below the root")).expect("ours");
        std::fs::write(path, text).expect("so is this");
    };
    write(
        "package.json".into(),
        r#"{"engines": {"node": ">=20"}, "workspaces": ["packages/*"], "scripts": {"test": "vitest"}, "dependencies": {"canvas": "2"}}"#,
    );
    write(
        "pnpm-lock.yaml".into(),
        &format!("lockfileVersion: '9.0'\n{}", "  a:\n    b: c\n".repeat(20_000)),
    );
    write(
        "pyproject.toml".into(),
        "[project]\nname = \"x\"\nrequires-python = \">=3.10\"\ndependencies = [\"psycopg2\"]\n[dependency-groups]\ntest = [\"pytest\"]\n",
    );
    let locked = "[[package]]\nname = \"a\"\nwheels = [\n    { url = \"https://x/a-1-py3-none-any.whl\" },\n]\n";
    write("uv.lock".into(), &format!("version = 1\n{}", locked.repeat(400)));
    write("Cargo.toml".into(), "[workspace]\nmembers = [\"crates/*\"]\n");
    let locked = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\n \"b\",\n]\n\n";
    write(
        "Cargo.lock".into(),
        &format!("{}[[package]]\nname = \"openssl-sys\"\n", locked.repeat(500)),
    );
    write("go.mod".into(), "module x\ngo 1.22\n");
    write(
        "Dockerfile".into(),
        "FROM node:22\nRUN apt-get update && apt-get install -y libpq-dev\n",
    );
    write("compose.yaml".into(), "services:\n  db:\n    image: postgres:16\n");
    write(".env.example".into(), "PORT=3000\nDATABASE_URL=postgres://u:p@localhost/x\n");
    let step = "      - uses: actions/setup-node@v4\n        with: {node-version: 22}\n      - run: npm test\n";
    for i in 0..12 {
        write(
            format!(".github/workflows/w{i}.yml"),
            &format!("on: push\njobs:\n  t:\n    steps:\n{}", step.repeat(20)),
        );
    }
    for i in 0..100 {
        write(format!("packages/p{i}/package.json"), "{\"dependencies\": {\"react\": \"19\"}}");
        write(
            format!("crates/c{i}/Cargo.toml"),
            "[package]\nname = \"c\"\nrust-version = \"1.80\"\n",
        );
        for j in 0..97 {
            write(format!("packages/p{i}/src/d{}/f{j}.ts", j % 10), "export {}\n");
        }
    }
}
