//! A user on this machine with an empty `$ZAGI_HOME`, and what the program says to them.

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The name of the ordinary user that tests are run as. `.ci/run` makes it:
/// `useradd --create-home zagi-test`.
pub const ORDINARY: &str = "zagi-test";

/// Who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever runs the test.
    Me,
    /// [`ORDINARY`].
    Ordinary,
}

/// One user's place: a home for zagi and a directory to work in, gone with this value, and
/// the daemon with it.
pub struct Machine {
    dir: TempDir,
    program: PathBuf,
    user: Option<nix::unistd::User>,
    vars: Vec<(String, String)>,
}

/// The program that was built beside this test.
///
/// # Panics
/// Where it was not: `cargo test --workspace` builds it.
pub fn program() -> PathBuf {
    let mut dir = std::env::current_exe().expect("a test knows its own file");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let program = dir.join("zagi");
    assert!(program.exists(), "{} is not built: cargo build", program.display());
    program
}

impl Machine {
    /// A machine with nothing on it.
    ///
    /// # Panics
    /// Where the ordinary user is wanted and does not exist: a test that cannot have what it
    /// needs fails.
    pub fn new(who: Who) -> Machine {
        let dir =
            tempfile::Builder::new().prefix("zagi-").tempdir().expect("a temporary directory");
        let user = match who {
            Who::Me => None,
            Who::Ordinary => Some(ordinary()),
        };
        // A copy, since the build directory may lie where an ordinary user cannot look.
        let bin = dir.path().join("zagi");
        install(&program(), &bin);
        set_mode(dir.path(), 0o755);
        let machine = Machine { program: bin, user, vars: Vec::new(), dir };
        for sub in ["user", "work"] {
            let path = machine.dir.path().join(sub);
            std::fs::create_dir(&path).expect("the directory is new");
            machine.give(&path);
        }
        machine
    }

    /// Makes `path` the user's own.
    pub fn give(&self, path: &Path) {
        if let Some(user) = &self.user {
            let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
            chown(path, uid, gid).expect("root may give files away");
        }
    }

    /// The directory that commands are started in.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work").canonicalize().expect("it was made with the machine")
    }

    /// `$ZAGI_HOME`.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("user/.zagi")
    }

    /// The program, where this user may run it.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Sets a variable for every later command.
    pub fn set(&mut self, name: &str, value: &str) {
        self.vars.push((name.to_owned(), value.to_owned()));
    }

    /// The words before a command of root's that make it this user's; none where it is.
    pub fn becoming(&self) -> Vec<String> {
        let Some(user) = &self.user else { return Vec::new() };
        let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
        let rest = ["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned);
        ["setpriv".to_owned()].into_iter().chain(ids).chain(rest).collect()
    }

    /// Any program as this user, started in `dir`.
    pub fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = match &self.user {
            None => Command::new(program),
            Some(_) => {
                let words = self.becoming();
                let mut command = Command::new(&words[0]);
                command
                    .args(&words[1..])
                    // Only now: root may not enter what this user has mounted.
                    .args(["env", "--chdir"])
                    .arg(dir)
                    .arg(program);
                command
            }
        };
        command.current_dir(if self.user.is_some() { Path::new("/") } else { dir });
        command.env_clear().stdin(Stdio::null());
        let name = self.user.as_ref().map_or("root", |u| &u.name);
        for (key, value) in [("USER", name), ("LOGNAME", name), ("LANG", "C.UTF-8")] {
            command.env(key, value);
        }
        command.env("HOME", self.dir.path().join("user"));
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        // How this machine reaches the network is the machine's, not the user's.
        for (key, value) in std::env::vars() {
            let k = key.to_ascii_lowercase();
            if k.ends_with("_proxy") || k == "ssl_cert_file" {
                command.env(key, value);
            }
        }
        command.envs(self.vars.iter().cloned());
        command
    }

    /// `zagi` with arguments, to be started in `dir`.
    pub fn zagi_in(&self, dir: &Path, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.program, dir);
        command.args(arguments);
        command
    }

    /// Runs `zagi` in the work directory.
    pub fn zagi(&self, arguments: &[&str]) -> Said {
        Said::of(&mut self.zagi_in(&self.work(), arguments))
    }

    /// Runs a shell command in `dir`, in the environment of the workspace there.
    pub fn exec(&self, dir: &Path, script: &str) -> Said {
        Said::of(&mut self.zagi_in(dir, &["exec", "--", "sh", "-c", script]))
    }

    /// Runs a shell script in `dir`, as the user is without zagi.
    pub fn sh(&self, dir: &Path, script: &str) -> Said {
        Said::of(self.command("sh", dir).args(["-ec", script]))
    }

    /// Runs git in `dir`.
    pub fn git(&self, dir: &Path, arguments: &[&str]) -> Said {
        let mut command = self.command("git", dir);
        command.args(["-c", "user.name=Test", "-c", "user.email=test@localhost"]).args(arguments);
        Said::of(&mut command)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.zagi_in(Path::new("/"), &["daemon", "stop", "--force"]).output();
    }
}

fn ordinary() -> nix::unistd::User {
    nix::unistd::User::from_name(ORDINARY)
        .expect("the user database can be read")
        .unwrap_or_else(|| panic!("there is no user {ORDINARY}: useradd --create-home {ORDINARY}"))
}

/// Copies the program `from`, for everybody to run.
///
/// By a process of its own: what this one has open for writing, a child of any other thread of it has
/// too between its fork and its exec, and to start the program is `ETXTBSY` meanwhile (execve(2)).
///
/// # Panics
/// Where that cannot be done.
pub fn install(from: &Path, to: &Path) {
    Said::of(Command::new("install").args(["-m", "755"]).args([from, to])).ok();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .expect("it is the test's own file");
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn of(command: &mut Command) -> Said {
        let output = command.output();
        let Output { status, stdout, stderr } =
            output.unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
        Said {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// The same, having asserted that it went well.
    ///
    /// # Panics
    /// Where it did not, with everything that it said.
    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.code, 0, "\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    /// The same, having asserted that it failed with `code` and said `text`.
    ///
    /// # Panics
    /// Where it did not.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Said {
        let whole = format!("\n--- out\n{}\n--- err\n{}", self.out, self.err);
        assert_eq!(self.code, code, "{whole}");
        assert!(self.err.contains(text), "it did not say {text:?}:{whole}");
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// Starts a command in a process group of its own, so that a signal can be sent to all of
/// it, as a terminal does.
pub fn in_group(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// The processes whose command line has `word` in it, by whoever.
///
/// # Panics
/// Where there is no `/proc`.
pub fn processes(word: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("there is one").flatten();
    let numbered = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    numbered.filter(has).collect()
}
