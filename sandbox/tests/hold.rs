//! What holds against an agent besides the view of files: processes, system calls, sockets,
//! limits. And what works all the same.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use zagi_sandbox::{Exit, Keeper, Limit, Profile, SandboxError, Step, Weaker};

use crate::support::*;
use crate::sys::call;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("cannot_reach_a_process_outside", cannot_reach_a_process_outside),
    ("cannot_reach_init", cannot_reach_init),
    ("a_debugger_works_but_for_a_service", a_debugger_works_but_for_a_service),
    ("cannot_search_the_users_keys", cannot_search_the_users_keys),
    ("cannot_make_sockets_of_rare_kinds", cannot_make_sockets_of_rare_kinds),
    ("cannot_pass_the_empty_network", cannot_pass_the_empty_network),
    ("cannot_change_mounts", cannot_change_mounts),
    ("closed_calls_are_closed", closed_calls_are_closed),
    ("other_architectures_are_closed", other_architectures_are_closed),
    ("cannot_make_a_sandbox_inside", cannot_make_a_sandbox_inside),
    ("writes_no_core", writes_no_core),
    ("landlock_holds_or_is_said_not_to", landlock_holds_or_is_said_not_to),
    ("a_limit_holds_or_is_said_not_to", a_limit_holds_or_is_said_not_to),
    ("a_port_inside_is_served_outside", a_port_inside_is_served_outside),
    ("has_a_home_that_shows_what_is_chosen", has_a_home_that_shows_what_is_chosen),
    ("ordinary_programs_work", ordinary_programs_work),
];

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn workspace() -> tempfile::TempDir {
    tempfile::tempdir().expect("made")
}

/// A process of the user's with a canary in its memory, in its directory and on its input.
struct Victim {
    process: Child,
    dir: tempfile::TempDir,
}

/// Backwards: an attacker's own arguments must not be what it finds.
const CANARY: &str = "detnalp-yranac";

impl Victim {
    fn new() -> Victim {
        let dir = workspace();
        fs::write(dir.path().join("id"), "canary").expect("written");
        // In a user namespace of its own, which its user may enter.
        let process = Command::new("unshare")
            .args(["--user", "--map-root-user", "sleep", "60"])
            .env("ZAGI_CANARY", CANARY.chars().rev().collect::<String>())
            .current_dir(dir.path())
            .stdin(File::open(dir.path().join("id")).expect("there"))
            .spawn()
            .expect("starts");
        let start = Instant::now();
        let name = format!("/proc/{}/comm", process.id());
        while fs::read_to_string(&name).is_ok_and(|name| name.trim() != "sleep") {
            assert!(start.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(2));
        }
        Victim { process, dir }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn cannot_reach_a_process_outside() {
    let victim = Victim::new();
    let pid = victim.process.id().to_string();
    let id = victim.dir.path().join("id");
    let links =
        ["cwd/id", "fd/0", &format!("root{}", text(&id))].map(|link| format!("/proc/{pid}/{link}"));
    let dir = workspace();
    for attack in [
        vec!["environ", &pid, CANARY],
        vec!["mem", &pid, CANARY],
        vec!["vm-readv", &pid, CANARY],
        vec!["pidfd-getfd", &pid],
        vec!["setns", &pid],
        vec!["ptrace", &pid],
        vec!["read", &links[0]],
        vec!["read", &links[1]],
        vec!["read", &links[2]],
    ] {
        impossible(&attack, agent(dir.path(), &attack));
    }
}

/// It holds the control socket. The attacks' control is the test above.
fn cannot_reach_init() {
    let dir = workspace();
    for attack in [
        vec!["environ", "1", CANARY],
        vec!["mem", "1", CANARY],
        vec!["vm-readv", "1", CANARY],
        vec!["pidfd-getfd", "1"],
        vec!["setns", "1"],
        vec!["ptrace", "1"],
        vec!["read", "/proc/1/fd/1"],
        vec!["read", "/proc/1/root/etc/passwd"],
    ] {
        let (exit, said) = run(&agent(dir.path(), &attack));
        assert_eq!(outcome(&said), Some(false), "{attack:?}: {exit} {said}");
    }
}

fn a_debugger_works_but_for_a_service() {
    let dir = workspace();
    let script = "sleep 5 & /zagi/attack __attack ptrace $!; kill $!";
    for (profile, works) in [
        (Profile::Agent, true),
        (Profile::App, true),
        (Profile::Install, true),
        (Profile::Service, false),
    ] {
        let (_, said) = run(&at_work(profile, dir.path(), &["/bin/sh", "-c", script]));
        assert_eq!(outcome(&said), Some(works), "{profile:?}: {said}");
    }
}

fn cannot_search_the_users_keys() {
    const KEYCTL_UNLINK: usize = 9;
    const USER_KEYRING: usize = -4_isize as usize;
    let name = format!("zagi-test-{}", std::process::id());
    let [kind, id] = ["user", &name].map(|text| std::ffi::CString::new(text).expect("no NUL"));
    let value = b"canary";
    let arguments = [kind.as_ptr() as usize, id.as_ptr() as usize, value.as_ptr() as usize, 6];
    let key = call(libc::SYS_add_key, &[&arguments[..], &[USER_KEYRING]].concat()).expect("added");
    let dir = workspace();
    impossible(&["key", &name], agent(dir.path(), &["key", &name]));
    call(libc::SYS_keyctl, &[KEYCTL_UNLINK, key, USER_KEYRING]).expect("it was linked");
}

fn cannot_make_sockets_of_rare_kinds() {
    let dir = workspace();
    // vsock; netlink for device events; netlink for the sockets of others.
    for rare in [["40", "1", "0"], ["16", "3", "15"], ["16", "3", "4"]] {
        let attack = [&["socket"], &rare[..]].concat();
        impossible(&attack, agent(dir.path(), &attack));
    }
    // Unix, TCP, UDP, and the list of network interfaces.
    for common in [["1", "1", "0"], ["2", "1", "0"], ["10", "2", "0"], ["16", "3", "0"]] {
        let attack = [&["socket"], &common[..]].concat();
        let (_, said) = run(&agent(dir.path(), &attack));
        assert_eq!(outcome(&said), Some(true), "{common:?}: {said}");
    }
}

fn cannot_pass_the_empty_network() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port().to_string();
    let dir = workspace();
    impossible(&["mptcp", &port], agent(dir.path(), &["mptcp", &port]));
    let mut plan = agent(dir.path(), &["mptcp", &port]);
    plan.network = true;
    assert_eq!(outcome(&run(&plan).1), Some(true), "with the network");
}

fn cannot_change_mounts() {
    let dir = workspace();
    for (what, at) in [("tmpfs", "/tmp"), ("writable", "/"), ("new-api", "/")] {
        impossible(&["mount", what, at], agent(dir.path(), &["mount", what, at]));
    }
    let file = dir.path().join("pinned");
    fs::write(&file, "x").expect("written");
    for what in ["away", "writable"] {
        let plan = agent(dir.path(), &["mount", what, text(&file)]).pin(&file, false);
        let (_, said) = run(&plan);
        assert_eq!(outcome(&said), Some(false), "{said}");
    }
}

/// An answer that tells of looking at the arguments, and one that tells of not looking.
fn closed_calls_are_closed() {
    let dir = workspace();
    let root = nix::unistd::geteuid().is_root();
    for attack in ["io-uring", "personality", "clone-user"] {
        impossible(&[attack], agent(dir.path(), &[attack]));
    }
    let answer = |said: &str| said.trim().rsplit("(os error ").next().map(str::to_owned);
    for (number, ordinary, errno) in [
        (libc::SYS_clone3, true, "38)"),
        (libc::SYS_bpf, false, "1)"),
        (libc::SYS_perf_event_open, false, "1)"),
        (libc::SYS_userfaultfd, true, "1)"),
        (libc::SYS_kexec_load, false, "1)"),
        (libc::SYS_init_module, false, "1)"),
        (libc::SYS_open_by_handle_at, false, "1)"),
        (libc::SYS_request_key, true, "1)"),
        (libc::SYS_pivot_root, false, "1)"),
        (libc::SYS_mount_setattr, true, "1)"),
        (libc::SYS_acct, false, "1)"),
        (libc::SYS_setns, true, "1)"),
        (libc::SYS_pidfd_getfd, true, "1)"),
    ] {
        let attack = ["call".to_owned(), number.to_string()];
        let attack = [attack[0].as_str(), attack[1].as_str()];
        if ordinary || root {
            assert_ne!(answer(&outside(&attack)).as_deref(), Some(errno), "control {number}");
        }
        let (_, said) = run(&agent(dir.path(), &attack));
        assert_eq!(answer(&said).as_deref(), Some(errno), "{number}: {said}");
    }
    let child = spawn(&agent(dir.path(), &["io-uring"]));
    assert!(child.enforced().calls_closed > 30);
}

#[cfg(target_arch = "x86_64")]
fn other_architectures_are_closed() {
    let dir = workspace();
    assert_eq!(outcome(&outside(&["i386"])), Some(true), "control");
    for profile in [Profile::Agent, Profile::App, Profile::Install, Profile::Service] {
        let plan = at_work(profile, dir.path(), &["/zagi/attack", "__attack", "i386"]);
        assert_eq!(run(&plan), (Exit::Signal(libc::SIGSYS), String::new()));
    }
    // Few kernels have x32 at all; there the filter is what answers.
    let getpid = (0x4000_0000 + libc::SYS_getpid).to_string();
    let (_, said) = run(&agent(dir.path(), &["call", &getpid]));
    assert!(said.contains("(os error 38)"), "{said}");
}

#[cfg(not(target_arch = "x86_64"))]
fn other_architectures_are_closed() {}

fn cannot_make_a_sandbox_inside() {
    let dir = workspace();
    impossible(&["nested"], agent(dir.path(), &["nested"]));
}

fn writes_no_core() {
    let cores = |dir: &Path| {
        let names = fs::read_dir(dir).expect("there").flatten().map(|e| e.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("core")).count()
    };
    let control = workspace();
    let script = format!(
        "ulimit -c unlimited; exec {} __attack core {}",
        program().display(),
        control.path().display()
    );
    let status = Command::new("/bin/sh").args(["-c", &script]).status().expect("starts");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("there");
    // With another pattern it is somewhere else: then what follows is all that is seen.
    assert!(!pattern.starts_with("core") || cores(control.path()) == 1, "control");
    let dir = workspace();
    let script = format!("ulimit -c; exec /zagi/attack __attack core {}", text(dir.path()));
    let (exit, said) = run(&at_work(Profile::App, dir.path(), &["/bin/sh", "-c", &script]));
    assert_eq!(exit, Exit::Signal(libc::SIGABRT), "{said}");
    assert_eq!(cores(dir.path()), 0);
    let script = "cat /proc/self/coredump_filter; grep core /proc/self/limits";
    let (_, said) = run(&at_work(Profile::App, dir.path(), &["/bin/sh", "-c", script]));
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["00000000", "Max", "core", "file", "size", "1", "1", "bytes"]);
}

/// What [`landlock_holds_or_is_said_not_to`] starts: a process for which the kernel has none.
pub(crate) fn without_landlock() -> ExitCode {
    let open = seccompiler::SeccompAction::Allow;
    let closed = seccompiler::SeccompAction::Errno(libc::ENOSYS as u32);
    let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().expect("known");
    let filter = seccompiler::SeccompFilter::new(rules, open, closed, arch).expect("compiles");
    let helper = program();
    let program: seccompiler::BpfProgram = filter.try_into().expect("compiles");
    seccompiler::apply_filter(&program).expect("applies");
    let dir = workspace();
    let plan = agent(dir.path(), &["list", "."]);
    match zagi_sandbox::spawn(&plan, &helper) {
        Err(SandboxError::Setup { step: Step::Landlock, source, .. }) => println!("{source}"),
        other => panic!("{other:?}"),
    }
    let mut weaker = plan.clone();
    weaker.weaker.push(Weaker::Landlock);
    for plan in [weaker, attack(&["list", "/"])] {
        let child = spawn(&plan);
        assert_eq!(child.enforced().landlock, None);
        assert_eq!(child.enforced().missing, [Weaker::Landlock]);
        assert!(!child.enforced().abstract_sockets_closed);
    }
    ExitCode::SUCCESS
}

fn landlock_holds_or_is_said_not_to() {
    let dir = workspace();
    let child = spawn(&agent(dir.path(), &["list", "."]));
    let kernel = zagi_sandbox::probe(&program()).landlock_abi;
    assert_eq!(child.enforced().landlock, kernel);
    assert!(child.enforced().missing.is_empty());
    let out = Command::new(program()).arg("__without-landlock").output().expect("starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("no Landlock"), "{said}");
}

fn a_limit_holds_or_is_said_not_to() {
    let dir = workspace();
    let script = "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; echo all";
    let mut plan = at_work(Profile::Agent, dir.path(), &["/bin/sh", "-c", script]);
    // Limits are older than what an agent needs of Landlock.
    plan.weaker.push(Weaker::Landlock);
    plan.limits.processes = Some(30);
    plan.limits.cpu = Some(50);
    let refused = match zagi_sandbox::spawn(&plan, &program()) {
        Ok(child) => {
            let by = [(Limit::Processes, Keeper::Cgroup), (Limit::Cpu, Keeper::Cgroup)];
            assert_eq!(child.enforced().limits, by);
            false
        }
        Err(SandboxError::Setup { step: Step::Limits, .. }) => true,
        other => panic!("{other:?}"),
    };
    plan.weaker.push(Weaker::Limits);
    let mut child = spawn(&plan);
    let limits = child.enforced().limits.clone();
    assert_eq!(child.enforced().missing.contains(&Weaker::Limits), refused);
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    child.wait().expect("reported");
    let keeper = limits.iter().find(|(limit, _)| *limit == Limit::Processes).expect("asked").1;
    assert_eq!(said.contains("all"), keeper == Keeper::Nobody, "{keeper:?}: {said}");
    assert!(keeper != Keeper::Nobody || nix::unistd::geteuid().is_root());
    // Memory has a limit for each process, for everybody.
    let script = "x=$(head -c 40000000 /dev/zero | tr '\\0' a); echo ${#x}";
    let mut plan = at_work(Profile::Agent, dir.path(), &["/bin/sh", "-c", script]);
    plan.weaker.push(Weaker::Landlock);
    assert_eq!(run(&plan).1.trim(), "40000000", "control");
    plan.limits.memory = Some(30_000_000);
    plan.weaker.push(Weaker::Limits);
    let (exit, said) = run(&plan);
    assert!(!exit.success(), "{exit} {said}");
}

fn a_port_inside_is_served_outside() {
    let dir = workspace();
    let mut plan = agent(dir.path(), &["tcp", "127.0.0.1:3128"]);
    assert_eq!(outcome(&run(&plan).1), Some(false), "control: nobody listens");
    plan.listen = [3128, 3129].map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).to_vec();
    let script =
        "exec 3<>/dev/tcp/127.0.0.1/3129; echo asked >&3; read -r answer <&3; echo $answer";
    plan.argv = ["/bin/bash", "-c", script].map(str::to_owned).to_vec();
    let mut child = spawn(&plan);
    assert_eq!(child.listeners.len(), 2);
    // Not on this machine's own loopback.
    assert!(TcpStream::connect("127.0.0.1:3129").is_err());
    let (stream, _) = child.listeners[1].accept().expect("it connects");
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).expect("text");
    assert_eq!(line, "asked\n");
    (&stream).write_all(b"answered\n").expect("read");
    line.clear();
    child.stdout.take().expect("piped").read_to_string(&mut line).expect("text");
    assert_eq!(line, "answered\n");
    plan.network = true;
    assert!(matches!(
        zagi_sandbox::spawn(&plan, &program()),
        Err(SandboxError::Setup { step: Step::Plan, .. })
    ));
}

/// At the path of the user's own, with one directory of it and a workspace below.
fn has_a_home_that_shows_what_is_chosen() {
    let home = workspace();
    for (path, content) in [(".ssh/id", "canary"), (".agent/state", "old"), ("work/file", "text")] {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, content).expect("written");
    }
    let at = |path: &str| home.path().join(path);
    let in_it = |args: &[&str]| {
        let mut plan = agent(&at("work"), args).bind(at(".agent"), at(".agent"), true);
        plan.identity.home = home.path().to_owned();
        plan.env("HOME", text(home.path()))
    };
    let key = at(".ssh/id");
    impossible(&["read", text(&key)], in_it(&["read", text(&key)]));
    assert_eq!(run(&in_it(&["list", text(home.path())])).1.trim(), "GOT [\".agent\", \"work\"]");
    assert_eq!(run(&in_it(&["read", "file"])).1.trim(), "GOT text");
    assert_eq!(outcome(&run(&in_it(&["write", text(&at(".agent/state"))])).1), Some(true));
    assert_eq!(fs::read_to_string(at(".agent/state")).expect("there"), "oldx", "it is the host's");
    assert_eq!(outcome(&run(&in_it(&["write", text(&at(".bashrc"))])).1), Some(true));
    assert!(!at(".bashrc").exists(), "the rest of it is gone with the program");
}

/// Threads, pipes, processes, loopback, and the names of things, by a language that is there.
fn ordinary_programs_work() {
    let dir = workspace();
    let script = r#"
        use strict; use IO::Socket::INET; use POSIX;
        my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => "localhost") or die "listen $!";
        my $port = $server->sockport;
        if (!fork) { IO::Socket::INET->new("localhost:$port")->print("hello\n"); exit }
        print $server->accept->getline;
        print scalar getpwuid($<), "\n";
        print `echo from a shell`;
        open my $terminal, "+<", "/dev/pts/ptmx" or die "ptmx $!";
        rename "a", "b" if open my $file, ">", "a";
        mkdir "d" and link "b", "d/c" or die "link $!"; rename "d/c", "e" or die "rename $!";
        print join(" ", sort glob("*")), "\n";
    "#;
    for profile in [Profile::Agent, Profile::App, Profile::Install, Profile::Service] {
        let sub = dir.path().join(format!("{profile:?}"));
        fs::create_dir(&sub).expect("made");
        let (exit, said) = run(&at_work(profile, &sub, &["perl", "-e", script]));
        assert_eq!((exit, said.as_str()), (Exit::Code(0), "hello\nzagi\nfrom a shell\nb d e\n"));
    }
}
