//! `zagi secrets` from the outside: what is on the screen, on the disk and in /proc. Values are
//! canaries, and are looked for wherever they must not be.

mod asked;
mod audit;
mod keys;
mod seen;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::program;

/// In every value, and nowhere but where it is asked for.
const CANARY: &str = "canary-8c1f";

/// People with a home each, and one project.
struct Place {
    dir: tempfile::TempDir,
}

struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("zagi-secrets-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("web")).expect("a project");
        std::fs::create_dir(dir.path().join("web/.git")).expect("what marks it");
        Place { dir }
    }

    fn web(&self) -> PathBuf {
        self.dir.path().join("web")
    }

    fn file(&self) -> PathBuf {
        self.web().join(".zagi/secrets.enc")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("there is a file")
    }

    fn home(&self, who: &str) -> PathBuf {
        self.dir.path().join(who)
    }

    fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zagi"));
        command.arg("secrets").args(arguments).current_dir(self.web()).env_clear();
        command.env("HOME", self.home(who)).env("USER", who).env("PATH", "/usr/bin:/bin");
        command.env("ZAGI_HOME", self.home(who));
        command
    }

    fn zagi_with(&self, who: &str, arguments: &[&str], input: &[u8]) -> Said {
        let mut child = self
            .command(who, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built with this test");
        // Who fails before it reads has closed its end.
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        said(child.wait_with_output().expect("it ends"))
    }

    fn zagi(&self, who: &str, arguments: &[&str]) -> Said {
        self.zagi_with(who, arguments, b"")
    }

    #[track_caller]
    fn done(&self, who: &str, arguments: &[&str], input: &[u8]) -> Said {
        let said = self.zagi_with(who, arguments, input);
        assert!(said.ok, "{arguments:?}: {}", said.err);
        said
    }

    /// What it fails with; nothing is released, and nothing is recorded as if it were.
    #[track_caller]
    fn refused(&self, who: &str, arguments: &[&str]) -> String {
        let log = self.home(who).join("audit/secrets.log");
        let before = std::fs::read(&log).unwrap_or_default();
        let said = self.zagi(who, arguments);
        assert!(!said.ok && said.out.is_empty(), "{arguments:?}: {}{}", said.out, said.err);
        assert!(!said.err.contains(CANARY), "{}", said.err);
        assert_eq!(std::fs::read(&log).unwrap_or_default(), before, "a row of no release");
        said.err
    }

    fn get(&self, who: &str, name: &str) -> String {
        self.done(who, &["get", name, "--reveal"], b"").out
    }
}

fn said(output: Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { ok: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The files at or below `dir` that have `needle` in them.
fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let files =
        walkdir::WalkDir::new(dir).into_iter().flatten().filter(|e| e.file_type().is_file());
    let has = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    };
    files.map(|entry| entry.into_path()).filter(has).collect()
}

/// A program at a terminal of its own, by script(1).
struct Terminal {
    child: Child,
    shown: String,
}

impl Terminal {
    fn start(command: &Command) -> Terminal {
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().expect("UTF-8"));
        let words: Vec<String> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
        script
            .env_clear()
            .env("SHELL", "/bin/sh")
            .current_dir(command.get_current_dir().expect("set"));
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Terminal { child: script.spawn().expect("script is installed"), shown: String::new() }
    }

    /// Waits until `text` is on the screen.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let out = self.child.stdout.as_mut().expect("it is piped");
        let mut byte = [0];
        while !self.shown.contains(text) {
            let n = out.read(&mut byte).expect("it can be read");
            assert_eq!(n, 1, "it ended without {text:?}: {}", self.shown);
            self.shown.push(byte[0] as char);
        }
    }

    fn enter(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("it listens");
    }

    /// Whether it succeeded, and all that was on the screen.
    fn end(mut self) -> (bool, String) {
        let mut rest = String::new();
        let input = self.child.stdin.take();
        self.child.stdout.take().expect("piped").read_to_string(&mut rest).expect("text");
        drop(input);
        (self.child.wait().expect("it ends").success(), self.shown + &rest)
    }
}

#[test]
fn set_get_list_remove() {
    let place = Place::new();
    let value = format!("{CANARY} one");
    let said = place.done("alice", &["set", "A_KEY"], format!("{value}\n").as_bytes());
    assert!(said.err.contains("made your identity; its recipient is age1"), "{}", said.err);
    assert!(said.err.contains("commit it") && said.err.contains("no app gets A_KEY yet"));
    let broker =
        ["--host", "API.example.com", "--header", "Authorization", "--format", "Bearer {}"];
    let more = ["--method", "get", "--method", "POST", "--path", "/v1/*", "--keep"];
    place.done("alice", &[&["set", "A_KEY"][..], &broker, &more].concat(), b"");
    let file = format!("{{\"key\": \"{CANARY}\"}}\n");
    place.done("alice", &["set", "SA", "--file", "sa.json"], file.as_bytes());
    place.done("alice", &["set", "RAW", "--raw"], CANARY.as_bytes());
    assert_eq!(place.get("alice", "A_KEY"), value);
    assert_eq!(place.get("alice", "SA"), file, "a file is kept as it is");
    let list = place.done("alice", &["list"], b"").out;
    let shown = "A_KEY  brokered  api.example.com  Authorization: Bearer {}  GET, POST  /v1/*\n\
                 RAW    raw\nSA     file      sa.json\n\nread by\nalice  age1";
    assert!(list.starts_with(shown) && list.ends_with("  (you)\n"), "{list}");
    let json = place.done("alice", &["list", "--json"], b"").out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["secrets"][0]["policy"]["method"], serde_json::json!(["GET", "POST"]));
    assert_eq!((json["revision"].as_u64(), &json["recipients"][0]["you"]), (Some(4), &true.into()));
    let e = place.refused("alice", &["get", "A_KYE", "--reveal"]);
    assert!(e.contains("there is no secret A_KYE; there is A_KEY"), "{e}");
    place.done("alice", &["remove", "A_KEY", "SA"], b"");
    assert!(!place.text().contains("policy.SA") && !place.text().contains("example.com"));
    assert!(!place.zagi("alice", &["get", "SA", "--reveal"]).ok);
    assert_eq!(files_with(place.dir.path(), CANARY), Vec::<PathBuf>::new());
}

#[test]
fn a_value_is_not_taken_from_the_command_line_nor_given_to_a_pipe() {
    let place = Place::new();
    for arguments in [&["set", "A", CANARY][..], &["set", &format!("A={CANARY}")], &["get", "A"]] {
        let e = place.refused("alice", arguments);
        assert!(e.contains("command line") || e.contains("--reveal"), "{e}");
    }
    assert!(!place.file().exists());
    for (arguments, input, why) in [
        (&["set", "A"][..], &b""[..], "the value is empty"),
        (&["set", "A"], b"\n", "the value is empty"),
        (&["set", "A"], b"a\0b", "a NUL"),
        (&["set", "1A"], b"x", "begins with no digit"),
        (&["set", "A", "--host", "a.b"], b"x", "needs `header`"),
        (&["set", "A", "--host", "*.b", "--header", "X"], b"x", "it is one host"),
        (&["set", "A", "--keep", "--raw"], b"", "there is no secret A"),
    ] {
        let said = place.zagi_with("alice", arguments, input);
        assert!(!said.ok && said.err.contains(why), "{arguments:?}: {}", said.err);
    }
    assert!(!place.file().exists());
}

#[test]
fn a_grant_is_part_of_what_is_signed() {
    let place = Place::new();
    place.done("alice", &["set", "A"], b"x");
    let e = place.refused("alice", &["grant", "A", "--agent", "ci"]);
    assert!(e.contains("no app gets A yet") && e.contains("--keep --raw"), "{e}");
    place.done("alice", &["set", "A", "--raw"], b"x");
    let both = ["grant", "A", "--agent", "ci", "--agent", "claude", "--command", "npm start"];
    place.done("alice", &both, b"");
    let list = place.done("alice", &["list"], b"").out;
    assert!(
        list.starts_with("A  raw\n   for command npm start\n   for agent ci, claude\n"),
        "{list}"
    );
    // Another way does not lose for whom it is.
    place.done("alice", &["set", "A", "--keep", "--file", "a.txt"], b"");
    place.done("alice", &["grant", "A", "--agent", "ci", "--revoke"], b"");
    let granted = "[policy.A]\nfile = \"a.txt\"\ncommand = \"npm start\"\nagent = \"claude\"\n";
    assert!(place.text().contains(granted), "{}", place.text());
    let more = place.text().replace("agent = \"claude\"", "agent = [\"claude\", \"ci\"]");
    std::fs::write(place.file(), more).expect("written");
    assert!(place.refused("alice", &["list"]).contains("forged or damaged"));
}

#[test]
fn the_prompt_shows_nothing_and_a_paste_of_lines_is_refused() {
    let place = Place::new();
    let mut terminal = Terminal::start(&place.command("alice", &["set", "A"]));
    terminal.expect("value of A: ");
    terminal.enter(&format!("wrong\u{15}{CANARY}xé\u{7f}\u{7f}\r"));
    let (ok, shown) = terminal.end();
    assert!(ok && !shown.contains(CANARY) && !shown.contains("wrong"), "{shown}");
    assert_eq!(place.get("alice", "A"), CANARY);
    let mut terminal = Terminal::start(&place.command("alice", &["set", "A"]));
    terminal.expect("value of A: ");
    terminal.enter(&format!("-----BEGIN\n{CANARY}\n-----END\n"));
    let (ok, shown) = terminal.end();
    assert!(!ok && shown.contains("several lines") && !shown.contains(CANARY), "{shown}");
    let mut terminal = Terminal::start(&place.command("alice", &["set", "A"]));
    terminal.expect("value of A: ");
    terminal.enter("abc\u{3}");
    let (ok, shown) = terminal.end();
    assert!(!ok && shown.contains("nothing was entered"), "{shown}");
    assert_eq!(place.get("alice", "A"), CANARY);
    // A terminal is shown the value without being asked twice.
    let terminal = Terminal::start(&place.command("alice", &["get", "A"]));
    let (ok, shown) = terminal.end();
    assert!(ok && shown.trim() == CANARY, "{shown}");
}

#[test]
fn an_editor_sees_them_in_memory_and_nothing_is_left() {
    let place = Place::new();
    place.done("alice", &["set", "A", "--raw"], CANARY.as_bytes());
    place.done("alice", &["set", "B"], b"b");
    let editor = place.dir.path().join("editor");
    let script = "#!/bin/sh\nset -e\nstat -f -c %T \"$1\"; stat -c %a \"$1\"\n\
                  cp \"$1\" \"$1~\"; sed -i -e '/^B=/d' -e 's/^A=/C=/' \"$1\"; echo \"A='two words'\" >> \"$1\"\n";
    program::write(&editor, script.as_bytes());
    let mut command = place.command("alice", &["edit"]);
    command.env("EDITOR", &editor);
    let (ok, shown) = Terminal::start(&command).end();
    assert!(ok && shown.contains("tmpfs") && shown.contains("600"), "{shown}");
    assert_eq!(place.get("alice", "A"), "two words");
    assert_eq!(place.get("alice", "C"), CANARY);
    assert!(
        place.text().contains("[policy.A]\nraw = true\n") && !place.text().contains("policy.B")
    );
    let left: Vec<_> = std::fs::read_dir("/dev/shm").expect("there is one").flatten().collect();
    let left = left.iter().filter(|e| e.file_name().to_string_lossy().starts_with("zagi-edit-"));
    assert_eq!(left.count(), 0);
    command.env("EDITOR", "false");
    let (ok, shown) = Terminal::start(&command).end();
    assert!(!ok && shown.contains("nothing was kept"), "{shown}");
    assert_eq!(files_with(place.dir.path(), CANARY), Vec::<PathBuf>::new());
}

#[test]
fn a_dotenv_file_is_taken_over() {
    let place = Place::new();
    let dotenv = format!("# ours\nexport A={CANARY}\nB='two\nlines'\nEMPTY=\n");
    std::fs::write(place.web().join(".env"), dotenv).expect("written");
    let said = place.done("alice", &["import", ".env", "--raw"], b"");
    assert!(said.err.contains("2 secrets: A, B") && said.err.contains("delete it"), "{}", said.err);
    assert_eq!(place.get("alice", "B"), "two\nlines");
    let e = place.refused("alice", &["import", ".env"]);
    assert!(e.contains("there are already A, B") && e.contains("--replace"), "{e}");
    place.done("alice", &["import", "-", "--replace"], b"A=new");
    assert_eq!(place.get("alice", "A"), "new");
    std::fs::write(place.web().join(".env"), format!("A=1\nB='{CANARY}")).expect("written");
    let e = place.refused("alice", &["import", ".env"]);
    assert!(e.contains("line 2: a quote is not closed"), "{e}");
}

/// While a value is in the process: not in what other processes see, and not to be looked into by
/// them. The same user's control shows that the looking works.
#[test]
fn a_process_with_a_value_shows_it_to_nobody() {
    // Another test has its canary in an argument.
    const HIDDEN: &str = "hidden-5a02";
    let place = Place::new();
    let chmod = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("it is ours");
    };
    // A copy that an ordinary user can start.
    let program = place.dir.path().join("zagi");
    program::write(&program, &std::fs::read(env!("CARGO_BIN_EXE_zagi")).expect("it was built"));
    chmod(place.dir.path(), 0o755);
    for path in [place.web(), place.home("user")] {
        std::fs::create_dir_all(&path).expect("made");
        chmod(&path, 0o777);
    }
    let as_user = |arguments: &[&str]| {
        let user = ["--reuid", "zagi-test", "--regid", "zagi-test", "--clear-groups", "--"];
        let mut command = Command::new("setpriv");
        command.args(user).args(arguments).env_clear().current_dir(place.web());
        command.env("ZAGI_HOME", place.home("user")).env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let program = program.to_str().expect("UTF-8");
    let mut child = as_user(&[program, "secrets", "set", "A"]).spawn().expect("setpriv is there");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(HIDDEN.as_bytes()).expect("it reads");
    let mut control = as_user(&["cat"]).spawn().expect("cat is there");
    let proc = |pid: u32, name: &str| format!("/proc/{pid}/{name}");
    // Before it is the program, it is root's as well.
    let is_zagi = |pid| std::fs::read_to_string(proc(pid, "comm")).is_ok_and(|c| c == "zagi\n");
    let of_root =
        |pid| std::fs::metadata(proc(pid, "environ")).is_ok_and(|m| m.permissions_of_root());
    let since = Instant::now();
    while !(is_zagi(child.id()) && of_root(child.id())) {
        assert!(since.elapsed() < Duration::from_secs(30), "it can be looked into");
        std::thread::sleep(Duration::from_millis(20));
    }
    let reads = |pid: u32| {
        let file = proc(pid, "environ");
        as_user(&["head", "-c1", &file]).stdout(Stdio::null()).status().expect("it ends").success()
    };
    // It may not have become the user yet.
    while !reads(control.id()) {
        assert!(since.elapsed() < Duration::from_secs(60), "the attack works on others");
    }
    assert!(!reads(child.id()), "another process reads its environment, and so its memory");
    let limits = std::fs::read_to_string(proc(child.id(), "limits")).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("one");
    // core(5): at 1 no program is handed a dump, either.
    assert_eq!(core.split_whitespace().nth(4), Some("1"), "{core}");
    for entry in std::fs::read_dir("/proc").expect("there is one").flatten() {
        for name in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            let found = bytes.windows(HIDDEN.len()).any(|window| window == HIDDEN.as_bytes());
            assert!(!found, "{}", entry.path().join(name).display());
        }
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
    drop(control.stdin.take());
    control.wait().expect("it ends");
}

trait OfRoot {
    /// Whether it is root's: the kernel gives the files of a process that cannot be dumped to root.
    fn permissions_of_root(&self) -> bool;
}

impl OfRoot for std::fs::Metadata {
    fn permissions_of_root(&self) -> bool {
        std::os::unix::fs::MetadataExt::uid(self) == 0
    }
}
