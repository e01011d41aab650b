//! A proxy on loopback that counts what comes through it. Only tunnels (`CONNECT`): what is
//! asked for inside is nobody's business, and every client can.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a server is asked.
const TIMES: u32 = 4;

/// The proxy; ends with the program.
pub struct Counted {
    address: String,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    /// Listens at a port that is free.
    ///
    /// # Panics
    /// Where there is none.
    pub fn start() -> Counted {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let counter = Arc::clone(&counter);
                // A client that goes away early is its own affair.
                thread::spawn(move || tunnel(client, &counter).ok());
            }
        });
        Counted { address: format!("http://{address}"), bytes }
    }

    /// The variables that lead a program through here.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        ["http_proxy", "https_proxy"].into_iter().map(|name| (name, self.address.as_str()))
    }

    /// How many bytes have come from servers so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn tunnel(client: TcpStream, counter: &AtomicU64) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split_whitespace();
    let (Some("CONNECT"), Some(host)) = (words.next(), words.next()) else {
        return (&client).write_all(b"HTTP/1.1 501 only CONNECT\r\nContent-Length: 0\r\n\r\n");
    };
    let server = match connected(host) {
        Ok(server) => server,
        Err(e) => {
            eprintln!("{host} does not answer: {e}");
            return (&client).write_all(b"HTTP/1.1 502 no answer\r\nContent-Length: 0\r\n\r\n");
        }
    };
    (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let to_server = server.try_clone()?;
    thread::spawn(move || pour(reader, &to_server, &AtomicU64::new(0)).ok());
    pour(server, &client, counter)
}

/// A connection to `host`, asked for a few times: whoever is measured would, too.
fn connected(host: &str) -> io::Result<TcpStream> {
    let mut failed = io::ErrorKind::NotFound.into();
    for _ in 0..TIMES {
        let found = addresses(host).and_then(|all| TcpStream::connect(&all[..]));
        match found {
            Ok(server) => return Ok(server),
            Err(e) => failed = e,
        }
        thread::sleep(Duration::from_secs(1));
    }
    Err(failed)
}

/// Where `host` is. A name server is asked once: some managers come with hundreds of connections
/// at a time.
fn addresses(host: &str) -> io::Result<Vec<SocketAddr>> {
    static KNOWN: Mutex<BTreeMap<String, Vec<SocketAddr>>> = Mutex::new(BTreeMap::new());
    // Whoever comes meanwhile waits for the answer.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(host) {
        return Ok(found.clone());
    }
    let found: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
    known.insert(host.to_owned(), found.clone());
    Ok(found)
}

/// Until either side has had enough.
fn pour(mut from: impl Read, mut to: &TcpStream, counter: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            // Already closed by the other side, or now by this one.
            let _ = to.shutdown(Shutdown::Write);
            return Ok(());
        }
        counter.fetch_add(length as u64, Ordering::Relaxed);
        to.write_all(&buffer[..length])?;
    }
}
