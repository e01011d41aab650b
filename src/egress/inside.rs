//! What the inside of a sandbox has of the way out: addresses at which this process listens there,
//! and the variables by which programs find the proxy.

use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::rule::{Rules, Target};
use super::serve::{serve, serve_loopback};
use super::way::Way;

/// The address of the proxy.
pub const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);
/// More are not listened at: a sandbox takes only a few.
const MOST: usize = 12;

/// Variables by which programs find a proxy; yarn since 2 has names of its own.
const NAMES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
];

/// The variables by which programs inside find the proxy.
pub fn variables() -> impl Iterator<Item = (&'static str, String)> {
    let own = "localhost,127.0.0.1,::1";
    let others = [
        ("no_proxy", own),
        ("NO_PROXY", own),
        // Node has read the variables above since 24 when it is told to.
        ("NODE_USE_ENV_PROXY", "1"),
    ];
    let proxy = NAMES.map(|name| (name, format!("http://{PROXY}")));
    proxy.into_iter().chain(others.map(|(name, value)| (name, value.to_owned())))
}

/// Where to listen for a program that is led by `rules`: at the proxy's address, and [`near`].
pub fn listens(rules: &Rules) -> Vec<SocketAddrV4> {
    std::iter::once(PROXY).chain(near(rules, &[PROXY])).collect()
}

/// Serves the listeners of [`listens`] in threads, until the answer is dropped.
pub fn serve_all(mut listeners: Vec<TcpListener>, way: &Arc<Way>) -> Serving {
    let others = listeners.split_off(listeners.len().min(1));
    let mut serving = serve_near(others, way, &[PROXY]);
    for listener in listeners {
        serving.0.extend(listener.try_clone());
        let way = way.clone();
        std::thread::spawn(move || serve(&listener, &way));
    }
    serving
}

/// Where to listen besides, for what may be reached on this machine's loopback: programs look for
/// it there themselves. `taken` are addresses where somebody listens already.
pub fn near(rules: &Rules, taken: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
    all_near(rules, taken).map(|(address, _)| address).collect()
}

fn all_near(rules: &Rules, taken: &[SocketAddrV4]) -> impl Iterator<Item = (SocketAddrV4, Target)> {
    let free = rules.loopback().into_iter().filter(|(address, _)| !taken.contains(address));
    free.take(MOST.saturating_sub(taken.len()))
}

/// Serves the listeners of [`near`] in threads, until the answer is dropped.
pub fn serve_near(listeners: Vec<TcpListener>, way: &Arc<Way>, taken: &[SocketAddrV4]) -> Serving {
    let mut serving = Serving(Vec::new());
    for (listener, (_, target)) in listeners.into_iter().zip(all_near(&way.rules, taken)) {
        serving.0.extend(listener.try_clone());
        let way = way.clone();
        std::thread::spawn(move || serve_loopback(&listener, &way, target));
    }
    serving
}

/// Listeners that are served as long as it is there.
#[derive(Debug)]
pub struct Serving(Vec<TcpListener>);

impl Drop for Serving {
    fn drop(&mut self) {
        for listener in self.0.drain(..) {
            // Whoever waits there for a connection hears that none will come.
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
    }
}
