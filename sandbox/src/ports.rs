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
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use nix::unistd;

use crate::error::Step;
use crate::report::Failure;
use crate::{sys, wire};

const CONNECTED: u8 = 1;
const REFUSED: u8 = 0;
/// The state of a socket that listens, in `/proc/net/tcp` (proc_net_tcp(5)).
const LISTENS: &str = "0A";

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
pub(crate) fn start(ours: &[SocketAddrV4]) -> Result<UnixStream, Failure> {
    let failed = |e: io::Error| Failure::new(Step::Fork, e);
    let (outside, inside) = UnixStream::pair().map_err(failed)?;
    match sys::fork().map_err(failed)? {
        sys::Fork::Parent(_) => Ok(outside),
        sys::Fork::Child => {
            let _ = serve(inside, ours);
            std::process::exit(0)
        }
    }
}

/// Answers until the caller goes away. No descriptor but the socket stays with it.
fn serve(socket: UnixStream, ours: &[SocketAddrV4]) -> io::Result<()> {
    unistd::dup2_stdin(&socket)?;
    drop(socket);
    sys::close_from_3()?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    loop {
        match number(&mut socket)? {
            0 => {
                let ports = listening(ours);
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

fn listening(ours: &[SocketAddrV4]) -> Vec<u16> {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let mut ports = ports(&read("/proc/self/net/tcp"), ours);
    ports.extend(self::ports(&read("/proc/self/net/tcp6"), ours));
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The ports of a table of the kernel's on which somebody listens who is not `ours`.
fn ports(table: &str, ours: &[SocketAddrV4]) -> Vec<u16> {
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        // As the machine has it in memory.
        let ip = u32::from_str_radix(address, 16).ok().map(|ip| Ipv4Addr::from(ip.to_ne_bytes()));
        let is_ours = ip.is_some_and(|ip| ours.contains(&SocketAddrV4::new(ip, port)));
        (state == LISTENS && !is_ours).then_some(port)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_and_is_not_ours() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
             0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000\n\
             1: 00000000:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000\n\
             2: 0100007F:0BB9 0100007F:0C38 01 00000000:00000000 00:00000000 00000000  1000\n";
        let ours = [SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128)];
        assert_eq!(ports(table, &ours), [3000]);
        assert_eq!(ports(table, &[]), [3128, 3000]);
        assert_eq!(ports("nonsense\nmore\n0: zz:yy 0 0A\n", &[]), [0_u16; 0]);
    }
}
