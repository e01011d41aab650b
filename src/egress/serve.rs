//! One connection after the other: what it asks for, and whether that may be.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::request::{Refusal, Seen, answer, pass, read_head};
use super::rule::Target;
use super::way::Way;
use super::{address, intercept, plain, tunnel};

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many connections there are at one time.
const MOST_CONNECTIONS: usize = 256;

/// Serves what connects to `listener` as to a proxy, in threads, until it is closed.
pub fn serve(listener: &TcpListener, way: &Arc<Way>) {
    accept(listener, way, one);
}

/// Serves what connects to `listener` as to a host that a value goes to, with TLS.
pub fn serve_hosts(listener: &TcpListener, way: &Arc<Way>) {
    accept(listener, way, |way, client| {
        let Some(broker) = &way.broker else { return };
        let _ = client.set_read_timeout(Some(PATIENCE));
        if let Err(refusal) = intercept::serve(way, broker, client, Vec::new(), None) {
            told(way, &refusal);
        }
    });
}

/// Serves a connection that another process took and handed over ([`super::Elsewhere`]), in this
/// thread.
pub fn serve_taken(way: &Way, client: TcpStream, read: Vec<u8>, target: Option<&str>) {
    let Some(broker) = &way.broker else { return };
    let expected = match target.map(|target| Target::parse(target, None)) {
        Some(None) => return,
        other => other.flatten(),
    };
    let _ = client.set_read_timeout(Some(PATIENCE));
    if let Err(refusal) = intercept::serve(way, broker, client, read, expected) {
        told(way, &refusal);
    }
}

/// Serves what connects to `listener` as if it had connected to the target itself.
pub(super) fn serve_loopback(listener: &TcpListener, way: &Arc<Way>, target: Target) {
    accept(listener, way, move |way, client| {
        // Not by another proxy, which would look on its own machine.
        let server = match address::connect(&target, true) {
            Ok(server) => server,
            Err(e) => return told(way, &Refusal::new(502, &target, e)),
        };
        way.reached(&target);
        std::thread::scope(|both| {
            both.spawn(|| pass(&client, &server));
            pass(&server, &client);
        });
    });
}

fn accept(
    listener: &TcpListener,
    way: &Arc<Way>,
    serve: impl Fn(&Way, TcpStream) + Clone + Send + 'static,
) {
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
        // What comes in pieces goes on in pieces: a stream of events must not wait.
        let _ = client.set_nodelay(true);
        let (serve, way, counted) = (serve.clone(), way.clone(), open.clone());
        let begun = std::thread::Builder::new().name("egress".into()).spawn(move || {
            serve(&way, client);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if begun.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn one(way: &Way, mut client: TcpStream) {
    let _ = client.set_read_timeout(Some(PATIENCE));
    let mut rest = Vec::new();
    let served = match read_head(&mut client, &mut rest) {
        Ok(None) => return,
        Ok(Some(head)) => {
            let _ = client.set_read_timeout(None);
            match head.method.as_str() {
                "CONNECT" => tunnel::serve(way, &mut client, &head, rest),
                _ => plain::serve(way, &mut client, &head, rest),
            }
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = served {
        told(way, &refusal);
        answer(&mut client, &refusal);
        let _ = client.shutdown(Shutdown::Write);
    }
}

fn told(way: &Way, refusal: &Refusal) {
    let Refusal { target, why, unlisted, near, .. } = refusal;
    let target = target.clone();
    (way.tell)(match unlisted {
        true => Seen::NotListed { target },
        false => Seen::Refused { target, why: why.clone(), near: *near },
    });
}
