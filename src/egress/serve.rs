//! One connection after the other: what it asks for, and whether that may be.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::request::{Head, Refusal, Seen, Tell, Way};
use super::rule::Rules;
use super::{plain, tunnel};

/// A request line and its fields are not longer, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// How many fields a request has at most.
const MOST_FIELDS: usize = 128;
/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many connections there are at one time.
const MOST_CONNECTIONS: usize = 256;

/// Serves what connects to `listener`, in threads, until it is closed.
pub fn serve(listener: &TcpListener, rules: Rules, tell: Tell) {
    let way = Arc::new(Way { rules, tell });
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let mut client = match listener.accept() {
            Ok((client, _)) => client,
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return,
            Err(_) => {
                // A connection that went before it was taken, or no descriptor left for now.
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            let busy = Refusal::new(503, "?", "there are too many connections at one time");
            answer(&mut client, &busy);
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (way, counted) = (way.clone(), open.clone());
        let begun = std::thread::Builder::new().name("egress".into()).spawn(move || {
            one(&way, client);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if begun.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn one(way: &Way, mut client: TcpStream) {
    let served = head(&mut client).and_then(|(head, rest)| match head.method.as_str() {
        "CONNECT" => tunnel::serve(way, &mut client, &head, rest),
        _ => plain::serve(way, &mut client, &head, rest),
    });
    if let Err(refusal) = served {
        let Refusal { target, why, unlisted, .. } = &refusal;
        let target = target.clone();
        (way.tell)(match unlisted {
            true => Seen::NotListed { target },
            false => Seen::Refused { target, why: why.clone() },
        });
        answer(&mut client, &refusal);
    }
}

/// The head of a request, and what came after it.
fn head(client: &mut TcpStream) -> Result<(Head, Vec<u8>), Refusal> {
    let bad = |why: String| Refusal::new(400, "?", why);
    let _ = client.set_read_timeout(Some(PATIENCE));
    let mut bytes = Vec::new();
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(end)) => {
                let field =
                    |f: &httparse::Header<'_>| (f.name.to_ascii_lowercase(), f.value.to_vec());
                let head = Head {
                    method: request.method.unwrap_or_default().to_owned(),
                    target: request.path.unwrap_or_default().to_owned(),
                    fields: request.headers.iter().map(field).collect(),
                };
                let _ = client.set_read_timeout(None);
                return Ok((head, bytes.split_off(end)));
            }
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => {}
            Ok(httparse::Status::Partial) => return Err(bad("its head is too long".into())),
            Err(e) => return Err(bad(format!("it is no request to a proxy: {e}"))),
        }
        let mut buffer = [0; 4096];
        match client.read(&mut buffer) {
            Ok(0) => return Err(bad("it ended before its head did".into())),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) => return Err(bad(e.to_string())),
        }
    }
}

/// Answers what is not served.
fn answer(client: &mut TcpStream, refusal: &Refusal) {
    let Refusal { status, target, why, .. } = refusal;
    let reason = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        502 => "Bad Gateway",
        _ => "Service Unavailable",
    };
    let body = format!("zagi: {target}: {why}\n");
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Who hangs up meanwhile gets no answer.
    let _ = client.write_all(text.as_bytes());
    let _ = client.shutdown(Shutdown::Write);
}
