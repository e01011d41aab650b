//! `zagi snapshot`: a directory into the store, and what it took.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::event::{Event, bytes};
use crate::store::{Captured, Figures, Store};

/// How long a snapshot stays when it is no longer the last one of its directory.
const STAYS: i64 = 30 * 24 * 60 * 60;

/// Put a directory into the store, whole or not at all
///
/// Names, contents, execute bits, symbolic and hard links are kept; times, owners and other
/// mode bits are not. What has not changed since the directory's last snapshot is not read
/// again. The last word printed is the tree's id.
///
/// The last snapshot of each directory stays, under the ref `snapshot` and the directory's
/// path; every other one for 30 days.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zagi snapshot ~/web                         keep it as it is now
  zagi restore snapshot/home/me/web ~/web     go back to that")]
pub struct Snapshot {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the figures and the tree's id as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    tree: String,
    #[serde(rename = "ref")]
    name: String,
    files: u64,
    bytes: u64,
    /// Of the files, those that had to be read; the figures are of these.
    read: u64,
    new_bytes: u64,
    stored_bytes: u64,
    figures: Figures,
}

impl Snapshot {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let store = Store::open(&ctx.home.store())?.with_events(ctx.events.clone());
        let began = Instant::now();
        ctx.events.emit(Event::Begin { step: "snapshot" });
        let dir = settings.cwd.join(&self.dir);
        let captured = store.snapshot(&dir)?;
        let name = store.keep_snapshot(&dir, &captured, ctx.now + STAYS)?;
        ctx.events.emit(Event::End {
            step: "snapshot",
            detail: format!("{} files, {}", captured.files, bytes(captured.bytes)),
            note: note(&captured),
            took: began.elapsed(),
        });
        if !self.json {
            print(&format!("{}\n", captured.tree))?;
            return Ok(ExitCode::SUCCESS);
        }
        print_json(&Report {
            tree: captured.tree.to_string(),
            name,
            files: captured.files,
            bytes: captured.bytes,
            read: captured.figures.total().files,
            new_bytes: captured.new_bytes,
            stored_bytes: captured.stored_bytes,
            figures: captured.figures,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn note(captured: &Captured) -> String {
    match captured.stored_bytes {
        0 => "nothing new".to_owned(),
        stored => format!("stored {}", bytes(stored)),
    }
}
