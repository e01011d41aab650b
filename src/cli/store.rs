//! `zagi store`: the store of this home, looked at and looked after.

mod damage;
mod repair;
mod verify;

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::event::{Event, bytes};
use crate::store::{Amount, Collected, Stats, Tally, format::RecordKind};
use crate::workspace;

/// Look at and after the store, which holds every content once
#[derive(Debug, clap::Args)]
pub struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the store's directory
    Path,
    /// Show what is in the store and what it takes
    Stats {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what nothing needs, from the store and from the caches of this home
    ///
    /// What refs and leases name stays, and what workspaces stand on. What is only a cache
    /// (packages, dependencies, environments, downloads) goes when no workspace needs it and
    /// it was not used for 30 days. Others may use the store meanwhile; for those who are
    /// just adding to it this waits, up to a minute.
    Gc {
        /// Remove nothing; show what would go
        #[arg(long)]
        dry_run: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    Verify(verify::Verify),
    Repair(repair::Repair),
}

impl Store {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        match self.command {
            Command::Path => {
                let ctx = settings.context()?;
                print(&format!("{}\n", ctx.home.store().display()))?;
            }
            Command::Stats { json } => stats(settings, json)?,
            Command::Gc { dry_run, json } => gc(settings, dry_run, json)?,
            Command::Verify(c) => return c.run(settings),
            Command::Repair(c) => return c.run(settings),
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Serialize)]
struct Things {
    kind: &'static str,
    count: u64,
    bytes: u64,
}

fn things(tallies: &[Tally]) -> Vec<Things> {
    let thing = |tally: &Tally| Things { kind: tally.kind, count: tally.count, bytes: tally.bytes };
    tallies.iter().map(thing).collect()
}

fn gc(settings: &Settings, dry_run: bool, json: bool) -> Result<(), CommandError> {
    let ctx = settings.context()?;
    let store = settings.store()?;
    let began = Instant::now();
    ctx.events.emit(Event::Begin { step: "gc" });
    let collected = workspace::collect(&ctx, &store, dry_run)?;
    let freed = collected.freed();
    ctx.events.emit(Event::End {
        step: "gc",
        detail: format!("{} {}", signed(freed), if dry_run { "would be freed" } else { "freed" }),
        note: String::new(),
        took: began.elapsed(),
    });
    if json {
        return print_json(&serde_json::json!({
            "dry_run": dry_run,
            "removed": things(&collected.removed),
            "written": things(&collected.written),
            "kept": things(&collected.kept),
            "freed": freed,
        }));
    }
    print(&told(&collected, dry_run))
}

fn signed(n: i64) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", bytes(n.unsigned_abs()))
}

fn told(collected: &Collected, dry_run: bool) -> String {
    let removed = if dry_run { "would be removed" } else { "removed" };
    let written = if dry_run { "would be written" } else { "written" };
    let mut text = String::new();
    let parts =
        [(removed, &collected.removed), (written, &collected.written), ("kept", &collected.kept)];
    for (title, tallies) in parts {
        if tallies.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        for Tally { kind, count, bytes: of } in tallies {
            let size = if *of > 0 { bytes(*of) } else { String::new() };
            text.push_str(format!("  {kind:<26} {count:>9}  {size:>9}").trim_end());
            text.push('\n');
        }
    }
    if collected.removed.is_empty() {
        text.insert_str(0, "there is nothing to remove\n");
    }
    text
}

fn stats(settings: &Settings, json: bool) -> Result<(), CommandError> {
    let stats = settings.store()?.stats()?;
    if json { print_json(&as_json(&stats)) } else { print(&shown(&stats)) }
}

/// The word for a kind of record, and what it is.
fn kind(kind: RecordKind) -> (&'static str, &'static str) {
    match kind {
        RecordKind::Data => ("contents", "files and chunks of files"),
        RecordKind::Recipe => ("chunk_lists", "chunk lists"),
        RecordKind::Tree => ("trees", "directories"),
        RecordKind::Links => ("hard_links", "lists of hard links"),
        RecordKind::Delta => ("deltas", "deltas"),
    }
}

/// What is left of many bytes; nothing where there are none.
fn times(whole: u64, part: u64) -> Option<f64> {
    (part > 0).then(|| (whole as f64 / part as f64 * 100.0).round() / 100.0)
}

/// Bytes of distinct contents: those that are stored, and those told by deltas.
fn distinct(stats: &Stats) -> u64 {
    let data = stats.records.get(&RecordKind::Data).copied().unwrap_or_default();
    data.raw + stats.deltas.bytes
}

fn as_json(stats: &Stats) -> serde_json::Value {
    let amount = |of: Amount| serde_json::json!({ "count": of.count, "bytes": of.bytes });
    let records: serde_json::Map<String, serde_json::Value> = stats
        .records
        .iter()
        .map(|(of, records)| {
            let value = serde_json::json!({
                "count": records.count, "raw": records.raw, "stored": records.stored,
            });
            (kind(*of).0.to_owned(), value)
        })
        .collect();
    let raw: u64 = stats.records.values().map(|records| records.raw).sum();
    let stored: u64 = stats.records.values().map(|records| records.stored).sum();
    serde_json::json!({
        "packs": amount(stats.packs),
        "index": stats.index,
        "records": records,
        "unused": amount(stats.unused),
        "deltas": amount(stats.deltas),
        "refs": stats.refs,
        "leases": stats.leases,
        "rooted_trees": stats.trees,
        "rooted": amount(stats.rooted),
        "farm_files": amount(stats.farm_files),
        "farm_trees": stats.farm_trees,
        "aside": amount(stats.aside),
        "places": stats.places,
        "deduplication": times(stats.rooted.bytes, distinct(stats)),
        "compression": times(raw, stored),
        "in_all": times(stats.rooted.bytes, stats.packs.bytes),
    })
}

fn shown(stats: &Stats) -> String {
    let mut text =
        format!("{:<28} {:>9}  {:>10}\n", "packs", stats.packs.count, bytes(stats.packs.bytes));
    for (of, records) in &stats.records {
        let (raw, stored) = (bytes(records.raw), bytes(records.stored));
        let name = kind(*of).1;
        text.push_str(&format!("  {name:<26} {:>9}  {stored:>10}  of {raw}\n", records.count));
    }
    let mut line = |name: &str, count: u64, size: String| {
        text.push_str(format!("{name:<28} {count:>9}  {size:>10}").trim_end());
        text.push('\n');
    };
    let Amount { count, bytes: of } = stats.unused;
    line("  of these, of no use", count, format!("{}, before compression", bytes(of)));
    line("refs", stats.refs, String::new());
    line("leases", stats.leases, String::new());
    line("farm files", stats.farm_files.count, bytes(stats.farm_files.bytes));
    line("farm trees", stats.farm_trees, String::new());
    line("places made of links", stats.places, String::new());
    if stats.aside.count > 0 {
        line("changed files set aside", stats.aside.count, bytes(stats.aside.bytes));
    }
    text.push_str(&format!("{:<28} {:>9}  {:>10}\n", "index", "", bytes(stats.index)));
    text.push_str(&ratios(stats));
    text
}

fn ratios(stats: &Stats) -> String {
    let raw: u64 = stats.records.values().map(|records| records.raw).sum();
    let stored: u64 = stats.records.values().map(|records| records.stored).sum();
    let mut text = format!(
        "\nrefs and leases name {} trees, each of its own {} files of {} in all\n",
        stats.trees,
        stats.rooted.count,
        bytes(stats.rooted.bytes)
    );
    let mut line = |what: &str, times: Option<f64>, from: u64, to: u64| {
        if let Some(times) = times {
            let (from, to) = (bytes(from), bytes(to));
            text.push_str(&format!("  {what:<26} {times:>8.2}x  {from} to {to}\n"));
        }
    };
    let distinct = distinct(stats);
    line("each content once", times(stats.rooted.bytes, distinct), stats.rooted.bytes, distinct);
    if let Some(deltas) = stats.records.get(&RecordKind::Delta) {
        let (whole, told) = (stats.deltas.bytes, deltas.raw);
        line("deltas, of what they tell", times(whole, told), whole, told);
    }
    line("compression", times(raw, stored), raw, stored);
    let packs = stats.packs.bytes;
    line("in all", times(stats.rooted.bytes, packs), stats.rooted.bytes, packs);
    text
}
