//! Bodies of requests and answers: how long they are, and how they pass (RFC 9112, 6 and 7).

use std::io::{self, Read, Write};

use zagi_sandbox::Filter;

use super::request::Head;

/// How long a body is.
pub(super) enum Body {
    /// So many bytes.
    Bytes(u64),
    /// In chunks.
    Chunks,
    /// All that comes.
    Rest,
}

impl Body {
    /// Of a request; nothing, where its fields can be read in two ways.
    pub fn of_request(head: &Head) -> Option<Body> {
        match Body::of(head.all("content-length"), head.all("transfer-encoding"))? {
            Body::Rest => Some(Body::Bytes(0)),
            body => Some(body),
        }
    }

    /// Of an answer that has one.
    pub fn of_answer<'f>(
        lengths: impl Iterator<Item = &'f [u8]>,
        codings: impl Iterator<Item = &'f [u8]>,
    ) -> Option<Body> {
        Body::of(lengths, codings)
    }

    fn of<'f>(
        lengths: impl Iterator<Item = &'f [u8]>,
        codings: impl Iterator<Item = &'f [u8]>,
    ) -> Option<Body> {
        let (lengths, codings): (Vec<_>, Vec<_>) = (lengths.collect(), codings.collect());
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Some(Body::Rest),
            ([length], []) => {
                let digits = std::str::from_utf8(length).ok()?;
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse().ok().map(Body::Bytes)).flatten()
            }
            ([], [coding]) => coding.eq_ignore_ascii_case(b"chunked").then_some(Body::Chunks),
            _ => None,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Body::Bytes(0))
    }

    /// Passes it on as it is, to its end and no further.
    pub fn pass(&self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        match self {
            Body::Bytes(n) => whole(io::copy(&mut from.take(*n), to)?, *n),
            Body::Chunks => chunks(from, to),
            Body::Rest => io::copy(from, to).map(drop),
        }
    }

    /// Passes it on through a filter that keeps lengths, piece by piece as it comes.
    pub fn pass_through(
        &self,
        from: &mut impl Read,
        to: &mut impl Write,
        filter: &mut impl Filter,
    ) -> io::Result<()> {
        match self {
            Body::Bytes(n) => {
                let passed = pieces(&mut from.take(*n), filter, |piece| to.write_all(piece))?;
                whole(passed, *n)
            }
            Body::Rest => {
                pieces(from, filter, |piece| {
                    to.write_all(piece)?;
                    to.flush()
                })?;
                Ok(())
            }
            Body::Chunks => {
                pieces(&mut Unchunked { from, left: Some(0), first: true }, filter, |piece| {
                    to.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    to.write_all(piece)?;
                    to.write_all(b"\r\n")?;
                    to.flush()
                })?;
                to.write_all(b"0\r\n\r\n")
            }
        }
    }
}

fn whole(passed: u64, expected: u64) -> io::Result<()> {
    match passed == expected {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads to the end, a piece at a time; how many bytes there were.
fn pieces(
    from: &mut impl Read,
    filter: &mut impl Filter,
    mut to: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut buffer, mut out, mut passed) = (vec![0; 64 * 1024], Vec::new(), 0);
    loop {
        let n = match from.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        passed += n as u64;
        match n {
            0 => filter.flush(&mut out),
            n => filter.pass(&buffer[..n], &mut out),
        }
        if !out.is_empty() {
            to(&out)?;
            out.clear();
        }
        if n == 0 {
            return Ok(passed);
        }
    }
}

/// What is in chunks, without them; what follows the last one is dropped.
struct Unchunked<'r, R> {
    from: &'r mut R,
    /// Of this chunk; none after the last.
    left: Option<u64>,
    first: bool,
}

impl<R: Read> Read for Unchunked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == Some(0) {
            if !std::mem::take(&mut self.first) && line(self.from)? != b"\r\n" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.left = Some(size(&line(self.from)?)?).filter(|size| *size > 0);
            if self.left.is_none() {
                while line(self.from)? != b"\r\n" {}
            }
        }
        let Some(left) = &mut self.left else { return Ok(0) };
        let n = (&mut *self.from).take(*left).read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= n as u64;
        Ok(n)
    }
}

/// The size that a chunk's first line says.
fn size(line: &[u8]) -> io::Result<u64> {
    match httparse::parse_chunk_size(line) {
        Ok(httparse::Status::Complete((_, size))) => Ok(size),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Passes a body in chunks on, to its end and no further (RFC 9112, 7.1). What frames them is written
/// anew, without extensions and what follows the last one: what two readers end at two places would
/// have another request in it, with a field in which a value is put.
fn chunks(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    loop {
        let size = size(&line(from)?)?;
        write!(to, "{size:x}\r\n")?;
        if size == 0 {
            break;
        }
        whole(io::copy(&mut from.take(size), to)?, size)?;
        if line(from)? != b"\r\n" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        to.write_all(b"\r\n")?;
    }
    while line(from)? != b"\r\n" {}
    to.write_all(b"\r\n")
}

/// A short line with its end; nothing after it is read.
fn line(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() >= 4096 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(line)
}
