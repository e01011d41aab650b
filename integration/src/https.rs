//! A server that speaks TLS on loopback, with an authority of its own, and lets in who has the key.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server for `localhost`. It ends with the process.
pub struct Https {
    /// Its port.
    pub port: u16,
    /// What to trust, as PEM.
    pub certificate: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Https {
    /// Starts one that answers 200 to who sends `Authorization: Bearer <key>`, and 401 to others; the
    /// body is the head of the request, byte for byte; of `/bytes/N` so many zeros.
    ///
    /// # Panics
    /// Where there is no port.
    pub fn start(key: &str) -> Https {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let private = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config =
            ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .expect("there are such")
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(private))
                .expect("they fit");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (config, seen, expected) =
            (Arc::new(config), heads.clone(), format!("authorization: bearer {key}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let Ok(connection) = ServerConnection::new(config.clone()) else { continue };
                let mut stream = StreamOwned::new(connection, stream);
                let (seen, expected) = (seen.clone(), expected.clone());
                std::thread::spawn(move || while answer(&mut stream, &seen, &expected) {});
            }
        });
        Https { port, certificate: made.cert.pem(), heads }
    }

    /// The heads of the requests that came since this was asked last.
    ///
    /// # Panics
    /// Never: nothing panics while it has them.
    pub fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().expect("whole"))
    }
}

fn answer(stream: &mut (impl Read + Write), seen: &Mutex<Vec<String>>, expected: &str) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let allowed = head.lines().any(|line| line.eq_ignore_ascii_case(expected));
    let status = if allowed { "200 OK" } else { "401 Unauthorized" };
    let asked = head.split(' ').nth(1).and_then(|path| path.strip_prefix("/bytes/"));
    let body = match asked.and_then(|number| number.parse().ok()) {
        Some(bytes) => vec![0; bytes],
        None => head.clone().into_bytes(),
    };
    let begin = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    if let Ok(mut seen) = seen.lock() {
        seen.push(head);
    }
    let written = stream.write_all(begin.as_bytes()).and_then(|()| stream.write_all(&body));
    written.and_then(|()| stream.flush()).is_ok()
}
