//! What the user names to the broker and exchanges for a link to what is the broker's: before it
//! looks, and while it does.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use zagi_integration::broker::ASK;
use zagi_integration::machine::{ORDINARY, Said};

use super::System;

const CANARY: &str = "c4nary-0f-the-brokers-0wn";

/// Exchanges two names without a pause, each time in one step (renameat2(2)).
const EXCHANGE: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True); a, b = (p.encode() for p in sys.argv[1:3])
while True:
    if libc.renameat2(-100, a, -100, b, 2) != 0: sys.exit(os.strerror(ctypes.get_errno()))
";

/// Ends with the value.
struct Exchange(Child);

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Attack {
    system: System,
    /// A directory of the broker's state.
    trap: PathBuf,
}

impl Attack {
    fn new() -> Attack {
        let system = System::new();
        // Makes the user's home in the state.
        system.set("UNUSED", "value", "");
        let user = nix::unistd::User::from_name(ORDINARY).ok().flatten().expect("it is there");
        let home = system.broker.state().join(format!("users/{}/home", user.uid));
        let trap = home.join("trap");
        for dir in [trap.clone(), trap.join("w")] {
            std::fs::create_dir(&dir).expect("root may");
            own(&dir, &home);
            let file = dir.join("canary");
            std::fs::write(&file, format!("{CANARY}\n")).expect("root may");
            own(&file, &home);
        }
        Attack { system, trap }
    }

    /// The user's shell; it must succeed.
    fn sh(&self, script: &str) -> String {
        self.system.machine.sh(&self.system.dir, script).ok().out
    }

    fn exchange(&self, a: &Path, b: &Path) -> Exchange {
        let machine = &self.system.machine;
        let mut command = machine.command("/usr/bin/python3", &machine.work());
        Exchange(command.args(["-c", EXCHANGE]).args([a, b]).spawn().expect("starts"))
    }

    /// Asks the broker, past `zagi`, to run a command in the project at `root`.
    fn ask(&self, root: &Path, argv: &[&str]) -> String {
        let machine = &self.system.machine;
        let socket = self.system.broker.state().with_file_name("run").join("socket");
        let mut command = machine.command("/usr/bin/python3", &machine.work());
        command.args(["-c", ASK]).arg(socket).arg(machine.home()).arg(root).args(argv);
        let said = Said::of(command.stdin(Stdio::null()));
        said.out + &said.err
    }

    /// The control: for who is the broker's user, the path leads to what it keeps.
    fn leads_there(&self, path: &Path) {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=zagi-broker", "--regid=zagi-broker", "--clear-groups", "cat"]);
        let said = Said::of(command.arg(path));
        assert!(said.out.contains(CANARY), "the control: {said:?}");
    }
}

fn own(path: &Path, as_of: &Path) {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(as_of).expect("there");
    chown(path, Some(about.uid()), Some(about.gid())).expect("root may");
}

#[test]
fn nothing_that_the_user_exchanges_leads_to_the_brokers_own() {
    let attack = Attack::new();
    what_its_home_says_is_not_read_through_a_link(&attack);
    a_part_of_the_environment_is_exchanged(&attack);
    the_project_is_exchanged(&attack);
}

/// The words of an error are shown to the user.
fn what_its_home_says_is_not_read_through_a_link(attack: &Attack) {
    let home = attack.system.machine.home();
    let own = PathBuf::from(
        attack.sh(&format!("echo {}/workspaces/????????????/", home.display())).trim(),
    );
    for name in ["workspace.toml", "env.toml"] {
        let (file, kept) = (own.join(name), own.join("kept"));
        let (at, kept) = (file.display(), kept.display());
        attack.sh(&format!("mv {at} {kept}; ln -s {}/canary {at}", attack.trap.display()));
        attack.leads_there(&file);
        let said = attack.ask(&attack.system.dir, &["run", "--", "true"]);
        assert!(said.contains("Permission denied") && !said.contains(CANARY), "{name}: {said}");
        attack.sh(&format!("mv {kept} {at}"));
    }
    let import = ["secrets", "import", &format!("{}/canary", attack.trap.display())];
    let said = attack.ask(&attack.system.dir, &import);
    assert!(said.contains("reads no file of yours") && !said.contains(CANARY), "{said}");
    assert_eq!(attack.ask(&attack.system.dir, &["run", "--", "echo", "fine"]), OK);
}

const OK: &str = "fine\n{\"ended\":{\"code\":0,\"changed\":null}}\n";

fn a_part_of_the_environment_is_exchanged(attack: &Attack) {
    let (machine, dir) = (&attack.system.machine, &attack.system.dir);
    let (part, link) = (machine.work().join("part"), machine.work().join("link"));
    attack.sh(&format!(
        "mkdir {part}; echo theirs > {part}/canary; ln -s {trap} {link}; cd {home}/workspaces/????????????/; \
         mkdir -p ../../envs/evil2; cp workspace.toml kept; \
         sed -i 's/^environment = .*/environment = \"evil2\"/' workspace.toml; \
         printf '{{\"version\":1,\"key\":\"evil2\",\"root\":\"{home}\",\"path\":[],\"vars\":{{}},\"trees\":[\"{part}\"]}}' \
         > ../../envs/evil2/activate.json",
        part = part.display(),
        link = link.display(),
        trap = attack.trap.display(),
        home = machine.home().display(),
    ));
    let file = part.join("canary").display().to_string();
    let look = ["run", "--", "cat", &file];
    let said = attack.ask(dir, &look);
    assert!(said.starts_with("theirs\n"), "what is theirs is shown: {said}");
    attack.leads_there(&link.join("canary"));
    // So is nothing of a third user's, which the broker could read.
    let third = third_users(attack);
    attack.sh(&format!("mv {0} {0}.own; ln -s {1} {0}", part.display(), third.display()));
    let said = attack.ask(dir, &look);
    assert!(said.contains("permission denied") && !said.contains("a third's"), "{said}");
    attack.sh(&format!("rm {0}; mv {0}.own {0}", part.display()));
    let racing = attack.exchange(&part, &link);
    for _ in 0..40 {
        let said = attack.ask(dir, &look);
        assert!(!said.contains(CANARY), "{said}");
    }
    drop(racing);
    // At rest, whichever of the two it is now; and there still is such a part.
    attack.sh(&format!("test -d {0} && test ! -L {0} || mv -T {0} {0}.l", part.display()));
    attack.sh(&format!(
        "cd {}/workspaces/????????????/; mv kept workspace.toml",
        machine.home().display()
    ));
    assert_eq!(attack.ask(dir, &["run", "--", "echo", "fine"]), OK);
}

/// One that everybody may read, and is neither the user's nor the system's.
fn third_users(attack: &Attack) -> PathBuf {
    let dir = attack.system.broker.state().with_file_name("third");
    std::fs::create_dir(&dir).expect("root may");
    std::fs::write(dir.join("canary"), "a third's\n").expect("root may");
    chown(&dir, Some(65534), Some(65534)).expect("root may");
    dir
}

fn the_project_is_exchanged(attack: &Attack) {
    let machine = &attack.system.machine;
    let (parent, link) = (machine.work().join("parent"), machine.work().join("q"));
    attack.sh(&format!(
        "mkdir {}; ln -s {} {}",
        parent.display(),
        attack.trap.display(),
        link.display()
    ));
    let root = parent.join("w");
    let from = attack.system.origin.display().to_string();
    let at = root.display().to_string();
    machine.zagi(&["mount", "--allow-other", &from, &at]).ok();
    attack.sh(&format!("echo theirs > {at}/canary"));
    let look = ["run", "--", "cat", "canary"];
    assert!(attack.ask(&root, &look).starts_with("theirs\n"), "what is theirs is shown");
    attack.leads_there(&link.join("w/canary"));
    let racing = attack.exchange(&parent, &link);
    for _ in 0..40 {
        let said = attack.ask(&root, &look);
        assert!(!said.contains(CANARY), "{said}");
    }
    drop(racing);
    // To be unmounted by its name.
    attack.sh(&format!(
        "test ! -L {0} || {{ rm {0}; mv -T {1} {0}; }}",
        parent.display(),
        link.display()
    ));
    assert!(attack.ask(&root, &look).starts_with("theirs\n"), "it is there again");
}
