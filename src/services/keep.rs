//! The keeper: the process that a service's command leaves behind.
//!
//! It is a process of this program (`zagi __keep DIR`) in a session of its own. What it is to
//! do is in `order.json`, which is this module's and no other's: it is read by the keeper that
//! the same command started.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use serde::{Deserialize, Serialize};
use zagi_sandbox::{Exit, Plan, SandboxError};

use super::error::{ServiceError, at};
use super::log::Log;
use super::state::{PATIENCE, State, write_whole};

/// The first argument by which this program is asked to be a keeper.
pub const ARGUMENT: &str = "__keep";
const ORDER: &str = "order.json";

/// What is to be run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// This program's own file, which helps the sandbox.
    pub program: PathBuf,
    /// The service.
    pub plan: Plan,
    /// The signal that ends it in good order.
    pub stop: String,
    /// The version of its tool.
    pub version: String,
    /// The port of 127.0.0.1 where it listens.
    pub port: Option<u16>,
    /// Seconds since the epoch.
    pub since: i64,
}

impl Order {
    pub(super) fn write(&self, dir: &Path) -> Result<(), ServiceError> {
        let path = dir.join(ORDER);
        let bytes = serde_json::to_vec(self)
            .map_err(|source| ServiceError::Parse { path: path.clone(), source })?;
        write_whole(&path, &bytes).map_err(at(&path))
    }

    fn read(dir: &Path) -> Result<Order, ServiceError> {
        let path = dir.join(ORDER);
        let bytes = fs::read(&path).map_err(at(&path))?;
        serde_json::from_slice(&bytes).map_err(|source| ServiceError::Parse { path, source })
    }
}

/// Keeps the service whose directory is `dir` until it ends. To be called in a process of its
/// own, before any thread is started.
pub fn run(dir: &Path) -> Result<(), ServiceError> {
    // No terminal, and none of its signals. Fails where this leads a session already.
    let _ = nix::unistd::setsid();
    // Blocked before any thread is there, so that all inherit it: they are read instead.
    let mut told = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        told.add(signal);
    }
    let failed = |errno: nix::Error| at(dir)(errno.into());
    told.thread_block().map_err(failed)?;
    let signals = SignalFd::new(&told).map_err(failed)?;
    let order = Order::read(dir)?;
    let mut state =
        State::of_this_process(&order.version, order.port, order.since).map_err(at(dir))?;
    state.write(dir).map_err(at(dir))?;
    let log = Arc::new(Mutex::new(Log::open(dir).map_err(at(dir))?));
    let stopping = Arc::new(AtomicBool::new(false));
    let end = match serve(&order, &log, signals, &stopping) {
        Ok(exit) => exit.to_string(),
        Err(e) => {
            let text = format!("it cannot be confined: {e}");
            Log::take(&log, format!("{text}\n").as_bytes());
            text
        }
    };
    if stopping.load(Ordering::Relaxed) {
        state.stop();
    }
    state.finish(&end);
    state.write(dir).map_err(at(dir))
}

/// Runs the service to its end.
fn serve(
    order: &Order,
    log: &Arc<Mutex<Log>>,
    signals: SignalFd,
    stopping: &Arc<AtomicBool>,
) -> Result<Exit, SandboxError> {
    let mut child = zagi_sandbox::spawn(&order.plan, &order.program)?;
    let mut pumps = Vec::new();
    if let Some(out) = child.stdout.take() {
        let log = log.clone();
        pumps.push(std::thread::spawn(move || Log::take(&log, out)));
    }
    if let Some(err) = child.stderr.take() {
        let log = log.clone();
        pumps.push(std::thread::spawn(move || Log::take(&log, err)));
    }
    if let Ok(killer) = child.killer() {
        let stop = Signal::from_str(&order.stop).unwrap_or(Signal::SIGTERM);
        let stopping = stopping.clone();
        // Ends with this process.
        std::thread::spawn(move || {
            while !matches!(signals.read_signal(), Ok(Some(_))) {}
            stopping.store(true, Ordering::Relaxed);
            if killer.signal(stop).is_ok() {
                std::thread::sleep(PATIENCE);
            }
            killer.kill();
        });
    }
    let exit = child.wait();
    for pump in pumps {
        // It ends with the last process that could write.
        let _ = pump.join();
    }
    exit
}
