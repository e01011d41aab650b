//! A web server on the loopback interface that can also misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request, as it came. Header names are in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What to answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub break_off: Option<usize>,
    /// Send so many bytes of the body, then say nothing until the server is told to go on.
    pub hang: Option<usize>,
    /// Close before any answer.
    pub reset: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        let (body, headers) = (body.into(), Vec::new());
        Reply { status, headers, body, break_off: None, hang: None, reset: false }
    }
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200, body)
    }
    pub fn not_found() -> Reply {
        Reply::new(404, "no such thing")
    }
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }
    /// `file`, or the part of it that `request` asks for.
    pub fn ranged(request: &Request, file: &[u8]) -> Reply {
        let range = request.header("range").and_then(|r| r.strip_prefix("bytes="));
        match range.and_then(|r| r.strip_suffix('-')?.parse::<usize>().ok()) {
            Some(from) if from >= file.len() => Reply::new(416, ""),
            Some(from) => Reply::new(206, &file[from..])
                .with("content-range", &format!("bytes {from}-{}/{}", file.len() - 1, file.len())),
            None => Reply::ok(file),
        }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Serves until it is dropped.
pub struct Server {
    pub base: String,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let released = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, stop, release) = (seen.clone(), stopped.clone(), released.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, log) = (handler.clone(), log.clone());
                let release = release.clone();
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream, &*handler, &log, &release));
                }
            }
        });
        Server { base: format!("http://{address}"), address, seen, stopped, released }
    }

    /// Ends every connection that hangs, and lets none hang from now on.
    pub fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no handler panics with the lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.release();
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes `accept`.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>, release: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be duplicated"));
    let Some(request) = read(&mut reader, &stream) else { return };
    let reply = handler(&request);
    log.lock().expect("no handler panics with the lock").push(request.clone());
    if reply.reset {
        return;
    }
    // A client that went away is no failure of the server.
    let _ = write(&stream, &request, &reply, release);
}

fn read(reader: &mut BufReader<TcpStream>, stream: &TcpStream) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    if headers.get("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|v| v == "chunked") {
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim(), 16).ok()?;
            reader.take(length).read_to_end(&mut body).ok()?;
            line.clear();
            reader.read_line(&mut line).ok()?;
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length").and_then(|v| v.parse().ok()) {
        reader.take(length).read_to_end(&mut body).ok()?;
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

fn write(
    mut stream: &TcpStream,
    request: &Request,
    reply: &Reply,
    release: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\nconnection: close\r\n", reply.status);
    if reply.status != 304 {
        head += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let hang = reply.hang.filter(|_| !release.load(Ordering::SeqCst));
    let sent = reply.break_off.or(hang).unwrap_or(reply.body.len());
    stream.write_all(&reply.body[..sent])?;
    while hang.is_some() && !release.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
