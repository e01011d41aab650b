//! A workspace through NFS, by the programs of libnfs: this machine's kernel has no client.

use std::path::{Path, PathBuf};
use std::process::Command;

use zagi_integration::machine::{Machine, ORDINARY, Said, Who};

/// A workspace that is served, and how it is reached.
struct Served {
    machine: Machine,
    dir: PathBuf,
    url: String,
}

impl Served {
    fn new(who: Who) -> Served {
        let machine = Machine::new(who);
        let origin = super::git::repository(&machine, "letters");
        let url = mount(&machine, &["--via", "nfs", origin.to_str().unwrap(), "w"]);
        let dir = machine.work().join("w");
        Served { machine, dir, url }
    }

    /// The address of `path`, which libnfs's programs want with one `/` more before a file.
    fn at(&self, path: &str) -> String {
        let (export, query) = self.url.split_once('?').unwrap();
        format!("{export}/{path}?{query}")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Said {
        Said::of(self.machine.command(program, &self.machine.work()).args(arguments))
    }

    fn cat(&self, path: &str) -> Said {
        self.run("nfs-cat", &[&self.at(path)])
    }

    fn list(&self, path: &str) -> Vec<String> {
        let out = self.run("nfs-ls", &[&self.at(path)]).ok().out;
        let mut names: Vec<String> =
            out.lines().filter_map(|line| Some(line.split_whitespace().nth(5)?.into())).collect();
        names.sort();
        names
    }

    fn write(&self, path: &str, text: &str) {
        let local = self.machine.work().join("local");
        std::fs::write(&local, text).unwrap();
        self.machine.give(&local);
        self.run("nfs-cp", &[local.to_str().unwrap(), &self.at(path)]).ok();
        std::fs::remove_file(local).unwrap();
    }

    /// Calls of libnfs that none of its programs makes.
    fn script(&self, steps: &str) -> Said {
        self.run("python3", &["-c", &(LIBNFS.to_owned() + steps), &self.url])
    }
}

/// Finds libnfs and mounts; `check` takes what a call gave back.
const LIBNFS: &str = r#"
import ctypes, sys, os, signal, time
from ctypes import c_char_p as s, c_void_p as p, c_int
lib = ctypes.CDLL("libnfs.so.13")
for name in ("nfs_init_context", "nfs_parse_url_dir", "nfs_get_error"):
    getattr(lib, name).restype = p
class Url(ctypes.Structure):
    _fields_ = [("server", s), ("path", s), ("file", s)]
nfs = p(lib.nfs_init_context())
url = ctypes.cast(p(lib.nfs_parse_url_dir(nfs, s(sys.argv[1].encode()))), ctypes.POINTER(Url))[0]
def check(result):
    if result < 0:
        sys.exit(ctypes.string_at(lib.nfs_get_error(nfs)).decode())
    return result
check(lib.nfs_mount(nfs, s(url.server), s(url.path)))
"#;

/// Mounts, and gives the server's address.
fn mount(machine: &Machine, arguments: &[&str]) -> String {
    let said = machine.zagi(&[&["mount", "--json"], arguments].concat()).ok().json();
    assert_eq!(said["presented"], "nfs");
    said["nfs"]["url"].as_str().unwrap().to_owned()
}

fn worker(machine: &Machine) -> i32 {
    let status = machine.zagi(&["daemon", "status", "--json"]).ok().json();
    status["worker_pid"].as_i64().unwrap().try_into().unwrap()
}

fn round(who: Who) {
    let served = Served::new(who);
    let (machine, dir) = (&served.machine, &served.dir);
    assert_eq!(served.list(""), [".git", "alpha.txt", "link", "run", "sub"]);
    assert_eq!(served.cat("alpha.txt").ok().out, "alpha\n");
    served.write("new.txt", "new\n");
    served
        .script(
            r#"
beta = p()
check(lib.nfs_open(nfs, s(b"/sub/beta.txt"), c_int(os.O_WRONLY | os.O_TRUNC), ctypes.byref(beta)))
lib.nfs_pwrite.argtypes = [p, p, ctypes.c_uint64, ctypes.c_uint64, s]
check(lib.nfs_pwrite(nfs, beta, 0, 5, b"BETA\n"))
check(lib.nfs_fsync(nfs, beta))
check(lib.nfs_mkdir2(nfs, s(b"/made"), c_int(0o700)))
check(lib.nfs_rename(nfs, s(b"/new.txt"), s(b"/made/renamed.txt")))
check(lib.nfs_link(nfs, s(b"/alpha.txt"), s(b"/made/hard")))
check(lib.nfs_symlink(nfs, s(b"../alpha.txt"), s(b"/made/soft")))
check(lib.nfs_chmod(nfs, s(b"/run"), c_int(0o600)))
"#,
        )
        .ok();
    let refused = served.script("check(lib.nfs_mknod(nfs, s(b'/pipe'), c_int(0o10644), c_int(0)))");
    assert_ne!(refused.code, 0);

    // What was written is known, as of any mount.
    let status = machine.zagi(&["status", "--json", "w"]).ok().json();
    assert_eq!((&status["presented"], &status["mounted"]), (&"nfs".into(), &true.into()));
    let changed = status["source"]["changes"].as_array().unwrap();
    let paths: Vec<&str> = changed.iter().filter_map(|change| change["path"].as_str()).collect();
    assert!(paths.contains(&"sub/beta.txt") && paths.contains(&"made/renamed.txt"), "{paths:?}");

    machine.zagi(&["unmount", "w"]).ok();
    assert_ne!(served.cat("alpha.txt").code, 0, "it is served still");
    assert_eq!(machine.zagi(&["list", "--json"]).ok().json()[0]["mounted"], false);
    machine.zagi(&["mount", "--via", "fuse", "w"]).ok();
    let seen = "cat made/renamed.txt sub/beta.txt made/hard made/soft; stat -c %a made run; ls";
    let seen = machine.sh(dir, seen).ok().out;
    assert_eq!(seen, "new\nBETA\nalpha\nalpha\n700\n600\nalpha.txt\nlink\nmade\nrun\nsub\n");
    let status = machine.git(dir, &["status", "--porcelain"]).ok().out;
    assert_eq!(status, " M run\n M sub/beta.txt\n?? made/\n");
    machine.zagi(&["mount", "--via", "nfs", "w"]).fails(1, "is there already");
    machine.zagi(&["unmount", "w"]).ok();

    // And back, at another address: what was given out before is void.
    let url = mount(machine, &["--via", "nfs", "w"]);
    assert_ne!(url.split('?').next(), served.url.split('?').next());
    let served = Served { url, dir: dir.clone(), machine: served.machine };
    assert_eq!(served.cat("made/renamed.txt").ok().out, "new\n");
    served.machine.zagi(&["discard", "--yes", "w"]).ok();
    assert_ne!(served.cat("made/renamed.txt").code, 0, "it is served still");
    assert!(!served.dir.exists());
}

#[test]
fn round_as_root() {
    round(Who::Me);
}

#[test]
fn round_as_an_ordinary_user() {
    round(Who::Ordinary);
}

/// One client, with a file open, goes on while workers die: port and handles stay.
#[test]
fn a_client_goes_on_when_the_worker_or_all_of_the_daemon_is_killed() {
    let served = Served::new(Who::Ordinary);
    let status = served.machine.zagi(&["daemon", "status", "--json"]).ok().json();
    let supervisor = status["supervisor_pid"].as_i64().unwrap();
    let again = format!("{} daemon status --json", served.machine.program().display());
    let list = format!("{} list", served.machine.program().display());
    let first = worker(&served.machine);
    let steps = format!(
        r#"
import json
def worker():
    return json.loads(os.popen({again:?}).read())["worker_pid"]
made, layer = p(), p()
check(lib.nfs_create(nfs, s(b"/made"), c_int(os.O_RDWR), c_int(0o644), ctypes.byref(made)))
check(lib.nfs_open(nfs, s(b"/sub/beta.txt"), c_int(os.O_RDONLY), ctypes.byref(layer)))
buffer = ctypes.create_string_buffer(64)
at = 0
def pread(file, count):
    return check(lib.nfs_pread(nfs, file, ctypes.c_uint64(0), ctypes.c_uint64(count), buffer))
lib.nfs_pread.argtypes = [p, p, ctypes.c_uint64, ctypes.c_uint64, p]
lib.nfs_pwrite.argtypes = [p, p, ctypes.c_uint64, ctypes.c_uint64, s]
for round in range(5):
    check(lib.nfs_pwrite(nfs, made, at, 3, b"abc"))
    at += 3
    if round == 4:
        os.kill({supervisor}, signal.SIGKILL)
    os.kill(worker() if round < 4 else last, signal.SIGKILL)
    if round == 4:
        os.system({list:?})
    check(lib.nfs_pwrite(nfs, made, at, 3, b"def"))
    at += 3
    if pread(layer, 64) != 5 or buffer.raw[:5] != b"beta\n":
        sys.exit("another file")
    last = worker()
print(pread(made, 64), last)
"#
    );
    let said = served.script(&steps).ok();
    let last = said.out.lines().last().unwrap();
    assert!(last.starts_with("30 ") && last != format!("30 {first}"), "{}", said.out);
    assert_eq!(served.cat("made").ok().out, "abcdef".repeat(5));
}

#[test]
fn nobody_else_gets_in_even_by_the_right_address() {
    let served = Served::new(Who::Me);
    let other = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", ORDINARY, "--regid", "nogroup", "--clear-groups", "--"]);
        Said::of(command.arg(program).args(arguments).current_dir("/"))
    };
    let said = other("timeout", &["10", "nfs-ls", &served.at("")]);
    assert!(said.code != 0 && said.out.is_empty(), "{}", said.out);
    // Where the address is kept, nobody else may look.
    let home = served.machine.home();
    let kept = kept(&home);
    assert_ne!(other("cat", &[kept.to_str().unwrap()]).code, 0);
    // The right port and another path: not even for root.
    let (export, query) = served.url.split_once('?').unwrap();
    let wrong = export.rsplit_once('/').unwrap().0;
    for path in ["", "/", "/sub", "/00000000000000000000000000000000"] {
        let said = served.run("nfs-ls", &[&format!("{wrong}{path}?{query}")]);
        assert!(said.code != 0 && said.out.is_empty(), "{path}: {}", said.out);
    }
    assert_eq!(served.cat("alpha.txt").ok().out, "alpha\n");
}

fn kept(home: &Path) -> PathBuf {
    let all = std::fs::read_dir(home.join("workspaces")).unwrap().flatten();
    let found = all.map(|entry| entry.path().join("nfs")).find(|path| path.exists());
    found.expect("it is kept while it is served")
}

#[test]
fn what_to_run_is_said_where_the_kernel_cannot_mount() {
    for (who, sudo, why) in [(Who::Me, "  mount ", "nfs"), (Who::Ordinary, "  sudo mount ", "root")]
    {
        let machine = Machine::new(who);
        let origin = super::git::repository(&machine, "letters");
        let origin = origin.to_str().unwrap();
        let said = machine.zagi(&["mount", "--via", "nfs", origin, "w"]).ok().err;
        assert!(said.contains("served        nfs"), "{said}");
        let command = said.lines().last().unwrap();
        assert!(command.starts_with(&(sudo.to_owned() + "-t nfs -o vers=3,")), "{said}");
        assert!(command.ends_with(machine.work().join("w").to_str().unwrap()), "{said}");
        assert!(said.contains("not mounted at") && said.contains(why), "{said}");
        // Asked again, it says so again.
        let again = machine.zagi(&["mount", "./w"]).ok().err;
        assert_eq!(again.lines().last().unwrap(), command);
        assert_eq!(std::fs::read_dir(machine.work().join("w")).unwrap().count(), 0);
        machine
            .zagi(&["mount", "--via", "nfs", "--allow-other", origin, "x"])
            .fails(1, "lets no other users in");
        machine.zagi(&["daemon", "stop"]).ok();
        assert_eq!(machine.zagi(&["list", "--json"]).ok().json()[0]["mounted"], false);
    }
}
