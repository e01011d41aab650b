//! Real git: repositories made by it, and published by its own `http-backend`.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::http::{Reply, Request, Server};

/// A repository with a work tree.
pub struct Repository {
    pub dir: PathBuf,
}

/// Runs git in `dir` and returns what it wrote, without the last line end.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = command(dir).args(args).output().expect("git is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env_clear();
    command.env("PATH", std::env::var_os("PATH").expect("a test is run with PATH"));
    command.env("HOME", dir).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A U Thor");
        command.env(format!("GIT_{who}_EMAIL"), "author@example.org");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    command
}

impl Repository {
    /// An empty one, on the branch `main`.
    pub fn create(dir: &Path) -> Repository {
        std::fs::create_dir_all(dir).expect("the directory is ours");
        git(dir, &["init", "-q", "-b", "main"]);
        Repository { dir: dir.to_owned() }
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.dir, args)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
        std::fs::write(path, text).expect("it is ours");
    }

    /// Commits everything, and returns the commit.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Publishes every repository below `root`, unless `fault` answers first.
pub fn serve(
    root: &Path,
    fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let root = root.to_owned();
    Server::start(move |request| fault(request, backend(&root, request)))
}

/// As [`serve`], never failing.
pub fn serve_well(root: &Path) -> Server {
    serve(root, |_, reply| reply)
}

/// Whether a request is for objects, not for a list of references.
pub fn is_fetch(request: &Request) -> bool {
    let mut body = Vec::new();
    match request.header("content-encoding") {
        Some("gzip") => {
            let mut decoder = flate2::read::GzDecoder::new(&request.body[..]);
            decoder.read_to_end(&mut body).expect("git packs it well");
        }
        _ => body.extend_from_slice(&request.body),
    }
    request.method == "POST" && body.windows(13).any(|w| w == b"command=fetch")
}

/// One request through the CGI of `git http-backend`.
fn backend(root: &Path, request: &Request) -> Reply {
    let mut command = command(root);
    command.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    // The repositories belong to whoever runs the tests; git must not mind.
    command.env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    command.env("REQUEST_METHOD", &request.method).env("PATH_INFO", &request.path);
    command.env("QUERY_STRING", &request.query).env("REMOTE_ADDR", "127.0.0.1");
    command.env("CONTENT_LENGTH", request.body.len().to_string());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("git is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    let body = request.body.clone();
    // A thread of its own: both pipes may be full at once.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&body);
    });
    let output = child.wait_with_output().expect("it was started");
    writer.join().expect("writing does not panic");
    let end = output.stdout.windows(4).position(|w| w == b"\r\n\r\n").expect("CGI has a head");
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let mut reply = Reply::ok(&output.stdout[end + 4..]);
    for line in head.lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => {
                reply.status = status[..3].parse().expect("a status has three digits");
            }
            Some((name, value)) => reply = reply.with(name, value),
            None => {}
        }
    }
    reply
}
