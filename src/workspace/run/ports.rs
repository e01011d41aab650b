//! What an app listens on, at the same ports of this machine's loopback address.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use zagi_sandbox::Ports;

use crate::event::{Event, Events};

/// How often it is looked for new ones.
const TICK: Duration = Duration::from_millis(200);

/// Sees to it, in threads, until the app ends.
pub(super) fn publish(inside: Ports, events: Arc<dyn Events>) {
    let inside = Arc::new(inside);
    std::thread::spawn(move || {
        let mut known = BTreeSet::new();
        // An error is the end of the app.
        while let Ok(ports) = inside.listening() {
            for port in ports {
                if known.insert(port) {
                    open(&inside, port, &*events);
                }
            }
            std::thread::sleep(TICK);
        }
    });
}

/// Listens at the port, or at another where that is taken.
fn open(inside: &Arc<Ports>, port: u16, events: &dyn Events) {
    let at = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = at(port).or_else(|e| {
        let other = at(0)?;
        let instead = other.local_addr()?.port();
        events.emit(Event::Warning(format!(
            "port {port} cannot be had here ({e}): what the app has there is at {instead}"
        )));
        Ok::<_, io::Error>(other)
    });
    match listener {
        Ok(listener) => {
            let inside = inside.clone();
            std::thread::spawn(move || serve(&listener, &inside, port));
        }
        Err(e) => events.emit(Event::Warning(format!("port {port} cannot be shown: {e}"))),
    }
}

fn serve(listener: &TcpListener, inside: &Ports, port: u16) {
    for client in listener.incoming() {
        let Ok(client) = client else {
            // A descriptor may be free again soon.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        // Nobody listens there any more: the client sees its connection end.
        let Ok(server) = inside.connect(port) else { continue };
        std::thread::spawn(move || {
            std::thread::scope(|both| {
                both.spawn(|| pass(&client, &server));
                pass(&server, &client);
            });
        });
    }
}

/// Copies everything that comes, then says that nothing more will.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    // An error ends this direction as the end does.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
