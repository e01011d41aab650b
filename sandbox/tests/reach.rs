//! What the program cannot reach.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use zagi_sandbox::{Exit, SandboxError, Step};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("sees_only_its_root", sees_only_its_root),
    ("cannot_read_the_home", cannot_read_the_home),
    ("cannot_reach_a_socket_of_the_user", cannot_reach_a_socket_of_the_user),
    ("cannot_write_to_a_read_only_bind", cannot_write_to_a_read_only_bind),
    ("cannot_write_to_the_system", cannot_write_to_the_system),
    ("cannot_change_the_host_through_proc_or_dev", cannot_change_the_host_through_proc_or_dev),
    ("a_submount_of_a_read_only_bind_is_read_only", a_submount_of_a_read_only_bind_is_read_only),
    ("cannot_see_other_processes", cannot_see_other_processes),
    ("cannot_reach_the_network_when_it_is_off", cannot_reach_the_network_when_it_is_off),
    ("cannot_reach_abstract_sockets", cannot_reach_abstract_sockets),
    ("cannot_gain_capabilities", cannot_gain_capabilities),
    ("cannot_gain_from_a_setuid_program", cannot_gain_from_a_setuid_program),
    ("inherits_no_descriptor", inherits_no_descriptor),
    ("inherits_no_variable", inherits_no_variable),
    ("has_no_terminal", has_no_terminal),
    ("a_target_through_a_link_is_refused", a_target_through_a_link_is_refused),
    ("the_workspace_is_at_a_canonical_path", the_workspace_is_at_a_canonical_path),
    ("has_a_home_a_name_and_scratch_space", has_a_home_a_name_and_scratch_space),
];

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// A canary that the user can read outside.
fn canary() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("id_ed25519");
    fs::write(&file, "canary").expect("written");
    let path = text(&file).to_owned();
    (dir, path)
}

fn sees_only_its_root() {
    let (exit, said) = run(&attack(&["list", "/"]));
    assert_eq!(exit, Exit::Code(0), "{said}");
    for absent in ["run", "root", "sys", "mnt", "srv", "media", "boot", "opt"] {
        assert!(!said.contains(&format!("{absent:?}")), "/{absent} in {said}");
    }
    for (path, only) in
        [("/home", None), ("/var", Some("[\"tmp\"]")), ("/zagi", Some("[\"attack\", \"home\"]"))]
    {
        let (_, said) = run(&attack(&["list", path]));
        match only {
            Some(only) => assert_eq!(said.trim(), format!("GOT {only}")),
            None => assert_eq!(outcome(&said), Some(false), "{said}"),
        }
    }
}

fn cannot_read_the_home() {
    let (_dir, path) = canary();
    impossible(&["read", &path], attack(&["read", &path]));
    // The control of the sandbox itself: what is bound can be read.
    let plan = attack(&["read", "/zagi/key"]).bind(&path, "/zagi/key", false);
    assert_eq!(run(&plan).1.trim(), "GOT canary");
    // Not by way of init, which was started on the host.
    for way in ["/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/root/.."] {
        let (_, said) = run(&attack(&["read", &format!("{way}{path}")]));
        assert_eq!(outcome(&said), Some(false), "{way}: {said}");
    }
}

fn cannot_reach_a_socket_of_the_user() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("agent.sock");
    let _listener = UnixListener::bind(&path).expect("binds");
    impossible(&["unix", text(&path)], attack(&["unix", text(&path)]));
}

fn cannot_write_to_a_read_only_bind() {
    let (dir, path) = canary();
    let plan = |writable| {
        attack(&["write", "/zagi/source/id_ed25519"]).bind(dir.path(), "/zagi/source", writable)
    };
    impossible(&["write", &path], plan(false));
    assert_eq!(fs::read_to_string(&path).expect("there"), "canaryx", "the control's x alone");
    assert_eq!(outcome(&run(&plan(true)).1), Some(true), "a writable bind is writable");
    assert_eq!(fs::read_to_string(&path).expect("there"), "canaryxx");
    for act in [["chmod-same", "/zagi/source/id_ed25519"], ["write", "/zagi/source/new"]] {
        let plan = attack(&act).bind(dir.path(), "/zagi/source", false);
        assert_eq!(outcome(&run(&plan).1), Some(false), "{act:?}");
    }
}

fn cannot_write_to_the_system() {
    // Only root has a control here; for both it must fail inside.
    for path in ["/usr/zagi-canary", "/etc/zagi-canary", "/zagi-canary", "/usr/bin/zagi-canary"] {
        let (_, said) = run(&attack(&["write", path]));
        assert_eq!(outcome(&said), Some(false), "{path}: {said}");
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(outcome(&outside(&["write", "/usr/zagi-canary"])), Some(true));
        fs::remove_file("/usr/zagi-canary").expect("the control made it");
        impossible(
            &["open-write", "/etc/ld.so.cache"],
            attack(&["open-write", "/etc/ld.so.cache"]),
        );
    }
}

fn cannot_change_the_host_through_proc_or_dev() {
    for attempt in [
        ["open-write", "/proc/sys/kernel/hostname"],
        ["open-write", "/proc/sys/kernel/core_pattern"],
        ["open-write", "/proc/sysrq-trigger"],
        ["chmod-same", "/dev/null"],
        ["read", "/proc/keys"],
    ] {
        let (_, said) = run(&attack(&attempt));
        let hidden = said.trim() == "GOT";
        assert!(outcome(&said) == Some(false) || hidden, "{attempt:?}: {said}");
        // A kernel may be built without one of them.
        if nix::unistd::geteuid().is_root() && Path::new(attempt[1]).exists() {
            assert_eq!(outcome(&outside(&attempt)), Some(true), "control {attempt:?}");
        }
    }
    // Its control is the launcher itself, which wrote it a moment before.
    let (_, said) = run(&attack(&["open-write", "/proc/sys/user/max_user_namespaces"]));
    assert_eq!(outcome(&said), Some(false), "{said}");
    for device in ["null", "zero", "full", "random", "urandom"] {
        let (_, said) = run(&attack(&["open-write", &format!("/dev/{device}")]));
        assert_eq!(outcome(&said), Some(true), "/dev/{device}: {said}");
    }
}

/// Only root can mount outside; for the user the same is seen on `/proc/self/mountinfo`,
/// which the sandbox checks for every mount.
fn a_submount_of_a_read_only_bind_is_read_only() {
    let (_, said) = run(&attack(&["read", "/proc/self/mountinfo"]));
    for line in said.trim_start_matches("GOT ").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if fields.len() > 5 && fields[4].starts_with("/usr") {
            assert!(fields[5].split(',').any(|o| o == "ro"), "{line}");
            assert!(fields[5].split(',').any(|o| o == "nosuid"), "{line}");
        }
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("made");
    let below = dir.path().join("below");
    fs::create_dir(&below).expect("made");
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .expect("root mounts");
    let control = outside(&["write", text(&below.join("x"))]);
    let plan = attack(&["write", "/zagi/source/below/y"]).bind(dir.path(), "/zagi/source", false);
    let (_, said) = run(&plan);
    let (_, seen) =
        run(&attack(&["read", "/zagi/source/below/x"]).bind(dir.path(), "/zagi/source", false));
    umount2(&below, MntFlags::MNT_DETACH).expect("was mounted");
    assert_eq!(outcome(&control), Some(true));
    assert_eq!(seen.trim(), "GOT x", "the submount came along");
    assert_eq!(outcome(&said), Some(false), "{said}");
}

fn cannot_see_other_processes() {
    let mut other = Command::new("sleep").arg("60").spawn().expect("starts");
    let pid = other.id().to_string();
    impossible(&["signal-0", &pid], attack(&["signal-0", &pid]));
    let (_, said) = run(&attack(&["list", "/proc"]));
    let seen = said.split('"').filter(|name| name.parse::<u32>().is_ok()).count();
    assert_eq!(seen, 2, "init and itself: {said}");
    other.kill().expect("ours");
    other.wait().expect("ours");
}

fn cannot_reach_the_network_when_it_is_off() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("binds");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let tcp_at = tcp.local_addr().expect("bound").to_string();
    let udp_at = udp.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            // The asker may be gone.
            let _ = udp.send_to(&buffer[..n], from);
        }
    });
    for attempt in [["tcp", &tcp_at], ["udp", &udp_at]] {
        impossible(&attempt, attack(&attempt));
        let mut plan = attack(&attempt);
        plan.network = true;
        assert_eq!(outcome(&run(&plan).1), Some(true), "with the network: {attempt:?}");
    }
    assert_eq!(outcome(&run(&attack(&["read", "/etc/resolv.conf"])).1), Some(false));
    // `lo` is its own and works: a program can talk to itself.
    let (exit, said) = run(&plan(&["/bin/sh", "-c", "cat /proc/net/dev /proc/net/fib_trie"]));
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert!(said.contains("127.0.0.1"), "lo is up: {said}");
    assert!(!said.contains("eth"), "and alone: {said}");
}

fn cannot_reach_abstract_sockets() {
    let name = format!("zagi-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("short");
    let _listener = UnixListener::bind_addr(&address).expect("binds");
    impossible(&["abstract", &name], attack(&["abstract", &name]));
    let mut plan = attack(&["abstract", &name]);
    plan.network = true;
    let mut child = spawn(&plan);
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    let closed = child.enforced().abstract_sockets_closed;
    assert_eq!(outcome(&said), Some(!closed), "what is said to be enforced is: {said}");
}

fn cannot_gain_capabilities() {
    impossible(&["unshare-user"], attack(&["unshare-user"]));
    impossible(&["capabilities"], attack(&["capabilities"]));
    assert_eq!(outcome(&run(&attack(&["unshare-mount"])).1), Some(false));
    let child = spawn(&attack(&["capabilities"]));
    let mut separate = child.enforced().namespaces.clone();
    separate.sort();
    assert_eq!(separate, ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]);
    assert_eq!(child.enforced().groups_dropped, nix::unistd::geteuid().is_root());
}

fn cannot_gain_from_a_setuid_program() {
    // Made by the root half, which alone can; for root itself there is nothing to gain.
    let Some(setuid) = std::env::var_os("ZAGI_TEST_SETUID") else {
        assert!(nix::unistd::geteuid().is_root(), "run as root: this needs a setuid file");
        return;
    };
    let uid = nix::unistd::geteuid().to_string();
    let out = Command::new(&setuid).args(["__attack", "other-uid", &uid]).output().expect("starts");
    assert_eq!(outcome(&String::from_utf8_lossy(&out.stdout)), Some(true), "control");
    let plan = plan(&["/zagi/setuid", "__attack", "other-uid", "1000"]).bind(
        Path::new(&setuid),
        "/zagi/setuid",
        false,
    );
    let (_, said) = run(&plan);
    assert_eq!(said.trim(), "DENIED 1000");
}

fn inherits_no_descriptor() {
    let (_dir, path) = canary();
    let secret = fs::File::open(&path).expect("there");
    fcntl(secret.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor");
    impossible(&["descriptors"], attack(&["descriptors"]));
    let (_, said) = run(&plan(&["/bin/sh", "-c", "readlink /proc/self/fd/0"]));
    assert_eq!(said.trim(), "/dev/null");
}

fn inherits_no_variable() {
    // `cargo test` sets it, and so does the account of every user.
    let name = "PATH";
    let mut inside = attack(&["environment", name]);
    inside.env.clear();
    impossible(&["environment", name], inside);
    let plan = attack(&["environment", "GIVEN"]).env("GIVEN", "by the plan");
    assert!(run(&plan).1.starts_with("GOT by the plan"));
}

fn has_no_terminal() {
    let (_, said) = run(&attack(&["terminal"]));
    assert_eq!(outcome(&said), Some(false), "{said}");
    // Leader of its own session: field 6 of proc_pid_stat(5).
    let (_, said) =
        run(&plan(&["/bin/sh", "-c", "read -r p a b c d s rest </proc/$$/stat; echo $$ $s"]));
    let ids: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(ids.len(), 2, "{said}");
    assert_eq!(ids[0], ids[1]);
}

fn a_target_through_a_link_is_refused() {
    let dir = tempfile::tempdir().expect("made");
    symlink("/etc", dir.path().join("link")).expect("made");
    let plan = plan(&["/bin/true"]).bind(dir.path(), "/zagi/workspace", true).bind(
        "/usr",
        "/zagi/workspace/link/usr",
        false,
    );
    match zagi_sandbox::spawn(&plan, &program()) {
        Err(SandboxError::Setup { step: Step::Bind, path, .. }) => {
            assert_eq!(path.as_deref(), Some("/zagi/workspace/link/usr"));
        }
        other => panic!("{other:?}"),
    }
}

fn the_workspace_is_at_a_canonical_path() {
    let dir = tempfile::tempdir().expect("made");
    assert!(!Path::new("/zagi/workspace").exists(), "not on the host");
    let mut plan = plan(&["/bin/sh", "-c", "pwd && echo made >file && id -u"]).bind(
        dir.path(),
        "/zagi/workspace",
        true,
    );
    plan.cwd = "/zagi/workspace".into();
    let (exit, said) = run(&plan);
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "/zagi/workspace\n1000\n"));
    let made = dir.path().join("file");
    assert_eq!(fs::read_to_string(&made).expect("made"), "made\n");
    assert_eq!(fs::metadata(&made).expect("made").uid(), nix::unistd::geteuid().as_raw());
}

fn has_a_home_a_name_and_scratch_space() {
    let script = "set -e; cd ~; echo x >x; echo x >/tmp/x; echo x >/dev/shm/x; \
                  echo x >/var/tmp/x; ls /usr/bin >/dev/null; id -un; uname -n; pwd";
    let plan = plan(&["/bin/sh", "-c", script]).env("HOME", "/zagi/home");
    let (exit, said) = run(&plan);
    assert_eq!((exit, said.as_str()), (Exit::Code(0), "zagi\nzagi\n/zagi/home\n"));
    assert!(!Path::new("/tmp/x").exists(), "the scratch space is its own");
}
