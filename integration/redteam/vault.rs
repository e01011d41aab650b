//! Attacks on `.zagi/secrets.enc`, on the record of its uses, and on a process that holds its values.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zagi::redteam::{Canaries, Canary};

use super::agent::{Running, SEARCH};
use super::{Mode, Shown, ends};
use crate::broker::{BECOMING, Broker};
use crate::machine::{self, Machine, Said};

/// A project with secrets, of a user who has opened them before.
struct Stage {
    machine: Machine,
    /// In system mode.
    broker: Option<Broker>,
    dir: PathBuf,
    canaries: Canaries,
}

const IDS: [&str; 10] = [
    "rolled-back",
    "current",
    "forged",
    "cut",
    "killed",
    "full",
    "core",
    "held",
    "backup",
    "objects",
];

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let machine = Machine::new(mode.who());
    let broker = mode.broker(&machine);
    let work = machine.work();
    machine.sh(&work, "mkdir -p web $HOME; cd web; git init -q; echo x > file").ok();
    let canaries = Canaries::new(IDS).expect("the kernel has random bytes");
    let stage = Stage { dir: work.join("web"), machine, broker, canaries };
    let mut shown = vec![stage.rolled_back(), stage.forged()];
    shown.extend(stage.audit());
    shown.extend(stage.held());
    shown.extend(stage.left());
    shown
}

impl Stage {
    fn canary(&self, id: &str) -> &Canary {
        self.canaries.of(id).expect("each has one")
    }

    fn sh(&self, script: &str) -> Said {
        let program = self.machine.program().display();
        let home = self.home();
        self.machine.sh(&self.dir, &format!("Z={program}; H={}; {script}", home.display()))
    }

    /// Where identity and audit log are.
    fn home(&self) -> PathBuf {
        let Some(broker) = &self.broker else { return self.machine.home() };
        let user = nix::unistd::User::from_name(machine::ORDINARY);
        let uid = user.ok().flatten().expect("it is there").uid;
        broker.state().join(format!("users/{uid}/home/.zagi"))
    }

    /// By who may do that there: in system mode root alone.
    fn inside(&self, script: &str) -> Said {
        if self.broker.is_none() {
            return self.sh(script);
        }
        let mut sh = Command::new("sh");
        sh.args(["-ec", &format!("H={}; {script}", self.home().display())]);
        Said::of(sh.current_dir(&self.dir))
    }

    fn reveal(&self, name: &str) -> Said {
        let command = format!("secrets get {name} --reveal");
        match &self.broker {
            None => self.sh(&format!("$Z {command}")),
            // At a terminal, which has one stream.
            Some(broker) => {
                let Said { code, out, .. } =
                    Said::of(&mut broker.sudo(&self.machine, &self.dir, &command, ""));
                Said { code, out: String::new(), err: out }
            }
        }
    }

    fn set(&self, name: &str, id: &str, options: &str) {
        let value = self.canary(id).text();
        self.sh(&format!("printf %s {value} | $Z secrets set {name} {options}")).ok();
    }

    /// Whether the value is in what was said; else what was.
    fn got(&self, id: &str, said: &Said) -> Result<(), String> {
        let all = format!("{}{}", said.out, said.err);
        self.canary(id).found_in(all.as_bytes()).map(drop).ok_or(ends(&said.err))
    }

    /// An older file in place of the current one. To a home that has seen neither it is valid.
    fn rolled_back(&self) -> Shown {
        self.set("A", "rolled-back", "--raw");
        self.sh("cp .zagi/secrets.enc old").ok();
        self.set("A", "current", "--raw");
        self.sh("cp .zagi/secrets.enc new; cp old .zagi/secrets.enc").ok();
        let by_itself = "sed -n '/BEGIN AGE/,/END AGE/p' .zagi/secrets.enc | \
                         age --decrypt --identity $H/secrets/identity";
        let fresh = "mkdir -p fresh/secrets; cp $H/secrets/identity fresh/secrets; chmod -R go= fresh; \
             ZAGI_HOME=$PWD/fresh $Z secrets get A --reveal";
        let fresh = match self.broker {
            None => self.sh(fresh),
            Some(_) => self.inside(by_itself),
        };
        let said = self.reveal("A");
        self.sh("mv new .zagi/secrets.enc; rm -rf old fresh").ok();
        Shown::new(
            31,
            "rolled-back",
            self.got("rolled-back", &fresh),
            self.got("rolled-back", &said),
        )
    }

    /// Another host for a value: age has no opinion on that.
    fn forged(&self) -> Shown {
        self.set(
            "B",
            "forged",
            "--host api.example.com --header Authorization --format 'Bearer {}'",
        );
        self.sh("cp .zagi/secrets.enc new; sed -i s/api.example.com/evil.example.com/ .zagi/secrets.enc")
            .ok();
        let control = self.inside(
            "grep -q evil .zagi/secrets.enc; sed -n '/BEGIN AGE/,/END AGE/p' .zagi/secrets.enc | \
             age --decrypt --identity $H/secrets/identity",
        );
        let said = self.reveal("B");
        self.sh("mv new .zagi/secrets.enc").ok();
        Shown::new(31, "forged", self.got("forged", &control), self.got("forged", &said))
    }

    /// No record, no release.
    fn audit(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        self.set("C", "cut", "--raw");
        let control = self.reveal("C");
        self.inside(
            "cp -p $H/audit/secrets.log ../l; sed -i '$d' $H/audit/secrets.log; \
                     chown --reference=../l $H/audit/secrets.log",
        )
        .ok();
        let said = self.reveal("C");
        self.inside("mv ../l $H/audit/secrets.log").ok();
        shown.push(Shown::new(55, "cut", self.got("cut", &control), self.got("cut", &said)));
        shown.push(self.killed());
        self.set("E", "full", "--raw");
        let full = Full::new(&self.home());
        let control = self.reveal("E");
        self.inside("head -c 1000000 /dev/zero > $H/audit/filler 2>/dev/null || true").ok();
        let said = self.reveal("E");
        drop(full);
        shown.push(Shown::new(55, "full", self.got("full", &control), self.got("full", &said)));
        shown
    }

    /// Ended by the kernel where it would write the row.
    fn killed(&self) -> Shown {
        self.set("D", "killed", "--raw");
        let control = self.reveal("D");
        let said = match &self.broker {
            None => self.sh("ulimit -f 0; $Z secrets get D --reveal"),
            // The limits of who asks are not the broker's: who is its user limits it.
            Some(broker) => {
                let (file, log) = (self.dir.join(".zagi/secrets.enc"), self.log());
                let size = |path: &Path| std::fs::metadata(path).expect("it is there").len();
                // What else it writes is written: its copy of the file is shorter than the record.
                while size(&log) < 2 * size(&file) {
                    assert_eq!(self.got("killed", &self.reveal("D")), Ok(()));
                }
                let limit = |most: &str| {
                    let (pid, most) = (broker.id().to_string(), format!("--fsize={most}:"));
                    let mut prlimit = Command::new(BECOMING[0]);
                    prlimit.args(&BECOMING[1..]).args(["prlimit", "--pid", &pid, &most]);
                    Said::of(&mut prlimit).ok();
                };
                limit(&size(&log).to_string());
                let said = self.reveal("D");
                limit("unlimited");
                assert_eq!(self.got("killed", &self.reveal("D")), Ok(()), "the broker lives");
                let err = if said.err.is_empty() {
                    format!("its process ended with {}", said.code)
                } else {
                    said.err
                };
                Said { err, ..said }
            }
        };
        Shown::new(55, "killed", self.got("killed", &control), self.got("killed", &said))
    }

    fn log(&self) -> PathBuf {
        self.home().join("audit/secrets.log")
    }

    /// What `$EDITOR` is, and `vi` to the broker, which takes no word for it. `$N` is where it leaves notes.
    fn editor(&self, script: &str) {
        let work = self.machine.work();
        self.machine.sh(&work, "test -d notes || { mkdir notes; chmod 777 notes; }").ok();
        let text = format!("#!/bin/sh\nN={}\n{script}", self.notes().display());
        let written = work.join("editor.sh");
        std::fs::write(&written, text).expect("it can be written");
        machine::install(&written, &work.join("editor"));
        if let Some(broker) = &self.broker {
            machine::install(&written, &broker.programs().join("vi"));
        }
    }

    fn notes(&self) -> PathBuf {
        self.machine.work().join("notes")
    }

    /// All values in that editor, by who may do that there.
    fn edit(&self) -> Command {
        if let Some(broker) = &self.broker {
            return broker.sudo(&self.machine, &self.dir, "secrets edit", "");
        }
        let mut script = self.machine.command("script", &self.dir);
        let program = self.machine.program().display();
        let edit = format!("ulimit -c unlimited; exec {program} secrets edit");
        script.args(["-qec", &edit, "/dev/null"]).env("EDITOR", self.machine.work().join("editor"));
        script
    }

    /// A process that has values in memory while an editor is open: read, and made to die.
    fn held(&self) -> Vec<Shown> {
        self.set("F", "held", "--raw");
        self.set("G", "core", "--raw");
        self.editor(
            "echo $1 > $N/edited\necho $PPID > $N/editing\nsleep 60 & echo $! > $N/sleeping\nwait\nrm -rf ${1%/*}\n",
        );
        let mut script = self.edit();
        script.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut editing = Running(script.spawn().expect("script is installed"));
        // A process that has the same values, and takes no care.
        let mut careless = self.machine.command("sh", &self.dir);
        careless.args(["-c", "ulimit -c unlimited; exec sleep 60"]);
        let values = format!("{} {}", self.canary("held").text(), self.canary("core").text());
        let careless = Running(careless.env("VALUES", values).spawn().expect("sh is there"));
        let pid = holder(&self.notes().join("editing"));
        let edited = std::fs::read_to_string(self.notes().join("edited")).expect("text");
        let edited = std::fs::read(edited.trim()).expect("root may");
        assert!(self.canary("held").found_in(&edited).is_some(), "it has the values");
        let look = |pid: u32| {
            // In system mode by root: the user cannot, which is `outside-broker`.
            let mut python = match self.broker {
                None => self.machine.command("/usr/bin/python3", &self.dir),
                Some(_) => Command::new("/usr/bin/python3"),
            };
            Said::of(python.args(["-c", SEARCH, "held", &pid.to_string()]))
        };
        // Whoever cannot read it is told so on standard output.
        let of = |said: Said| self.got("held", &said).map_err(|_| ends(&said.out));
        let held = Shown::new(
            34,
            "held",
            of(look(careless.id())),
            of(look(pid)).map_err(|said| {
                if said.is_empty() {
                    "it can be read, and the values are in no page".into()
                } else {
                    said
                }
            }),
        );
        let mut shown = vec![held];
        // There it is another's to end: `outside-core`.
        if self.broker.is_none() {
            let died = |pid: u32| self.got("core", &self.dies(pid));
            let (control, inside) = (died(careless.id()), died(pid));
            shown.push(Shown::new(24, "core", control, inside));
        }
        // The file is left in memory when its process dies so.
        let clean = "cd $N; kill $(cat sleeping) || true; rm -rf $(dirname $(cat edited)) ../web/core* edit* sleeping";
        self.inside(&format!("N={}; {clean}", self.notes().display())).ok();
        // What it would say of the file is not said while others change that.
        editing.0.wait().expect("ours");
        shown
    }

    /// What is in the core of a process that is made to die.
    fn dies(&self, pid: u32) -> Said {
        self.sh(&format!(
            "rm -f core*; kill -ABRT {pid}; for i in $(seq 200); do \
             grep -q '^State:.[ZX]' /proc/{pid}/status 2>/dev/null || test ! -d /proc/{pid} && break; \
             sleep 0.02; done; cat core*"
        ))
    }

    /// What is left in the tree, in git's objects, and beside an editor's file.
    fn left(&self) -> Vec<Shown> {
        self.set("J", "backup", "--raw");
        self.set("K", "objects", "--raw");
        self.editor("cp $1 $1~\ncp $1 ${1%/*}/.secrets.swp\necho L=new >> $1\nrm -f $N/left\ndirname $1 > $N/left\n");
        let look = "grep -rah . . $HOME/ /dev/shm/zagi-edit-* 2>/dev/null; \
                    git cat-file --batch --batch-all-objects --buffer";
        let git = "git -c user.name=T -c user.email=t@localhost commit -qm all";
        let edited = Said::of(self.edit().stdin(Stdio::null())).ok();
        let left = std::fs::read_to_string(self.notes().join("left")).expect("it was edited");
        let committed = self.sh(&format!("git add -A; {git}; {look}"));
        // Where the user cannot look: the editor's directory, and what the broker keeps.
        let home = self.home();
        let rest = format!("grep -rah . {} {} 2>/dev/null || true", left.trim(), home.display());
        let rest = self.inside(&rest);
        let out = [edited.out, committed.out, rest.out].concat();
        let said = Said { code: 0, out, err: [edited.err, committed.err].concat() };
        // The same values in a file of their own, edited and committed alike.
        let control = self.sh(&format!(
            "mkdir ../plain; cd ../plain; git init -q; printf 'J=%s\\nK=%s\\n' {} {} > .env; \
             ../editor $PWD/.env; git add -fA; {git}; rm .env; {look}",
            self.canary("backup").text(),
            self.canary("objects").text()
        ));
        let note =
            |result: Result<(), String>| result.map_err(|_| "in no file and no object".into());
        let row = |id: &str| Shown::new(35, id, self.got(id, &control), note(self.got(id, &said)));
        vec![row("backup"), row("objects")]
    }
}

/// The process that started the editor: the parent of its shell.
fn holder(file: &Path) -> u32 {
    let begun = Instant::now();
    let parent = |pid: u32| -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    loop {
        let written = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(mut pid) = written {
            let is_holder = |pid: u32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains("secrets\0edit")
            };
            while !is_holder(pid) {
                pid = parent(pid).expect("an ancestor is zagi");
            }
            return pid;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the editor was not started");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small disk below the record, with what was there.
struct Full(PathBuf);

impl Full {
    fn new(home: &Path) -> Full {
        let audit = home.join("audit");
        let root = |script: &str| {
            let mut sh = Command::new("sh");
            Said::of(sh.args(["-ec", script, "sh"]).arg(&audit)).ok();
        };
        root(
            "cp -a \"$1\" \"$1.kept\"; mount -t tmpfs -o size=64k,mode=777 none \"$1\"; cp -a \"$1.kept\"/. \"$1\"",
        );
        Full(audit)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let mut sh = Command::new("sh");
        let _ = sh.args(["-c", "umount \"$1\"", "sh"]).arg(&self.0).status();
    }
}
