//! What is read of a program and of a host, changed by chance.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use super::super::body::Body;
use super::super::hello::hello;
use super::super::request::read_head;
use super::super::rule::{Rule, Target};
use crate::chance::changes;

#[test]
fn a_changed_request_is_refused_or_says_the_same() {
    let corpus: [&[u8]; 4] = [
        b"GET /v1/x?y=1 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer x\r\n\r\n",
        b"POST http://a.example/ HTTP/1.0\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: 1\r\nX: 2\r\n\r\n0\r\n\r\n",
    ];
    let mut read = 0;
    changes(3000, &corpus, |bytes| {
        let Ok(Some(head)) = read_head(&mut &bytes[..], &mut Vec::new()) else { return };
        read += 1;
        // Nothing that ends a line or a word is left in a part.
        assert!(!head.method.bytes().chain(head.target.bytes()).any(|b| b <= b' ' || b == 127));
        let mut text =
            format!("{} {} HTTP/1.{}\r\n", head.method, head.target, u8::from(!head.old))
                .into_bytes();
        for (name, value) in &head.fields {
            assert!(!name.bytes().any(|b| b <= b' ' || b == b':'));
            assert!(!value.iter().any(|b| b"\r\n\0".contains(b)));
            text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        text.extend(b"\r\n");
        let again = read_head(&mut text.as_slice(), &mut Vec::new());
        let Ok(Some(again)) = again else { panic!("{}", text.escape_ascii()) };
        assert!(again.method == head.method && again.target == head.target);
        assert!(again.fields == head.fields && again.old == head.old);
        let (one, other) = (Body::of_request(&head), Body::of_request(&again));
        assert_eq!(one.is_some(), other.is_some());
        // As an address it is one that is written in one way.
        if let Some(target) = Target::parse(&head.target, Some(443)) {
            assert_eq!(Target::parse(&target.to_string(), None), Some(target));
        }
    });
    assert!(read > 500, "{read}");
}

/// One reader more than ours: it takes a line feed alone for the end of a line, as some do. It must find
/// the same end as a strict one.
fn end_of_chunks(bytes: &[u8], lenient: bool) -> Option<usize> {
    let mut at = 0;
    let line = |at: &mut usize| {
        let length = memchr::memchr(b'\n', &bytes[*at..])?;
        let line = &bytes[*at..*at + length];
        *at += length + 1;
        match line.strip_suffix(b"\r") {
            Some(line) => Some(line),
            None => lenient.then_some(line),
        }
    };
    loop {
        let first = line(&mut at)?;
        let digits = first.split(|b| *b == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()?;
        if size == 0 {
            while !line(&mut at)?.is_empty() {}
            return Some(at);
        }
        at = at.checked_add(size).filter(|at| *at <= bytes.len())?;
        if !line(&mut at)?.is_empty() {
            return None;
        }
    }
}

#[test]
fn a_body_in_chunks_passes_on_with_one_end() {
    let corpus: [&[u8]; 4] = [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n",
        // What a lenient reader takes for the end, and another request.
        b"3;\nabc\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nX: \r\n0\r\n\r\n",
        b"0\r\nX: y\n\nGET /admin HTTP/1.1\r\n\r\n",
    ];
    let mut passed = 0;
    changes(3000, &corpus, |bytes| {
        let mut out = Vec::new();
        if Body::Chunks.pass(&mut &bytes[..], &mut out).is_err() {
            return;
        }
        passed += 1;
        for lenient in [false, true] {
            let end = end_of_chunks(&out, lenient);
            assert_eq!(end, Some(out.len()), "{} of {}", out.escape_ascii(), bytes.escape_ascii());
        }
    });
    assert!(passed > 300, "{passed}");
}

#[test]
fn a_changed_beginning_of_tls_is_refused_or_names_a_host() {
    let config = rustls::ClientConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let name = "api.example.com".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sound = Vec::new();
    client.write_tls(&mut sound).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = || -> io::Result<(TcpStream, TcpStream)> {
        let ours = TcpStream::connect(listener.local_addr()?)?;
        Ok((ours, listener.accept()?.0))
    };
    let mut named = 0;
    changes(300, &[&sound], |bytes| {
        let (mut ours, mut theirs) = pair().unwrap();
        ours.write_all(bytes).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        if let Ok(Some(host)) = hello(&mut theirs, &mut Vec::new()) {
            named += 1;
            let target = Target::parse(&host, Some(443));
            assert!(target.is_none_or(|target| target.host == host.trim_end_matches('.')));
        }
    });
    assert!(named > 0);
}

#[test]
fn a_changed_rule_is_refused_or_says_the_same() {
    let corpus: [&[u8]; 5] = [
        b"api.example.com",
        b"*.example.net:8443",
        b"[2001:db8::7]:443",
        b"192.0.2.7:5432",
        b"localhost",
    ];
    let mut read = 0;
    changes(2000, &corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(rule) = text.parse::<Rule>() else { return };
        read += 1;
        assert_eq!(rule.to_string().parse(), Ok(rule));
    });
    assert!(read > 500, "{read}");
}
