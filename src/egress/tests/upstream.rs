//! The way through another proxy, and what the user's own configuration names.

use super::*;
use crate::egress::inside::{listens, serve_all};

/// Variables that name `port` as the proxy of everything but `except`.
fn through(port: u16, except: &'static str) -> Proxies {
    Proxies::by(move |name| match name {
        "all_proxy" => Some(format!("http://me:p%40ss@127.0.0.1:{port}/")),
        "no_proxy" => Some(except.to_owned()),
        _ => None,
    })
}

const BASIC: &str = "Proxy-Authorization: Basic bWU6cEBzcw==\r\n";

/// Another proxy, which answers `CONNECT` with `answer`, then with all that it was sent, up to `end`.
fn other(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut got, mut buffer, mut answered) = (Vec::new(), [0; 1024], false);
            while !got.ends_with(b"end") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => got.extend_from_slice(&buffer[..n]),
                }
                if got.ends_with(b"\r\n\r\n") && !answered {
                    answered = true;
                    let _ = stream.write_all(answer.as_bytes());
                    if !answer.contains(" 200 ") {
                        break;
                    }
                }
            }
            let _ = stream.write_all(&got);
        }
    });
    port
}

#[test]
fn a_tunnel_leads_on_through_the_users_proxy() {
    let port = other("HTTP/1.1 200 Fine\r\nX: y\r\n\r\n");
    let all = rules(&[]).and_near([rule("registry.example:8443")]);
    let proxy = Proxy::with(all, through(port, ""));
    let said = proxy.ask("CONNECT registry.example:8443 HTTP/1.1\r\n\r\nto the end");
    let asked = format!(
        "CONNECT registry.example:8443 HTTP/1.1\r\nHost: registry.example:8443\r\n{BASIC}\r\nto the end"
    );
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with(&asked), "{said}");
    assert_eq!(proxy.seen(), [Seen::Reached { target: "registry.example:8443".into() }]);
    let said = proxy.ask("CONNECT other.example:443 HTTP/1.1\r\n\r\nto the end");
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
}

#[test]
fn a_proxy_that_refuses_is_said_without_its_password() {
    let port = other("HTTP/1.1 407 Who are you\r\n\r\n");
    let proxy = Proxy::with(rules(&[]).and_near([rule("registry.example")]), through(port, ""));
    let said = proxy.ask("CONNECT registry.example:443 HTTP/1.1\r\n\r\nto the end");
    let why = format!("the proxy 127.0.0.1:{port} of all_proxy answers: HTTP/1.1 407 Who are you");
    assert!(said.starts_with("HTTP/1.1 502 ") && said.contains(&why), "{said}");
    assert!(!said.contains("ss@") && !said.contains("p%40ss"), "{said}");
}

#[test]
fn plain_requests_go_on_in_absolute_form() {
    let port = echo("}");
    let proxy = Proxy::with(rules(&[]).and_near([rule("registry.example")]), through(port, ""));
    let said = proxy.ask(
        "POST http://registry.example/a?b HTTP/1.1\r\nHost: registry.example\r\n\
         Proxy-Authorization: Basic bWluZQ==\r\nContent-Length: 2\r\n\r\n{}",
    );
    let expected = format!(
        "POST http://registry.example/a?b HTTP/1.1\r\nHost: registry.example\r\n{BASIC}content-length: 2\r\n\
         Connection: close\r\n\r\n{{}}"
    );
    assert_eq!(said, expected);
}

#[test]
fn no_proxy_is_heeded_and_what_is_near_is_refused_to_it_too() {
    let (port, other) = (echo("end"), other("HTTP/1.1 200 Fine\r\n\r\n"));
    let at = format!("127.0.0.1:{port}");
    let near = format!("localhost:{port}");
    let proxy = Proxy::with(rules(&[&at, &near]), through(other, "127.0.0.1"));
    let said = proxy.ask(&format!("CONNECT {at} HTTP/1.1\r\n\r\nto the end"));
    assert!(said.ends_with("\r\n\r\nto the end") && !said.contains(BASIC), "{said}");
    let said = proxy.ask(&format!("CONNECT {near} HTTP/1.1\r\n\r\nto the end"));
    assert!(said.starts_with("HTTP/1.1 502 ") && said.contains("of this machine"), "{said}");
    assert!(matches!(&proxy.seen()[..], [Seen::Reached { .. }, Seen::Refused { near: true, .. }]));
}

#[test]
fn what_the_users_configuration_names_may_be_near() {
    let port = echo("end");
    let at = format!("localhost:{port}");
    let proxy = Proxy::with(rules(&[]).and_near([rule(&at)]), Proxies::default());
    let said = proxy.ask(&format!("CONNECT {at} HTTP/1.1\r\n\r\nto the end"));
    assert!(said.ends_with("\r\n\r\nto the end"), "{said}");
    let other = proxy.ask("CONNECT localhost:1 HTTP/1.1\r\n\r\nto the end");
    assert!(other.starts_with("HTTP/1.1 403 "), "{other}");
}

#[test]
fn loopback_of_the_users_configuration_is_where_it_is() {
    let port = echo("end");
    let at = format!("127.0.0.1:{port}");
    let all = rules(&["127.0.0.1:1"]).and_near([rule(&at), rule("mirror.example:4873")]);
    let inside = listens(&all);
    let inside: Vec<String> = inside.iter().map(ToString::to_string).collect();
    assert_eq!(inside, ["127.0.0.1:3128", &at]);
    // As the two would be inside, at ports that are free here.
    let listeners: Vec<TcpListener> =
        (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
    let tell = Arc::new(|_| ());
    let way = Way { rules: all, proxies: Proxies::default(), broker: None, tell };
    let serving = serve_all(listeners, &Arc::new(way));
    let mut stream = TcpStream::connect(addresses[1]).expect("it listens");
    stream.write_all(b"to the end").expect("it reads");
    let mut got = String::new();
    stream.read_to_string(&mut got).expect("it answers");
    assert_eq!(got, "to the end");
    drop(serving);
    assert!(TcpStream::connect(addresses[1]).is_err(), "nobody listens any more");
}

fn rule(text: &str) -> Rule {
    text.parse().expect("a rule")
}
