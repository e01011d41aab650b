//! `CONNECT`: a tunnel that the program fills with TLS.

use std::io::{self, Write};
use std::net::{IpAddr, TcpStream};

use super::hello::hello;
use super::intercept;
use super::request::{Head, Refusal, pass};
use super::rule::Target;
use super::way::Way;

pub(super) fn serve(
    way: &Way,
    client: &mut TcpStream,
    head: &Head,
    mut rest: Vec<u8>,
) -> Result<(), Refusal> {
    let Some(target) = Target::parse(&head.target, None) else {
        return Err(Refusal::new(400, head.target.escape_default(), "it is no host and port"));
    };
    let gone = |e: io::Error| Refusal::new(502, &target, e);
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if let Some(broker) = way.broker.as_ref().filter(|broker| broker.serves(&target)) {
        client.write_all(established).map_err(gone)?;
        let client = client.try_clone().map_err(gone)?;
        return intercept::serve(way, broker, client, rest, Some(target));
    }
    way.keeps_placeholders(&target, head)?;
    let mut server = way.reach(&target)?;
    client.write_all(established).map_err(gone)?;
    if target.port == 443 && target.host.parse::<IpAddr>().is_err() {
        let asked = hello(client, &mut rest).map_err(|e| Refusal::new(400, &target, e))?;
        if asked.as_deref() != Some(target.host.as_str()) {
            let asked = asked.unwrap_or_else(|| "nobody".into());
            return Err(Refusal::new(400, &target, format!("its TLS asks for {asked}")));
        }
    }
    way.reached(&target);
    server.write_all(&rest).map_err(gone)?;
    std::thread::scope(|both| {
        both.spawn(|| pass(client, &server));
        pass(&server, client);
    });
    Ok(())
}
