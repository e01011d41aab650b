//! `zagi list`: the workspaces of this home.

use std::process::ExitCode;

use serde::Serialize;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::workspace::{self, Listed};

/// List the workspaces
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    path: &'a std::path::Path,
    source: &'a str,
    revision: &'a str,
    presented: String,
    mounted: bool,
    environment: &'a str,
}

impl List {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let all = workspace::list(&ctx)?;
        let rows: Vec<Row<'_>> = all.iter().map(row).collect();
        if self.json {
            print_json(&rows)?;
        } else if rows.is_empty() {
            eprintln!("no workspaces; make one with `zagi mount REPO DIR`");
        } else {
            print(&table(&rows))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(listed: &Listed) -> Row<'_> {
    let d = &listed.description;
    Row {
        id: &d.id,
        name: &d.name,
        path: &d.path,
        source: &d.source.repository,
        revision: &d.source.commit,
        presented: d.presented.to_string(),
        mounted: listed.mounted,
        environment: &d.environment,
    }
}

fn table(rows: &[Row<'_>]) -> String {
    let lines = rows.iter().map(|r| {
        let presented = if r.mounted { r.presented.clone() } else { "unmounted".into() };
        let source = format!("{}@{}", r.source, short(r.revision));
        let environment = if r.environment.is_empty() { "-" } else { short(r.environment) };
        [r.name.to_owned(), source, presented, environment.into(), r.path.display().to_string()]
    });
    let head = ["NAME", "SOURCE", "PRESENTED", "ENVIRONMENT", "PATH"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(lines).collect();
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The first digits of an id or key, as people quote them.
pub(super) fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}
