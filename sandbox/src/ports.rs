//! The ports that the program listens on, for its caller: its network namespace is its own, so
//! nobody outside reaches them otherwise.
//!
//! A process of the sandbox's own stays inside for this, as confined as the program. It answers on
//! a socket of which the caller has the other end: two bytes, little-endian, come in;
//!
//! - 0: it answers with how many ports there are, and each of them, two bytes each;
//! - a port: it answers with one byte, and if that is [`CONNECTED`], a descriptor of a socket that
//!   is connected to it. The socket is of the namespace in which it was made, so the caller
//!   talks through it to the program.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use nix::unistd;

use crate::error::Step;
use crate::report::Failure;
use crate::{sys, wire};

const CONNECTED: u8 = 1;
const REFUSED: u8 = 0;
/// The length of `struct nlmsghdr`.
const HEAD: usize = 16;
/// linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The state of a socket that listens: net/tcp_states.h.
const TCP_LISTEN: u32 = 10;

/// The caller's end.
#[derive(Debug)]
pub struct Ports(Mutex<UnixStream>);

impl Ports {
    pub(crate) fn new(socket: UnixStream) -> Ports {
        Ports(Mutex::new(socket))
    }

    /// The ports on which something inside listens, sorted, but for those that the caller serves.
    /// An error when nothing inside lives any more.
    pub fn listening(&self) -> io::Result<Vec<u16>> {
        let mut socket = self.turn();
        socket.write_all(&0_u16.to_le_bytes())?;
        let count = number(&mut *socket)?;
        (0..count).map(|_| number(&mut *socket)).collect()
    }

    /// A connection to what listens there inside.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let socket = self.turn();
        (&*socket).write_all(&port.to_le_bytes())?;
        let (mut answer, mut came) = ([REFUSED], Vec::new());
        wire::receive_with(&socket, &mut answer, &mut came)?;
        match (answer, came.pop()) {
            ([CONNECTED], Some(connected)) => Ok(connected.into()),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, UnixStream> {
        // Nothing panics while it holds it.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Starts the process that answers; the caller's end. `ours` are the addresses that the caller
/// serves.
pub(crate) fn start(diagnosis: &OwnedFd, ours: &[SocketAddrV4]) -> Result<UnixStream, Failure> {
    let failed = |e: io::Error| Failure::new(Step::Fork, e);
    let (outside, inside) = UnixStream::pair().map_err(failed)?;
    match sys::fork().map_err(failed)? {
        sys::Fork::Parent(_) => Ok(outside),
        sys::Fork::Child => {
            let _ = serve(inside, diagnosis, ours);
            std::process::exit(0)
        }
    }
}

/// Answers until the caller goes away. No descriptor but the two sockets stays with it.
fn serve(socket: UnixStream, diagnosis: &OwnedFd, ours: &[SocketAddrV4]) -> io::Result<()> {
    unistd::dup2_stdin(&socket)?;
    unistd::dup2_stdout(diagnosis)?;
    drop(socket);
    sys::close_from_3()?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let diagnosis = io::stdout().as_fd().try_clone_to_owned()?;
    loop {
        match number(&mut socket)? {
            0 => {
                let ports = listening(&diagnosis, ours)?;
                let mut answer = Vec::with_capacity(2 + ports.len() * 2);
                let count = u16::try_from(ports.len()).unwrap_or(u16::MAX);
                for number in [count].into_iter().chain(ports) {
                    answer.extend_from_slice(&number.to_le_bytes());
                }
                socket.write_all(&answer)?;
            }
            port => match connect(port) {
                Ok(stream) => wire::send_with(&socket, &[CONNECTED], &[stream.as_fd()])?,
                Err(_) => socket.write_all(&[REFUSED])?,
            },
        }
    }
}

fn number(from: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    from.read_exact(&mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let addresses = addresses.map(|ip| SocketAddr::from((ip, port)));
    TcpStream::connect(&addresses[..])
}

/// A socket on which the kernel tells what listens in this network namespace: sock_diag(7). To be
/// opened before system calls are closed.
pub(crate) fn diagnosis() -> Result<OwnedFd, Failure> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let kind = SockProtocol::NetlinkSockDiag;
    socket::socket(AddressFamily::Netlink, SockType::Raw, flags, kind)
        .map_err(|e| Failure::at(Step::Listen, "sock_diag", e))
}

/// The ports on which somebody listens who is not `ours`. Asked of what listens alone: a look
/// into `/proc/net/tcp` goes through the machine's whole table of connections.
fn listening(diagnosis: &OwnedFd, ours: &[SocketAddrV4]) -> io::Result<Vec<u16>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        socket::send(diagnosis.as_raw_fd(), &question(family as u8), MsgFlags::empty())?;
        let mut buffer = [0; 32 * 1024];
        while {
            let read = socket::recv(diagnosis.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            answers(&buffer[..read], ours, &mut found)
        } {}
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`: all TCP sockets of the family that listen.
fn question(family: u8) -> [u8; HEAD + 56] {
    let mut bytes = [0; HEAD + 56];
    let length = (HEAD + 56) as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    bytes[HEAD] = family;
    bytes[HEAD + 1] = libc::IPPROTO_TCP as u8;
    bytes[HEAD + 4..HEAD + 8].copy_from_slice(&(1_u32 << TCP_LISTEN).to_ne_bytes());
    bytes
}

/// Takes the ports out of what the kernel said; whether more is to come.
fn answers(bytes: &[u8], ours: &[SocketAddrV4], found: &mut Vec<u16>) -> bool {
    let mut rest = bytes;
    while let Some(head) = rest.get(..HEAD) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        let Some(body) = rest.get(HEAD..length).filter(|_| kind == SOCK_DIAG_BY_FAMILY) else {
            // The end, or an error.
            return false;
        };
        // `struct inet_diag_msg`: four bytes, then the port and address of this end.
        if let (Some(port), Some(ip)) = (body.get(4..6), body.get(8..12)) {
            let port = u16::from_be_bytes([port[0], port[1]]);
            let ip = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]);
            if body[0] != libc::AF_INET as u8 || !ours.contains(&SocketAddrV4::new(ip, port)) {
                found.push(port);
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (HEAD + body.len()) as u32;
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
    }

    fn socket(family: i32, ip: [u8; 4], port: u16) -> Vec<u8> {
        let mut body = vec![0; 72];
        body[0] = family as u8;
        body[4..6].copy_from_slice(&port.to_be_bytes());
        body[8..12].copy_from_slice(&ip);
        message(SOCK_DIAG_BY_FAMILY, &body)
    }

    #[test]
    fn only_what_is_not_ours() {
        let ours = [SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128)];
        let said = [
            socket(libc::AF_INET, [127, 0, 0, 1], 3128),
            socket(libc::AF_INET, [0, 0, 0, 0], 3000),
            socket(libc::AF_INET6, [127, 0, 0, 1], 3128),
        ]
        .concat();
        let mut found = Vec::new();
        assert!(answers(&said, &ours, &mut found));
        assert_eq!(found, [3000, 3128]);
        assert!(!answers(&message(libc::NLMSG_DONE as u16, &[0; 4]), &ours, &mut found));
        // Half a message says nothing, and ends it.
        assert!(!answers(&said[..60], &ours, &mut found));
        assert_eq!(found.len(), 2);
    }
}
