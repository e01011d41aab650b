//! `zagi store repair`: what is damaged is mended from what is sound.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::damage::{self, PathRow, Row};
use crate::cli::error::CommandError;
use crate::cli::output::{print, print_json};
use crate::cli::settings::Settings;
use crate::event::Event;
use crate::store::Repaired;

/// Mend what is damaged in the store
///
/// What `zagi store verify` finds is mended from other packs, from the farm, and from the
/// directories that were snapshots or restored, where these still have the same contents.
/// Damaged packs are kept, in `packs/damaged`. What nobody has is named; the next snapshot of
/// a directory that has it stores it again. The exit code is 1 if anything is lost.
#[derive(Debug, clap::Args)]
pub struct Repair {
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    finding_count: u64,
    findings: Vec<Row>,
    packs_replaced: u64,
    records_from_damaged_packs: u64,
    records_from_other_packs: u64,
    records_from_farm: u64,
    records_from_directories: u64,
    index_made: bool,
    tails_mended: u64,
    roots_mended: u64,
    farm_files: u64,
    lost_records: u64,
    lost_roots: Vec<String>,
    lost_farm_files: Vec<String>,
    /// All; `lost` has the first of them.
    lost_count: u64,
    lost: Vec<PathRow<'a>>,
}

impl Repair {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let store = settings.store()?;
        let began = Instant::now();
        ctx.events.emit(Event::Begin { step: "repair" });
        let repaired = store.repair(self.dry_run)?;
        ctx.events.emit(Event::End {
            step: "repair",
            detail: damage::count(repaired.found.findings.count),
            note: if self.dry_run { "nothing changed".into() } else { String::new() },
            took: began.elapsed(),
        });
        match self.json {
            true => print_json(&report(&repaired, self.dry_run))?,
            false => print(&text(&repaired, self.dry_run))?,
        }
        match repaired.has_lost() {
            true => Err(lost(&repaired)),
            false => Ok(ExitCode::SUCCESS),
        }
    }
}

fn lost(repaired: &Repaired) -> CommandError {
    let count = |n: u64, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let things: Vec<String> = [
        count(repaired.lost.count, "path", "paths"),
        count(repaired.roots_lost.len() as u64, "ref or lease", "refs and leases"),
        count(repaired.farm_lost.len() as u64, "file of the farm", "files of the farm"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut error = CommandError::failed(format!("not to be mended: {}", things.join(", ")));
    // A snapshot's ref is called after its directory.
    let directories: BTreeSet<&str> = repaired
        .lost
        .first
        .iter()
        .filter_map(|path| path.root.strip_prefix("snapshot"))
        .filter(|dir| dir.starts_with('/') && Path::new(dir).is_dir())
        .collect();
    for dir in directories.iter().take(3) {
        error = error.hint(format!("`zagi snapshot {dir}` stores again what is still there"));
    }
    if directories.is_empty() && repaired.lost.count > 0 {
        error = error.hint("`zagi snapshot DIR` of a directory that has it stores it again");
    }
    for path in repaired.roots_lost.iter().take(3) {
        let path = path.display();
        error =
            error.hint(format!("remove `{path}` if nothing of it is wanted: `gc` waits for it"));
    }
    error
}

fn report(repaired: &Repaired, dry_run: bool) -> Report<'_> {
    let names = |paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    Report {
        dry_run,
        finding_count: repaired.found.findings.count,
        findings: damage::rows(&repaired.found.findings),
        packs_replaced: repaired.packs_replaced,
        records_from_damaged_packs: repaired.from_damaged_packs,
        records_from_other_packs: repaired.from_other_packs,
        records_from_farm: repaired.from_farm,
        records_from_directories: repaired.from_directories,
        index_made: repaired.index_made,
        tails_mended: repaired.tails_mended,
        roots_mended: repaired.roots_mended,
        farm_files: repaired.farm_files,
        lost_records: repaired.lost_records,
        lost_roots: names(&repaired.roots_lost),
        lost_farm_files: names(&repaired.farm_lost),
        lost_count: repaired.lost.count,
        lost: damage::path_rows(&repaired.lost),
    }
}

fn text(repaired: &Repaired, dry_run: bool) -> String {
    if repaired.found.is_clean() {
        return "clean: nothing to repair\n".to_owned();
    }
    let mut text = damage::findings(&repaired.found.findings);
    let verb = if dry_run { "would:" } else { "done:" };
    let mut line = |count: u64, what: &str| {
        if count > 0 {
            let _ = writeln!(text, "{verb:<8} {what}: {count}");
        }
    };
    line(repaired.packs_replaced, "packs moved to packs/damaged");
    line(repaired.from_damaged_packs, "records saved from damaged packs");
    line(repaired.from_other_packs, "records found in other packs");
    line(repaired.from_farm, "records saved from the farm");
    line(repaired.from_directories, "records saved from directories");
    line(repaired.tails_mended, "copies of packs' footers made anew");
    line(repaired.roots_mended, "refs and leases put right");
    line(repaired.farm_files, "files of the farm made anew");
    if repaired.index_made {
        let _ = writeln!(text, "{verb:<8} the index made anew");
    }
    text += &damage::paths("lost:", &repaired.lost);
    for path in repaired.roots_lost.iter().chain(&repaired.farm_lost) {
        let _ = writeln!(text, "lost:    {}", path.display());
    }
    if repaired.lost_records > 0 && repaired.lost.count == 0 {
        let _ = writeln!(text, "lost:    {} records that nothing needs", repaired.lost_records);
    }
    text
}
