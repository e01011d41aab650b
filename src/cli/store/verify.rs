//! `zagi store verify`: is everything in the store what was written?

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::damage::{self, PathRow, Row};
use crate::cli::error::CommandError;
use crate::cli::output::{print, print_json};
use crate::cli::settings::Settings;
use crate::event::{Event, bytes};
use crate::store::Verified;

/// Read all of the store and name what is damaged
///
/// Every byte of every pack is read, every content hashed, and the index, the refs, the
/// leases and the farm are compared with them. What cannot be restored because of damage is
/// named, as the ref or lease and the path in its tree. Nothing is changed. The exit code is
/// 1 if anything is damaged.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    clean: bool,
    packs: u64,
    records: u64,
    bytes: u64,
    roots: u64,
    farm_files: u64,
    unknown_packs: u64,
    /// All; `findings` has the first of them.
    finding_count: u64,
    findings: Vec<Row>,
    /// All; `paths` has the first of them.
    path_count: u64,
    paths: Vec<PathRow<'a>>,
}

impl Verify {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let store = settings.store()?;
        let began = Instant::now();
        ctx.events.emit(Event::Begin { step: "verify" });
        let verified = store.verify()?;
        ctx.events.emit(Event::End {
            step: "verify",
            detail: format!("{} records, {}", verified.records, bytes(verified.bytes)),
            note: if verified.is_clean() { "clean".into() } else { "damaged".into() },
            took: began.elapsed(),
        });
        match self.json {
            true => print_json(&report(&verified))?,
            false => print(&text(&verified))?,
        }
        if verified.is_clean() {
            return Ok(ExitCode::SUCCESS);
        }
        let (findings, paths) = (verified.findings.count, verified.paths.count);
        let message = match paths {
            0 => "the store is damaged; every path can be restored all the same".to_owned(),
            1 => "the store is damaged, and 1 path cannot be restored as it is".to_owned(),
            n => format!("the store is damaged, and {n} paths cannot be restored as it is"),
        };
        Err(CommandError::failed(format!("{message} ({})", damage::count(findings)))
            .hint("`zagi store repair` mends what it can; with `--dry-run` it says what that is"))
    }
}

fn report(verified: &Verified) -> Report<'_> {
    Report {
        clean: verified.is_clean(),
        packs: verified.packs,
        records: verified.records,
        bytes: verified.bytes,
        roots: verified.roots,
        farm_files: verified.farm_files,
        unknown_packs: verified.unknown_packs,
        finding_count: verified.findings.count,
        findings: damage::rows(&verified.findings),
        path_count: verified.paths.count,
        paths: damage::path_rows(&verified.paths),
    }
}

fn text(verified: &Verified) -> String {
    if !verified.is_clean() {
        return damage::findings(&verified.findings) + &damage::paths("path:", &verified.paths);
    }
    let Verified { packs, records, roots, farm_files, .. } = verified;
    let size = bytes(verified.bytes);
    format!(
        "clean: {packs} packs, {records} records, {size}; {roots} refs and leases; {farm_files} \
         files in the farm\n"
    )
}
