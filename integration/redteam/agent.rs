//! Attacks from inside `zagi agent`, all in one run: those of the program's own, and scripts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use zagi::redteam::{ATTEMPTS, Attempt, Canaries, Case, Hunts, PLANTED, Run, VARIABLE};

use super::{Mode, Shown};
use crate::broker::Broker;
use crate::machine::{Machine, Said};

/// An attack by a script of the shell's.
struct Script {
    vector: u8,
    id: &'static str,
    /// Run in the workspace, with the variables of [`Stage::variables`].
    text: &'static str,
}

const fn script(vector: u8, id: &'static str, text: &'static str) -> Script {
    Script { vector, id, text }
}

const SCRIPTS: &[Script] = &[
    script(16, "own-environ", "env; cat /proc/[0-9]*/environ"),
    script(23, "daemon-environ", "cat /proc/$DAEMON/environ /proc/[0-9]*/environ"),
    script(23, "daemon-mem", "/usr/bin/python3 -c \"$SEARCH\" daemon-mem $DAEMON 1"),
    script(23, "daemon-root", "cat /proc/$DAEMON/root/$USERS/daemon-root"),
    script(37, "ssh-agent", "SSH_AUTH_SOCK=$SSH ssh-add -L"),
    script(
        37,
        "dbus",
        "dbus-send --bus=unix:path=$DBUS --print-reply --dest=org.freedesktop.DBus / \
         org.freedesktop.DBus.GetId",
    ),
    script(48, "daemon-socket", "ZAGI_HOME=$ZAGIS $ZAGI daemon status; ls $ZAGIS/run; $ZAGI list"),
    script(52, "exec", "ZAGI_HOME=$ZAGIS $ZAGI exec -- cat $USERS/exec"),
    script(
        52,
        "agent-in-agent",
        "mkdir -p $USERS; ZAGI_HOME=$ZAGIS $ZAGI agent --name other -- \
         sh -c 'cat $HOME/agent-in-agent'; cat $ZAGIS/workspaces/*/agents/other/home/agent-in-agent",
    ),
    script(
        53,
        "forged-user",
        "env -i HOME=$USERS ZAGI_HOME=$ZAGIS PATH=$PATH USER=$WHO LOGNAME=$WHO \
         $ZAGI secrets get FORGED --reveal",
    ),
    script(
        30,
        "socket-in-tree",
        "/usr/bin/python3 -c 'import os, socket; s = socket.socket(socket.AF_UNIX); \
         s.connect(os.environ[\"W\"] + \"/server.sock\"); print(s.recv(99))'",
    ),
    // These act when the user comes by later: `later`. Unconfined the attacker needs no user.
    script(
        49,
        "inner-repository",
        "git init -q inner; cd inner; git -c user.name=T -c user.email=t@localhost commit -q \
         --allow-empty -m x; git config core.fsmonitor \"cat $USERS/inner-repository >&2; false\"; \
         cd ..; git add inner; git status",
    ),
    // In the tree, where the user's configuration leads.
    script(
        49,
        "hooks-path",
        "mkdir -p .hooks; printf \"#!/bin/sh\\ncat $USERS/hooks-path >&2\\n\" > .hooks/pre-commit; \
         chmod +x .hooks/pre-commit; git commit -q --allow-empty -m x",
    ),
    script(
        49,
        "included",
        "printf \"[core]\\nfsmonitor = \\\"cat $USERS/included >&2; false\\\"\\n\" > settings; git status",
    ),
    script(50, "direnv", "echo \"cat $USERS/direnv\" > .envrc; direnv allow; direnv exec . true"),
    script(50, "makefile", "printf \"all:\\n\\tcat $USERS/makefile\\n\" > GNUmakefile; make -s"),
    script(56, "remote-url", "git config --get remote.other.url"),
    script(35, "committed", "git log -p --all -- .env | cat"),
];

/// Searches the memory of processes for a value, by what it begins with.
pub(super) const SEARCH: &str = r#"
import re, sys
name, processes = sys.argv[1], sys.argv[2:]
for process in processes:
    try:
        maps = [l.split() for l in open(f'/proc/{process}/maps')]
        memory = open(f'/proc/{process}/mem', 'rb', 0)
    except OSError as e:
        print(e); continue
    for line in maps:
        if not line[1].startswith('rw'): continue
        begin, end = (int(x, 16) for x in line[0].split('-'))
        if end - begin > 1 << 26: continue
        try:
            memory.seek(begin)
            for found in re.findall(b'canary:' + name.encode() + b':[0-9a-f]{32}', memory.read(end - begin)):
                print(found)
        except (OSError, ValueError): pass
"#;

/// Ends with this value.
pub(super) struct Running(pub Child);

impl Running {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is attacked. With this value it ends, and what it left in everybody's scratch is gone.
struct Victim {
    _process: Running,
    scratch: Vec<PathBuf>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        for path in &self.scratch {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A user with a workspace, and things that an attacker wants.
struct Stage {
    machine: Machine,
    canaries: Canaries,
    workspace: PathBuf,
    /// Of what is the user's.
    dir: PathBuf,
    variables: String,
    /// Servers that are the user's.
    _servers: Vec<Running>,
    _broker: Option<Broker>,
}

/// Everything from inside an agent.
pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let stage = Stage::new(mode);
    let control = stage.machine.work().join("control");
    stage.machine.sh(&stage.machine.work(), "cp -a origin control; mkdir control/.zagi").ok();
    let (victim, case) = stage.victim();
    let said = stage.attack(&control, &case, None);
    let outside = stage.run(&control, &case, &said, false);
    let told = stage.heard(&said.out);
    drop(victim);
    let (victim, case) = stage.victim();
    let program = stage.workspace.join("attacker");
    let copy = format!("cp {} attacker", stage.machine.program().display());
    stage.machine.sh(&stage.workspace, &copy).ok();
    let said = stage.attack(&stage.workspace, &Case { all: true, ..case.clone() }, Some(&program));
    let inside = stage.run(&stage.workspace, &case, &said, true);
    drop(victim);
    let rows = zagi::redteam::judge(&case, &stage.canaries, &outside, &inside);
    let mut shown: Vec<Shown> = rows
        .into_iter()
        .map(|row| Shown {
            vector: row.vector,
            id: row.id.into(),
            verdict: row.verdict,
            note: row.control.or(row.inside).unwrap_or_default(),
        })
        .collect();
    let heard = stage.heard(&said.out);
    shown.extend(SCRIPTS.iter().map(|script| {
        let canary = stage.canaries.of(script.id).expect("each has one");
        let of = |told: &[(String, String)]| {
            told.iter().find(|(id, _)| id == script.id).map(|(_, said)| said.clone())
        };
        let outside = of(&told).unwrap_or_default();
        let control = canary.found_in(outside.as_bytes()).map(drop).ok_or(outside);
        // In everything that was seen, not in what was said of it alone.
        let within = of(&heard).unwrap_or_else(|| "it was not tried".into());
        let inside = canary.found_in(&inside.seen).map(drop).ok_or(within);
        Shown::new(script.vector, script.id, control, inside)
    }));
    shown
}

impl Stage {
    fn new(mode: Mode) -> Stage {
        let mut machine = Machine::new(mode.who());
        let broker = mode.broker(&machine);
        let values = ATTEMPTS.iter().filter(|attempt| attempt.hunts == Hunts::Value);
        let ids = values.map(|attempt| attempt.id).chain(SCRIPTS.iter().map(|script| script.id));
        let canaries = Canaries::new(ids).expect("the kernel has random bytes");
        let value = |id: &str| canaries.of(id).expect("each has one").text();
        machine.set("PROVIDER_API_KEY", &value("own-environ"));
        machine.set("DAEMONS", &format!("{} {}", value("daemon-environ"), value("daemon-mem")));
        let work = machine.work();
        let other = value("daemon-socket").replace(':', "-");
        let script = format!(
            "mkdir origin victim; cd origin; git init -q -b main; git config user.name T; \
             git config user.email t@localhost; echo x > file; git add -A; git commit -qm first; \
             echo KEY={} > .env; git add -f .env; git commit -qm key; git rm -q .env; \
             git commit -qm 'no key'; mkdir -p $HOME",
            value("committed"),
        );
        machine.sh(&work, &script).ok();
        for id in [
            "daemon-root",
            "exec",
            "agent-in-agent",
            "inner-repository",
            "hooks-path",
            "included",
            "direnv",
            "makefile",
        ] {
            machine.sh(&work, &format!("echo {} > $HOME/{id}", value(id))).ok();
        }
        let shared: &[&str] = if broker.is_some() { &["--allow-other"] } else { &[] };
        machine.zagi(&[&["mount", "--no-deps", "./origin", "w"], shared].concat()).ok();
        machine.zagi(&["mount", "--no-deps", "./origin", &other]).ok();
        let workspace = work.join("w");
        let secrets = machine.program().display().to_string();
        // The control has the same.
        let configured = format!(
            "git remote add other https://x:{}@localhost/r; git config core.hooksPath .hooks; \
             git config include.path ../settings",
            value("remote-url"),
        );
        machine.sh(&work.join("origin"), &configured).ok();
        let script = format!(
            "printf %s {} | {secrets} secrets set FORGED --raw; {configured}; \
             printf 'version = 1\\n[agent.other]\\nhome = [\"agent-in-agent\"]\\n' > {}/agents.toml",
            value("forged-user"),
            machine.home().display(),
        );
        machine.sh(&workspace, &script).ok();
        let mut stage = Stage {
            dir: work.join("victim"),
            variables: String::new(),
            machine,
            canaries,
            workspace,
            _servers: Vec::new(),
            _broker: broker,
        };
        stage.serve();
        stage
    }

    /// An ssh-agent and a message bus, the user's.
    fn serve(&mut self) {
        let run = self.machine.work().join("run");
        let machine = &self.machine;
        machine.sh(&machine.work(), "mkdir -m 700 run").ok();
        let (ssh, bus) = (run.join("ssh"), run.join("bus"));
        let mut agent = machine.command("ssh-agent", &run);
        agent.arg("-D").arg("-a").arg(&ssh).stdout(Stdio::null());
        let mut daemon = machine.command("dbus-daemon", &run);
        let address = format!("--address=unix:path={}", bus.display());
        daemon.args(["--session", "--nofork", "--print-address", &address]).stdout(Stdio::null());
        // One that listens in the workspace, as some do.
        let mut server = machine.command("/usr/bin/python3", &self.workspace);
        let listen = "import socket, sys; s = socket.socket(socket.AF_UNIX); \
                      s.bind('server.sock'); s.listen(9)\nwhile True: s.accept()[0].send(sys.argv[1].encode())";
        server.args([
            "-c",
            listen,
            &self.canaries.of("socket-in-tree").expect("it has one").text(),
        ]);
        let servers = [agent, daemon, server].map(|mut server| {
            server.stderr(Stdio::null());
            Running(server.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", server.get_program())))
        });
        self._servers = servers.into();
        let value = |id: &str| self.canaries.of(id).expect("each has one").text();
        let script = format!(
            "for i in $(seq 500); do test -S ssh -a -S bus && break; sleep 0.02; done; \
             ssh-keygen -q -t ed25519 -N '' -C {} -f key; SSH_AUTH_SOCK=$PWD/ssh ssh-add -q key; \
             rm key key.pub",
            value("ssh-agent")
        );
        machine.sh(&run, &script).ok();
        let asked = format!(
            "dbus-send --bus=unix:path={} --print-reply=literal --dest=org.freedesktop.DBus / \
             org.freedesktop.DBus.GetId",
            bus.display()
        );
        // Nobody but who asks the bus knows its name: a value that it made itself.
        let id = machine.sh(&run, &asked).ok().out.trim().to_owned();
        let line = self.canaries.line().replace(&value("dbus"), &format!("canary:dbus:{id}"));
        self.canaries = Canaries::read(&line);
        let status = machine.zagi(&["daemon", "status"]).ok().out;
        let worker = status.split("worker ").nth(1).and_then(|rest| rest.split(' ').next());
        let who = machine.sh(&run, "id -un; echo $HOME").ok().out;
        let mut who = who.lines();
        self.variables = format!(
            "export DAEMON={} SSH={} DBUS={} ZAGIS={} WHO={} USERS={} W={}; SEARCH='{}'\n",
            worker.expect("it says so"),
            ssh.display(),
            bus.display(),
            machine.home().display(),
            who.next().expect("a name"),
            who.next().expect("a home"),
            self.workspace.display(),
            SEARCH.replace('\'', "'\\''"),
        );
    }

    /// The process that the program's own attempts are made on.
    fn victim(&self) -> (Victim, Case) {
        let mut command = self.machine.command(self.machine.program(), &self.machine.work());
        let argv = self.canaries.of("argv").expect("it has one").text();
        command.args([zagi::redteam::ARGUMENT, "victim"]).arg(&self.dir).arg(argv);
        command.env(VARIABLE, self.canaries.line()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it tells");
        let process = Running(process);
        let case: Case = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        (Victim { _process: process, scratch: case.scratch.values().cloned().collect() }, case)
    }

    /// Tries everything in `dir`: unconfined, or as an agent with the program at a place that it sees.
    fn attack(&self, dir: &Path, case: &Case, agents: Option<&Path>) -> Said {
        let program = agents.unwrap_or(self.machine.program()).display();
        let mut script = format!("{}export ZAGI={program}\n", self.variables);
        // Those that need to be where the workspace is.
        let workspace = self.workspace.display();
        for Script { id, text, .. } in SCRIPTS {
            let quoted = text.replace('\'', "'\\''");
            let place = if matches!(*id, "forged-user" | "exec" | "agent-in-agent") {
                format!("cd {workspace}; ")
            } else {
                String::new()
            };
            script.push_str(&format!(
                "echo '--- {id}'; ({place}export SEARCH; timeout 20 sh -c '{quoted}' 2>&1 | tr '\\0' '\\n')\n"
            ));
        }
        // Last, since what is to outlive the session waits for its end.
        script.push_str(&format!(
            "echo '--- end'; $ZAGI {} try '{}' 2>&1\n",
            zagi::redteam::ARGUMENT,
            case.line()
        ));
        // Left open for whoever inherits it.
        let path = self.machine.work().join("inherited");
        let value = self.canaries.of("inherited").expect("it has one").text();
        std::fs::write(&path, value).expect("it can be written");
        self.machine.give(&path);
        let mut command = self.machine.command("sh", dir);
        match agents {
            None => command.args(["-c", &format!("exec 7<{}; {script}", path.display())]),
            Some(_) => command
                .args(["-c", &format!("exec 7<{}; exec \"$@\"", path.display()), "sh"])
                .arg(self.machine.program())
                .args(["agent", "--name", "t", "--", "sh", "-c", &script]),
        };
        Said::of(&mut command)
    }

    /// What was seen on one side, and what was changed. By the user's eyes: root may not enter what
    /// they have mounted.
    fn run(&self, dir: &Path, case: &Case, said: &Said, agents: bool) -> Run {
        let files = self.machine.sh(dir, "find . -type f -size -900k -exec cat {} +; find .").out;
        let homes =
            "cat $(find \"$1\"/workspaces/*/agents -type f -path '*/agents/t/home/*') /dev/null";
        let mut homes_of = self.machine.command("sh", dir);
        let homes = Said::of(homes_of.args(["-c", homes, "sh"]).arg(self.machine.home())).out;
        let changed: Vec<&str> = ATTEMPTS
            .iter()
            .filter(|attempt| {
                let path = match attempt.hunts {
                    Hunts::Workspace(path) => dir.join(path),
                    Hunts::Home(path) => case.dir.join(path),
                    Hunts::Value | Hunts::Door => return false,
                };
                let path = path.display();
                let look = format!("grep -q {PLANTED} '{path}'");
                // What outlives its session shows it after a moment.
                let script = match (attempt.id, agents) {
                    ("outlive", false) => {
                        format!("for i in $(seq 500); do {look} && exit; sleep 0.02; done; exit 1")
                    }
                    ("outlive", true) => format!("sleep 1.5; {look}"),
                    _ => look,
                };
                self.machine.sh(dir, &script).code == 0
            })
            .map(|attempt| attempt.id)
            .collect();
        // The user comes by, and does what users do.
        let later = "exec 2>&1; git status; git -c user.name=T -c user.email=t@localhost commit -q \
                     --allow-empty -m x || true; direnv exec . true || true; make -s";
        let later = if agents { self.machine.sh(dir, later).out } else { String::new() };
        let printed = format!("{}\n{}\n{later}", said.out, said.err);
        let files = format!("{files}\n{homes}");
        let is_changed = |attempt: &Attempt| changed.contains(&attempt.id);
        Run::new(printed.as_bytes(), files.as_bytes(), is_changed)
    }

    /// What each script said.
    fn heard(&self, out: &str) -> Vec<(String, String)> {
        let mut heard: Vec<(String, String)> = Vec::new();
        for line in out.lines() {
            match (line.strip_prefix("--- "), heard.last_mut()) {
                (Some(id), _) => heard.push((id.into(), String::new())),
                (None, Some((_, said))) => said.extend([line, "\n"]),
                (None, None) => {}
            }
        }
        heard
    }
}
