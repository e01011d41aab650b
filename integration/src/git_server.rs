//! `git http-backend` (git-http-backend(1)) on loopback: git's own server, over a CGI of a
//! few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A server of the bare repositories in one directory, until it is dropped.
pub struct GitServer {
    address: String,
    state: Arc<State>,
}

struct State {
    root: PathBuf,
    requests: AtomicU64,
    down: AtomicBool,
}

impl GitServer {
    /// Serves the repositories below `root`.
    pub fn start(root: &Path) -> GitServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new(State {
            root: root.to_owned(),
            requests: AtomicU64::new(0),
            down: AtomicBool::new(false),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || {
                    if !state.down.load(Ordering::Relaxed) {
                        state.requests.fetch_add(1, Ordering::Relaxed);
                        let _ = serve(&state.root, &stream);
                    }
                });
            }
        });
        GitServer { address, state }
    }

    /// The address of one of its repositories.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// How many requests there have been.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// From now on every connection is closed at once.
    pub fn take_down(&self) {
        self.state.down.store(true, Ordering::Relaxed);
    }
}

/// Makes a bare repository `name` below `root` that holds the files of `from` in one commit
/// with a fixed date, and lets it be fetched partially.
pub fn publish(from: &Path, root: &Path, name: &str) -> PathBuf {
    let work = tempfile::tempdir().expect("a temporary directory");
    let git = |dir: &Path, arguments: &[&str]| {
        let out = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", "2025-06-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2025-06-01T00:00:00Z")
            .output()
            .expect("git is there");
        assert!(
            out.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    let tree = work.path().join("tree");
    let copied = Command::new("cp").arg("-r").arg(from).arg(&tree).status();
    assert!(copied.is_ok_and(|s| s.success()), "cannot copy {}", from.display());
    git(&tree, &["init", "-q", "-b", "main"]);
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-q", "-m", "first"]);
    let bare = root.join(name);
    git(root, &["clone", "-q", "--bare", tree.to_str().expect("UTF-8"), name]);
    git(&bare, &["config", "uploadpack.allowFilter", "true"]);
    git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    bare
}

fn serve(root: &Path, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or("/"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git");
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        // The server's user need not own what it serves.
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut length = 0;
    let mut chunked = false;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "transfer-encoding" => chunked = value.contains("chunked"),
            "content-type" => drop(backend.env("CONTENT_TYPE", value)),
            "content-encoding" => drop(backend.env("HTTP_CONTENT_ENCODING", value)),
            "git-protocol" => drop(backend.env("HTTP_GIT_PROTOCOL", value)),
            _ => {}
        }
    }
    let body = if chunked { read_chunks(&mut reader)? } else { read_exactly(&mut reader, length)? };
    backend.env("CONTENT_LENGTH", body.len().to_string());
    let mut child = backend.spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || stdin.write_all(&body));
    let mut answer = Vec::new();
    child.stdout.take().expect("it is piped").read_to_end(&mut answer)?;
    let _ = writer.join();
    child.wait()?;
    respond(stream, &answer)
}

fn read_exactly(reader: &mut impl Read, length: usize) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        body.extend(read_exactly(reader, size)?);
        read_exactly(reader, 2)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A CGI answer (RFC 3875) as an HTTP one.
fn respond(mut stream: &TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8_lossy(&answer[..end]);
    let body = &answer[(end + 4).min(answer.len())..];
    let status = head.lines().find_map(|l| l.strip_prefix("Status: ")).unwrap_or("200 OK");
    let rest: String =
        head.lines().filter(|l| !l.starts_with("Status: ")).map(|l| format!("{l}\r\n")).collect();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{rest}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}
