//! `zagi restore`: a tree of the store as a directory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use super::error::CommandError;
use super::output::print_json;
use super::settings::Settings;
use crate::event::{Event, bytes};
use crate::store::{Restoration, RestoreOptions, Store, Touched, TreeId};

/// Make a directory hold exactly what a tree of the store holds
///
/// A directory that is missing appears whole or not at all. Of one that exists a snapshot is
/// taken first, whose id is said and which is kept for 30 days; then only what differs is
/// touched. It can be interrupted at any moment: run it again to finish it. Files are your
/// own, sharing blocks with the store where the disk can (reflink), else copies.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
TREE is a tree's id, its first 6 digits or more, or the name of a ref.

Examples:
  zagi restore 3f2c1d7 ./web                  as it was
  zagi restore snapshot/home/me/web ./copy    the last snapshot of a directory
  zagi restore --require-link 3f2c1d7 ./web   no copies: reflinks or read-only hard links")]
pub struct Restore {
    /// What to restore
    tree: String,
    /// The directory
    dir: PathBuf,
    /// Fail where files would be copied; where the disk has no reflinks they become read-only
    /// hard links, to be replaced and never edited
    #[arg(long)]
    require_link: bool,
    /// Print an object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    tree: String,
    path: PathBuf,
    strategy: String,
    before: Option<String>,
    files: u64,
    bytes: u64,
    added: u64,
    modified: u64,
    deleted: u64,
    retyped: u64,
}

impl Restore {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let began = Instant::now();
        let ctx = settings.context()?;
        let store = Store::open(&ctx.home.store())?.with_events(ctx.events.clone());
        let tree = store.resolve(&self.tree)?;
        let path = settings.absolute(&self.dir);
        let options = RestoreOptions { require_link: self.require_link, now: ctx.now };
        ctx.events.emit(Event::Begin { step: "restore" });
        let done = store.restore_to(&tree, &path, &options)?;
        let note = done.strategy.to_string();
        let (detail, took) = (detail(&done), began.elapsed());
        if self.json {
            print_json(&row(&tree, path, &done))?;
        }
        ctx.events.emit(Event::End { step: "restore", detail, note, took });
        if let (Some(before), false) = (done.before, settings.quiet()) {
            eprintln!("before        {before}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn detail(done: &Restoration) -> String {
    let made = format!("{} files, {}", done.files, bytes(done.bytes));
    let Touched { added, modified, deleted, retyped } = done.touched;
    match done.before {
        None => made,
        Some(_) if done.touched == Touched::default() => "nothing differed".into(),
        Some(_) => format!("{added} added, {} modified, {deleted} deleted", modified + retyped),
    }
}

fn row(tree: &TreeId, path: PathBuf, done: &Restoration) -> Row {
    let Touched { added, modified, deleted, retyped } = done.touched;
    Row {
        tree: tree.to_string(),
        path,
        strategy: done.strategy.to_string(),
        before: done.before.map(|id| id.to_string()),
        files: done.files,
        bytes: done.bytes,
        added,
        modified,
        deleted,
        retyped,
    }
}
