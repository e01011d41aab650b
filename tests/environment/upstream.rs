//! The archives of tools' makers, served on the loopback interface in the layouts that their
//! own hosts have ([`layout`]).

mod layout;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use zagi::environment::lock::{Lock, Tool};
use zagi::environment::provider::ProviderError;
use zagi::environment::realise::{FetchError, RealiseError};
use zagi::environment::resolve::ResolveError;
use zagi::registry::http::HttpError;
use zagi::registry::upstream::UpstreamError;

use self::layout::{Layout, programs, put, serve};
use super::{Files, asked, catalogue, lock_of, npm, realised, run};
use crate::support::http::{Reply, Request, Server};
use crate::support::{Machine, NOW};

fn tool<'a>(lock: &'a Lock, name: &str) -> &'a Tool {
    lock.tools.iter().find(|tool| tool.name == name).expect("it was asked for")
}

/// Locks a tool in a version that only its makers have, and runs a program of it. `look` is
/// shown its tree.
fn from_its_makers(
    name: &str,
    version: &str,
    bin: &str,
    lay: impl Fn(&Layout<'_>),
    look: impl Fn(&Path),
) -> Tool {
    let files: Files = Arc::default();
    let server = serve(&files);
    lay(&Layout::new(&files, &server.base));
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let lock = lock_of(&ctx, vec![asked(name, version)], NOW)
        .unwrap_or_else(|e| panic!("{e}: {:?}", machine.events.warnings()));
    let found = tool(&lock, name).clone();
    assert_eq!(found.provider, "upstream");
    assert_eq!(Lock::parse("env.lock", &lock.render()).expect("it was just written"), lock);
    let env = realised(&ctx, &Lock::new(vec![found.clone()])).expect("all of it is served");
    assert_eq!(run(&env.dir.join("bin").join(bin), "x"), format!("{bin} of {name} x\n"));
    look(&env.trees[0]);
    found
}

#[test]
fn node_and_its_list_of_checksums() {
    let lay = |layout: &Layout<'_>| {
        layout.node("22.1.0", "2024-05-02");
        layout.node("20.12.2", "2024-04-10");
    };
    let found = from_its_makers("node", "22.1.0", "node", lay, |_| {});
    assert_eq!(found.version, "22.1.0");
    let [part] = found.parts.as_slice() else { panic!("{:?}", found.parts) };
    let ending = format!("/nodejs/v22.1.0/node-v22.1.0-{}.tar.gz", layout::node_target());
    assert!(part.url.ends_with(&ending), "{}", part.url);
    assert_eq!((part.unpack.as_str(), part.strip), ("tar.gz", 1));
    assert_eq!(found.env["npm_config_nodedir"], "{root}");
}

#[test]
fn go_behind_a_redirection() {
    let found = from_its_makers("go", "1.22.3", "go", |layout| layout.go("1.22.3"), |_| {});
    let [part] = found.parts.as_slice() else { panic!("{:?}", found.parts) };
    assert!(part.url.contains("/go/go1.22.3.linux-"), "{}", part.url);
}

#[test]
fn zig_and_addresses_on_its_makers_host() {
    let found = from_its_makers("zig", "0.13.0", "zig", |layout| layout.zig("0.13.0"), |_| {});
    let [part] = found.parts.as_slice() else { panic!("{:?}", found.parts) };
    assert!(part.url.starts_with("http://127.0.0.1"), "{}", part.url);
    assert!(part.url.contains("/zig/0.13.0/zig-linux-"), "{}", part.url);
}

#[test]
fn rust_and_the_components_of_a_channel() {
    let lay = |layout: &Layout<'_>| layout.rust("1.74.0", "2023-11-16");
    let found = from_its_makers("rust", "1.74", "rustc", lay, |tree| {
        for file in ["bin/cargo", "bin/clippy-driver", "lib/rustlib/libstd.rlib"] {
            assert!(tree.join(file).is_file(), "{file} of another component");
        }
    });
    let names: Vec<&str> = found.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["rustc", "cargo", "rust-std", "rustfmt-preview", "clippy-preview"]);
    assert!(found.parts.iter().all(|part| part.strip == 2 && part.unpack == "tar.gz"));
    assert!(found.parts[0].url.contains("/rust/dist/2023-11-16/rustc-1.74.0-"));
}

#[test]
fn python_and_the_newest_of_several_builds() {
    let builds = ["3.12.7+20241016", "3.12.7+20241205", "3.11.10+20241205"];
    let lay = |layout: &Layout<'_>| layout.python(&builds);
    let found = from_its_makers("python", "3.12", "python3.12", lay, |tree| {
        let config = tree.join("lib/python3.12/_sysconfigdata__linux.py");
        let text = std::fs::read_to_string(config).expect("it was packed");
        let here = tree.display();
        assert_eq!(
            text,
            format!("build_time_vars = {{'CC': 'cc -pthread', 'prefix': '{here}'}}\n")
        );
    });
    assert_eq!(found.version, "3.12.7");
    let [part] = found.parts.as_slice() else { panic!("{:?}", found.parts) };
    assert!(part.url.contains("/python-build-standalone/releases/download/20241205/"));
    assert!(part.mirrors[0].starts_with("https://github.com/astral-sh/"), "{:?}", part.mirrors);
}

#[test]
fn java_from_pages_of_releases() {
    let lay = |layout: &Layout<'_>| layout.java(&[(22, 2), (21, 5)]);
    let found = from_its_makers("java", "22", "java", lay, |_| {});
    assert_eq!(found.version, "22.0.2");
    assert_eq!(found.env["JAVA_HOME"], "{root}");
}

#[test]
fn what_a_registry_has_is_taken_from_there_and_its_makers_are_not_asked() {
    let files: Files = Arc::default();
    let server = serve(&files);
    Layout::new(&files, &server.base).node("22.1.0", "2024-05-02");
    let package = format!("node-{}", layout::node_target());
    npm(&files, &server.base, &package, &[("22.1.0", -9), ("20.1.0", -9)]);
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let lock = lock_of(&ctx, vec![asked("node", "22")], NOW).expect("the registry has it");
    assert_eq!(lock.tools[0].provider, "npm");
    let asked_makers = server.requests().iter().any(|request| request.path.contains("/nodejs"));
    assert!(!asked_makers, "{:?}", server.requests());
}

#[test]
fn a_list_of_checksums_that_lies_is_found_out() {
    let files: Files = Arc::default();
    let server = serve(&files);
    let layout = Layout::new(&files, &server.base);
    layout.node("22.1.0", "2024-05-02");
    let name = format!("node-v22.1.0-{}", layout::node_target());
    put(&files, &format!("/nodejs/v22.1.0/{name}.tar.gz"), programs(&name, &["bin/node"], "evil"));
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let lock = lock_of(&ctx, vec![asked("node", "22")], NOW).expect("the list can be read");
    let error = realised(&ctx, &lock).expect_err("the file is another one");
    assert!(
        matches!(
            error,
            RealiseError::Fetch(FetchError::Http { source: HttpError::Mismatch { .. }, .. })
        ),
        "{error}"
    );
    assert!(std::fs::read_dir(ctx.home.envs()).expect("it is a directory").next().is_none());
}

#[test]
fn a_manifest_that_is_not_the_published_one_is_refused() {
    let files: Files = Arc::default();
    let server = serve(&files);
    Layout::new(&files, &server.base).rust("1.74.0", "2023-11-16");
    let path = "/rust/dist/channel-rust-1.74.0.toml";
    let manifest = files.lock().expect("no handler panics")[path].clone();
    let text = String::from_utf8(manifest).expect("it is text");
    put(&files, path, text.replace("rustc-1.74.0", "rustc-1.74.9").into_bytes());
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let error = lock_of(&ctx, vec![asked("rust", "1.74.0")], NOW).expect_err("it was edited");
    let ResolveError::Refused { source, .. } = &error else { panic!("{error}") };
    let refused = matches!(**source, ProviderError::Upstream(UpstreamError::Checksum { .. }));
    assert!(refused, "{error}");
}

const TWO_SOURCES: &str = r#"version = 1
[tool.z]
[[tool.z.source]]
provider = "upstream"
index = "nodejs"
address = "{nodejs}"
package = "any"
bins = { z = "bin/x" }
[[tool.z.source]]
provider = "npm"
package = "z"
bins = { z = "bin/x" }
"#;

#[test]
fn an_archive_that_has_no_answer_is_passed_over_aloud() {
    let index = r#"[{"version":"v1.0.0","date":"2024-05-02","files":["any"]}]"#;
    type Answer = fn(&str) -> Reply;
    let answers: [(&str, Answer); 6] = [
        ("gone", |_| Reply::not_found()),
        ("down", |_| Reply::new(500, "")),
        ("forbidden", |_| Reply::new(403, "")),
        ("another page", |_| Reply::ok("<html>welcome</html>")),
        ("cut short", |index| Reply { break_off: Some(20), ..Reply::ok(index) }),
        ("not whole", |index| Reply::ok(&index[..30])),
    ];
    for (what, answer) in answers {
        let files: Files = Arc::default();
        let others = files.clone();
        let server = Server::start(move |request: &Request| match request.path.as_str() {
            "/nodejs/index.json" => answer(index),
            path => match others.lock().expect("no handler panics").get(path) {
                Some(file) => Reply::ok(file.clone()),
                None => Reply::not_found(),
            },
        });
        npm(&files, &server.base, "z", &[("1.0.0", -9)]);
        let machine = Machine::new();
        let ctx = machine.context(&server.base);
        catalogue(&ctx, TWO_SOURCES);
        let lock = lock_of(&ctx, vec![asked("z", "1")], NOW).expect("the next source has it");
        assert_eq!(lock.tools[0].provider, "npm", "{what}");
        let said = machine.events.warnings();
        assert!(
            said.iter().any(|w| w.contains("z from upstream is passed over")),
            "{what}: {said:?}"
        );
    }
    // The index answers, and the list of checksums of the version does not.
    let files: Files = Arc::default();
    let server = serve(&files);
    put(&files, "/nodejs/index.json", index.into());
    npm(&files, &server.base, "z", &[("1.0.0", -9)]);
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    catalogue(&ctx, TWO_SOURCES);
    let lock = lock_of(&ctx, vec![asked("z", "1")], NOW).expect("the next source has it");
    assert_eq!(lock.tools[0].provider, "npm");
    let said = machine.events.warnings();
    assert!(said.iter().any(|w| w.contains("SHASUMS256.txt")), "{said:?}");
}

#[test]
fn the_program_takes_a_tool_from_the_configured_address_and_runs_it() {
    let files: Files = Arc::default();
    let server = serve(&files);
    Layout::new(&files, &server.base).node("22.1.0", "2024-05-02");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let home = dir.path().join(".zagi");
    let project = dir.path().join("project");
    std::fs::create_dir_all(project.join(".zagi")).expect("it can be made");
    std::fs::create_dir_all(&home).expect("it can be made");
    let config = format!(
        "[addresses]\nnpm = \"{0}/npm\"\npypi = \"{0}/pypi\"\nnodejs = \"{0}/nodejs\"\n",
        server.base
    );
    std::fs::write(home.join("config.toml"), config).expect("it can be written");
    std::fs::write(project.join(".zagi/env.toml"), "[tools]\nnode = \"22.1.0\"\n")
        .expect("it can be written");
    let zagi = |place: &str, arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_zagi"))
            .args(arguments)
            .current_dir(dir.path().join(place))
            .env_clear()
            .env("HOME", dir.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .output()
            .expect("the program was built with this test");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    zagi("", &["mount", "--materialise", "--no-deps", "project", "workspace"]);
    assert_eq!(zagi("workspace", &["exec", "--", "node", "-v"]), "node of node -v\n");
}
