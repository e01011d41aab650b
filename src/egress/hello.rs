//! How TLS begins.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

/// How long the program may take to begin with TLS.
const PATIENCE: Duration = Duration::from_secs(30);

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
