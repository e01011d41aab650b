//! `zagi detect`: what a repository needs, and where that was read.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::environment::detect::{Detected, detect};
use crate::environment::files::Directory;
use crate::registry::http::Client;
use crate::source::{self, Address};
use crate::workspace::{self, WorkspaceError};

/// Show what a repository needs, each with the file and line it was read from
///
/// Downloads no tool. A directory is read as it is, uncommitted files included; a REPO at
/// its revision.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi detect\n  zagi detect ~/src/web --json\n  zagi detect pypi:jinja2@3.1.6"
)]
pub struct Detect {
    /// A directory or a REPO as `zagi mount` takes it; the current directory if not given
    #[arg(value_name = "DIR|REPO")]
    what: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Detect {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let what = self.what.as_deref().unwrap_or(".");
        let dir = settings.cwd.join(PathBuf::from(what));
        let detected = if dir.is_dir() {
            detect(&Directory::new(&dir), ctx.now, &ctx.platform)
        } else {
            let address = Address::parse(what, &ctx.config.default_host, &settings.cwd)
                .map_err(WorkspaceError::from)?;
            let resolved = source::resolve(&ctx, &Client::new(&ctx), &address)
                .map_err(WorkspaceError::from)?;
            workspace::detected(&ctx, &resolved)?
        };
        if self.json {
            print_json(&detected)?
        } else {
            print(&text(&detected))?
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(detected: &Detected) -> String {
    let mut out = String::new();
    for (_, asked) in detected.asked() {
        out.push_str(&format!("{:<8} {}\n", asked.tool, asked.constraint));
        for e in &asked.evidence {
            out.push_str(&format!("           {}:{}: {}\n", e.file, e.line, e.text));
        }
    }
    for name in &detected.spec.system {
        out.push_str(&format!("{:<8} {name}\n", "system"));
        for e in detected.system_evidence.get(name).into_iter().flatten() {
            out.push_str(&format!("           {}:{}: {}\n", e.file, e.line, e.text));
        }
    }
    for (name, value) in &detected.spec.env {
        out.push_str(&format!("{:<8} {name}={value}\n", "env"));
        for e in detected.env_evidence.get(name).into_iter().flatten() {
            out.push_str(&format!("           {}:{}\n", e.file, e.line));
        }
    }
    if let Some(flake) = &detected.flake {
        out.push_str(&format!("{:<8} its tools, where Nix evaluates it\n", "flake"));
        for e in &flake.evidence {
            out.push_str(&format!("           {}:{}: {}\n", e.file, e.line, e.text));
        }
        if let Some(input) = &flake.outside {
            out.push_str(&format!(
                "           not used: its input `{input}` is a file of the machine\n"
            ));
        }
    }
    for project in &detected.projects {
        let ecosystem = format!("{:?}", project.ecosystem).to_lowercase();
        let root = if project.root.is_empty() { "." } else { &project.root };
        let manager = project.manager.as_deref().unwrap_or("nobody");
        let lock = project.lock.as_deref().map_or("no lock file".into(), |l| format!("lock {l}"));
        out.push_str(&format!("{ecosystem:<8} {root}, installed by {manager}, {lock}\n"));
    }
    for (name, command) in detected.run.commands() {
        out.push_str(&format!("{name:<8} {command}\n"));
    }
    for note in &detected.notes {
        out.push_str(&format!("note: {}\n", note.text));
    }
    if out.is_empty() {
        out.push_str("nothing that needs a tool was found\n");
    }
    out
}
