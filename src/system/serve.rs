//! The broker: asked at its socket, it runs each command in a process of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::peer::Peer;
use super::wire::{self, Reply, Request, VERSION};
use super::{ARGUMENT, Lent};
use crate::secrets::place::{DIRECTORY, Place};

/// How long a question may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether who asked is still there.
const TICK: Duration = Duration::from_millis(100);
/// Variables of the caller's that a command is given.
const PASSED: [&str; 6] = ["TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR"];

/// Variables of the broker's own that it is given, too.
const OWN: [&str; 2] = ["PATH", "SSL_CERT_FILE"];

/// Serves at `socket` until the process ends. `state` is this user's own directory; `program` is run
/// for who asks, with those of `vars`, the broker's own, by which it finds programs and certificates.
pub fn serve(
    program: &Path,
    state: &Path,
    socket: &Path,
    vars: &BTreeMap<OsString, OsString>,
) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Err(io::Error::other("the broker is not to be root: give it a user of its own"));
    }
    // Where the kernel does not tell who asks, that is said now and not to each of them.
    let (own, _other) = UnixStream::pair()?;
    Peer::of(&own).and_then(|own| own.user()).map_err(io::Error::other)?;
    private(state)?;
    // Of one that was killed. The directory is this user's.
    match fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // Who asks is known by the kernel's word (module `peer`), so everybody may.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // A descriptor may be free again soon.
            std::thread::sleep(TICK);
            continue;
        };
        let broker = Broker {
            program: program.to_owned(),
            state: state.to_owned(),
            vars: vars
                .iter()
                .filter(|(name, _)| OWN.iter().any(|own| name == own))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect(),
        };
        let began = std::thread::Builder::new().spawn(move || {
            let reply = one(&broker, &stream).unwrap_or_else(Reply::Refused);
            // Who went away meanwhile is told nothing.
            let _ = wire::send(&stream, &reply);
        });
        // No thread left: who asked sees the connection end.
        drop(began);
    }
    Ok(())
}

/// What every command is run by.
struct Broker {
    program: PathBuf,
    state: PathBuf,
    vars: BTreeMap<OsString, OsString>,
}

fn one(broker: &Broker, stream: &UnixStream) -> Result<Reply, String> {
    let failed = |e: io::Error| e.to_string();
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let peer = Peer::of(stream);
    let (request, streams) = wire::receive_request(stream).map_err(failed)?;
    // Only now, since who is still to send something hears no refusal.
    let peer = peer?.user()?;
    if request.version != VERSION {
        return Err(format!("version {} is not known here", request.version));
    }
    let root_asked = peer == 0;
    let user = if root_asked { request.user } else { peer };
    if user == nix::unistd::geteuid().as_raw() {
        return Err("the broker is asked by others, not by what it runs".into());
    }
    // What they name may lead to what is the broker's.
    let looked = zagi_sandbox::without(&broker.state, &[], || look(&request, user));
    let before = looked.map_err(|e| e.to_string())??;
    let own = broker.state.join("users").join(user.to_string());
    let places = own.join("places");
    for dir in [&own, &own.join("home"), &places] {
        private(dir).map_err(failed)?;
    }
    // A copy of the request's own: others may change the file while this one's command goes on.
    let copy = tempfile::tempdir_in(&places).map_err(failed)?;
    let place = copy.path();
    bring(before.as_deref(), place).map_err(failed)?;
    let lent = Lent {
        user,
        home: request.home.clone(),
        root: request.root.clone(),
        cwd: request.cwd.clone(),
        place: place.to_owned(),
        root_asked,
    };
    let child = start(broker, &own, &request, &lent, streams).map_err(failed)?;
    let status = attend(child, stream).map_err(failed)?;
    let after = Place::new(place).read().map_err(|e| e.to_string())?;
    let changed = after.filter(|after| before.as_ref() != Some(after)).map(|after| (before, after));
    Ok(Reply::Ended { code: code(status), changed })
}

fn unreadable(path: &Path, e: &io::Error) -> String {
    format!(
        "the broker cannot look into `{}` ({e}): `zagi mount --allow-other` lets it into a workspace, \
         and packaging/system-mode into a home",
        path.display()
    )
}

/// Looks whether all is the user's; the text of the project's secrets file.
fn look(request: &Request, user: u32) -> Result<Option<String>, String> {
    let theirs = |path: &Path, file: io::Result<File>| {
        let file = file.map_err(|e| unreadable(path, &e))?;
        match file.metadata().map_err(|e| unreadable(path, &e))?.uid() == user {
            true => Ok(file),
            false => Err(format!("`{}` is not that user's", path.display())),
        }
    };
    // Somebody else's environment is not brought in. It is passed through, and need not be listed.
    let mut passing = OpenOptions::new();
    passing.read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY);
    theirs(&request.home, passing.open(&request.home))?;
    // Nor what is not theirs: the broker's own files least of all.
    let mut listing = OpenOptions::new();
    listing.read(true).custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NONBLOCK);
    let root = theirs(&request.root, listing.open(&request.root))?;
    Place::opened(&request.root, &root).read().map_err(|e| e.to_string())
}

/// Puts the text of the project's secrets file, if there is one, into `place`, which is new.
fn bring(text: Option<&str>, place: &Path) -> io::Result<()> {
    let Some(text) = text else { return Ok(()) };
    fs::create_dir(place.join(DIRECTORY))?;
    fs::write(Place::new(place).path, text)
}

fn start(
    broker: &Broker,
    own: &Path,
    request: &Request,
    lent: &Lent,
    streams: [std::os::fd::OwnedFd; 3],
) -> io::Result<Child> {
    let [input, output, error] = streams;
    let mut command = Command::new(&broker.program);
    command.arg(ARGUMENT).arg(serde_json::to_string(lent)?).args(&request.argv);
    command.env_clear().current_dir("/");
    let home = own.join("home");
    command.env("ZAGI_HOME", home.join(".zagi")).env("HOME", &home).env("USER", "zagi-broker");
    let passed = request.vars.iter().filter(|(name, _)| PASSED.contains(&name.as_str()));
    command.envs(passed.cloned());
    // Whom to trust is the broker's configuration, not the caller's.
    command.envs(&broker.vars);
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(error));
    command.spawn()
}

/// Waits for its end, or ends it when who asked goes away.
fn attend(mut child: Child, stream: &UnixStream) -> io::Result<ExitStatus> {
    use std::io::Read;
    stream.set_read_timeout(Some(TICK))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match (&*stream).read(&mut [0]) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Nothing more is to be said: it went away. What it started goes with its keeper.
            _ => {
                child.kill()?;
                return child.wait();
            }
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// A directory that only this user may enter.
fn private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let meta = fs::metadata(dir)?;
    let closed = meta.mode().trailing_zeros() >= 6;
    match closed && meta.uid() == nix::unistd::geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::other(format!("`{}` is open to others", dir.display()))),
    }
}
