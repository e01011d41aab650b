//! Traps for those who come by: a file in the workspace that is exchanged for a link to one outside, again
//! and again, while somebody reads it; pipes where files are read, which are waited for.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use zagi::redteam::{Canaries, Canary};

use super::agent::Running;
use super::{Mode, Shown};
use crate::broker::Broker;
use crate::machine::{Machine, Said};

/// How often each reader reads.
const TIMES: usize = 12;
/// How long, in seconds, what does not wait may take at most: a limit, and no measurement.
const LONG: u32 = 60;

/// Exchanges a file and a directory for links to `argv[1]`, and back, until it is ended.
const SWAP: &str = r#"
import ctypes, os, random, sys, time
c = ctypes.CDLL(None, use_errno=True)
os.makedirs('swap/d')
for name in ('swap/f', 'swap/d/f'): open(name, 'w').write('as it was')
os.symlink(sys.argv[1] + '/f', 'swap/f.link'); os.symlink(sys.argv[1], 'swap/d.link')
print('ready', flush=True)
while True:
    # Who reads gets to an end at times, whichever of both it finds.
    for _ in range(random.randrange(1, 40)):
        for name in (b'swap/f', b'swap/d'):
            # renameat2(2), RENAME_EXCHANGE
            if c.renameat2(-100, name, -100, name + b'.link', 2): sys.exit(os.strerror(ctypes.get_errno()))
    time.sleep(random.random() / 20)
"#;

/// The same with a directory of its home that a login is copied to, which it removes again.
const SWAP_HOME: &str = r#"
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
os.chdir(os.environ['HOME'])
os.makedirs('.tool', exist_ok=True); os.symlink(sys.argv[1], '.tool.link')
print('ready', flush=True)
while True:
    if c.renameat2(-100, b'.tool', -100, b'.tool.link', 2): sys.exit(os.strerror(ctypes.get_errno()))
    for above in ('.tool', '.tool.link'):
        try: os.path.islink(above) or os.unlink(above + '/login')
        except OSError: pass
"#;

/// Looks whether it is a file, and then reads it: what a reader must not do.
const NAIVE: &str = r#"
import os, stat
for _ in range(200000):
    try:
        for above, name in (('swap/f', 'swap/f'), ('swap/d', 'swap/d/f')):
            if stat.S_ISLNK(os.lstat(above).st_mode): continue
            text = open(name).read()
            if 'canary' in text: print(text); raise SystemExit
    except OSError: pass
"#;

/// Copies a login in the same way.
const NAIVE_COPY: &str = r#"
import os
for _ in range(200000):
    if os.path.exists('aims/own/login'): print('came'); break
    try:
        if not os.path.islink('racer/.tool'): open('racer/.tool/login', 'w').write('login')
    except OSError: pass
"#;

/// Prints the files of a directory, and follows no link.
const FILES: &str = "find . -type f -path '*swap*' -exec cat {} +";

/// Where a pipe is put, and by whom: an agent, or the user (or a program of theirs), since an agent cannot.
const PIPES: [(&str, bool); 15] = [
    (".zagi/env.toml", true),
    (".zagi/env.lock", true),
    (".zagi/agents.toml", false),
    (".zagi/secrets.enc", false),
    ("package.json", true),
    ("package-lock.json", true),
    ("pyproject.toml", true),
    ("Cargo.lock", true),
    (".gitignore", true),
    (".envrc", true),
    (".git/index", true),
    (".git/HEAD", true),
    (".git/info/exclude", true),
    (".git/config", false),
    ("node_modules/a/package.json", true),
];

/// What the user does then.
const COMMANDS: [&str; 17] = [
    "status",
    "list",
    "detect",
    "lock --check",
    "env show",
    "env audit",
    "exec -- true",
    "run -- true",
    "agent --name t -- true",
    "secrets list",
    "secrets log",
    "snapshot .",
    "trust",
    "ide vscode",
    "why node",
    "up",
    "doctor",
];

struct Stage {
    machine: Machine,
    broker: Option<Broker>,
    dir: PathBuf,
}

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let machine = Machine::new(mode.who());
    let work = machine.work();
    let script = "mkdir -p origin $HOME; cd origin; git init -q; echo x > file; git add -A; \
                  git -c user.name=T -c user.email=t@localhost commit -qm first";
    machine.sh(&work, script).ok();
    let broker = mode.broker(&machine);
    let shared: &[&str] = if broker.is_some() { &["--allow-other"] } else { &[] };
    machine.zagi(&[&["mount", "--no-deps", "./origin", "w"], shared].concat()).ok();
    let stage = Stage { dir: work.join("w"), machine, broker };
    let mut shown = stage.swapped();
    shown.push(stage.swapped_home());
    if mode != Mode::System {
        // The user's own commands, as in user mode.
        shown.push(stage.pipes());
    }
    shown
}

impl Stage {
    fn sh(&self, script: &str) -> Said {
        self.machine.sh(&self.dir, &format!("Z={}; {script}", self.machine.program().display()))
    }

    /// A directory that is not the agent's to read: the user's, or the broker's own.
    fn outside(&self, canary: &Canary) -> PathBuf {
        let Some(broker) = &self.broker else {
            let dir = self.machine.work().join("private");
            let script = format!("mkdir private; echo {} > private/f", canary.text());
            self.machine.sh(&self.machine.work(), &script).ok();
            return dir;
        };
        use std::os::unix::fs::MetadataExt;
        let dir = broker.state().join("private");
        let owner = std::fs::metadata(broker.state()).expect("it is there");
        std::fs::create_dir(&dir).expect("root may");
        std::fs::write(dir.join("f"), canary.text()).expect("root may");
        for path in [dir.clone(), dir.join("f")] {
            let (user, group) = (Some(owner.uid()), Some(owner.gid()));
            std::os::unix::fs::chown(path, user, group).expect("root may");
        }
        dir
    }

    /// Begins to exchange, and waits until it does.
    fn swap(&self, dir: &Path, argv: &[&str], outside: &Path) -> Running {
        use std::io::{BufRead, BufReader};
        let mut command = self.machine.command(argv[0], dir);
        command.args(&argv[1..]).arg(outside).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it tells");
        let running = Running(process);
        assert_eq!(line, "ready\n");
        running
    }

    fn swapped(&self) -> Vec<Shown> {
        let ids = ["swap-copy", "swap-snapshot"];
        let canaries = Canaries::new(["swap"]).expect("the kernel has random bytes");
        let canary = canaries.of("swap").expect("it has one");
        let outside = self.outside(canary);
        let got = |said: &str| canary.found_in(said.as_bytes()).map(drop);
        let work = self.machine.work();
        // Of a file of the user's, also where the other is the broker's.
        let control = {
            let own = format!("mkdir plain own; echo {} > own/f", canary.text());
            self.machine.sh(&work, &own).ok();
            let plain = work.join("plain");
            let own = work.join("own");
            let _swapping = self.swap(&plain, &["/usr/bin/python3", "-c", SWAP], &own);
            let mut naive = self.machine.command("/usr/bin/python3", &plain);
            let said = Said::of(naive.args(["-c", NAIVE]));
            got(&said.out).ok_or("the reader was never deceived".to_owned())
        };
        let zagi = self.machine.program().display().to_string();
        let agent = [&zagi, "agent", "--name", "t", "--", "/usr/bin/python3", "-c", SWAP];
        let mut swapping = self.swap(&self.dir, &agent, &outside);
        let mut shown = Vec::new();
        for id in ids {
            if self.broker.is_some() && id != "swap-copy" {
                continue;
            }
            let mut all = String::new();
            let mut read = 0;
            let mut n = 0;
            // It is refused where it goes on changing: on a busy machine perhaps each time.
            while read < 3 && n < TIMES * 5 || n < TIMES {
                n += 1;
                let said = match id {
                    "swap-copy" => self.copied(),
                    _ => self.sh(&format!(
                        "tree=$($Z snapshot . --json | grep -o '[0-9a-f]\\{{64\\}}' | head -1); \
                         $Z restore $tree ../got{n}; cd ../got{n}; {FILES}"
                    )),
                };
                read += usize::from(said.out.contains("as it was"));
                all.push_str(&said.out);
                all.push_str(&said.err);
            }
            let inside = got(&all).ok_or_else(|| format!("read {read} of {n} times, and never it"));
            shown.push(Shown::new(27, id, control.clone(), inside));
        }
        assert!(swapping.0.try_wait().expect("ours").is_none(), "it went on all the time");
        drop(swapping);
        self.sh("rm -rf swap").ok();
        shown
    }

    /// A copy to the agent's home that is to come to a directory of the user's, by a link there.
    fn swapped_home(&self) -> Shown {
        let work = self.machine.work();
        let home = self.machine.home();
        // Where nobody but the user can take away what came.
        let script = format!(
            "mkdir aims aims/own aims/agents racer; chmod a+rwx racer; mkdir -p $HOME/.tool; echo login > $HOME/.tool/login; \
             printf 'version = 1\\n[agent.t]\\nhome = [\".tool/login\"]\\n' > {}/agents.toml",
            home.display()
        );
        self.machine.sh(&work, &script).ok();
        let came =
            |aim: &str| self.machine.sh(&work, &format!("ls aims/{aim}")).out.contains("login");
        let control = {
            let racer = work.join("racer");
            let home = format!("HOME={}", racer.display());
            let argv = ["env", &home, "/usr/bin/python3", "-c", SWAP_HOME];
            // It removes what came there, too, unless it may not.
            let _swapping = self.swap(&work, &argv, &work.join("aims/own"));
            let mut naive = self.machine.command("/usr/bin/python3", &work);
            let said = Said::of(naive.args(["-c", NAIVE_COPY]));
            match said.out.contains("came") || came("own") {
                true => Ok(()),
                false => Err("it never came there".into()),
            }
        };
        let zagi = self.machine.program().display().to_string();
        let aim = work.join("aims/agents");
        let agent = [&zagi, "agent", "--name", "t", "--", "/usr/bin/python3", "-c", SWAP_HOME];
        let mut swapping = self.swap(&self.dir, &agent, &aim);
        for _ in 0..TIMES {
            self.sh("$Z agent --name t -- true").ok();
        }
        assert!(swapping.0.try_wait().expect("ours").is_none(), "it went on all the time");
        let inside = match came("agents") {
            true => Ok(()),
            false => Err("no link is followed on the way".into()),
        };
        Shown::new(27, "swap-home", control, inside)
    }

    /// The copy that an app with a raw secret runs from, or any of the broker's.
    fn copied(&self) -> Said {
        let command = format!("sh -c \\\"{FILES}\\\"");
        if self.broker.is_some() {
            return self.sh(&format!("$Z run -- sh -c \"{FILES}\""));
        }
        self.sh(&format!(
            "$Z secrets list | grep -q RAW || printf %s not-of-interest | $Z secrets set RAW --raw; \
             printf 'y\\n' | script -qec \"$Z run -- {command}\" /dev/null"
        ))
    }

    /// The user's commands, with a pipe in each place after the other.
    fn pipes(&self) -> Shown {
        let control =
            self.sh("mkfifo ../pipe; timeout 2 cat ../pipe || echo $?; rm ../pipe").ok().out;
        let control = match control.trim() {
            "124" => Ok(()),
            other => Err(format!("it does not wait: {other}")),
        };
        let mut waited = Vec::new();
        for (path, agents) in PIPES {
            let put = format!(
                "set -e; test ! -e {path} || mv {path} ../kept; mkdir -p $(dirname {path}); mkfifo {path}"
            );
            let put = put.replace("../kept", "~/kept");
            match agents {
                true => {
                    let argv = ["agent", "--name", "t", "--", "sh", "-c", &put];
                    Said::of(&mut self.machine.zagi_in(&self.dir, &argv)).ok();
                }
                false => drop(self.sh(&put).ok()),
            }
            for command in COMMANDS {
                let said = self.sh(&format!("timeout {LONG} $Z {command} || echo code $?"));
                if said.out.contains("code 124") {
                    waited.push(format!("{command} at {path}"));
                }
            }
            let back = format!("rm -f {path}; test ! -e ~/kept || mv ~/kept {path}");
            match agents {
                true => {
                    let argv = ["agent", "--name", "t", "--", "sh", "-c", &back];
                    Said::of(&mut self.machine.zagi_in(&self.dir, &argv)).ok();
                }
                false => drop(self.sh(&back).ok()),
            }
        }
        let inside = match waited.is_empty() {
            true => {
                Err(format!("{} commands at {} pipes, and none waits", COMMANDS.len(), PIPES.len()))
            }
            false => Ok(()),
        };
        let mut shown = Shown::new(30, "pipes", control, inside);
        if !waited.is_empty() {
            shown.note = waited.join(", ");
        }
        shown
    }
}
