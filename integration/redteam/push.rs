//! Attacks on remotes: what an agent pushes where its user did not say so. Unconfined the same script
//! pushes with the user's own credentials.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use super::agent::Running;
use super::{Mode, Shown, ends};
use crate::broker::Broker;
use crate::machine::{Machine, Said};

/// Name, and what is run in the workspace. `$OTHER` is another repository that its user can push to, `$API`
/// another way to it. What succeeded is the name of a branch there or at the repository's own remote.
const ATTACKS: [(&str, &str); 5] = [
    ("protected", "git push origin HEAD:refs/heads/protected"),
    (
        "other-remote",
        "git remote add x $OTHER; git push x HEAD:refs/heads/other-remote; \
         git push $OTHER HEAD:refs/heads/other-remote",
    ),
    // Past git, by what a token of the user's opens.
    (
        "api-token",
        "/usr/bin/python3 -c 'import os, urllib.request as u; v = os.environ.get; \
         token = {\"authorization\": v(\"API_TOKEN\", \"\")}; \
         u.urlopen(u.Request(v(\"API\"), b\"api-token\", token), timeout=10)'",
    ),
    // It asks, and answers itself, at a terminal of its own.
    (
        "own-push",
        "git push origin HEAD:refs/heads/own-push; for n in 1 2 3 4; do \
         echo y | script -qec \"$ZAGI agent --approve $n\" /dev/null; done",
    ),
    // By what runs when somebody else pushes.
    (
        "pre-push",
        "printf '#!/bin/sh\\ngit push -q --no-verify $OTHER HEAD:refs/heads/pre-push\\n' > .git/hooks/pre-push; \
         chmod +x .git/hooks/pre-push; git push origin HEAD:refs/heads/granted/x",
    ),
];

/// Takes what a token of the user's sends: an API by which branches are made.
const API: &str = r#"
import http.server, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_POST(self):
        name = self.rfile.read(int(self.headers['content-length'])).decode()
        ok = self.headers.get('authorization') == sys.argv[1]
        if ok: subprocess.run(['git', '-C', sys.argv[2], 'branch', name, 'main'], check=True)
        self.send_response(200 if ok else 401); self.end_headers()
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Stage {
    machine: Machine,
    work: PathBuf,
    api: String,
    _api: Running,
    _broker: Option<Broker>,
}

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let stage = Stage::new(mode);
    let control: Vec<Said> = ATTACKS.iter().map(|(_, script)| stage.unconfined(script)).collect();
    let before = stage.branches();
    stage.forget();
    let tried: Vec<Said> = ATTACKS.iter().map(|(_, script)| stage.agent(script)).collect();
    // What asked waits, and its user says nothing.
    let after = stage.branches();
    assert!(after.contains("granted/x"), "what is granted is pushed: {after}");
    let attacks = ATTACKS.iter().zip(control.iter().zip(&tried));
    attacks
        .map(|((id, _), (control, tried))| {
            let reached = |branches: &str, said: &Said| {
                let name = format!("refs/heads/{id}");
                let there = branches.lines().any(|line| line == name);
                there.then_some(()).ok_or_else(|| ends(&format!("{}\n{}", said.out, said.err)))
            };
            Shown::new(56, id, reached(&before, control), reached(&after, tried))
        })
        .collect()
}

impl Stage {
    fn new(mode: Mode) -> Stage {
        let machine = Machine::new(mode.who());
        let broker = mode.broker(&machine);
        let work = machine.work();
        let script = format!(
            "mkdir -p $HOME {home} && git config --global user.name T && \
             git config --global user.email t@localhost && git init -q --bare -b main remote.git && \
             git clone -q remote.git first 2>/dev/null && cd first && echo x > file && git add -A && \
             git commit -q -m first && git push -q origin HEAD:main && cd .. && \
             git clone -q --bare remote.git other.git && git clone -q remote.git control && \
             printf 'version = 1\\n[agent.t]\\npush = [\"granted/*\"]\\n' > {home}/agents.toml",
            home = machine.home().display()
        );
        machine.sh(&work, &script).ok();
        let shared: &[&str] = if broker.is_some() { &["--allow-other"] } else { &[] };
        let from = format!("file://{}", work.join("remote.git").display());
        machine.zagi(&[&["mount", "--no-deps", from.as_str(), "w"], shared].concat()).ok();
        let mut api = machine.command("/usr/bin/python3", &work);
        api.args(["-c", API, "t0ken"]).arg(work.join("other.git")).stdout(Stdio::piped());
        let mut api = api.spawn().expect("Python is here");
        let mut port = String::new();
        let out = api.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut port).expect("it says its port");
        let api_url = format!("http://127.0.0.1:{}/", port.trim());
        Stage { work, api: api_url, _api: Running(api), _broker: broker, machine }
    }

    fn variables(&self, zagi: &str) -> String {
        let other = self.work.join("other.git");
        format!("export API={} OTHER=file://{} ZAGI={zagi}; ", self.api, other.display())
    }

    /// As its user, who has a token.
    fn unconfined(&self, script: &str) -> Said {
        let zagi = self.machine.program().display().to_string();
        let variables = self.variables(&zagi);
        let script = format!("export API_TOKEN=t0ken; {variables}{script}");
        let mut command = self.machine.command("sh", &self.work.join("control"));
        Said::of(command.args(["-c", &script]))
    }

    fn agent(&self, script: &str) -> Said {
        let script = format!("{}{script}", self.variables("/zagi/bin/zagi"));
        let argv = ["agent", "--name", "t", "--", "sh", "-c", &script];
        let mut command = self.machine.zagi_in(&self.work.join("w"), &argv);
        Said::of(command.env("API_TOKEN", "t0ken"))
    }

    /// Of both repositories.
    fn branches(&self) -> String {
        let script =
            "for r in remote other; do git -C $r.git for-each-ref --format='%(refname)'; done";
        self.machine.sh(&self.work, script).ok().out
    }

    /// Has both as they were.
    fn forget(&self) {
        let script = "for r in remote other; do git -C $r.git for-each-ref --format='delete %(refname)' | \
                      grep -v /main$ | git -C $r.git update-ref --stdin; done";
        self.machine.sh(&self.work, script).ok();
    }
}
