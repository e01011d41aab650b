//! The program's terminal, between a real one and it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use zagi_sandbox::{Console, Exit, Plan, Profile};

use crate::support::*;
use crate::sys::call;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("the_program_has_a_terminal_of_its_own", the_program_has_a_terminal_of_its_own),
    (
        "keys_pushed_into_a_terminal_do_not_reach_the_callers",
        keys_pushed_into_a_terminal_do_not_reach_the_callers,
    ),
    ("the_callers_terminal_is_put_back", the_callers_terminal_is_put_back),
    ("keys_and_sizes_pass", keys_and_sizes_pass),
    ("signals_pass", signals_pass),
    ("a_hangup_passes", a_hangup_passes),
    ("a_program_stops_and_goes_on_with_its_caller", a_program_stops_and_goes_on_with_its_caller),
    ("pipes_and_files_pass_as_they_are", pipes_and_files_pass_as_they_are),
    ("some_streams_on_a_terminal", some_streams_on_a_terminal),
    ("a_flood_passes_whole", a_flood_passes_whole),
];

/// The caller: `zagi agent` in small. Ends as the program does.
pub(crate) fn launch(args: &[String]) -> ExitCode {
    let mut plan = Plan::new(Profile::Agent, args.to_vec())
        .bind(program(), "/zagi/attack", false)
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "dumb");
    plan.cwd = "/tmp".into();
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let console = Console { input: input.as_fd(), output: output.as_fd(), error: error.as_fd() };
    match zagi_sandbox::launch(&plan, &program(), console) {
        Ok(status) => match status.exit {
            Exit::Code(code) => ExitCode::from(code as u8),
            Exit::Signal(signal) => ExitCode::from(128 + signal as u8),
        },
        Err(e) => panic!("{e}"),
    }
}

/// A terminal whose other end nobody inherits.
fn open(size: Option<&Winsize>) -> OpenptyResult {
    let pty = openpty(size, None).expect("there are terminals");
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
    }
    pty
}

/// A terminal with somebody at it.
struct Terminal {
    master: File,
    slave: OwnedFd,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn new() -> Terminal {
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = open(Some(&size));
        let master = File::from(pty.master);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut reading, to) = (master.try_clone().expect("copied"), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reading.read(&mut bytes) {
                to.lock().expect("whole").push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Terminal { master, slave: pty.slave, seen }
    }

    fn stream(&self) -> Stdio {
        Stdio::from(self.slave.try_clone().expect("copied"))
    }

    /// Starts a command in a session of its own on this terminal.
    fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new("setsid");
        command.arg("--ctty").args(args);
        command.stdin(self.stream()).stdout(self.stream()).stderr(self.stream());
        command.spawn().expect("starts")
    }

    /// Starts a sandboxed shell's script.
    fn sandboxed(&self, script: &str) -> Child {
        self.start(&[program().to_str().expect("text"), "__launch", "/bin/sh", "-c", script])
    }

    fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until that is on the screen.
    #[track_caller]
    fn shows(&self, text: &str) {
        let start = Instant::now();
        while !self.screen().contains(text) {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "no {text:?} in {:?}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn screen(&self) -> String {
        self.seen.lock().expect("whole").clone()
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.slave).expect("a terminal")
    }

    fn is_raw(&self) -> bool {
        !self.modes().local_flags.contains(LocalFlags::ICANON)
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.master) as usize;
        call(libc::SYS_ioctl, &[fd, libc::TIOCSWINSZ as usize, &raw const size as usize])
            .expect("resized");
    }
}

#[track_caller]
fn ends(child: &mut Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("ours") {
            return status.code().unwrap_or(-1);
        }
        if start.elapsed() > Duration::from_secs(10) {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn the_program_has_a_terminal_of_its_own() {
    let terminal = Terminal::new();
    let script = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; \
                  echo $(ls /dev/pts); echo over >/dev/tty; readlink /proc/self/fd/1; exit 5";
    let mut child = terminal.sandboxed(script);
    assert_eq!(ends(&mut child), 5);
    terminal.shows("over");
    let seen = terminal.screen().replace("\r\n", " ");
    assert_eq!(seen.trim(), "/dev/pts/0 33 77 all 0 ptmx over /dev/pts/0");
}

fn keys_pushed_into_a_terminal_do_not_reach_the_callers() {
    // A terminal of one's own may be pushed into, where the kernel still allows that.
    let control = Terminal::new();
    let attacker = program();
    let attacker = attacker.to_str().expect("text");
    ends(&mut control.start(&[attacker, "__attack", "push"]));
    let allowed = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    control.shows(match allowed.is_ok_and(|allowed| allowed.trim() == "1") {
        true => "GOT pushed",
        false => "DENIED",
    });
    let terminal = Terminal::new();
    ends(&mut terminal.start(&[attacker, "__launch", "/zagi/attack", "__attack", "push"]));
    terminal.shows("DENIED");
    // Nothing waits to be read by whoever comes next.
    let waiting = 0_i32;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&terminal.slave) as usize;
    call(libc::SYS_ioctl, &[fd, libc::FIONREAD as usize, &raw const waiting as usize])
        .expect("asked");
    assert_eq!(waiting, 0);
}

fn the_callers_terminal_is_put_back() {
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let mut child = terminal.sandboxed("echo ready; read -r line; stty -echo; exit 0");
    terminal.shows("ready");
    assert!(terminal.is_raw(), "while it runs");
    terminal.types("\r");
    assert_eq!(ends(&mut child), 0);
    assert_eq!(terminal.modes(), before);
    // Also where nothing could be started, and where the caller is told to end.
    ends(&mut terminal.start(&[program().to_str().expect("text"), "__launch", "/no/such"]));
    assert_eq!(terminal.modes(), before);
    let mut child = terminal.sandboxed("echo again; sleep 60");
    terminal.shows("again");
    kill(pid(&child), Signal::SIGTERM).expect("there");
    assert_eq!(ends(&mut child), 128 + 15);
    assert_eq!(terminal.modes(), before);
}

fn keys_and_sizes_pass() {
    let mut terminal = Terminal::new();
    let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 3' INT; echo ready; \
                  read -r line; echo got $line; while :; do sleep 0.1; done";
    let mut child = terminal.sandboxed(script);
    terminal.shows("ready");
    terminal.types("words\r");
    terminal.shows("got words");
    // Typed once, seen once: by the program's own echo.
    assert_eq!(terminal.screen().matches("words").count(), 2, "{}", terminal.screen());
    terminal.resize(44, 99);
    terminal.shows("44 99");
    terminal.types("\x03");
    assert_eq!(ends(&mut child), 3);
    terminal.shows("interrupted");
    // A command below the shell gets it too, as in every terminal.
    let mut child = terminal.sandboxed("echo second; sleep 60; echo never");
    terminal.shows("second");
    // This shell loses an interrupt that comes while it starts a command, on any terminal.
    std::thread::sleep(Duration::from_millis(300));
    terminal.types("\x03");
    assert_eq!(ends(&mut child), 128 + 2);
    // The end of input.
    let mut child = terminal.sandboxed("echo third; cat; echo end");
    terminal.shows("third");
    terminal.types("\x04");
    assert_eq!(ends(&mut child), 0);
}

fn signals_pass() {
    for (signal, name) in
        [(Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP"), (Signal::SIGUSR1, "USR1")]
    {
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let terminal = Terminal::new();
        let mut child = terminal.sandboxed(&script);
        terminal.shows("ready");
        kill(pid(&child), signal).expect("there");
        assert_eq!(ends(&mut child), 9, "{name}");
        terminal.shows(&format!("got {name}"));
        // And without a terminal.
        let mut child = Command::new(program())
            .args(["__launch", "/bin/sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut said = child.stdout.take().expect("piped");
        said.read_exact(&mut [0; 6]).expect("ready");
        kill(pid(&child), signal).expect("there");
        assert_eq!(ends(&mut child), 9, "{name}");
    }
}

fn a_hangup_passes() {
    // Nobody reads beside this: when the master is dropped the window is closed.
    let pty = open(None);
    let stream = || Stdio::from(pty.slave.try_clone().expect("copied"));
    let script = "trap 'exit 8' HUP; echo ready; while :; do sleep 0.1; done";
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(program()).args(["__launch", "/bin/sh", "-c", script]);
    command.stdin(stream()).stdout(stream()).stderr(stream());
    let mut child = command.spawn().expect("starts");
    drop(command);
    let mut master = File::from(pty.master);
    master.read_exact(&mut [0; 5]).expect("ready");
    drop((pty.slave, master));
    assert_eq!(ends(&mut child), 8);
}

fn a_program_stops_and_goes_on_with_its_caller() {
    let mut terminal = Terminal::new();
    let program = program();
    let mut shell = terminal.start(&["/bin/bash", "--norc", "-i"]);
    terminal.types("PS1='pro''mpt> '\r");
    terminal.shows("prompt> ");
    let script = "echo rea\"\"dy; read -r line; echo got $line; exit 4";
    terminal.types(&format!("{} __launch /bin/sh -c '{script}'\r", program.display()));
    terminal.shows("ready");
    assert!(terminal.is_raw());
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.types("echo the she''ll\r");
    terminal.shows("the shell");
    terminal.types("fg\r");
    std::thread::sleep(Duration::from_millis(300));
    terminal.types("again\r");
    terminal.shows("got again");
    terminal.types("echo code $?\r");
    terminal.shows("code 4");
    // In the background it runs, and takes no key.
    terminal
        .types(&format!("{} __launch /bin/sh -c \"sleep 0.5; echo b''g\" &\r", program.display()));
    terminal.types("echo st''ill\r");
    terminal.shows("still");
    terminal.shows("bg");
    terminal.types("exit 0\r");
    assert_eq!(ends(&mut shell), 0);
}

fn pipes_and_files_pass_as_they_are() {
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("out");
    let out = File::create(&file).expect("made");
    let script = "test -t 0 || test -t 1 || test -t 2 || echo none; cat; \
                  readlink /proc/$$/fd/1 | cat >&2; exit 6";
    let mut child = Command::new(program())
        .args(["__launch", "/bin/sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(b"through\n").expect("read");
    let mut error = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
    assert_eq!(ends(&mut child), 6, "{error}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "none\nthrough\n");
    // The file itself, which no path inside leads to.
    assert!(error.contains("out"), "{error}");
    // And nothing else that the caller has open.
    let script = format!(
        "exec 7<&0; exec {} __launch /zagi/attack __attack descriptors",
        program().display()
    );
    let out = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).output();
    assert_eq!(outcome(&String::from_utf8_lossy(&out.expect("runs").stdout)), Some(false));
    // A reader that goes away is noticed.
    let script = format!("{} __launch yes | head -n 1", program().display());
    let out = Command::new("/bin/sh").args(["-c", &script]).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "y\n");
}

fn some_streams_on_a_terminal() {
    let terminal = Terminal::new();
    let before = terminal.modes();
    let mut child = Command::new(program())
        .args([
            "__launch",
            "/bin/sh",
            "-c",
            "test -t 0 || echo pipe; test -t 1 && echo terminal; cat",
        ])
        .stdin(Stdio::piped())
        .stdout(terminal.stream())
        .stderr(terminal.stream())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(b"through\n").expect("read");
    assert_eq!(ends(&mut child), 0);
    terminal.shows("through");
    assert_eq!(terminal.screen().replace("\r\n", " "), "pipe terminal through ");
    assert_eq!(terminal.modes(), before);
    // Output to a pipe, input from the terminal, which keeps its modes.
    let mut terminal = Terminal::new();
    let mut child = Command::new(program())
        .args(["__launch", "/bin/sh", "-c", "test -t 0 && echo terminal; cat"])
        .stdin(terminal.stream())
        .stdout(Stdio::piped())
        .stderr(terminal.stream())
        .spawn()
        .expect("starts");
    let mut said = child.stdout.take().expect("piped");
    let mut word = [0; 9];
    said.read_exact(&mut word).expect("a word");
    assert_eq!(&word, b"terminal\n");
    assert!(!terminal.is_raw());
    terminal.types("line\r");
    terminal.types("\x04");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("text");
    assert_eq!((ends(&mut child), rest.as_str()), (0, "line\n"));
}

fn a_flood_passes_whole() {
    let terminal = Terminal::new();
    let mut child = terminal.sandboxed("seq 1 60000; echo end");
    assert_eq!(ends(&mut child), 0);
    terminal.shows("end");
    let seen = terminal.screen();
    let lines: Vec<&str> = seen.split("\r\n").collect();
    assert_eq!(lines.len(), 60_002, "all lines, and the empty one at the end");
    assert_eq!(lines[59_999], "60000");
}
