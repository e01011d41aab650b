//! System mode on one machine: the real broker under its own user, as `packaging/system-mode` sets it
//! up, at other places than usual.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{self, Machine, Said};

/// Makes what root starts the broker's user's.
pub const BECOMING: [&str; 4] =
    ["setpriv", "--reuid=zagi-broker", "--regid=zagi-broker", "--clear-groups"];

/// A program of Python's that asks the broker past `zagi`: socket, home, project and words; what is printed is its reply,
/// or what the command printed. For whom, where root asks, is in `$ASK_FOR`; in `$ASK_FIRST` what it does
/// when it is connected.
pub const ASK: &str = "
import json, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); exec(os.environ.get('ASK_FIRST', ''))
ask = dict(version=2, user=int(os.environ.get('ASK_FOR', 0)), home=sys.argv[2], root=sys.argv[3], cwd=sys.argv[3], argv=sys.argv[4:], vars=[])
text = json.dumps(ask).encode(); text = struct.pack('<I', len(text)) + text
socket.send_fds(s, [text], [0, 1, 2])
n, = struct.unpack('<I', s.recv(4, socket.MSG_WAITALL)); print(s.recv(n, socket.MSG_WAITALL).decode())
";

/// A broker at work. It ends with this value.
pub struct Broker {
    process: Child,
    dir: tempfile::TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn account(name: &str) -> nix::unistd::User {
    let found = nix::unistd::User::from_name(name).expect("the user database can be read");
    found.unwrap_or_else(|| panic!("there is no user {name}"))
}

impl Broker {
    /// Sets it up for the ordinary user of `machine`, who asks it from now on. It trusts `roots`, as
    /// PEM, where there are some.
    ///
    /// # Panics
    /// Where that cannot be done: it takes root.
    pub fn start(machine: &Machine, roots: Option<&str>) -> Broker {
        Broker::start_within(machine, roots, &[])
    }

    /// The same, started by root by these words: they become what the words after them say.
    ///
    /// # Panics
    /// As [`Broker::start`].
    pub fn start_within(machine: &Machine, roots: Option<&str>, words: &[&str]) -> Broker {
        let dir = tempfile::Builder::new().prefix("zagi-broker-").tempdir().expect("made");
        // Root's, and to be passed through by everybody.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("ours");
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        let program = dir.path().join("zagi");
        machine::install(&machine::program(), &program);
        let script = |verb: &str| {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/system-mode");
            let mut command = Command::new("sh");
            command.arg(file).args([verb, machine::ORDINARY]);
            command.env("ZAGI_BROKER_STATE", &state).env("ZAGI_BROKER_RUN", &run);
            command.env("ZAGI_BROKER_PROGRAM", &program);
            Said::of(&mut command)
        };
        let said = script("setup").ok();
        assert!(said.out.contains("set up for zagi-test"), "{said:?}");
        std::fs::create_dir(dir.path().join("bin")).expect("ours");
        let socket = run.join("socket");
        let all: Vec<&str> = words.iter().copied().chain(BECOMING).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).arg(&program);
        command.args(["broker", "--socket"]).arg(&socket).arg("--state").arg(&state);
        let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
        command.env_clear().env("HOME", &state).env("PATH", path).current_dir("/");
        if let Some(roots) = roots {
            let file = dir.path().join("roots.pem");
            std::fs::write(&file, roots).expect("written");
            command.env("SSL_CERT_FILE", file);
        }
        command.stdin(Stdio::null());
        let process = command.spawn().expect("it starts");
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = script("check").ok();
        let answers = said.out.contains("ok       the broker answers");
        assert!(!said.out.contains("missing") && answers, "{said:?}");
        machine.zagi(&["list"]).ok();
        let config = format!("[secrets]\nbroker = \"{}\"\n", socket.display());
        let home = machine.home();
        machine
            .sh(&machine.work(), &format!("printf '{config}' > {}/config.toml", home.display()))
            .ok();
        Broker { process, dir }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where programs are found first.
    pub fn programs(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// Where it is asked.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/socket")
    }

    /// Where it keeps what is its users'.
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Ends it, and leaves its socket.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The command line of `zagi` as root, by `sudo` of the machine's user, at a terminal where
    /// `answer` is typed.
    pub fn sudo(&self, machine: &Machine, dir: &Path, command: &str, answer: &str) -> Command {
        let zagi = self.dir.path().join("zagi");
        let script =
            format!("printf '{answer}' | script -qec \"{} {command}\" /dev/null", zagi.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(dir);
        shell.env("SUDO_UID", account(machine::ORDINARY).uid.to_string());
        // Where the test has that user's home.
        shell.env("ZAGI_HOME", machine.home());
        shell
    }
}
