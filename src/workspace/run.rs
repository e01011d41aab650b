//! The app of a workspace at work: `zagi run`.
//!
//! # What it has
//!
//! - the workspace, where it is, to read and write, its tools, and its services;
//! - of the secrets that its command may have: a placeholder of those that are brokered, which
//!   becomes the value on the way to its host ([`crate::egress`]); the value of those that are raw,
//!   once somebody has approved just this code ([`approval`]). Then it runs from a copy of what was
//!   approved: what is edited meanwhile it does not see, and what it writes is gone with it;
//! - a network that leads to every host that is not of this machine or its network, by a proxy; and
//!   what it listens on is reached from this machine at the same port;
//! - an empty home, `/tmp` and so on of its own, and no other path of the user's.
//!
//! What it writes goes through [`crate::redact`] on its way to the user, a file or a pipe.
//!
//! The values are in this process, which is not to be looked into ([`crate::secrets::broker`]), and
//! in the sandbox. When it dies the app does.

pub mod approval;
mod lent;
mod place;
mod ports;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use zagi_sandbox::{Console, Exit, Filter, Plan, Profile};

use super::confined::{self, Who};
use super::description;
use super::error::{WorkspaceError, at};
use super::services::Services;
use crate::context::Context;
use crate::egress::{Credential, Rules, Seen, Way};
use crate::environment::activate::Record;
use crate::event::Event;
use crate::proxy::Proxies;
use crate::redact::{Needles, Redactor};
use crate::secrets::SecretsError;
use crate::secrets::broker::{Broker, Brokered, Granted};
use crate::store::Store;
use approval::Frozen;
pub use place::Place;

/// What an app gets of the secrets.
#[derive(Default)]
pub struct Release {
    /// Who has them; none, where the command may have none.
    pub broker: Option<Arc<Broker>>,
    /// Which.
    pub granted: Vec<Granted>,
    /// The code that somebody approved, where one of them is raw.
    pub frozen: Option<Frozen>,
}

/// Runs `argv` in the workspace on the caller's streams, to its end.
pub fn run(
    ctx: &Context,
    place: &Place,
    (argv, cwd): (&[String], &Path),
    console: Console<'_>,
    release: &Release,
) -> Result<Exit, WorkspaceError> {
    let description = &place.description;
    let dir = description::directory(&ctx.home, &description.id);
    let scratch = Scratch::make(&dir)?;
    let services = started(ctx, place, &dir)?;
    let files = match &release.frozen {
        Some(frozen) => {
            let dest = scratch.0.join("files");
            Store::open(&ctx.home.store())?.restore(&frozen.tree, &dest)?;
            dest
        }
        None => description.path.clone(),
    };
    let who = Who { profile: Profile::App, argv, cwd, files: &files, home: None };
    let surround = || {
        let Some(frozen) = &release.frozen else {
            return Ok(confined::surround(&place.of, description, who));
        };
        let mut plan =
            confined::surround_with(&place.of, description, who, frozen.environment.clone());
        lent::exchange(ctx, place, &frozen.copies, (&mut plan, &files))?;
        Ok(plan)
    };
    let mut plan = place.look(ctx, &[&scratch.0, &ctx.home.store()], surround)?;
    let own = plan.binds.len();
    plan = confined::serviced(plan, services.inside()?);
    plan.publish = true;
    let needles = match &release.broker {
        Some(broker) => Arc::new(broker.needles().map_err(SecretsError::Memory)?),
        None => Arc::default(),
    };
    let refused = Arc::default();
    let way = way(ctx, release, &mut plan, &scratch.0, &refused)?;
    place.hide(ctx, &mut plan, own, &files)?;
    let private = match &release.broker {
        Some(broker) => broker.private(&release.granted, &argv.join(" "))?,
        None => None,
    };
    let failed = |source| WorkspaceError::Agent { source };
    let piped = Piped::new(console, &needles).map_err(at(&scratch.0))?;
    let mut child =
        zagi_sandbox::spawn_on(&plan, &ctx.program, piped.console(console), private.as_ref())
            .map_err(failed)?;
    // It has them now, and this process no more.
    drop(private);
    let pumps = piped.pumps;
    drop(piped.ends);
    if !needles.is_empty() {
        child.filter(Box::new(Redactor::new(needles)));
    }
    confined::serve(std::mem::take(&mut child.listeners).into_iter(), &way);
    if let Some(inside) = child.ports.take() {
        ports::publish(inside, ctx.events.clone());
    }
    let exit = child.attend().map_err(failed)?;
    for pump in pumps {
        // What it could not write, nobody reads.
        let _ = pump.join();
    }
    for refused in refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        ctx.events.emit(Event::Warning(refused.clone()));
    }
    Ok(exit)
}

/// The services that it asks for, which run.
fn started(ctx: &Context, place: &Place, dir: &Path) -> Result<Services, WorkspaceError> {
    let description = &place.description;
    let asked = || Services::of_description(&place.of, description.clone());
    let mut services = place.look(ctx, &[], asked)?;
    if let (Some(state), Some(user)) = (place.state(ctx)?, place.user()) {
        services = services.apart(dir).hiding(state, user);
    }
    let record = || Ok(Record::read(&place.of.home.envs(), &description.environment));
    for shown in place.look(ctx, &[], record)?.iter().flat_map(|record| &record.trees) {
        place.keep_apart(ctx, shown)?;
    }
    if !services.is_empty() {
        let ready = place.look(ctx, &[], || services.ready(&place.of, &[]))?;
        services.start(&place.of, &ready)?;
    }
    Ok(services)
}

/// What was refused of the network.
type Refused = Arc<Mutex<BTreeSet<String>>>;

/// Where its network leads, and its brokered secrets go.
fn way(
    ctx: &Context,
    release: &Release,
    plan: &mut Plan,
    scratch: &Path,
    refused: &Refused,
) -> Result<Arc<Way>, WorkspaceError> {
    let mut put = None;
    if let Some(broker) = &release.broker {
        let credentials: Vec<Arc<Brokered>> = broker.credentials(&release.granted)?;
        for credential in &credentials {
            plan.env.insert(credential.name().into(), credential.placeholder().into());
        }
        if !credentials.is_empty() {
            let broker = confined::broker(ctx, broker, &credentials)?;
            confined::lead(ctx, plan, &credentials, (broker.certificate(), scratch))?;
            put = Some(broker);
        }
    }
    let refused = refused.clone();
    let tell = Arc::new(move |seen: Seen| {
        if let Seen::Refused { target, why, .. } = seen {
            let mut all = refused.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() < 100 {
                all.insert(format!("{target}: {why}"));
            }
        }
    });
    Ok(Arc::new(Way { rules: Rules::everything(), proxies: Proxies::of(ctx), broker: put, tell }))
}

/// A directory of this run's, gone at its end.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, and removes those of runs that were killed.
    fn make(workspace: &Path) -> Result<Scratch, WorkspaceError> {
        let runs = workspace.join("runs");
        for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(entry.file_name()).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let dir = runs.join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Output and error that are no terminals, through this process: values are taken out on the way.
struct Piped {
    /// What the program writes to instead.
    ends: [Option<OwnedFd>; 2],
    pumps: Vec<JoinHandle<()>>,
}

impl Piped {
    fn new(console: Console<'_>, needles: &Arc<Needles>) -> io::Result<Piped> {
        use std::io::IsTerminal;
        let mut piped = Piped { ends: [None, None], pumps: Vec::new() };
        if needles.is_empty() {
            return Ok(piped);
        }
        for (end, to) in piped.ends.iter_mut().zip([console.output, console.error]) {
            if to.is_terminal() {
                continue;
            }
            let (reading, writing) = io::pipe()?;
            let to = File::from(to.try_clone_to_owned()?);
            *end = Some(writing.into());
            let redactor = Redactor::new(needles.clone());
            piped.pumps.push(std::thread::spawn(move || {
                // An error is a reader that went away: the program hears of it by its pipe.
                let _ = pump(reading, to, redactor);
            }));
        }
        Ok(piped)
    }

    fn console<'c>(&'c self, console: Console<'c>) -> Console<'c> {
        let or =
            |end: &'c Option<OwnedFd>, own: BorrowedFd<'c>| end.as_ref().map_or(own, AsFd::as_fd);
        Console {
            input: console.input,
            output: or(&self.ends[0], console.output),
            error: or(&self.ends[1], console.error),
        }
    }
}

fn pump(mut from: impl Read, mut to: File, mut redactor: Redactor) -> io::Result<()> {
    let (mut buffer, mut out) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let read = from.read(&mut buffer)?;
        match read {
            0 => redactor.flush(&mut out),
            n => redactor.pass(&buffer[..n], &mut out),
        }
        to.write_all(&out)?;
        out.clear();
        if read == 0 {
            return Ok(());
        }
    }
}
