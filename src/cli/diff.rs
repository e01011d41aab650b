//! `zagi diff`: what differs between two trees of the store.

use std::process::ExitCode;

use serde::Serialize;

use super::error::CommandError;
use super::output::{Array, print, quoted};
use super::settings::Settings;
use crate::store::{Change, ChangeKind, Kind};

/// Lines are written out in pieces of about this many bytes.
const PIECE: usize = 64 << 10;

/// Show what differs between two trees of the store
///
/// A line a path: A added, M modified (content, execute bit or link target), D deleted, T
/// another type. Directories end with a slash. What has one id in both trees is not looked
/// into, so it is fast however large they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
TREE is a tree's id, its first 6 digits or more, or the name of a ref.

Examples:
  zagi diff 3f2c1d7 81ac02e                 what the second one has otherwise
  zagi diff snapshot/home/me/web 81ac02e    against the directory's last snapshot
  zagi diff 3f2c1d7 81ac02e | grep ^D       what is gone")]
pub struct Diff {
    /// The tree before
    #[arg(value_name = "TREE")]
    before: String,
    /// The tree after
    #[arg(value_name = "TREE")]
    after: String,
    /// Print a list of objects
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    change: char,
    path: &'a str,
    /// The path is quoted as in the plain output: it is not UTF-8, or has odd characters.
    quoted: bool,
    before: Option<Side>,
    after: Option<Side>,
}

#[derive(Serialize)]
struct Side {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl Side {
    fn new(kind: &Kind) -> Side {
        let (name, id, executable, size) = match kind {
            Kind::File { exec, id, size } => {
                ("file", Some(id.to_string()), Some(*exec), Some(*size))
            }
            Kind::Directory(id) => ("directory", Some(id.to_string()), None, None),
            Kind::Symlink(_) => ("link", None, None, None),
        };
        Side { kind: name, id, executable, size }
    }
}

#[derive(Default)]
struct Counts {
    added: u64,
    modified: u64,
    deleted: u64,
    of_type: u64,
}

impl Counts {
    fn add(&mut self, kind: ChangeKind) {
        *match kind {
            ChangeKind::Added => &mut self.added,
            ChangeKind::Modified => &mut self.modified,
            ChangeKind::Deleted => &mut self.deleted,
            ChangeKind::Type => &mut self.of_type,
        } += 1;
    }
}

impl Diff {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let store = settings.store()?;
        let (before, after) = (store.resolve(&self.before)?, store.resolve(&self.after)?);
        let mut counts = Counts::default();
        let mut text = String::new();
        let mut array = Array::default();
        store.diff(&before, &after, |change| {
            counts.add(change.kind());
            if self.json {
                let (path, is_quoted) = quoted(change.path);
                array.push(&mut text, &row(change, &path, is_quoted))?;
            } else {
                text.push_str(&line(change));
            }
            if text.len() > PIECE {
                print(&text)?;
                text.clear();
            }
            Ok::<bool, CommandError>(true)
        })?;
        if self.json {
            array.end(&mut text);
        }
        print(&text)?;
        if !settings.quiet() {
            let Counts { added, modified, deleted, of_type } = counts;
            eprintln!(
                "{added} added, {modified} modified, {deleted} deleted, {of_type} of another type"
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(change: &Change<'_>) -> String {
    let stands = change.after.or(change.before);
    let slash = if matches!(stands, Some(Kind::Directory(_))) { "/" } else { "" };
    let path = [change.path, slash.as_bytes()].concat();
    format!("{} {}\n", change.kind().letter(), quoted(&path).0)
}

fn row<'a>(change: &Change<'_>, path: &'a str, quoted: bool) -> Row<'a> {
    Row {
        change: change.kind().letter(),
        path,
        quoted,
        before: change.before.map(Side::new),
        after: change.after.map(Side::new),
    }
}
