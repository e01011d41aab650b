//! A connection to a host that values go to: TLS ends here, with a certificate of this run, and
//! begins again to the host itself.
//!
//! HTTP/1.1 alone, one request after the other. Answers come unencoded, are searched for the
//! values, and go on as they come. What cannot be searched (an encoded body, another protocol)
//! is refused.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, ServerConnection, StreamOwned};
use zagi_sandbox::Filter;

use super::body::Body;
use super::broker::{Broker, Hands, Own};
use super::hello::hello;
use super::inject;
use super::request::{Head, Refusal, answer, names, read_head};
use super::rule::Target;
use super::way::Way;
use crate::redact::Redactor;

/// The head of an answer is not longer, in bytes.
const LONGEST_HEAD: usize = 256 * 1024;
/// How many fields an answer has at most.
const MOST_FIELDS: usize = 256;
/// Fields that are between the host and this proxy, or lead past it.
const OURS: [&str; 5] = ["alt-svc", "connection", "keep-alive", "proxy-connection", "upgrade"];

type Upstream = Buffered<StreamOwned<ClientConnection, TcpStream>>;
type Downstream = Buffered<StreamOwned<ServerConnection, Replay>>;

/// A stream of which something was read already.
struct Replay {
    read: io::Cursor<Vec<u8>>,
    stream: TcpStream,
}

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.read.read(buffer)? {
            0 => self.stream.read(buffer),
            n => Ok(n),
        }
    }
}

impl Write for Replay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A stream, and what was read of it beyond a head.
struct Buffered<S> {
    stream: S,
    rest: Vec<u8>,
}

impl<S: Read> Read for Buffered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            return match self.stream.read(buffer) {
                // Without a word of TLS that it was the end: the framing of HTTP tells.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            };
        }
        let n = self.rest.as_slice().read(buffer)?;
        self.rest.drain(..n);
        Ok(n)
    }
}

/// Serves a program that speaks TLS to `expected`, or to whomever its TLS names; or has it served by
/// who has the values.
pub(super) fn serve(
    way: &Way,
    broker: &Broker,
    mut client: TcpStream,
    mut read: Vec<u8>,
    expected: Option<Target>,
) -> Result<(), Refusal> {
    let shown = expected.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    let bad = |why: String| Refusal::new(400, &shown, why);
    let own = match &broker.hands {
        Hands::Own(own) => own,
        Hands::Other(other) => {
            let target = expected.map(|target| target.to_string());
            return other.take(client, read, target).map_err(|e| Refusal::new(502, &shown, e));
        }
    };
    let asked = hello(&mut client, &mut read).map_err(|e| bad(e.to_string()))?;
    let local = client.local_addr().map_err(|e| bad(e.to_string()))?;
    let target = match (expected, asked) {
        (Some(expected), Some(asked)) if asked != expected.host => {
            return Err(Refusal::new(400, &expected, format!("its TLS asks for {asked}")));
        }
        (Some(expected), _) => expected,
        (None, asked) => {
            let host = asked.unwrap_or_else(|| local.ip().to_string());
            Target { host, port: local.port() }
        }
    };
    if !broker.serves(&target) {
        return Err(Refusal::new(403, &target, "no secret goes there"));
    }
    let failed = |e: &dyn std::fmt::Display| Refusal::new(502, &target, e);
    let config = own.authority.server(&target.host).map_err(|e| failed(&e))?;
    let connection = ServerConnection::new(config).map_err(|e| failed(&e))?;
    let replay = Replay { read: io::Cursor::new(read), stream: client };
    let stream = StreamOwned::new(connection, replay);
    let mut client = Buffered { stream, rest: Vec::new() };
    way.reached(&target);
    let mut server = None;
    let served = requests(way, (broker, own), &target, &mut client, &mut server);
    if let Err(refusal) = &served {
        // Inside of the program's TLS.
        answer(&mut client.stream, refusal);
    }
    client.stream.conn.send_close_notify();
    let _ = client.stream.flush();
    served
}

/// One request after the other, until one side has enough.
fn requests(
    way: &Way,
    (broker, own): (&Broker, &Own),
    target: &Target,
    client: &mut Downstream,
    server: &mut Option<Upstream>,
) -> Result<(), Refusal> {
    loop {
        let Some(head) = read_head(&mut client.stream, &mut client.rest)? else { return Ok(()) };
        let body = Body::of_request(&head)
            .ok_or_else(|| Refusal::new(400, target, "the length of its body is not clear"))?;
        let is_fresh = server.is_none();
        let again = !is_fresh && body.is_empty() && ["GET", "HEAD"].contains(&head.method.as_str());
        let mut upstream = match server.take() {
            Some(upstream) => upstream,
            None => connect(way, own, target)?,
        };
        let request = inject::head(broker, target, &head)?;
        let mut sent = send(&mut upstream, &request, &head, &body, client);
        let mut answered = answer_of(&mut upstream);
        if again && (sent.is_err() || answered.is_err()) {
            // The host had closed a connection that was idle.
            upstream = connect(way, own, target)?;
            sent = send(&mut upstream, &request, &head, &body, client);
            answered = answer_of(&mut upstream);
        }
        let gone = |e: io::Error| Refusal::new(502, target, e);
        // A host may answer before it has the whole of a request.
        let answered = answered.map_err(|e| gone(sent.as_ref().err().map_or(e, copy)))?;
        let goes_on = respond(own, target, &head, answered, &mut upstream, client)?;
        if sent.is_err() || !goes_on || head.closes() {
            return Ok(());
        }
        *server = Some(upstream);
    }
}

fn copy(e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), e.to_string())
}

/// A connection to the host itself, whatever address its name leads to.
fn connect(way: &Way, own: &Own, target: &Target) -> Result<Upstream, Refusal> {
    let stream = own.secure(target, way.open(target, true)?)?;
    Ok(Buffered { stream, rest: Vec::new() })
}

fn send(
    upstream: &mut Upstream,
    request: &[u8],
    head: &Head,
    body: &Body,
    client: &mut Downstream,
) -> io::Result<()> {
    upstream.stream.write_all(request)?;
    let waits = head.all("expect").any(|e| e.eq_ignore_ascii_case(b"100-continue"));
    if waits && !body.is_empty() {
        client.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        client.stream.flush()?;
    }
    body.pass(client, &mut upstream.stream)?;
    upstream.stream.flush()
}

/// The head of an answer.
struct Answer {
    status: u16,
    reason: String,
    fields: Vec<(String, Vec<u8>)>,
    /// Whether it is of HTTP/1.0.
    old: bool,
}

impl Answer {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let is = move |(n, _): &&(String, Vec<u8>)| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(is).map(|(_, value)| value.as_slice())
    }
}

/// The next answer that is one, and no announcement.
fn answer_of(upstream: &mut Upstream) -> io::Result<Answer> {
    loop {
        let answer = one_answer(upstream)?;
        if !(100..200).contains(&answer.status) || answer.status == 101 {
            return Ok(answer);
        }
    }
}

fn one_answer(upstream: &mut Upstream) -> io::Result<Answer> {
    let invalid = |e: httparse::Error| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        if let httparse::Status::Complete(end) = response.parse(&upstream.rest).map_err(invalid)? {
            let field = |f: &httparse::Header<'_>| (f.name.to_owned(), f.value.to_vec());
            let answer = Answer {
                status: response.code.unwrap_or_default(),
                reason: response.reason.unwrap_or_default().to_owned(),
                fields: response.headers.iter().map(field).collect(),
                old: response.version == Some(0),
            };
            upstream.rest.drain(..end);
            return Ok(answer);
        }
        if upstream.rest.len() > LONGEST_HEAD {
            return Err(io::Error::other("the head of its answer is too long"));
        }
        let mut buffer = [0; 4096];
        match upstream.stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => upstream.rest.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Passes an answer on; whether another request may follow.
fn respond(
    own: &Own,
    target: &Target,
    head: &Head,
    answer: Answer,
    upstream: &mut Upstream,
    client: &mut Downstream,
) -> Result<bool, Refusal> {
    let odd = |why: &str| Refusal::new(502, target, why);
    if answer.status == 101 {
        return Err(odd("it speaks another protocol, which cannot be searched"));
    }
    let encoded = |value: &[u8]| !value.eq_ignore_ascii_case(b"identity");
    if answer.all("content-encoding").any(encoded) {
        return Err(odd(
            "its answer is encoded, though that was not asked for: it cannot be searched",
        ));
    }
    let none = head.method == "HEAD" || [204, 304].contains(&answer.status);
    let body = match none {
        true => Body::Bytes(0),
        false => Body::of_answer(answer.all("content-length"), answer.all("transfer-encoding"))
            .ok_or_else(|| odd("the length of its answer is not clear"))?,
    };
    let closes = answer.all("connection").any(|value| names(value, "close"));
    let goes_on = !closes && !answer.old && !matches!(body, Body::Rest);
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, answer.reason).into_bytes();
    for (name, value) in &answer.fields {
        if !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    let end: &[u8] = if goes_on { b"\r\n" } else { b"Connection: close\r\n\r\n" };
    out.extend_from_slice(end);
    let mut redactor = Redactor::new(own.needles.clone());
    let mut shown = Vec::with_capacity(out.len());
    redactor.pass(&out, &mut shown);
    redactor.flush(&mut shown);
    let gone = |e: io::Error| Refusal::new(502, target, e);
    client.stream.write_all(&shown).map_err(gone)?;
    body.pass_through(upstream, &mut client.stream, &mut redactor).map_err(gone)?;
    client.stream.flush().map_err(gone)?;
    Ok(goes_on)
}
