//! `zagi add`: a project asks for more tools and services.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::settings::Settings;
use crate::environment::version::Constraint;
use crate::workspace::amend::{self, Amendment, Wanted};

/// Add tools, services and system packages to `.zagi/env.toml`, and lock them
///
/// Comments and order in the file stay. Of a tool without a version the newest is taken, and
/// its line written (`node = "22"`). What else the lock has stays as it is. In a workspace the
/// tools are there at once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi add node@22 zig\n  zagi add 'python@>=3.11 <3.13'\n  zagi add postgres@16 redis     services, for `zagi up`\n  zagi add libpq ffmpeg          system packages, as Debian has them"
)]
pub struct Add {
    /// Tools and services, each with the versions that will do after `@`
    #[arg(required = true, value_name = "TOOL[@VERSIONS]", value_parser = wanted)]
    tools: Vec<Wanted>,
    /// The project; that of the current directory if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let Some((tool, versions)) = text.split_once('@') else { return Ok((text.to_owned(), None)) };
    let constraint = Constraint::parse(versions).map_err(|e| e.to_string())?;
    Ok((tool.to_owned(), Some(constraint).filter(|c| !c.is_any())))
}

impl Add {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        tell(settings, &amend::add(&ctx, &settings.directory(self.dir), &self.tools)?);
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what became of which tool.
pub(super) fn tell(settings: &Settings, done: &Amendment) {
    if settings.quiet() {
        return;
    }
    for moved in &done.moved {
        let tool = &moved.tool;
        match (&moved.before, &moved.after) {
            (None, Some(after)) => eprintln!("  added    {tool} {after}"),
            (Some(before), Some(after)) => eprintln!("  changed  {tool} {before} -> {after}"),
            (Some(before), None) => eprintln!("  removed  {tool} {before}"),
            (None, None) => {}
        }
    }
    let lock = done.root.join(crate::environment::lock::PATH);
    let what = if done.moved.is_empty() { "no tool is another" } else { "locked" };
    eprintln!("{what}: {}", lock.display());
}
