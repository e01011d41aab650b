//! `zagi chunk`: what directories are made of, and how much of it the store has.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::event::{Event, bytes};
use crate::store::{Counts, Figures, Store};

/// Tell how much of some directories the store has already
///
/// Reads everything and writes nothing. Files below 32 KB are one chunk (`small`); larger ones
/// are cut by their content, `text` finer than `binary`. Each directory is compared with the
/// store and with those named before it. Files that are one inode count once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  zagi chunk node_modules                what a snapshot would add to the store
  zagi chunk before/ after/              how much the second shares with the first")]
pub struct Chunk {
    /// The directories
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// Print a list of objects, one a directory
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    directory: &'a std::path::Path,
    classes: Figures,
    total: Counts,
    reused_by_file: f64,
    reused_by_byte: f64,
}

impl Chunk {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let store = Store::open(&ctx.home.store())?.with_events(ctx.events.clone());
        let began = Instant::now();
        ctx.events.emit(Event::Begin { step: "chunk" });
        let dirs: Vec<PathBuf> = self.dirs.iter().map(|dir| settings.cwd.join(dir)).collect();
        let all = store.analyse(&dirs)?;
        let total = all.iter().fold(Figures::default(), |a, b| a + *b).total();
        ctx.events.emit(Event::End {
            step: "chunk",
            detail: format!("{} files, {}", total.files, bytes(total.bytes)),
            note: format!("{} new", bytes(total.new_bytes)),
            took: began.elapsed(),
        });
        let rows: Vec<Row<'_>> =
            self.dirs.iter().zip(all).map(|(directory, classes)| row(directory, classes)).collect();
        match self.json {
            true => print_json(&rows)?,
            false => print(&rows.iter().map(table).collect::<Vec<_>>().join("\n"))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(directory: &std::path::Path, classes: Figures) -> Row<'_> {
    let total = classes.total();
    let (reused_by_file, reused_by_byte) = (total.reused_by_file(), total.reused_by_byte());
    Row { directory, classes, total, reused_by_file, reused_by_byte }
}

fn table(row: &Row<'_>) -> String {
    let Figures { text, binary, small, .. } = row.classes;
    let mut out = format!("{}\n", row.directory.display());
    let head = ["", "FILES", "BYTES", "CHUNKS", "UNIQUE", "NEW FILES", "NEW BYTES"];
    line(&mut out, head.map(str::to_owned));
    for (name, counts) in
        [("text", text), ("binary", binary), ("small", small), ("total", row.total)]
    {
        let Counts { files, chunks, unique, new_files, .. } = counts;
        line(
            &mut out,
            [
                name.to_owned(),
                files.to_string(),
                bytes(counts.bytes),
                chunks.to_string(),
                unique.to_string(),
                new_files.to_string(),
                bytes(counts.new_bytes),
            ],
        );
    }
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "  {} reused by file, {} by byte",
        percent(row.reused_by_file),
        percent(row.reused_by_byte)
    );
    out
}

fn line(out: &mut String, [name, rest @ ..]: [String; 7]) {
    let _ = write!(out, "  {name:<6}");
    for cell in rest {
        let _ = write!(out, "  {cell:>9}");
    }
    out.push('\n');
}

/// Only what is wholly reused is 100 %.
fn percent(value: f64) -> String {
    format!("{:.1} %", (value * 10.0).floor() / 10.0)
}
