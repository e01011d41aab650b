//! The attacker: one attack an argument list. Prints `GOT …` where it worked, `DENIED …`
//! where it did not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;

pub(crate) fn main(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match attack(&args) {
        Ok(got) => println!("GOT {got}"),
        Err(e) => println!("DENIED {e}"),
    }
    ExitCode::SUCCESS
}

fn attack(args: &[&str]) -> io::Result<String> {
    match args {
        ["read" | "list" | "write" | "open-write" | "chmod-same", path] => file(args[0], path),
        ["tcp" | "udp" | "abstract" | "unix", address] => connection(args[0], address),
        ["signal-0", pid] => {
            let pid = Pid::from_raw(pid.parse().map_err(io::Error::other)?);
            nix::sys::signal::kill(pid, None)?;
            Ok("there".into())
        }
        ["unshare-user"] => {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            Ok("a user namespace".into())
        }
        ["unshare-mount"] => {
            unshare(CloneFlags::CLONE_NEWNS)?;
            Ok("a mount namespace".into())
        }
        ["capabilities"] => capabilities(),
        ["other-uid", before] => {
            let now = nix::unistd::geteuid().to_string();
            if now == *before { Err(io::Error::other(now)) } else { Ok(now) }
        }
        ["descriptors"] => descriptors(),
        ["environment", name] => environment(name),
        ["terminal"] => {
            OpenOptions::new().read(true).write(true).open("/dev/tty").map(|_| "tty".into())
        }
        _ => crate::process::attack(args).unwrap_or_else(|| panic!("no such attack: {args:?}")),
    }
}

/// Attacks on a file.
fn file(attack: &str, path: &str) -> io::Result<String> {
    match attack {
        "read" => fs::read_to_string(path),
        "list" => {
            let names = fs::read_dir(path)?.map(|e| e.map(|e| e.file_name()));
            let mut names: Vec<_> = names.collect::<io::Result<_>>()?;
            names.sort();
            Ok(format!("{names:?}"))
        }
        "write" => OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut f| f.write_all(b"x"))
            .map(|()| "written".into()),
        // Opened for writing, nothing written: harmless as a control.
        "open-write" => OpenOptions::new().write(true).open(path).map(|_| "opened".into()),
        "chmod-same" => {
            let mode = fs::metadata(path)?.permissions().mode();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map(|()| "changed".into())
        }
        _ => panic!("no such attack: {attack}"),
    }
}

/// Attacks over a socket.
fn connection(attack: &str, address: &str) -> io::Result<String> {
    match attack {
        "tcp" => {
            let address = address.parse().map_err(io::Error::other)?;
            TcpStream::connect_timeout(&address, Duration::from_secs(2)).map(|_| "connected".into())
        }
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.send_to(b"ping", address)?;
            socket.recv(&mut [0; 4]).map(|n| format!("{n} bytes"))
        }
        "abstract" => {
            let address = SocketAddr::from_abstract_name(address)?;
            UnixStream::connect_addr(&address).map(|_| "connected".into())
        }
        "unix" => UnixStream::connect(address).map(|_| "connected".into()),
        _ => panic!("no such attack: {attack}"),
    }
}

/// Capabilities of any set.
fn capabilities() -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let set = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        u64::from_str_radix(line.unwrap_or("x").trim(), 16).map_err(io::Error::other)
    };
    let all = set("CapInh:")? | set("CapPrm:")? | set("CapEff:")? | set("CapBnd:")?;
    if all == 0 { Err(io::Error::other("none")) } else { Ok(format!("{all:x}")) }
}

/// A variable, its own or that of any process that it can see.
fn environment(name: &str) -> io::Result<String> {
    let mut found = std::env::var(name).unwrap_or_default();
    for process in fs::read_dir("/proc")?.flatten() {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(process.path().join("environ")) {
            // An unreadable one has nothing to give.
            let _ = file.read_to_end(&mut bytes);
        }
        if String::from_utf8_lossy(&bytes).contains(&format!("{name}=")) {
            found.push_str("in /proc");
        }
    }
    if found.is_empty() { Err(io::Error::other("not there")) } else { Ok(found) }
}

/// Descriptors besides 0 to 2 and the one that looks.
fn descriptors() -> io::Result<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let target = fs::read_link(&path).unwrap_or_default();
        let number: i32 =
            path.file_name().and_then(|n| n.to_str()?.parse().ok()).expect("a number");
        let looking = target.ends_with("fd") && target.starts_with("/proc");
        if number > 2 && !looking {
            found.push(format!("{number}:{}", target.display()));
        }
    }
    if found.is_empty() { Err(io::Error::other("none")) } else { Ok(found.join(" ")) }
}
