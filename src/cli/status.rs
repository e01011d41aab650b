//! `zagi status`: what differs from what was mounted.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::workspace::{self, Status as Report};

/// How many paths are named before «and N more».
const NAMED: usize = 20;

/// Show what differs in source, dependencies and environment
#[derive(Debug, clap::Args)]
pub struct Status {
    /// A directory in the workspace; the current one if not given
    dir: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.directory(self.dir);
        let status = workspace::status(&ctx, &dir)?;
        if self.json {
            print_json(&status)?
        } else {
            print(&text(&status))?
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(s: &Report) -> String {
    let mut out = format!(
        "{}  {}@{}  {}\n",
        s.path.display(),
        s.source.repository,
        super::list::short(&s.source.commit),
        if s.mounted { s.presented.as_str() } else { "unmounted" }
    );
    for (title, part) in [("source", &s.source.changes), ("dependencies", &s.dependencies.changes)]
    {
        if part.is_empty() {
            out.push_str(&format!("{title:<13} unchanged\n"));
            continue;
        }
        out.push_str(&format!("{title:<13} {} changed\n", part.len()));
        for change in part.iter().take(NAMED) {
            out.push_str(&format!("  {} {}\n", change.kind.letter(), change.path));
        }
        if part.len() > NAMED {
            out.push_str(&format!("  … and {} more\n", part.len() - NAMED));
        }
    }
    for stale in &s.dependencies.stale {
        out.push_str(&format!("{:<13} out of date: `{stale}` was edited\n", "dependencies"));
    }
    let environment = match &s.environment.stale {
        Some(file) => format!("out of date: `{file}` was edited"),
        None if s.environment.changed => "changed".into(),
        None => "unchanged".into(),
    };
    out.push_str(&format!("{:<13} {environment}\n", "environment"));
    if !s.services.is_empty() {
        out.push_str(&format!("{:<13} {} running\n", "services", s.services.join(", ")));
    }
    out
}
