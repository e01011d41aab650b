//! What the way out of a sandbox costs: a request over TLS by itself, through the proxy's tunnel (as an
//! agent's requests go), and through the broker, which puts a value in, records the use in an
//! audit log on disk, and searches the answer (as an app's go). Side by side, in one run, with a
//! server of its own on loopback.
//!
//! ```text
//! cargo build --release --workspace && target/release/bench-egress >> integration/bench/RESULTS.md
//! ```

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zagi::egress::{Broker, Credential, Rules, Wanted, Way, serve};
use zagi::proxy::Proxies;
use zagi::redact::Needles;
use zagi::secrets::audit::{Log, Use};
use zagi_integration::https;

const KEY: &str = "sk_live_0123456789abcdef0123456789";
const PLACEHOLDER: &str = "zagi-placeholder-0123456789abcdef0123456789abcdef";
/// Requests of each kind; the median counts.
const RUNS: usize = 301;
/// What is fetched to see how fast it comes, in bytes, and how often.
const LARGE: usize = 64 << 20;
const FETCHES: usize = 7;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A value whose uses are recorded, as `zagi run` has it.
struct Key {
    host: String,
    log: Log,
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
    fn refuses(&self, _: &Wanted<'_>) -> Option<String> {
        None
    }
    fn release(&self, wanted: &Wanted<'_>, put: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let of = Use {
            action: "put".into(),
            names: vec!["KEY".into()],
            to: format!("{} https://{}{}", wanted.method, self.host, wanted.path),
            file: "/home/you/web/.zagi/secrets.enc".into(),
            project: "p".into(),
            revision: 1,
            uid: 1000,
            pid: 1,
            by: "bench".into(),
        };
        self.log.append(0, of).map_err(|e| e.to_string())?;
        put(format!("Bearer {KEY}").as_bytes());
        Ok(())
    }
}

/// One way to the server.
struct Route {
    name: &'static str,
    /// The proxy's port, where it is by a proxy.
    proxy: Option<u16>,
    /// What the proxy is asked for.
    at: String,
    roots: String,
    key: &'static str,
    server: u16,
}

impl Route {
    fn connect(&self) -> Tls {
        let stream = match self.proxy {
            None => TcpStream::connect(("127.0.0.1", self.server)).expect("it listens"),
            Some(port) => {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
                write!(stream, "CONNECT {} HTTP/1.1\r\n\r\n", self.at).expect("it reads");
                let mut said = [0; 39];
                stream.read_exact(&mut said).expect("it answers");
                assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
                stream
            }
        };
        stream.set_nodelay(true).expect("TCP");
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.roots.as_bytes()).expect("PEM");
        roots.add(certificate).expect("a certificate");
        let config =
            ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .expect("there are such")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream)
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.server)
    }

    /// One request and the whole of its answer.
    fn ask(&self, stream: &mut Tls, path: &str) {
        let (host, key) = (self.host(), self.key);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).expect("it reads");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("it answers");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", self.name);
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: u64 = length.and_then(|n| n.parse().ok()).expect("it says how long it is");
        let read = std::io::copy(&mut stream.take(length), &mut std::io::sink()).expect("it comes");
        assert_eq!(read, length);
    }
}

fn proxy(way: Way) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let way = Arc::new(way);
    std::thread::spawn(move || serve(&listener, &way));
    port
}

fn main() {
    let server = https::start(KEY);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let host = format!("localhost:{}", server.port);
    let mut needles = Needles::default();
    needles.add(KEY.as_bytes()).expect("memory");
    let key = Arc::new(Key { host: host.clone(), log: Log::new(dir.path()) });
    let roots = server.certificate.clone();
    let broker = Broker::new(vec![key], Arc::new(needles), Some(roots.as_bytes())).expect("made");
    let inside = broker.certificate().to_owned();
    let tell: zagi::egress::Tell = Arc::new(|_| ());
    // The tunnel by address, which a rule may name although it is of this machine.
    let rules: Rules =
        [format!("127.0.0.1:{}", server.port).parse().expect("a rule")].into_iter().collect();
    let way =
        |rules, broker| Way { rules, proxies: Proxies::default(), broker, tell: tell.clone() };
    let tunnel = proxy(way(rules, None));
    let brokered = proxy(way(Rules::default(), Some(broker)));
    let port = server.port;
    let routes = [
        Route {
            name: "direct",
            proxy: None,
            at: String::new(),
            roots: roots.clone(),
            key: KEY,
            server: port,
        },
        Route {
            name: "proxy, tunnel",
            proxy: Some(tunnel),
            at: format!("127.0.0.1:{port}"),
            roots,
            key: KEY,
            server: port,
        },
        Route {
            name: "broker",
            proxy: Some(brokered),
            at: host,
            roots: inside,
            key: PLACEHOLDER,
            server: port,
        },
    ];
    measure(&routes);
}

/// In turn: what else the machine does meanwhile is the same for all.
fn measure(routes: &[Route]) {
    let mut first = vec![Vec::new(); routes.len()];
    let mut next = vec![Vec::new(); routes.len()];
    let mut large = vec![Vec::new(); routes.len()];
    let mut kept: Vec<Tls> = routes.iter().map(Route::connect).collect();
    for _ in 0..RUNS {
        for (n, route) in routes.iter().enumerate() {
            let began = Instant::now();
            route.ask(&mut route.connect(), "/v1/charges");
            first[n].push(began.elapsed());
            let began = Instant::now();
            route.ask(&mut kept[n], "/v1/charges");
            next[n].push(began.elapsed());
        }
    }
    for _ in 0..FETCHES {
        for (n, route) in routes.iter().enumerate() {
            let began = Instant::now();
            route.ask(&mut kept[n], &format!("/bytes/{LARGE}"));
            large[n].push(began.elapsed());
        }
    }
    println!("\n### The way out of a sandbox\n");
    println!(
        "| | new connection, ms | to direct | next request, ms | to direct | {} MB, MB/s | to direct |\n|---|--:|--:|--:|--:|--:|--:|",
        LARGE >> 20
    );
    let medians = |all: Vec<Vec<Duration>>| all.into_iter().map(median).collect::<Vec<f64>>();
    let (first, next, large) = (medians(first), medians(next), medians(large));
    for (n, route) in routes.iter().enumerate() {
        let speed = |seconds: f64| LARGE as f64 / 1e6 / seconds;
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} |",
            route.name,
            first[n] * 1e3,
            first[n] / first[0],
            next[n] * 1e3,
            next[n] / next[0],
            speed(large[n]),
            large[0] / large[n],
        );
    }
}

/// In seconds.
fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    all[all.len() / 2].as_secs_f64()
}
