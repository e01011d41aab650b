//! Damage on the screen and as JSON, for `verify` and `repair`.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::output::quoted;
use crate::store::{Counted, DamagedPath, Finding};

/// Lines of one kind on the screen; JSON has more.
const LINES: usize = 40;

/// A finding as JSON.
#[derive(Serialize)]
pub struct Row {
    kind: &'static str,
    what: String,
    why: String,
}

/// A path as JSON.
#[derive(Serialize)]
pub struct PathRow<'a> {
    root: &'a str,
    path: String,
    /// The path is quoted: it is not UTF-8, or has odd characters.
    quoted: bool,
    /// A directory, with all that is in it.
    directory: bool,
}

pub fn rows(findings: &Counted<Finding>) -> Vec<Row> {
    let row = |finding: &Finding| Row {
        kind: finding.damage.kind(),
        what: finding.damage.to_string(),
        why: finding.why.clone(),
    };
    findings.first.iter().map(row).collect()
}

pub fn path_rows(paths: &Counted<DamagedPath>) -> Vec<PathRow<'_>> {
    let rows = paths.first.iter().map(|DamagedPath { root, path, directory }| {
        let (text, quoted) = quoted(path);
        PathRow { root, path: text.into_owned(), quoted, directory: *directory }
    });
    rows.collect()
}

/// How many findings there are, in words.
pub fn count(findings: u64) -> String {
    match findings {
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    }
}

/// Findings, a line each.
pub fn findings(findings: &Counted<Finding>) -> String {
    let mut text = String::new();
    for finding in findings.first.iter().take(LINES) {
        let _ = writeln!(text, "damaged: {finding}");
    }
    more(&mut text, findings.count);
    text
}

/// Paths, a line each, after a word that says what is with them.
pub fn paths(word: &str, paths: &Counted<DamagedPath>) -> String {
    let mut text = String::new();
    for path in paths.first.iter().take(LINES) {
        let slash = if path.directory { "/" } else { "" };
        let shown = if path.path.is_empty() { ".".into() } else { quoted(&path.path).0 };
        let _ = writeln!(text, "{word:<8} {}: {shown}{slash}", path.root);
    }
    more(&mut text, paths.count);
    text
}

fn more(text: &mut String, count: u64) {
    if count > LINES as u64 {
        let _ = writeln!(text, "         and {} more (see --json)", count - LINES as u64);
    }
}
