//! What stands before the crate: it lets connections in, and answers or hands on what they ask.
//!
//! The crate listens at a port of its own choice, which a socket cannot be handed to. So each
//! connection has one behind it, to a listener that takes nothing but this one connection and is
//! closed with the first answer. It also looks through all calls of the last minute at every
//! call; so the connection behind is made anew after [`CALLS`] calls.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nfsserve::tcp::{NFSTcp, NFSTcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

use super::answers::{Route, answer, route};
use super::call::{Call, MARK, mark, sealed};
use super::tree::{MAX_TRANSFER, Tree};

/// The longest record: what is transferred, and what is said about it.
const MAX_RECORD: usize = MAX_TRANSFER as usize + (64 << 10);
/// After so many calls the connection to the crate is made anew.
const CALLS: usize = 1000;
/// When no connection can be taken (too many files are open), before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// What answers are written to; whole ones, one after the other.
type Answers = Arc<Mutex<OwnedWriteHalf>>;

/// Takes connections, for ever.
pub(super) async fn accept(listener: TcpListener, tree: Tree) {
    loop {
        match listener.accept().await {
            Ok((client, peer)) if lets_in(&client, peer, tree.owner.uid) => {
                let tree = tree.clone();
                // However a connection ends, the client makes another.
                tokio::spawn(async move { serve(client, tree).await });
            }
            Ok(_) => {}
            Err(_) => drop(spawn_blocking(|| std::thread::sleep(PAUSE)).await),
        }
    }
}

/// Whether the other end is of this machine, and a process of `owner` or of root (which the
/// kernel's own client counts as).
fn lets_in(client: &TcpStream, peer: SocketAddr, owner: u32) -> bool {
    let Ok(local) = client.local_addr() else { return false };
    peer.ip().is_loopback() && is_of(peer, local, owner)
}

/// Linux says whose the other end of a connection on this machine is (proc_pid_net(5)).
#[cfg(target_os = "linux")]
fn is_of(peer: SocketAddr, local: SocketAddr, owner: u32) -> bool {
    std::fs::read_to_string("/proc/self/net/tcp").is_ok_and(|table| {
        let uid = uid_of(&table, peer, local);
        uid.is_some_and(|uid| uid == owner || uid == 0)
    })
}

/// Not tried: no such machine was at hand. What is left there is that nobody guesses the path.
#[cfg(not(target_os = "linux"))]
fn is_of(_: SocketAddr, _: SocketAddr, _: u32) -> bool {
    true
}

/// Whose the end `from` of the connection to `to` is, while that stands: afterwards the kernel
/// says 0.
#[cfg(target_os = "linux")]
fn uid_of(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u32> {
    /// What stands for an established connection.
    const ESTABLISHED: &str = "01";
    let shown = |address: SocketAddr| match address {
        // The address as it lies in memory, the port as a number.
        SocketAddr::V4(address) => {
            let ip = u32::from_ne_bytes(address.ip().octets());
            Some(format!("{ip:08X}:{:04X}", address.port()))
        }
        SocketAddr::V6(_) => None,
    };
    let (from, to) = (shown(from)?, shown(to)?);
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = fields.get(1..4)? == [from.as_str(), to.as_str(), ESTABLISHED];
        is_it.then(|| fields.get(7)?.parse().ok()).flatten()
    })
}

/// One connection, until it ends.
async fn serve(client: TcpStream, tree: Tree) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (mut calls, answers) = client.into_split();
    let answers: Answers = Arc::new(Mutex::new(answers));
    let mut behind: Option<Behind> = None;
    loop {
        let record = receive(&mut calls).await?;
        let Some(call) = Call::parse(&record[MARK..]) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match route(&call, tree.owner) {
            Route::Refused(answer) => answers.lock().await.write_all(&answer).await?,
            Route::Here(caller) => {
                let (tree, answers) = (tree.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    let done = spawn_blocking(move || answer(&tree, &call, caller, &record)).await;
                    let mut answers = answers.lock().await;
                    let _ = match done {
                        Ok(answer) => answers.write_all(&answer).await,
                        // It panicked: the client is to ask somebody else.
                        Err(_) => answers.shutdown().await,
                    };
                });
            }
            Route::Behind => {
                let mut open = match behind.take() {
                    Some(open) if !open.is_worn() => open,
                    _ => Behind::open(&tree, &answers).await?,
                };
                open.send(&record).await?;
                behind = Some(open);
            }
        }
    }
}

/// A record with its mark, in one piece.
async fn receive(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut record = vec![0; MARK];
    loop {
        let mut bytes = [0; MARK];
        from.read_exact(&mut bytes).await?;
        let (length, is_last) = mark(bytes);
        let begin = record.len();
        if length > MAX_RECORD - (begin - MARK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        record.resize(begin + length, 0);
        from.read_exact(&mut record[begin..]).await?;
        if is_last {
            return Ok(sealed(record));
        }
    }
}

/// A connection to the crate. Dropping it ends it.
struct Behind {
    to: OwnedWriteHalf,
    sent: usize,
    /// How many calls were not answered yet.
    waiting: Arc<AtomicUsize>,
}

impl Behind {
    async fn open(tree: &Tree, answers: &Answers) -> io::Result<Behind> {
        let listener = NFSTcpListener::bind("127.0.0.1:0", tree.clone()).await?;
        let port = listener.get_listen_port();
        let accepting = tokio::spawn(async move { drop(listener.handle_forever().await) });
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (from, to) = stream.into_split();
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(relay(from, Arc::clone(answers), Arc::clone(&waiting), accepting));
        Ok(Behind { to, sent: 0, waiting })
    }

    /// Whether it is time for another. One that owes an answer is kept: it would be lost.
    fn is_worn(&self) -> bool {
        self.sent >= CALLS && self.waiting.load(Ordering::Relaxed) == 0
    }

    async fn send(&mut self, record: &[u8]) -> io::Result<()> {
        self.sent += 1;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.to.write_all(record).await
    }
}

/// Brings the crate's answers to the client.
async fn relay(
    mut from: OwnedReadHalf,
    answers: Answers,
    waiting: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
) {
    while let Ok(answer) = receive(&mut from).await {
        // It has taken our connection, and is to take no other.
        accepting.abort();
        waiting.fetch_sub(1, Ordering::Relaxed);
        if answers.lock().await.write_all(&answer).await.is_err() {
            break;
        }
    }
    accepting.abort();
    if waiting.load(Ordering::Relaxed) > 0 {
        // It gave up in the middle. The client is to ask again.
        let _ = answers.lock().await.shutdown().await;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_known_while_it_stands() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0801 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n   \
            1: 0100007F:C001 0100007F:0801 01 00000000:00000000 00:00000000 00000000  1000        0 12 1\n   \
            2: 0100007F:C002 0100007F:0801 05 00000000:00000000 00:00000000 00000000     0        0 0 1\n";
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if cfg!(target_endian = "little") {
            assert_eq!(uid_of(table, at(0xc001), at(0x801)), Some(1000));
        }
        assert_eq!(uid_of(table, at(0xc002), at(0x801)), None, "it is being closed");
        assert_eq!(uid_of(table, at(0xc003), at(0x801)), None);
        assert_eq!(uid_of("", at(0xc001), at(0x801)), None);
    }
}
