//! A service is started, and asked until it answers.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Wanted;
use super::check::answers;
use super::confine::{Confinement, Tools};
use super::error::{ServiceError, at};
use super::keep::Order;
use super::log;
use super::make::{self, SHOWN};
use super::place::{Place, lock, private};
use super::state::{self, State};
use crate::context::Context;
use crate::environment::catalog::Catalog;
use crate::event::Event;

/// How long a service may take until it answers; a database may have to recover first.
const START: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// What [`up`] found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It was started.
    Now,
    /// It ran already.
    Already,
}

/// Starts a service of the workspace whose directory under the home is `workspace`, and
/// returns when it answers. What runs already is left alone, unless another version or port is
/// wanted.
pub fn up(
    ctx: &Context,
    catalog: &Catalog,
    workspace: &Path,
    wanted: &Wanted<'_>,
    tools: &Tools,
) -> Result<Started, ServiceError> {
    let place = Place::new(workspace, wanted.name, wanted.service);
    private(&place.dir)?;
    let _turn = lock(&place.dir)?;
    let running = place.state()?.filter(State::runs);
    if let Some(state) = &running
        && state.version == tools.version
        && state.port == wanted.port
    {
        return ready(&place, wanted, None).map(|()| Started::Already);
    }
    // Whatever is wrong is found before anything is stopped.
    place.make_run()?;
    make::make(ctx, catalog, &place, wanted, tools)?;
    if let Some(state) = running {
        ctx.events.emit(Event::Warning(format!(
            "{} {} is started anew: another version or port is asked for",
            wanted.name, state.version
        )));
        state::stop(&place.dir)?;
    }
    if let Some(port) = wanted.port {
        free(wanted.name, port)?;
    }
    let begin = log::length(&place.dir);
    let keeper = start(ctx, &place, wanted, tools)?;
    ready(&place, wanted, Some((keeper, begin))).map(|()| Started::Now)
}

/// Sees that nobody listens at a port yet.
fn free(name: &str, port: u16) -> Result<(), ServiceError> {
    let name = name.to_owned();
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let by = holder(port).unwrap_or_else(|| "another program".into());
            Err(ServiceError::PortTaken { name, port, by })
        }
        Err(source) => Err(ServiceError::Port { name, port, source }),
    }
}

/// The program that listens at a port, as far as this user may know: the socket's number is in
/// `/proc/net/tcp` (proc_pid_net(5)), and whose it is among the processes' descriptors.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|t| fs::read_to_string(t).ok());
    let listening = |line: &&str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let local = fields.get(1).and_then(|address| address.rsplit_once(':'));
        local.is_some_and(|(_, p)| u16::from_str_radix(p, 16) == Ok(port))
            && fields.get(3) == Some(&"0A")
    };
    let number = tables.iter().flatten().flat_map(|table| table.lines()).find(listening)?;
    let socket = format!("socket:[{}]", number.split_ascii_whitespace().nth(9)?);
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        if links.any(|link| link == Path::new(&socket)) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let pid = process.file_name().to_string_lossy().into_owned();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// Leaves a keeper behind.
fn start(
    ctx: &Context,
    place: &Place,
    wanted: &Wanted<'_>,
    tools: &Tools,
) -> Result<Child, ServiceError> {
    State::forget(&place.dir)?;
    // Sockets and the like of a run that was killed.
    fs::remove_dir_all(&place.run).map_err(at(&place.run))?;
    place.make_run()?;
    let data = place.data();
    let network = wanted.port.is_some();
    let confinement = Confinement { ctx, tools, place, data: &data, network };
    let listen = if network { wanted.service.listen.as_slice() } else { &[] };
    let argv = [&wanted.service.start, listen].concat();
    let words = place.words(wanted.service, wanted.port);
    let order = Order {
        program: ctx.program.clone(),
        plan: confinement.plan(&argv, &words)?,
        stop: format!("SIG{}", wanted.service.stop),
        version: tools.version.clone(),
        port: wanted.port,
        since: ctx.now,
    };
    order.write(&place.dir)?;
    Command::new(&ctx.program)
        .arg(super::keep::ARGUMENT)
        .arg(&place.dir)
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(at(&ctx.program))
}

/// Waits until it answers, or says why it does not: with its last words, of those since the
/// log was as long as is said beside a keeper that was just started.
fn ready(
    place: &Place,
    wanted: &Wanted<'_>,
    mut keeper: Option<(Child, u64)>,
) -> Result<(), ServiceError> {
    let name = || wanted.name.to_owned();
    let socket = place.socket(wanted.service, wanted.port);
    let begun = Instant::now();
    let begin = keeper.as_ref().map_or(0, |(_, begin)| *begin);
    loop {
        let gone = match &mut keeper {
            Some((keeper, _)) => keeper.try_wait().map_err(at(&place.dir))?.is_some(),
            None => !place.state()?.is_some_and(|state| state.runs()),
        };
        if !gone && answers(&socket, &wanted.service.check) {
            return Ok(());
        }
        let words = || log::tail_since(&place.dir, begin, SHOWN);
        if gone {
            let end = place.state()?.map_or_else(|| "its keeper ended".into(), |s| s.end());
            return Err(ServiceError::Crashed { name: name(), end, log: words() });
        }
        if begun.elapsed() > START {
            state::stop(&place.dir)?;
            return Err(ServiceError::Silent {
                name: name(),
                seconds: START.as_secs(),
                log: words(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}
