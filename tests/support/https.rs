//! A server that speaks TLS on the loopback interface, with an authority of its own.

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
    /// Starts one that answers the head of a request, byte for byte, with what `answer` says.
    ///
    /// # Panics
    /// Where there is no port.
    pub fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Https {
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
        let (config, answer, all) = (Arc::new(config), Arc::new(answer), heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let Ok(connection) = ServerConnection::new(config.clone()) else { continue };
                let mut stream = StreamOwned::new(connection, stream);
                let (answer, all) = (answer.clone(), all.clone());
                std::thread::spawn(move || {
                    while let Some(head) = head(&mut stream) {
                        let said = answer(&head);
                        all.lock().expect("nothing panics while it has them").push(head);
                        if stream.write_all(&said).and_then(|()| stream.flush()).is_err() {
                            break;
                        }
                    }
                });
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

fn head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
