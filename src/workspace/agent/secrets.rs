//! An agent's secrets: what its name is granted, given out by the process that has them. By default that
//! is the one that starts the agent; in system mode it is one of the broker's ([`crate::system::agent`]).

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zagi_sandbox::Plan;

use crate::context::Context;
use crate::egress::{self, Credential, Rules, Seen, Tell, Way};
use crate::proxy::Proxies;
use crate::redact::Needles;
use crate::secrets::SecretsError;
use crate::secrets::broker::{Broker, Brokered};
use crate::system::agent::{Asked, Granted, Known, Link, Served, Told};
use crate::workspace::confined;
use crate::workspace::error::WorkspaceError;
use crate::workspace::session;

/// How many connections the broker's process serves at one time.
const MOST_CONNECTIONS: usize = 256;

/// Who has them.
pub enum Secrets {
    /// Nobody: it is granted none.
    None,
    /// This process.
    Own(Arc<Broker>),
    /// One of the broker's.
    Lent(Arc<Link>),
}

impl Secrets {
    /// Has the hosts that values go to lead here, in the plan of the agent `name`, whose directory is
    /// `dir`. Gives those that are brokered, and who puts them in.
    pub(super) fn lead(
        &self,
        ctx: &Context,
        plan: &mut Plan,
        (name, dir): (&str, &Path),
    ) -> Result<(Vec<Arc<Brokered>>, Option<egress::Broker>), WorkspaceError> {
        match self {
            Secrets::None => Ok((Vec::new(), None)),
            Secrets::Own(broker) => {
                let credentials = broker.credentials(&broker.granted(None, name))?;
                if credentials.is_empty() {
                    return Ok((credentials, None));
                }
                let put = confined::broker(ctx, broker, &credentials)?;
                confined::lead(ctx, plan, &credentials, (put.certificate(), dir))?;
                Ok((credentials, Some(put)))
            }
            Secrets::Lent(link) => {
                let known: Vec<_> =
                    link.granted.credentials.iter().cloned().map(Arc::new).collect();
                confined::lead(ctx, plan, &known, (&link.granted.certificate, dir))?;
                let known = known.into_iter().map(|known| known as Arc<dyn Credential>).collect();
                Ok((Vec::new(), Some(egress::Broker::elsewhere(known, link.clone()))))
            }
        }
    }

    /// The values that this process knows, to be taken out of what it writes down.
    pub(super) fn needles(&self) -> Result<Needles, WorkspaceError> {
        match self {
            Secrets::Own(broker) => Ok(broker.needles().map_err(SecretsError::Memory)?),
            Secrets::None | Secrets::Lent(_) => Ok(Needles::default()),
        }
    }

    /// Has the session port served, in threads: `credentials` are those of [`Secrets::lead`], and `tell` is
    /// told what another process sees.
    pub(super) fn serve(
        self,
        listener: TcpListener,
        credentials: Vec<Arc<Brokered>>,
        name: &str,
        tell: Tell,
    ) {
        let name = name.to_owned();
        std::thread::spawn(move || match self {
            Secrets::None => session::serve(&listener, |_| Ok(BTreeMap::new())),
            Secrets::Own(broker) => {
                session::serve(&listener, |argv| answer(&broker, &credentials, &name, argv));
            }
            Secrets::Lent(link) => {
                // If the other process is gone, who asks inside finds nobody there.
                let _ = link.session(listener);
                link.listen(|seen| tell(seen));
            }
        });
    }
}

/// In a process of the broker's: gives out what the agent `name` is granted, until who asked is gone.
pub fn lend(
    ctx: &Context,
    broker: &Arc<Broker>,
    name: &str,
    served: Served,
) -> Result<(), WorkspaceError> {
    let credentials = broker.credentials(&broker.granted(None, name))?;
    let put = confined::broker(ctx, broker, &credentials)?;
    let known = |credential: &Arc<Brokered>| Known {
        name: credential.name().into(),
        host: credential.host().into(),
        header: credential.header().into(),
        placeholder: credential.placeholder().into(),
    };
    let granted = Granted {
        credentials: credentials.iter().map(known).collect(),
        certificate: put.certificate().into(),
    };
    let served = Arc::new(served);
    let teller = served.clone();
    let tell = Arc::new(move |seen: Seen| {
        // It is for a log, whose writer may be gone.
        let _ = teller.tell(&Told::Seen(seen));
    });
    // Values go to their own hosts, which the broker's process reaches itself.
    let (rules, proxies) = (Rules::default(), Proxies::of(ctx));
    let way = Arc::new(Way { rules, proxies, broker: Some(put), tell });
    if served.tell(&Told::Granted(Some(granted))).is_err() {
        return Ok(());
    }
    let open = Arc::new(AtomicUsize::new(0));
    // An error is that who asked is gone.
    while let Ok((asked, with)) = served.next() {
        match asked {
            Asked::Session => attend(with, broker, &credentials, name),
            Asked::Take { target, read } => take(&way, with, (target, read), &open),
        }
    }
    Ok(())
}

/// Answers at a session port, in a thread.
fn attend(with: OwnedFd, broker: &Arc<Broker>, credentials: &[Arc<Brokered>], name: &str) {
    // What does not listen would fail for ever.
    if !rustix::net::sockopt::socket_acceptconn(&with).unwrap_or(false) {
        return;
    }
    let (broker, credentials, name) = (broker.clone(), credentials.to_vec(), name.to_owned());
    std::thread::spawn(move || {
        let listener = TcpListener::from(with);
        session::serve(&listener, |argv| answer(&broker, &credentials, &name, argv));
    });
}

/// Serves a connection, in a thread. One too many is closed.
fn take(
    way: &Arc<Way>,
    with: OwnedFd,
    (target, read): (Option<String>, Vec<u8>),
    open: &Arc<AtomicUsize>,
) {
    if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
        open.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let (way, counted) = (way.clone(), open.clone());
    let begun = std::thread::Builder::new().spawn(move || {
        egress::serve_taken(&way, TcpStream::from(with), read, target.as_deref());
        counted.fetch_sub(1, Ordering::Relaxed);
    });
    if begun.is_err() {
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a command of the agent's gets by `zagi run`.
fn answer(
    broker: &Arc<Broker>,
    credentials: &[Arc<Brokered>],
    name: &str,
    argv: &[String],
) -> Result<BTreeMap<String, String>, String> {
    let mut vars = BTreeMap::new();
    let to = format!("agent {name}: {}", argv.join(" "));
    for granted in broker.granted(Some(argv), name) {
        let brokered = credentials.iter().find(|credential| credential.name() == granted.name);
        let value = match (brokered, granted.policy.get("file")) {
            (Some(credential), _) => credential.placeholder().to_owned(),
            (None, Some(_)) => {
                return Err(format!("{} is a file, which an agent cannot be given", granted.name));
            }
            (None, None) => {
                let mut value = Err(format!("{} is no text", granted.name));
                let give = &mut |bytes: &[u8]| {
                    if let Ok(text) = std::str::from_utf8(bytes) {
                        value = Ok(text.to_owned());
                    }
                };
                broker.give(&granted, &to, give).map_err(|e| e.to_string())?;
                value?
            }
        };
        vars.insert(granted.name, value);
    }
    Ok(vars)
}
