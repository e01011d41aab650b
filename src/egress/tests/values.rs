//! Values on their way to a server that speaks TLS, and back.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::super::authority::provider;
use super::super::{Broker, Credential, Rules, Seen, Wanted, Way, serve, serve_hosts};
use crate::proxy::Proxies;
use crate::redact::Needles;

#[path = "../../../tests/support/https.rs"]
mod https;

use https::Https;

const VALUE: &str = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";
const PLACEHOLDER: &str = "zagi-placeholder-0123456789abcdef";

/// A server that shows what it was sent, and the value.
fn server() -> Https {
    Https::serve(|head| {
        let out = match head.split(' ').nth(1) {
            Some("/chunks") => {
                let (a, b) = VALUE.split_at(VALUE.len() / 2);
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\nX: y\r\n\r\n",
                    a.len(),
                    b.len()
                )
            }
            Some("/encoded") => {
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".into()
            }
            Some("/switch") => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into(),
            Some("/empty") => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            _ => format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Seen: {VALUE}\r\nAlt-Svc: h3\r\nContent-Length: {}\r\n\r\n{head}",
                head.len()
            ),
        };
        out.into_bytes()
    })
}

struct Key {
    host: String,
    /// What was recorded.
    used: Mutex<Vec<String>>,
}

impl Credential for Key {
    fn name(&self) -> &str {
        "KEY"
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn header(&self) -> &str {
        "Authorization"
    }
    fn placeholder(&self) -> &str {
        PLACEHOLDER
    }
    fn refuses(&self, wanted: &Wanted<'_>) -> Option<String> {
        (wanted.method == "DELETE").then(|| "is not for DELETE".to_owned())
    }
    fn release(&self, wanted: &Wanted<'_>, put: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        if wanted.path == "/disk-full" {
            return Err("the use cannot be recorded".into());
        }
        self.used.lock().unwrap().push(format!("{} {}", wanted.method, wanted.path));
        put(format!("Bearer {VALUE}").as_bytes());
        Ok(())
    }
}

/// The way out, by both of its doors.
struct Out {
    server: Https,
    proxy: u16,
    hosts: u16,
    key: Arc<Key>,
    roots: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

fn out() -> Out {
    let server = server();
    let hosts = TcpListener::bind("127.0.0.2:0").unwrap();
    let key = Arc::new(Key { host: format!("localhost:{}", server.port), used: Mutex::default() });
    let mut needles = Needles::default();
    needles.add(VALUE.as_bytes()).unwrap();
    let broker =
        Broker::new(vec![key.clone()], Arc::new(needles), Some(server.certificate.as_bytes()))
            .unwrap();
    let roots = broker.certificate().to_owned();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let tell = Arc::new(move |s| told.lock().unwrap().push(s));
    let way = Arc::new(Way {
        rules: Rules::default(),
        proxies: Proxies::default(),
        broker: Some(broker),
        tell,
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap().port();
    let (first, second) = (way.clone(), way);
    std::thread::spawn(move || serve(&listener, &first));
    let at = hosts.local_addr().unwrap().port();
    std::thread::spawn(move || serve_hosts(&hosts, &second));
    Out { server, proxy, hosts: at, key, roots, seen }
}

impl Out {
    /// A connection through the proxy, and TLS in it.
    fn connect(&self, protocols: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.proxy)).unwrap();
        write!(stream, "CONNECT localhost:{} HTTP/1.1\r\n\r\n", self.server.port).unwrap();
        let mut said = [0; 39];
        stream.read_exact(&mut said).unwrap();
        assert!(said.starts_with(b"HTTP/1.1 200 "));
        self.tls(stream, "localhost", protocols)
    }

    fn tls(
        &self,
        stream: TcpStream,
        name: &'static str,
        protocols: &[&str],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.roots.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name).unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }

    /// What comes back to the end of the connection.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect(&[]);
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }

    fn request(&self, line: &str, fields: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: localhost:{}\r\n{fields}\r\n", self.server.port)
    }
}

#[test]
fn a_value_is_put_in_and_taken_out_of_what_comes_back() {
    let out = out();
    let fields =
        format!("authorization: Basic {PLACEHOLDER}\r\nX-Own: 1\r\nAccept-Encoding: gzip\r\n");
    let first = out.request("GET /reflect?a=b", &fields);
    // Two on one connection; the second says that it is the last.
    let second = out.request("GET /chunks", "Connection: close\r\n");
    let said = out.ask(&format!("{first}{second}"));
    let got = out.server.heads();
    assert_eq!(got.len(), 2, "{said}");
    assert!(got[0].starts_with("GET /reflect?a=b HTTP/1.1\r\n"));
    assert!(got[0].contains(&format!("\r\nAuthorization: Bearer {VALUE}\r\n")), "{}", got[0]);
    assert!(
        got[0].contains("\r\nx-own: 1\r\n") && got[0].contains("\r\nAccept-Encoding: identity\r\n")
    );
    assert!(!got[0].contains(PLACEHOLDER) && !got[1].contains(VALUE), "only who asks gets it");
    assert_eq!(*out.key.used.lock().unwrap(), ["GET /reflect"]);
    assert!(!said.contains(VALUE), "{said}");
    let stars = "*".repeat(VALUE.len());
    assert!(said.contains(&format!("Authorization: Bearer {stars}\r\n")), "{said}");
    assert!(said.contains(&format!("X-Seen: {stars}\r\n")) && !said.contains("Alt-Svc"));
    // In chunks it came in two halves.
    let (_, body) = said.rsplit_once("chunked").unwrap();
    assert!(body.matches('*').count() == VALUE.len() && body.ends_with("0\r\n\r\n"), "{said}");
    let target = format!("localhost:{}", out.server.port);
    assert_eq!(*out.seen.lock().unwrap(), [Seen::Reached { target }]);
}

#[test]
fn it_goes_nowhere_else() {
    let out = out();
    let with = |line: &str, fields: &str| out.request(line, fields);
    let key = format!("Authorization: Bearer {PLACEHOLDER}\r\n");
    let port = out.server.port;
    for (request, status, why) in [
        (with(&format!("GET /x?key={PLACEHOLDER}"), ""), "403", "the address holds"),
        (with("GET /x", &format!("X-Key: {PLACEHOLDER}\r\n")), "403", "`x-key` holds"),
        (with("DELETE /x", &key), "403", "not for DELETE"),
        (with("GET /disk-full", &key), "503", "cannot be recorded"),
        (with("GET /x", &format!("{key}Upgrade: websocket\r\n")), "501", "another protocol"),
        (format!("GET /x HTTP/1.1\r\nHost: example.com\r\n{key}\r\n"), "400", "is another"),
        (format!("GET /x HTTP/1.1\r\n{key}\r\n"), "400", "is another"),
        (
            format!(
                "GET https://localhost:{port}/x HTTP/1.1\r\nHost: localhost:{port}\r\n{key}\r\n"
            ),
            "400",
            "no path",
        ),
        (
            with("POST /x", &format!("{key}Content-Length: 1\r\nContent-Length: 2\r\n")),
            "400",
            "not clear",
        ),
    ] {
        let said = out.ask(&request);
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")) && said.contains(why),
            "{request}: {said}"
        );
        assert_eq!(out.server.heads(), [""; 0], "{request}");
    }
    assert_eq!(*out.key.used.lock().unwrap(), [""; 0]);
    // What cannot be searched does not come back.
    for (path, why) in [("/encoded", "is encoded"), ("/switch", "another protocol")] {
        let said = out.ask(&with(&format!("GET {path}"), &key));
        assert!(said.starts_with("HTTP/1.1 502 ") && said.contains(why), "{said}");
    }
    let said = out.ask(&with("GET /empty", &format!("{key}Connection: close\r\n")));
    assert!(said.starts_with("HTTP/1.1 204 "), "{said}");
    // Nor do placeholders go to other hosts.
    let ask = |request: String| {
        let mut stream = TcpStream::connect(("127.0.0.1", out.proxy)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    };
    let said = ask(format!("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n{key}\r\n"));
    assert!(
        said.starts_with("HTTP/1.1 403 ") && said.contains("holds the placeholder of KEY"),
        "{said}"
    );
    // A program that insists on another protocol gets no connection.
    let mut stream = out.connect(&["h2"]);
    assert!(stream.write_all(b"x").and_then(|()| stream.flush()).is_err());
}

#[test]
fn who_asks_for_another_host_is_refused() {
    let out = out();
    let stream = TcpStream::connect(("127.0.0.2", out.hosts)).unwrap();
    // This door has another port than the host, so no value goes there.
    let mut stream = out.tls(stream, "localhost", &[]);
    assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").and_then(|()| stream.flush()).is_err());
    // The connection may end a moment before it is told.
    let begun = std::time::Instant::now();
    while out.seen.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
        std::thread::yield_now();
    }
    let seen = out.seen.lock().unwrap().clone();
    assert!(
        matches!(&seen[..], [Seen::Refused { why, .. }] if why.contains("no secret goes there")),
        "{seen:?}"
    );
    drop(seen);
    let mut stream = TcpStream::connect(("127.0.0.1", out.proxy)).unwrap();
    write!(stream, "CONNECT localhost:{} HTTP/1.1\r\n\r\n", out.server.port).unwrap();
    let mut stream = out.tls(stream, "example.com", &[]);
    assert!(stream.write_all(b"x").and_then(|()| stream.flush()).is_err());
    assert_eq!(out.server.heads(), [""; 0]);
}
