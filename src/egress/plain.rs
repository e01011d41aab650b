//! A request of plain HTTP, in absolute form.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::body::Body;
use super::request::{Head, Refusal, is_between, pass};
use super::rule::Target;
use super::upstream::Upstream;
use super::way::Way;

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
    let body = Body::of_request(head).ok_or_else(|| bad("the length of its body is not clear"))?;
    way.keeps_placeholders(&target, head)?;
    let (mut server, upstream) = way.reach_plain(&target)?;
    way.reached(&target);
    let gone = |e: io::Error| Refusal::new(502, &target, e);
    server.write_all(&request(head, &target, path, upstream.as_ref())).map_err(gone)?;
    std::thread::scope(|both| {
        both.spawn(|| pass(&server, client));
        let mut from = rest.as_slice().chain(&*client);
        if body.pass(&mut from, &mut &server).is_err() {
            // Nobody is to take half a body for a whole one.
            let _ = server.shutdown(std::net::Shutdown::Both);
        }
    });
    Ok(())
}

/// The request in origin form, or in absolute form for another proxy.
fn request(head: &Head, target: &Target, path: &str, upstream: Option<&Upstream>) -> Vec<u8> {
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let host = match target.port {
        80 => target.to_string().trim_end_matches(":80").to_owned(),
        _ => target.to_string(),
    };
    let origin = upstream.map(|_| format!("http://{host}")).unwrap_or_default();
    let own = upstream.map(Upstream::authorization).unwrap_or_default();
    let line = format!("{} {origin}{slash}{path} HTTP/1.1\r\nHost: {host}\r\n{own}", head.method);
    let mut out = line.into_bytes();
    let kept = |name: &str| name != "host" && !is_between(name);
    for (name, value) in head.fields.iter().filter(|(name, _)| kept(name)) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out
}
