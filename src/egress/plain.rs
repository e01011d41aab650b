//! A request of plain HTTP, in absolute form.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::request::{Head, Refusal, Way, pass};
use super::rule::Target;

/// Fields that are between the program and this proxy, or would make the connection carry more than
/// one request (RFC 9110, 7.6.1).
const OURS: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// How long a request's body is.
enum Body {
    Bytes(u64),
    Chunks,
}

pub(super) fn serve(
    way: &Way,
    client: &mut TcpStream,
    head: &Head,
    rest: Vec<u8>,
) -> Result<(), Refusal> {
    let shown = head.target.escape_default().to_string();
    let bad = |why: &str| Refusal::new(400, &shown, why);
    let address = head.target.strip_prefix("http://");
    let address = address.ok_or_else(|| bad("it is no address of plain HTTP"))?;
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, path) = address.split_at(end);
    let target = Target::parse(authority, Some(80)).ok_or_else(|| bad("it is no host"))?;
    for host in head.all("host") {
        let host = std::str::from_utf8(host).ok().and_then(|h| Target::parse(h.trim(), Some(80)));
        if host.as_ref() != Some(&target) {
            return Err(bad("its `Host` is another"));
        }
    }
    let body = body(head).ok_or_else(|| bad("the length of its body is not clear"))?;
    let mut server = way.reach(&target)?;
    way.reached(&target);
    let gone = |e: io::Error| Refusal::new(502, &target, e);
    server.write_all(&request(head, &target, path)).map_err(gone)?;
    std::thread::scope(|both| {
        both.spawn(|| pass(&server, client));
        let mut from = rest.as_slice().chain(&*client);
        let sent = match body {
            Body::Bytes(n) => io::copy(&mut from.take(n), &mut &server).map(drop),
            Body::Chunks => chunks(&mut from, &mut &server),
        };
        if sent.is_err() {
            // Nobody is to take half a body for a whole one.
            let _ = server.shutdown(std::net::Shutdown::Both);
        }
    });
    Ok(())
}

/// The request in origin form.
fn request(head: &Head, target: &Target, path: &str) -> Vec<u8> {
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let host = match target.port {
        80 => target.to_string().trim_end_matches(":80").to_owned(),
        _ => target.to_string(),
    };
    let mut out =
        format!("{} {slash}{path} HTTP/1.1\r\nHost: {host}\r\n", head.method).into_bytes();
    for (name, value) in head.fields.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out
}

/// What the fields say of the body; nothing, where they can be read in two ways (RFC 9112, 6.3).
fn body(head: &Head) -> Option<Body> {
    let lengths: Vec<&[u8]> = head.all("content-length").collect();
    let codings: Vec<&[u8]> = head.all("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some(Body::Bytes(0)),
        ([length], []) => {
            let digits = std::str::from_utf8(length).ok()?;
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok().map(Body::Bytes)).flatten()
        }
        ([], [coding]) => coding.eq_ignore_ascii_case(b"chunked").then_some(Body::Chunks),
        _ => None,
    }
}

/// Passes a body in chunks on, to its end and no further (RFC 9112, 7.1).
fn chunks(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    loop {
        let line = line(from)?;
        to.write_all(&line)?;
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let size = match httparse::parse_chunk_size(&line).map_err(invalid)? {
            httparse::Status::Complete((_, size)) => size,
            httparse::Status::Partial => return Err(io::ErrorKind::InvalidData.into()),
        };
        if size == 0 {
            break;
        }
        // With the line's end after it.
        io::copy(&mut from.take(size.saturating_add(2)), to)?;
    }
    // Fields after the last chunk are passed on, too.
    loop {
        let line = line(from)?;
        to.write_all(&line)?;
        if line == b"\r\n" {
            return Ok(());
        }
    }
}

/// A short line with its end; nothing after it is read.
fn line(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < 4096 {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(line)
}
