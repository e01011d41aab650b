//! Services of a workspace: databases and the like, started, asked, stopped.
//!
//! What a service is, the catalogue says ([`crate::environment::catalog::Service`]); no code
//! here knows one by name. Each workspace has its own, in its own directory, reached through a
//! socket that only its user can use; so nothing needs a password, and two workspaces never
//! meet.
//!
//! A service outlives the command that starts it. The command leaves behind a **keeper**
//! ([`keep`]), a process of this program in a session of its own, which runs the service in
//! the sandbox's profile `service`, writes what it says into a log of bounded size, and passes
//! the signal on by which it stops. The keeper is known by its number *and* the time it began,
//! never by the number alone. If the keeper dies, the kernel takes the service along: there is
//! no service without a keeper.
//!
//! ```text
//! workspaces/<id>/services/<name>/
//!   data/          the service's own; there only when it is whole
//!   data.new/      while it is being made
//!   made.json      which version made it
//!   order.json     what the keeper is to run
//!   state.json     the keeper, and how the last run ended
//!   lock           held by the command that starts or stops it
//!   log, log.1     what it said, the older half in log.1
//!   run/           its socket; below /tmp where this path would be too long for one
//! ```
//!
//! In the sandbox the service sees the environment's tools, its data and its socket's
//! directory at the paths that they have outside, and no network, unless a port was asked for.
//! It runs as an ordinary user of that sandbox, also where the user is root.
//!
//! | file | what |
//! |---|---|
//! | `place` | where all of a service is, and what `{data}`, `{run}`, … mean |
//! | `confine` | what it sees of this machine |
//! | `make` | its data is made, once |
//! | [`up`](fn@up) | started, and asked until it answers |
//! | [`keep`] | the keeper |
//! | `state` | the keeper as found again; stopped |
//! | `check` | whether it answers |
//! | [`log`] | its log |

mod check;
mod confine;
mod error;
pub mod keep;
pub mod log;
mod make;
mod place;
mod state;
mod up;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::environment::catalog::{Catalog, Service};

pub use confine::Tools;
pub use error::ServiceError;
pub use place::Place;
pub use up::{Started, up};

/// A service that a workspace asks for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Its name in the catalogue.
    pub name: &'a str,
    /// The catalogue's word on it.
    pub service: &'a Service,
    /// The port of 127.0.0.1 that was asked for.
    pub port: Option<u16>,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It runs and answers.
    Ready,
    /// It runs and does not answer (yet).
    Silent,
    /// It is not to run.
    Stopped,
    /// It ended though nobody stopped it.
    Died,
}

/// One service as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// How the last run ended, where it is over.
    pub ended: Option<String>,
    /// The version that runs, or ran last.
    pub version: Option<String>,
    /// The keeper's process, where it runs.
    pub pid: Option<i32>,
    /// Since when it runs, seconds since the epoch.
    pub since: Option<i64>,
    /// Where it listens.
    pub socket: PathBuf,
    /// The port of 127.0.0.1 where it listens too.
    pub port: Option<u16>,
    /// Its data.
    pub data: PathBuf,
}

/// The variables by which programs find the services of the workspace whose directory under
/// the home is `workspace`. Where two services set one variable, it is the first one's.
pub fn variables(workspace: &Path, wanted: &[Wanted<'_>]) -> BTreeMap<String, String> {
    found_by(workspace, wanted, true)
}

/// The same for a program that cannot reach this machine's ports: by their sockets.
pub fn variables_inside(workspace: &Path, wanted: &[Wanted<'_>]) -> BTreeMap<String, String> {
    found_by(workspace, wanted, false)
}

fn found_by(workspace: &Path, wanted: &[Wanted<'_>], ports: bool) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for wanted in wanted {
        let place = Place::new(workspace, wanted.name, wanted.service);
        let words = place.words(wanted.service, wanted.port);
        let mut own = wanted.service.env.clone();
        if ports && wanted.port.is_some() {
            own.extend(wanted.service.env_listening.clone());
        }
        for (name, value) in own {
            vars.entry(name).or_insert_with(|| words.expand(&value));
        }
    }
    vars
}

/// How a service of a workspace is now.
pub fn show(workspace: &Path, wanted: &Wanted<'_>) -> Result<Shown, ServiceError> {
    let place = Place::new(workspace, wanted.name, wanted.service);
    let state = place.state()?;
    let running = state.as_ref().is_some_and(state::State::runs);
    let port = match &state {
        Some(state) if running => state.port,
        _ => wanted.port,
    };
    let health = match &state {
        Some(_) if running => {
            match check::answers(&place.socket(wanted.service, port), &wanted.service.check) {
                true => Health::Ready,
                false => Health::Silent,
            }
        }
        Some(state) if !state.stopped() => Health::Died,
        _ => Health::Stopped,
    };
    Ok(Shown {
        name: wanted.name.to_owned(),
        health,
        ended: state.as_ref().filter(|_| !running).map(state::State::end),
        version: state.as_ref().map(|state| state.version.clone()),
        pid: state.as_ref().filter(|_| running).map(|state| state.pid),
        since: state.as_ref().filter(|_| running).map(|state| state.since),
        socket: place.socket(wanted.service, port),
        port,
        data: place.data(),
    })
}

/// Stops a service of a workspace; `false` where it did not run.
pub fn down(workspace: &Path, name: &str) -> Result<bool, ServiceError> {
    let dir = place::directory(workspace, name);
    if !dir.is_dir() {
        return Ok(false);
    }
    let _turn = place::lock(&dir)?;
    state::stop(&dir)
}

/// Stops every service of a workspace, whatever it asks for now, and says which ran.
pub fn down_all(workspace: &Path) -> Result<Vec<String>, ServiceError> {
    let mut stopped = Vec::new();
    for name in place::names(workspace) {
        if down(workspace, &name)? {
            stopped.push(name);
        }
    }
    Ok(stopped)
}

/// The services of a workspace that run, whatever it asks for now.
pub fn running(workspace: &Path) -> Vec<String> {
    let runs = |name: &String| {
        let state = state::State::read(&place::directory(workspace, name));
        state.is_ok_and(|state| state.is_some_and(|state| state.runs()))
    };
    place::names(workspace).into_iter().filter(runs).collect()
}

/// Removes what of a workspace's services stands outside of its directory.
pub fn forget(workspace: &Path) {
    place::forget(workspace);
}

/// The service of that name, or the names like it.
pub fn find<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Service, ServiceError> {
    catalog.service.get(name).ok_or_else(|| ServiceError::Unknown {
        name: name.to_owned(),
        nearest: catalog.nearest(name),
    })
}
