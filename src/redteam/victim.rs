//! A process of the user's that holds values: what an attacker wants to get into.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{Backlog, ControlMessage, MsgFlags, bind, listen, sendmsg};
use zagi_sandbox::attempt;

use super::canary::Canaries;

/// The variable that its values are given in, and are to be found in.
pub const VARIABLE: &str = "ZAGI_CANARIES";
/// How long it lives when nobody ends it.
const LIFE: Duration = Duration::from_secs(120);

/// Where its things are: all that an attacker is told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Case {
    /// Its process.
    pub pid: i32,
    /// Whether all other processes that are seen are attacked, too: inside, where the number above
    /// may mean nothing. Outside they are somebody's.
    #[serde(default)]
    pub all: bool,
    /// What is the user's: `home`, `private`, `run`.
    pub dir: PathBuf,
    /// Its descriptor of a file that has no name any more.
    pub descriptor: RawFd,
    /// Ports of 127.0.0.1, by the attempts that try them.
    pub ports: BTreeMap<String, u16>,
    /// Its key in the user's keyring; its abstract socket.
    pub name: String,
    /// Files for everybody's scratch, by the attempts that look for them.
    pub scratch: BTreeMap<String, PathBuf>,
    /// What could not be prepared on this machine, and why.
    pub missing: BTreeMap<String, String>,
}

impl Case {
    /// As the program is told it.
    pub fn line(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

/// This program's own file.
pub(super) fn own() -> io::Result<PathBuf> {
    fs::read_link("/proc/self/exe")
}

/// Makes what there is to attack below `dir`, tells where it is, and serves it until the process is
/// killed. To be called in a process without threads.
pub fn be(dir: &Path, line: &str, tell: impl FnOnce(&Case) -> io::Result<()>) -> io::Result<()> {
    // Where there is no such setting, there is no such rule.
    let _ = attempt::be_traced_by_anybody();
    let values = Canaries::read(line);
    let value = |id: &str| values.of(id).map(super::canary::Canary::text).unwrap_or_default();
    let mut case = Case {
        pid: std::process::id() as i32,
        all: false,
        dir: dir.to_owned(),
        descriptor: -1,
        ports: BTreeMap::new(),
        name: format!("zagi-attack-{}", std::process::id()),
        scratch: BTreeMap::new(),
        missing: BTreeMap::new(),
    };
    files(dir, &value)?;
    scratch(&mut case, &value)?;
    let unnamed = unnamed(dir, &value("proc-fd"), &value("pidfd-getfd"))?;
    case.descriptor = unnamed.as_raw_fd();
    if let Err(e) = attempt::keep_key(&case.name, value("key").as_bytes()) {
        case.missing.insert("key".into(), e.to_string());
    }
    if let Err(e) = apart(&value("setns")) {
        case.missing.insert("setns".into(), e.to_string());
    }
    // Before there are threads, so that it is blocked in all of them.
    let mut inspector = SigSet::empty();
    inspector.add(Signal::SIGUSR1);
    inspector.thread_block()?;
    serve(&mut case, &value, inspector)?;
    std::env::set_current_dir(dir.join("private/cwd"))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    tell(&case)?;
    std::thread::sleep(LIFE);
    Ok(())
}

/// A home and a private directory.
fn files(dir: &Path, value: &impl Fn(&str) -> String) -> io::Result<()> {
    for (path, id) in [
        ("home/.zagi/secrets/identity", "identity"),
        ("home/.ssh/id_ed25519", "link"),
        ("private/linked", "hard-link"),
        ("private/cwd/file", "proc-cwd"),
        ("private/root", "proc-root"),
        ("private/nested", "nested"),
        ("private/passed", "rights"),
    ] {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, value(id))?;
    }
    fs::write(dir.join("home/.bashrc"), "# the user's own\n")?;
    let _ = fs::remove_dir_all(dir.join("run"));
    fs::create_dir_all(dir.join("run"))
}

/// Where programs leave things for a moment. Whoever started this process removes them.
fn scratch(case: &mut Case, value: &impl Fn(&str) -> String) -> io::Result<()> {
    for (id, place) in [("tmp", "/tmp"), ("shared-memory", "/dev/shm")] {
        let path = Path::new(place).join(format!("{}-{id}", case.name));
        match fs::write(&path, value(id)) {
            Ok(()) => drop(case.scratch.insert(id.into(), path)),
            Err(e) => drop(case.missing.insert(id.into(), e.to_string())),
        }
    }
    Ok(())
}

/// A file that only its descriptor leads to.
fn unnamed(dir: &Path, first: &str, second: &str) -> io::Result<File> {
    let path = dir.join("private/unnamed");
    fs::write(&path, format!("{first} {second}"))?;
    let file = File::open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Namespaces of its own, with a name that is seen in them alone.
fn apart(name: &str) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWUTS)?;
    Ok(nix::unistd::sethostname(name)?)
}

fn serve(case: &mut Case, value: &impl Fn(&str) -> String, inspector: SigSet) -> io::Result<()> {
    let run = case.dir.join("run");
    for id in ["tcp", "mptcp", "fast-open"] {
        let open = Arc::new(AtomicBool::new(true));
        case.ports.insert(id.into(), port(value(id), open)?);
    }
    let open = Arc::new(AtomicBool::new(false));
    case.ports.insert("signal".into(), port(value("signal"), open.clone())?);
    std::thread::spawn(move || {
        // As an interpreter that opens its inspector.
        if inspector.wait().is_ok() {
            open.store(true, Ordering::SeqCst);
        }
    });
    // Most kernels have no such loopback, or have not loaded it.
    if let Err(e) = vsock(case, value("vsock-loopback")) {
        case.missing.insert("vsock-loopback".into(), e.to_string());
    }
    for id in ["udp", "dns"] {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        case.ports.insert(id.into(), socket.local_addr()?.port());
        let answer = value(id);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((_, from)) = socket.recv_from(&mut question) {
                // The asker may be gone.
                let _ = socket.send_to(answer.as_bytes(), from);
            }
        });
    }
    streams(UnixListener::bind(run.join("agent.sock"))?, value("unix-socket"));
    let name = SocketAddr::from_abstract_name(&case.name)?;
    streams(UnixListener::bind_addr(&name)?, value("abstract-socket"));
    datagrams(UnixDatagram::bind(run.join("datagram.sock"))?, value("datagram"));
    rights(UnixListener::bind(run.join("rights.sock"))?, case.dir.join("private/passed"));
    Ok(())
}

/// Tells its value to whoever connects, while it is open.
fn port(answer: String, open: Arc<AtomicBool>) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            if !open.load(Ordering::SeqCst) {
                continue;
            }
            // Some ask first. A server that answers at once and closes is answered with a reset.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = stream.read(&mut [0; 1024]);
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
            let _ = stream.write_all(format!("{head}{answer}").as_bytes());
        }
    });
    Ok(port)
}

/// Tells its value at the number of its TCP's port, in the family of the host's sockets.
fn vsock(case: &mut Case, answer: String) -> io::Result<()> {
    let port = case.ports.get("tcp").copied().unwrap_or_default();
    let listener = attempt::host_socket()?;
    // No such address: no loopback.
    bind(listener.as_raw_fd(), &super::sockets::near_host(port))?;
    listen(&listener, Backlog::new(8)?)?;
    case.ports.insert("vsock-loopback".into(), port);
    std::thread::spawn(move || {
        while let Ok(stream) = rustix::net::accept(&listener) {
            // Whoever asked may be gone.
            let _ = File::from(stream).write_all(answer.as_bytes());
        }
    });
    Ok(())
}

fn streams(listener: UnixListener, answer: String) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

fn datagrams(socket: UnixDatagram, answer: String) {
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to_addr(answer.as_bytes(), &from);
        }
    });
}

/// Hands an open file to whoever connects.
fn rights(listener: UnixListener, path: PathBuf) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), Ok(file)) = (stream, File::open(&path)) else { continue };
            let given = [file.as_raw_fd()];
            let message = [ControlMessage::ScmRights(&given)];
            let _ = sendmsg::<()>(
                stream.as_raw_fd(),
                &[IoSlice::new(b"x")],
                &message,
                MsgFlags::empty(),
                None,
            );
        }
    });
}
