//! Services as tools: guessed or written down, and packages whose versions and links npm cannot
//! say.

use std::sync::Arc;

use zagi::environment::detect::{Detected, Requirement, Strength};
use zagi::environment::lock::Lock;
use zagi::environment::resolve::{ResolveError, resolve};
use zagi::environment::version::Constraint;
use zagi::registry::http::Client;

use super::{Files, asked, catalogue, npm, npm_package, realised, run, serve, x_and_y};
use crate::support::{Machine, NOW};

const SERVED: &str = r#"version = 1
[tool.server]
dated = false
[[tool.server.source]]
provider = "npm"
package = "server"
components = 2
preliminary = true
bins = { server = "bin/x" }
[service.store]
about = "a store"
tool = "server"
port = 1
socket = "{run}/s"
start = ["server"]
listen = []
stop = "TERM"
env = {}
check = { expect = "x" }
"#;

fn guessed(service: &str, constraint: &str) -> Requirement {
    let mut guessed = asked(service, constraint);
    guessed.firm = Constraint::any();
    guessed.evidence[0].strength = Strength::Tested;
    guessed
}

#[test]
fn a_guess_stops_nothing_and_a_word_must_hold() {
    let (files, server, machine, ctx) = x_and_y();
    npm(&files, &server.base, "server", &[("4.1.0-b.9", -9), ("4.1.0-b.11", -3), ("3.2.1", -5)]);
    catalogue(&ctx, SERVED);
    let lock = |services: Vec<Requirement>| {
        let detected = Detected { services, ..Detected::default() };
        resolve(&ctx, &Client::new(&ctx), &detected, NOW, &Lock::default())
    };
    // What is called preliminary is a packaging, of which the latest is taken.
    let made = lock(vec![asked("store", "4")]).expect("there is one");
    assert_eq!((made.tools[0].name.as_str(), made.tools[0].version.as_str()), ("server", "4.1"));
    assert_eq!(made.tools[0].parts[0].version, "4.1.0-b.11");

    let error = lock(vec![asked("store", "9")]).expect_err("there is none");
    assert!(matches!(error, ResolveError::NoVersion { .. }), "{error}");
    let error = lock(vec![asked("stroe", "4")]).expect_err("nobody knows it");
    assert_eq!(error.to_string(), "no service is called `stroe` (pin:3); there is store");

    let made = lock(vec![guessed("store", "9"), guessed("stroe", "4")]).expect("it goes on");
    assert_eq!(made.tools[0].version, "4.1", "the newest, aloud");
    let said = machine.events.warnings().join("\n");
    assert!(said.contains("no server matches `9`"), "{said}");
    assert!(said.contains("no service is called `stroe`"), "{said}");

    files.lock().expect("no handler panics").remove("/npm/server");
    std::fs::remove_dir_all(ctx.home.cache("http")).expect("it was asked");
    assert_eq!(lock(vec![guessed("store", "4")]).expect("it goes on").tools, []);
    assert!(lock(vec![asked("store", "4")]).is_err());
}

#[test]
fn links_that_a_package_lists_are_made_and_lead_nowhere_else() {
    let list = |target: &str| format!(r#"[{{"source": "lib/word.1", "target": "{target}"}}]"#);
    let build = |target: &str| {
        let files: Files = Arc::default();
        let server = serve(&files);
        npm(&files, &server.base, "server", &[("4.1.0", -9)]);
        let script = b"#!/bin/sh\ncat \"${0%/bin/x}/lib/word\"\n";
        let package = npm_package(&[
            ("bin/x", 0o755, script),
            ("lib/word.1", 0o644, b"hello\n"),
            ("links.json", 0o644, list(target).as_bytes()),
        ]);
        let machine = Machine::new();
        let ctx = machine.context(&server.base);
        catalogue(
            &ctx,
            &format!("{SERVED}\n")
                .replace("bins = {", "fixups = { lists = [\"links.json\"] }\nbins = {"),
        );
        let detected = Detected { services: vec![asked("store", "4")], ..Detected::default() };
        let mut lock = resolve(&ctx, &Client::new(&ctx), &detected, NOW, &Lock::default())
            .expect("there is one");
        let part = &mut lock.tools[0].parts[0];
        part.hash = part.hash.of_same_kind(&package);
        let path = "/npm/server/-/server-4.1.0.tgz".to_owned();
        files.lock().expect("no handler panics").insert(path, package);
        realised(&ctx, &lock).map(|env| {
            let program = env.dir.join("bin/server").canonicalize().expect("it is a link");
            run(&program, "")
        })
    };
    assert_eq!(build("lib/word").expect("all is served"), "hello\n");
    for target in ["../word", "/tmp/word", "lib/../../word"] {
        let error = build(target).expect_err("it leads out").to_string();
        assert!(error.contains("leads out of the tree"), "{error}");
    }
}
