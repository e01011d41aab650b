//! A service's data is made, once: whole, or not at all.
//!
//! `made.json`: `{"version": "16.9"}`, the version that made it.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use zagi_sandbox::Exit;

use super::Wanted;
use super::confine::{Confinement, Tools};
use super::error::{ServiceError, at};
use super::log::{self, Log};
use super::place::{Place, private, text};
use super::state::write_whole;
use crate::context::Context;
use crate::environment::catalog::{Catalog, Make};
use crate::environment::version::Version;

const MADE: &str = "made.json";
/// Where a command finds what it is to read.
const INPUT: &str = "/zagi/input";
/// How many lines of its log a failure shows.
pub(super) const SHOWN: usize = 12;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    version: String,
}

/// Makes the data where there is none; of what is there, only the version is looked at.
pub(super) fn make(
    ctx: &Context,
    catalog: &Catalog,
    place: &Place,
    wanted: &Wanted<'_>,
    tools: &Tools,
) -> Result<(), ServiceError> {
    if place.data().exists() {
        return fits(catalog, place, wanted, tools);
    }
    let data = place.dir.join("data.new");
    match fs::remove_dir_all(&data) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&data)(e)),
        _ => private(&data)?,
    }
    let confinement = Confinement { ctx, tools, place, data: &data, network: false };
    for command in &wanted.service.make {
        run(&confinement, wanted, command)?;
    }
    let made = serde_json::to_vec(&Made { version: tools.version.clone() }).expect("one string");
    write_whole(&place.dir.join(MADE), &made).map_err(at(&place.dir))?;
    fs::rename(&data, place.data()).map_err(at(&data))
}

/// Whether the version that there is now reads what another has made.
fn fits(
    catalog: &Catalog,
    place: &Place,
    wanted: &Wanted<'_>,
    tools: &Tools,
) -> Result<(), ServiceError> {
    let path = place.dir.join(MADE);
    let bytes = fs::read(&path).map_err(at(&path))?;
    let Made { version: made } = serde_json::from_slice(&bytes)
        .map_err(|source| ServiceError::Parse { path: path.clone(), source })?;
    let line = |text: &str| {
        Version::parse(text).ok().map(|version| catalog.line_of(&wanted.service.tool, &version))
    };
    let (before, now) = (line(&made), line(&tools.version));
    if before == now || (wanted.service.upgrades && before < now) {
        return Ok(());
    }
    Err(ServiceError::OtherVersion {
        name: wanted.name.to_owned(),
        made,
        version: tools.version.clone(),
        data: place.data(),
    })
}

fn run(
    confinement: &Confinement<'_>,
    wanted: &Wanted<'_>,
    command: &Make,
) -> Result<(), ServiceError> {
    let dir = &confinement.place.dir;
    let words = confinement.place.words(wanted.service, None);
    let mut plan = confinement.plan(&command.run, &words)?;
    let input = confinement.place.input();
    if !command.input.is_empty() {
        fs::write(&input, words.expand(&command.input)).map_err(at(&input))?;
        // The sandbox has no standard input to give.
        let shell = ["/bin/sh", "-c", "exec \"$@\" <\"$0\"", INPUT].map(str::to_owned);
        plan.argv = [&shell[..], &plan.argv].concat();
        plan = plan.bind(&input, INPUT, false);
    }
    let begin = log::length(dir);
    let log = Mutex::new(Log::open(dir).map_err(at(dir))?);
    let failed = |source| ServiceError::Sandbox { name: wanted.name.to_owned(), source };
    let mut child = zagi_sandbox::spawn(&plan, &confinement.ctx.program).map_err(failed)?;
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>),
    ];
    std::thread::scope(|scope| {
        for output in outputs.into_iter().flatten() {
            scope.spawn(|| Log::take(&log, output));
        }
    });
    let exit = child.wait().map_err(failed)?;
    let _ = fs::remove_file(&input);
    match exit {
        Exit::Code(0) => Ok(()),
        exit => Err(ServiceError::NotMade {
            name: wanted.name.to_owned(),
            program: text(Path::new(&command.run[0]))?,
            end: exit.to_string(),
            log: log::tail_since(dir, begin, SHOWN),
        }),
    }
}
