//! Attempts on what listens.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, VsockAddr,
    connect, recvmsg, sendto, socket,
};
use zagi_sandbox::attempt;

use super::victim::Case;

type Got = io::Result<Vec<u8>>;

/// How long an answer is waited for.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(2));
/// Where an agent's way out is.
const PROXY: u16 = 3128;

fn address(case: &Case, id: &str) -> io::Result<SocketAddrV4> {
    let port = case.ports.get(id).ok_or_else(|| io::Error::other("nothing listens"))?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port))
}

fn whole(mut stream: TcpStream, question: &[u8]) -> Got {
    stream.write_all(question)?;
    rest(stream)
}

fn rest(mut stream: TcpStream) -> Got {
    stream.set_read_timeout(PATIENCE)?;
    // It may have answered and gone already.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// What a port of this machine says.
pub(super) fn ask(case: &Case, id: &str) -> Got {
    whole(TcpStream::connect(address(case, id)?)?, b"GET / HTTP/1.0\r\n\r\n")
}

/// Directly, and by the way out, in both of its languages.
pub(super) fn tcp(case: &Case) -> Got {
    let direct = match ask(case, "tcp") {
        Ok(got) => return Ok(got),
        Err(e) => e,
    };
    let mut said = direct.to_string();
    let to = address(case, "tcp")?;
    for target in [to.to_string(), format!("localhost:{}", to.port())] {
        for question in [
            format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n"),
            format!("CONNECT {target} HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
        ] {
            let way = TcpStream::connect((Ipv4Addr::LOCALHOST, PROXY));
            let answer = way.and_then(|way| whole(way, question.as_bytes()));
            match answer {
                Ok(answer) if answer.starts_with(b"HTTP/1.1 403") => {
                    said.push_str("; by the proxy: 403");
                }
                Ok(answer) => return Ok(answer),
                Err(e) => said.push_str(&format!("; by the proxy: {e}")),
            }
        }
    }
    Err(io::Error::new(direct.kind(), said))
}

pub(super) fn mptcp(case: &Case) -> Got {
    let socket = attempt::multipath_socket()?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(address(case, "mptcp")?))?;
    whole(TcpStream::from(socket), b"x")
}

pub(super) fn fast_open(case: &Case) -> Got {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Connects, too.
    let flags = MsgFlags::from_bits_retain(nix::libc::MSG_FASTOPEN);
    sendto(socket.as_raw_fd(), b"x", &SockaddrIn::from(address(case, "fast-open")?), flags)?;
    rest(TcpStream::from(socket))
}

fn question(case: &Case, id: &str, bytes: &[u8]) -> Got {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(PATIENCE)?;
    // So that it is told where nobody listens.
    socket.connect(address(case, id)?)?;
    socket.send(bytes)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(answer[..length].to_vec())
}

pub(super) fn udp(case: &Case) -> Got {
    question(case, "udp", b"x")
}

/// A question for the address of `told.example`, as RFC 1035 has it.
pub(super) fn dns(case: &Case) -> Got {
    let head = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    question(case, "dns", &[&head[..], b"\x04told\x07example\x00\x00\x01\x00\x01"].concat())
}

pub(super) fn vsock(_: &Case) -> Got {
    attempt::host_socket().map(|_| b"a socket".to_vec())
}

/// A port of this machine's own in the family of the host's sockets: vsock(7).
pub(super) fn near_host(port: u16) -> VsockAddr {
    VsockAddr::new(nix::libc::VMADDR_CID_LOCAL, port.into())
}

pub(super) fn vsock_loopback(case: &Case) -> Got {
    let socket = attempt::host_socket()?;
    let port = case.ports.get("vsock-loopback");
    let port = *port.ok_or_else(|| io::Error::other("nothing listens"))?;
    connect(socket.as_raw_fd(), &near_host(port))?;
    let mut answer = Vec::new();
    std::fs::File::from(socket).read_to_end(&mut answer)?;
    Ok(answer)
}

fn all(mut stream: UnixStream) -> Got {
    stream.set_read_timeout(PATIENCE)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

pub(super) fn unix(case: &Case) -> Got {
    all(UnixStream::connect(case.dir.join("run/agent.sock"))?)
}

pub(super) fn abstract_name(case: &Case) -> Got {
    all(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&case.name)?)?)
}

pub(super) fn datagram(case: &Case) -> Got {
    // Bound to a name, so that it can be answered.
    let own = SocketAddr::from_abstract_name(format!("{}-asks", case.name))?;
    let socket = UnixDatagram::bind_addr(&own)?;
    socket.set_read_timeout(PATIENCE)?;
    socket.send_to(b"x", case.dir.join("run/datagram.sock"))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(answer[..length].to_vec())
}

pub(super) fn rights(case: &Case) -> Got {
    let stream = UnixStream::connect(case.dir.join("run/rights.sock"))?;
    stream.set_read_timeout(PATIENCE)?;
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let came = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let mut numbers = came.cmsgs()?.filter_map(|message| match message {
        ControlMessageOwned::ScmRights(numbers) => numbers.first().copied(),
        _ => None,
    });
    let number = numbers.next().ok_or_else(|| io::Error::other("none came"))?;
    std::fs::read(format!("/proc/self/fd/{number}"))
}
