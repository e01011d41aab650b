//! `CONNECT`: a tunnel that the program fills with TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use super::intercept;
use super::request::{Head, Refusal, Way, pass};
use super::rule::Target;

/// How long the program may take to begin with TLS.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn serve(
    way: &Way,
    client: &mut TcpStream,
    head: &Head,
    mut rest: Vec<u8>,
) -> Result<(), Refusal> {
    let Some(target) = Target::parse(&head.target, None) else {
        return Err(Refusal::new(400, head.target.escape_default(), "it is no host and port"));
    };
    let gone = |e: io::Error| Refusal::new(502, &target, e);
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if let Some(broker) = way.broker.as_ref().filter(|broker| broker.serves(&target)) {
        client.write_all(established).map_err(gone)?;
        let client = client.try_clone().map_err(gone)?;
        return intercept::serve(way, broker, client, rest, Some(target));
    }
    way.keeps_placeholders(&target, head)?;
    let mut server = way.reach(&target)?;
    client.write_all(established).map_err(gone)?;
    if target.port == 443 && target.host.parse::<IpAddr>().is_err() {
        let asked = hello(client, &mut rest).map_err(|e| Refusal::new(400, &target, e))?;
        if asked.as_deref() != Some(target.host.as_str()) {
            let asked = asked.unwrap_or_else(|| "nobody".into());
            return Err(Refusal::new(400, &target, format!("its TLS asks for {asked}")));
        }
    }
    way.reached(&target);
    server.write_all(&rest).map_err(gone)?;
    std::thread::scope(|both| {
        both.spawn(|| pass(client, &server));
        pass(&server, client);
    });
    Ok(())
}

/// The host that a TLS ClientHello asks for (RFC 6066, 3), in small letters. What was read of it is
/// in `read` afterwards.
pub(super) fn hello(client: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<String>> {
    let _ = client.set_read_timeout(Some(PATIENCE));
    let mut acceptor = rustls::server::Acceptor::default();
    let mut fresh = read.clone();
    loop {
        let mut left = fresh.as_slice();
        while !left.is_empty() {
            acceptor.read_tls(&mut left)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let _ = client.set_read_timeout(None);
                    let name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                    return Ok(name);
                }
                Ok(None) => {}
                Err((e, _)) => return Err(io::Error::other(format!("it is no TLS: {e}"))),
            }
        }
        let mut buffer = [0; 4096];
        let n = client.read(&mut buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        fresh = buffer[..n].to_vec();
        read.extend_from_slice(&fresh);
    }
}
