//! Attacks on programs of a real Node's: by variables that are code, and by its inspector.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::agent::Running;
use super::app::{Stage, found};
use super::{Mode, Shown, ends};
use crate::machine::Said;

/// A module that prints the proof, as an address: no file is needed.
const MODULE: &str = "data:text/javascript,import(%22crypto%22).then(c=>\
    console.log(c.createHash(%22sha256%22).update(String(process.env.RAW)).digest(%22hex%22),process.env.BROKERED))";

/// A library that prints the proof before a program begins.
const LIBRARY: &str = r#"
#include <stdlib.h>
__attribute__((constructor)) static void begin(void) {
    unsetenv("LD_PRELOAD");
    if (getenv("RAW")) system("printf %s \"$RAW\" | sha256sum");
}
"#;

/// Opens a process's inspector by a signal and asks it for a value; or asks one that is open.
const INSPECT: &str = r#"
const [pid, port] = process.argv.slice(2).map(Number);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const ask = async () => {
  const [{ webSocketDebuggerUrl }] = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  const socket = new WebSocket(webSocketDebuggerUrl);
  await new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'value' } }));
  const { data } = await new Promise((done) => { socket.onmessage = done; });
  return JSON.parse(data).result.result.value;
};
(async () => {
  const said = [];
  if (pid) try { process.kill(pid, 'SIGUSR1'); } catch (e) { said.push(`signal: ${e.code}`); }
  for (let i = 0; i < 100; i++) {
    try { console.log(await ask()); process.exit(); }
    catch (e) { if (said.length > 0 || !pid) { said.push(`port: ${e.cause?.code ?? e.message}`); break; } }
    await wait(50);
  }
  console.log(said.join('; '));
  process.exit();
})();
"#;

/// What the project's own files said before.
const KEEP: &str = "mkdir -p ~/kept; cp .zagi/env.* ~/kept";
const RESTORE: &str = "cp ~/kept/* .zagi";

/// By what code gets into an approved program: name, what an agent writes, what takes it out again.
/// Between both the user has what the project asks for made ready, as after a pull.
const VARIABLES: [(&str, &str, &str); 3] = [
    (
        "node-options",
        "printf '\\n[env]\\nNODE_OPTIONS = \"--import=%s\"\\n' \"$MODULE\" >> .zagi/env.toml",
        RESTORE,
    ),
    (
        "preload",
        "printf %s \"$LIBRARY\" | cc -shared -fPIC -o .git/first.so -x c -; \
         printf '\\n[env]\\nLD_PRELOAD = \"{workspace}/.git/first.so\"\\n' >> .zagi/env.toml",
        RESTORE,
    ),
    // A file that stays as it was written.
    ("npmrc", "echo \"node-options=--import=$MODULE\" > .npmrc", "true"),
];

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let script = "mkdir .zagi; printf '[tools]\\nnode = \"22\"\\n' > .zagi/env.toml; \
                  echo '{\"private\":true,\"scripts\":{\"start\":\"node app.js\"}}' > package.json; \
                  echo 'console.log(1 + 1)' > app.js";
    let stage = Stage::of(mode, ["brokered", "inspector", "inspector-port"], script);
    stage.set_as("RAW", "raw", "--raw", "npm start");
    let host = "--host api.example.com --header Authorization --format 'Bearer {}'";
    stage.set_as("BROKERED", "brokered", host, "node app.js");
    stage.sh("$Z lock").ok();
    let mut shown: Vec<Shown> =
        VARIABLES.iter().map(|variable| variables(&stage, variable)).collect();
    shown.push(brokered(&stage));
    shown.extend(inspected(&stage));
    shown
}

/// The approved program with variables of an agent's making, whose files are as they were.
fn variables(stage: &Stage, (id, put, out): &(&str, &str, &str)) -> Shown {
    stage.approve("npm start").ok();
    stage.run("npm start").ok();
    stage.agent(&format!("{KEEP}; MODULE='{MODULE}'; LIBRARY='{LIBRARY}'; {put}")).ok();
    stage.sh("$Z lock").ok();
    stage.agent(out).ok();
    let inside = stage.run("npm start");
    let control = stage.approve("npm start");
    stage.agent(&format!("{RESTORE}; rm -f .npmrc")).ok();
    stage.sh("$Z lock").ok();
    Shown::new(4, id, stage.had(&control), stage.had(&inside))
}

/// A program that is given a placeholder, and so asks nobody.
fn brokered(stage: &Stage) -> Shown {
    let (_, put, _) = VARIABLES[0];
    stage.agent(&format!("{KEEP}; MODULE='{MODULE}'; {put}")).ok();
    stage.sh("$Z lock").ok();
    let canary = stage.canaries.of("brokered").expect("it has one");
    let control = stage.sh(&format!("$Z exec -- env BROKERED={} node app.js", canary.text()));
    let inside = stage.run("node app.js").ok();
    // It was loaded, and printed what there is.
    assert!(inside.out.contains("zagi-placeholder-"), "{inside:?}");
    stage.agent(RESTORE).ok();
    stage.sh("$Z lock").ok();
    let within = found(canary, &inside).map_err(|_| "it has a placeholder".into());
    Shown::new(4, "placeholder", found(canary, &control), within)
}

/// A process of the user's, its inspector shut until a signal comes; and the open one.
fn inspected(stage: &Stage) -> Vec<Shown> {
    std::fs::write(stage.machine.work().join("inspect"), INSPECT).expect("it can be written");
    stage.sh("cp ../inspect inspect.js").ok();
    let begin = |id: &str| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let text = stage.canaries.of(id).expect("each has one").text();
        let program = format!(
            "globalThis.value = '{text}'; console.log(process.pid); setInterval(() => {{}}, 999)"
        );
        let option = format!("--inspect-port={port}");
        let argv = ["exec", "--", "node", &option, "-e", &program];
        let mut command = stage.machine.zagi_in(&stage.dir, &argv);
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it tells");
        (Running(process), line.trim().to_owned(), port)
    };
    let look = |said: Said, id: &str| {
        let canary = stage.canaries.of(id).expect("each has one");
        found(canary, &said).map_err(|_| ends(&said.out))
    };
    let outside = |pid: &str, port: u16| {
        let argv = ["exec", "--", "node", "inspect.js", pid, &port.to_string()];
        Said::of(&mut stage.machine.zagi_in(&stage.dir, &argv))
    };
    let mut shown = Vec::new();
    for (vector, id) in [(43, "inspector"), (44, "inspector-port")] {
        let (first, pid, port) = begin(id);
        let control = look(outside(&pid, port), id);
        drop(first);
        let (_second, pid, port) = begin(id);
        let pid = if vector == 43 {
            pid
        } else {
            look(outside(&pid, port), id).expect("it opens");
            "0".to_owned()
        };
        let inside = stage.agent(&format!("node inspect.js {pid} {port}"));
        shown.push(Shown::new(vector, id, control, look(inside, id)));
    }
    shown
}
