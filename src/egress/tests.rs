//! Rules, addresses, and a proxy at work on loopback.

mod mutated;
mod upstream;
mod values;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::address::is_near;
use super::rule::Target;
use super::{Rule, Rules, Seen, Way, serve};
use crate::proxy::Proxies;

fn rules(all: &[&str]) -> Rules {
    all.iter().map(|text| text.parse::<Rule>().expect("a rule")).collect()
}

fn names(rules: &Rules, authority: &str) -> bool {
    Target::parse(authority, Some(443)).is_some_and(|target| rules.name(&target))
}

#[test]
fn rules_name_hosts_and_ports() {
    let all =
        rules(&["API.example.com", "*.cdn.example.com", "db.example.com:5432", "[2001:db8::7]"]);
    for (authority, expected) in [
        ("api.example.com", true),
        ("Api.Example.com.:443", true),
        ("api.example.com:80", true),
        ("api.example.com:22", false),
        ("xapi.example.com", false),
        ("api.example.com.evil.net", false),
        ("cdn.example.com", false),
        ("a.cdn.example.com", true),
        ("a.b.cdn.example.com", true),
        ("xcdn.example.com", false),
        (".cdn.example.com", false),
        ("db.example.com", false),
        ("db.example.com:5432", true),
        ("[2001:db8:0:0::7]:443", true),
        ("2001:db8::7", false),
        ("api.example.com:+443", false),
        ("api.example.com:", false),
        ("api.example.com\0.evil.net", false),
        ("evil.net@api.example.com", false),
        ("api.example.com ", false),
        ("apı.example.com", false),
        ("127.1", false),
        ("0x7f000001", false),
    ] {
        assert_eq!(names(&all, authority), expected, "{authority}");
    }
}

#[test]
fn what_is_no_rule() {
    for text in [
        "*",
        "*.com",
        "",
        "a b",
        "http://example.com",
        "example.com:http",
        "example.com:70000",
        "*.*.com",
        "-a.com",
        "1.2.3",
    ] {
        assert!(text.parse::<Rule>().is_err(), "{text}");
    }
    for text in ["example.com", "*.example.com:8443", "192.0.2.7:5432", "[2001:db8::7]:443"] {
        assert_eq!(text.parse::<Rule>().expect("a rule").to_string(), text);
    }
}

#[test]
fn addresses_of_this_machine_and_its_network() {
    for (address, expected) in [
        ("127.0.0.1", true),
        ("10.1.2.3", true),
        ("172.31.0.1", true),
        ("192.168.0.1", true),
        ("169.254.169.254", true),
        ("100.64.0.1", true),
        ("0.0.0.0", true),
        ("255.255.255.255", true),
        ("224.0.0.1", true),
        ("::1", true),
        ("::", true),
        ("::ffff:127.0.0.1", true),
        ("::127.0.0.1", true),
        ("64:ff9b::a9fe:a9fe", true),
        ("2002:7f00:1::", true),
        ("fe80::1", true),
        ("fd00:ec2::254", true),
        ("93.184.215.14", false),
        ("100.128.0.1", false),
        ("172.32.0.1", false),
        ("2606:2800:21f::1", false),
        ("::ffff:93.184.215.14", false),
    ] {
        let parsed: IpAddr = address.parse().expect("an address");
        assert_eq!(is_near(parsed), expected, "{address}");
    }
}

/// A proxy at work, and what it saw.
struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Proxy {
    fn new(all: &[&str]) -> Proxy {
        Proxy::with(rules(all), Proxies::default())
    }

    fn with(rules: Rules, proxies: Proxies) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            let tell = Arc::new(move |s| told.lock().expect("whole").push(s));
            serve(&listener, &Arc::new(Way { rules, proxies, broker: None, tell }));
        });
        Proxy { port, seen }
    }

    /// What comes back for `request`, to the end of the connection.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut said = Vec::new();
        // A refusal may come before all was read.
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().expect("whole"))
    }
}

/// A server that answers each connection with what it was sent, up to `ends`.
fn echo(ends: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut got = Vec::new();
            let mut buffer = [0; 1024];
            while !got.ends_with(ends.as_bytes()) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => got.extend_from_slice(&buffer[..n]),
                }
            }
            let _ = stream.write_all(&got);
        }
    });
    port
}

#[test]
fn a_tunnel_leads_where_a_rule_says_and_nowhere_else() {
    let (listed, other) = (echo("end"), echo("end"));
    let proxy = Proxy::new(&[&format!("127.0.0.1:{listed}"), "localhost"]);
    let said = proxy.ask(&format!("CONNECT 127.0.0.1:{listed} HTTP/1.1\r\n\r\nto the end"));
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\nto the end"), "{said}");
    assert_eq!(proxy.seen(), [Seen::Reached { target: format!("127.0.0.1:{listed}") }]);
    // The control: the other one answers who reaches it.
    let mut direct = TcpStream::connect(("127.0.0.1", other)).expect("it listens");
    direct.write_all(b"the end").expect("it reads");
    let mut got = String::new();
    direct.read_to_string(&mut got).expect("it answers");
    assert_eq!(got, "the end");
    let said = proxy.ask(&format!("CONNECT 127.0.0.1:{other} HTTP/1.1\r\n\r\nto the end"));
    assert!(said.starts_with("HTTP/1.1 403 ") && !said.contains("to the end"), "{said}");
    assert_eq!(proxy.seen(), [Seen::NotListed { target: format!("127.0.0.1:{other}") }]);
}

#[test]
fn a_listed_name_that_leads_to_this_machine_is_refused() {
    let port = echo("end");
    let proxy = Proxy::new(&[&format!("localhost:{port}")]);
    let said = proxy.ask(&format!("CONNECT localhost:{port} HTTP/1.1\r\n\r\nto the end"));
    assert!(said.starts_with("HTTP/1.1 502 ") && said.contains("of this machine"), "{said}");
    assert!(
        matches!(&proxy.seen()[..], [Seen::Refused { why, .. }] if why.contains("this machine"))
    );
}

#[test]
fn plain_requests_are_passed_on_in_origin_form() {
    let port = echo("}");
    let at = format!("127.0.0.1:{port}");
    let proxy = Proxy::new(&[&at]);
    let said = proxy.ask(&format!(
        "POST http://{at}/a?b#c HTTP/1.1\r\nHost: {at}\r\nProxy-Connection: keep-alive\r\nConnection: x\r\n\
         X-Own: 1\r\nContent-Length: 2\r\n\r\n{{}}GET http://{at}/second HTTP/1.1\r\n\r\n"
    ));
    let expected = format!(
        "POST /a?b HTTP/1.1\r\nHost: {at}\r\nx-own: 1\r\ncontent-length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    assert_eq!(said, expected, "and no second request");
    let port = echo("0\r\n\r\n");
    let at = format!("127.0.0.1:{port}");
    let proxy = Proxy::new(&[&at]);
    let said = proxy.ask(&format!(
        "POST http://{at} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na}}b\r\n1\r\n}}\r\n0\r\n\r\nGET /"
    ));
    assert!(
        said.starts_with("POST / HTTP/1.1\r\n")
            && said.ends_with("\r\n\r\n3\r\na}b\r\n1\r\n}\r\n0\r\n\r\n"),
        "{said}"
    );
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let port = echo("\r\n\r\n");
    let at = format!("127.0.0.1:{port}");
    let proxy = Proxy::new(&[&at]);
    for request in [
        format!("GET http://{at}/ HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        format!("POST http://{at}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!(
            "POST http://{at}/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("POST http://{at}/ HTTP/1.1\r\nContent-Length: +1\r\n\r\na"),
        format!("GET http://u:p@{at}/ HTTP/1.1\r\n\r\n"),
        format!("GET https://{at}/ HTTP/1.1\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n{at}"),
        "\x16\x03\x01 what\r\n\r\n".to_owned(),
    ] {
        let said = proxy.ask(&request);
        assert!(said.starts_with("HTTP/1.1 400 "), "{request:?}: {said}");
        assert!(matches!(&proxy.seen()[..], [Seen::Refused { .. }]), "{request:?}");
    }
    let long = format!("GET http://{at}/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(80_000));
    let said = proxy.ask(&long);
    assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(matches!(&proxy.seen()[..], [Seen::Refused { why, .. }] if why.contains("too long")));
}

#[test]
fn tls_tells_whom_it_asks_for() {
    let hello = |name: &'static str| {
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("into memory");
        bytes
    };
    let asked = |bytes: Vec<u8>| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        // In two pieces, the first of which came with the request.
        let mut read = bytes[..5].to_vec();
        client.write_all(&bytes[5..]).expect("sent");
        client.shutdown(std::net::Shutdown::Write).expect("open");
        let (mut server, _) = listener.accept().expect("it connected");
        let found = super::hello::hello(&mut server, &mut read);
        (found.map_err(|e| e.to_string()), read)
    };
    let bytes = hello("API.example.com");
    let (found, read) = asked(bytes.clone());
    assert_eq!(found, Ok(Some("api.example.com".to_owned())));
    assert_eq!(read, bytes, "all of it goes on to the server");
    let (found, _) = asked(bytes[..60].to_vec());
    assert!(found.is_err(), "half a hello: {found:?}");
    let (found, _) = asked(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    assert!(found.is_err_and(|e| e.contains("no TLS")));
}
