//! Which addresses a name may lead to.

use std::io;
use std::net::{IpAddr, Ipv6Addr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use super::rule::Target;

/// How long one address has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the target, by an address that it may have: where `anywhere`, by any.
pub(super) fn connect(target: &Target, anywhere: bool) -> io::Result<TcpStream> {
    let mut error = None;
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        if !anywhere && is_ours(address.ip()) {
            error = Some(near(address.ip()));
            continue;
        }
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => error = Some(e),
        }
    }
    Err(error.unwrap_or_else(|| io::Error::other("it has no address")))
}

/// Refuses a target of which anything is known to be of this machine or its network, for somebody
/// else to connect to: an own name server may know less than that one's.
pub(super) fn refuse_near(target: &Target) -> io::Result<()> {
    let Ok(found) = (target.host.as_str(), target.port).to_socket_addrs() else { return Ok(()) };
    found.map(|address| address.ip()).find(|ip| is_ours(*ip)).map_or(Ok(()), |ip| Err(near(ip)))
}

/// It leads where nobody may go.
#[derive(Debug, thiserror::Error)]
#[error("it leads to {0}, which is of this machine or its network")]
struct Near(IpAddr);

fn near(ip: IpAddr) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, Near(ip))
}

/// Whether that is why it was not reached.
pub(super) fn is_refusal(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|e| e.is::<Near>())
}

/// Whether an address is one of this machine or its network.
fn is_ours(address: IpAddr) -> bool {
    is_near(address) || is_own(address)
}

/// Whether an address is this machine's own, which may be everybody's, too: whoever comes to it from
/// here has passed no firewall. To such a one the kernel speaks from that address itself.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent. What there is no way to is not here.
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    own.is_ok_and(|own| own.ip() == address)
}

/// Whether an address is one of a machine itself or of a network that is not everybody's: the
/// special ranges of IANA's registries (RFC 6890).
pub(super) fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || a == 0
                || a >= 240
                // Carriers' and benchmarks' networks, protocol assignments.
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
                || (a, b, c) == (192, 0, 0)
        }
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
                || embedded(v6).is_some_and(|v4| is_near(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4.
fn embedded(v6: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let o = v6.octets();
    let v4 = |at: usize| Some(std::net::Ipv4Addr::new(o[at], o[at + 1], o[at + 2], o[at + 3]));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => v4(12),
        [0x2002, ..] => v4(2),
        _ => None,
    }
}
