//! Attacks through the app, which is what an agent writes: on secrets that are handed to approved code,
//! and on those that are put in on the way.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Stdio;

use zagi::redteam::{Canaries, Canary};

use super::agent::Running;
use super::{Mode, Shown, ends};
use crate::broker::Broker;
use crate::machine::{Machine, Said};

/// A project with an app that has a secret in its environment.
pub(super) struct Stage {
    pub machine: Machine,
    /// In system mode.
    pub broker: Option<Broker>,
    pub dir: PathBuf,
    pub canaries: Canaries,
    /// The beginning of the SHA-256 of a secret, which no redaction knows: who prints it has had it.
    pub proof: Canary,
}

/// Prints the proof.
const POISON: &str = "printf %s \"$RAW\" | sha256sum";

/// By what a poison gets into approved code: vector, name, how it is put in, how it is taken out.
const POISONS: [(u8, &str, &str, &str); 6] = [
    (1, "source", "echo 'sh ./poison' >> app.sh", "git checkout -q app.sh"),
    (2, "dependency", "echo 'sh ./poison' >> vendor/dep.sh", "echo : > vendor/dep.sh"),
    (3, "lifecycle", "printf 'prepare:\\n\\t@sh poison\\n' > Makefile", "git checkout -q Makefile"),
    (
        4,
        "path",
        "mkdir -p node_modules/.bin; cp poison node_modules/.bin/make; \
         chmod +x node_modules/.bin/make",
        "rm -r node_modules",
    ),
    (5, "settings", "echo 'sh ./poison' > app.cfg", "echo : > app.cfg"),
    (7, "delayed", "echo 'test -t 2 || true; sh ./poison' >> app.cfg", "echo : > app.cfg"),
];

/// The ways in which a value is printed: vector 10.
const WAYS: [(&str, &str); 5] = [
    ("plain", "echo $S"),
    ("base64", "printf %s $S | base64 -w0"),
    ("hex", "printf %s $S | od -An -tx1 -v | tr -d ' \\n'"),
    ("backwards", "printf %s $S | rev"),
    ("letters", "printf %s $S | sed 's/./& /g'"),
];

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let stage = Stage::new(mode);
    let mut shown: Vec<Shown> = POISONS.iter().map(|poison| stage.poisoned(poison)).collect();
    shown.push(stage.reloaded());
    shown.extend(stage.inside());
    shown.push(stage.page());
    shown.extend(stage.printed());
    shown
}

impl Stage {
    fn new(mode: Mode) -> Stage {
        let script = format!(
            "echo 'PATH=$PWD/node_modules/.bin:$PATH; make -s prepare; . ./vendor/dep.sh; . ./app.cfg' \
             > app.sh; \
             printf 'prepare:\\n\\t@true\\n' > Makefile; echo : > app.cfg; echo : > step.sh; \
             echo 'echo ready; sleep 1; . ./step.sh' > hot.sh; echo '{POISON}' > poison; \
             printf 'vendor/\\nnode_modules/\\n' > .gitignore"
        );
        let ids = WAYS.iter().map(|(id, _)| *id).chain(["page"]);
        let stage = Stage::of(mode, ids, &script);
        stage.sh("mkdir vendor; echo : > vendor/dep.sh").ok();
        stage.set("RAW", "raw", "");
        stage
    }

    /// With the files that `script` makes, and values of these names besides `raw`.
    pub(super) fn of<'a>(
        mode: Mode,
        ids: impl IntoIterator<Item = &'a str>,
        script: &str,
    ) -> Stage {
        let machine = Machine::new(mode.who());
        let broker = mode.broker(&machine);
        let canaries =
            Canaries::new(ids.into_iter().chain(["raw"])).expect("the kernel has random bytes");
        let raw = canaries.of("raw").expect("it has one").text();
        let work = machine.work();
        let sum = machine.sh(&work, &format!("printf %s {raw} | sha256sum")).ok().out;
        let proof = Canaries::read(&format!("canary:proof:{}", &sum[..32]));
        let script = format!(
            "mkdir -p origin $HOME; cd origin; git init -q -b main; {script}; \
             git add -A; git -c user.name=T -c user.email=t@localhost commit -qm first"
        );
        machine.sh(&work, &script).ok();
        let shared: &[&str] = if broker.is_some() { &["--allow-other"] } else { &[] };
        machine.zagi(&[&["mount", "--no-deps", "./origin", "w"], shared].concat()).ok();
        let dir = work.join("w");
        let proof = proof.of("proof").expect("it was read").clone();
        Stage { machine, broker, dir, canaries, proof }
    }

    pub(super) fn sh(&self, script: &str) -> Said {
        self.machine.sh(&self.dir, &format!("Z={}; {script}", self.machine.program().display()))
    }

    pub(super) fn set(&self, name: &str, id: &str, command: &str) {
        self.set_as(name, id, "--raw", command);
    }

    pub(super) fn set_as(&self, name: &str, id: &str, how: &str, command: &str) {
        let value = self.canaries.of(id).expect("each has one").text();
        self.sh(&format!("printf %s {value} | $Z secrets set {name} {how}")).ok();
        if !command.is_empty() {
            let grant = format!("secrets grant {name} --command '{command}'");
            match &self.broker {
                Some(broker) => {
                    Said::of(&mut broker.sudo(&self.machine, &self.dir, &grant, "")).ok()
                }
                None => self.sh(&format!("$Z {grant}")).ok(),
            };
        }
    }

    /// Runs a command as somebody who says yes at a terminal.
    pub(super) fn approve(&self, command: &str) -> Said {
        if let Some(broker) = &self.broker {
            let command = format!("run -- {command}");
            return Said::of(&mut broker.sudo(&self.machine, &self.dir, &command, "y\\n"));
        }
        self.sh(&format!("printf 'y\\n' | script -qec \"$Z run -- {command}\" /dev/null"))
    }

    /// The same where there is nobody to ask.
    pub(super) fn run(&self, command: &str) -> Said {
        self.sh(&format!("$Z run -- {command}"))
    }

    pub(super) fn agent(&self, script: &str) -> Said {
        let argv = ["agent", "--name", "t", "--", "sh", "-c", script];
        Said::of(&mut self.machine.zagi_in(&self.dir, &argv))
    }

    pub(super) fn had(&self, said: &Said) -> Result<(), String> {
        found(&self.proof, said)
    }

    /// An agent changes what an approved command runs. The control: it works for who approves that.
    fn poisoned(&self, (vector, id, put, out): &(u8, &str, &str, &str)) -> Shown {
        // What is approved is what was there before, and not another's poison.
        self.approve("sh app.sh").ok();
        self.run("sh app.sh").ok();
        self.agent(put).ok();
        let inside = self.run("sh app.sh");
        let control = self.approve("sh app.sh");
        self.sh(out).ok();
        Shown::new(*vector, id, self.had(&control), self.had(&inside))
    }

    /// Code is exchanged while it runs.
    fn reloaded(&self) -> Shown {
        let edit = |of: &PathBuf, command: &mut std::process::Command| {
            let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
            let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
            let mut said = String::new();
            while !said.contains("ready") {
                assert_ne!(out.read_line(&mut said).expect("text"), 0, "{said}");
            }
            self.machine.sh(of, "cp poison step.sh").ok();
            out.read_to_string(&mut said).expect("text");
            child.wait().expect("ours");
            Said { code: 0, out: said, err: String::new() }
        };
        let origin = self.machine.work().join("origin");
        let mut bare = self.machine.command("sh", &origin);
        let raw = self.canaries.of("raw").expect("it has one").text();
        let control = edit(&origin, bare.arg("hot.sh").env("RAW", raw));
        self.approve("sh hot.sh").ok();
        let inside =
            edit(&self.dir, &mut self.machine.zagi_in(&self.dir, &["run", "--", "sh", "hot.sh"]));
        self.sh("git checkout -q step.sh").ok();
        let inside = self.had(&inside).map_err(|_| "it runs from a copy".to_owned());
        Shown::new(8, "reload", self.had(&control), inside)
    }

    /// An agent asks for it, also at a terminal of its own that says yes.
    fn inside(&self) -> Vec<Shown> {
        let control = self.had(&self.approve("sh poison"));
        let asked = self.agent("zagi run -- sh poison; zagi run -- env");
        let says_yes = "printf 'y\\n' | script -qec 'zagi run -- sh poison' /dev/null";
        let terminal = self.agent(says_yes);
        vec![
            Shown::new(6, "run-in-agent", control.clone(), self.had(&asked)),
            Shown::new(54, "own-terminal", control, self.had(&terminal)),
        ]
    }

    /// A page of the app's that shows its environment: to its user.
    fn page(&self) -> Shown {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let page = "import http.server, os, sys\n\
            class H(http.server.BaseHTTPRequestHandler):\n    \
            def do_GET(s): s.send_response(200); s.end_headers(); s.wfile.write(os.environ['PAGE'].encode())\n\
            http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n";
        std::fs::write(self.machine.work().join("page"), page).expect("it can be written");
        self.sh("cp ../page page.py").ok();
        let command = format!("/usr/bin/python3 page.py {port}");
        self.set("PAGE", "page", &command);
        let fetch = format!(
            "/usr/bin/python3 -c 'import sys, urllib.request as u\n\
             for p in ({{}}, {{\"http\": \"http://127.0.0.1:3128\"}}):\n  \
             try: print(u.build_opener(u.ProxyHandler(p)).open(\"http://127.0.0.1:{port}\", timeout=9).read())\n  \
             except Exception as e: print(e)'"
        );
        // It runs until it is ended: here when what was typed is all read.
        let start = format!(
            "{{ (printf 'y\\n'; for i in $(seq 300); do test -e ../stop && break; sleep 0.1; done; \
             printf '\\003') | script -qec \"$Z run -- {command}\" /dev/null; }} >/dev/null 2>&1 & \
             for i in $(seq 200); do {fetch} | grep canary && break; sleep 0.1; done"
        );
        let (control, _app) = match &self.broker {
            None => (self.sh(&start), None),
            Some(broker) => {
                let argv = format!("run -- {command}");
                let mut app = broker.sudo(&self.machine, &self.dir, &argv, "y\\n");
                let app = app.stdout(Stdio::null()).spawn().expect("it starts");
                let wait = format!(
                    "for i in $(seq 200); do {fetch} | grep canary && break; sleep 0.1; done"
                );
                (self.sh(&wait), Some(Running(app)))
            }
        };
        let inside = self.agent(&fetch);
        self.sh("touch ../stop; sleep 0.5; rm -f ../stop page.py").ok();
        let canary = self.canaries.of("page").expect("it has one");
        Shown::new(9, "page", found(canary, &control), found(canary, &inside))
    }

    /// Approved code prints what it has, in ways that a reader can undo.
    fn printed(&self) -> Vec<Shown> {
        let mut script = String::new();
        for (id, way) in WAYS {
            let name = format!("S_{}", id.to_uppercase());
            self.set(&name, id, "sh say.sh");
            script.push_str(&format!("{}; echo\n", way.replace("$S", &format!("${name}"))));
        }
        std::fs::write(self.machine.work().join("say"), script).expect("it can be written");
        self.sh("cp ../say say.sh").ok();
        self.approve("sh say.sh").ok();
        let inside = self.run("sh say.sh");
        let mut bare = self.machine.command("sh", &self.dir);
        for (id, _) in WAYS {
            let value = self.canaries.of(id).expect("each has one").text();
            bare.env(format!("S_{}", id.to_uppercase()), value);
        }
        let control = Said::of(bare.arg("say.sh"));
        let row = |(id, _): (&str, &str)| {
            let canary = self.canaries.of(id).expect("each has one");
            Shown::new(10, id, found(canary, &control), found(canary, &inside))
        };
        WAYS.map(row).into()
    }
}

pub(super) fn found(canary: &Canary, said: &Said) -> Result<(), String> {
    let all = format!("{}{}", said.out, said.err);
    canary.found_in(all.as_bytes()).map(drop).ok_or(ends(&all))
}
