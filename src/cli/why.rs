//! `zagi why`: the reasons for a tool or a system package.

use std::path::PathBuf;
use std::process::ExitCode;

use super::env::{Row, rows};
use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::environment::detect::Evidence;
use crate::workspace::amend;

/// Show why a tool or a system package is there, and why in this version
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zagi why node\n  zagi why libpq")]
pub struct Why {
    /// The tool or system package
    tool: String,
    /// The project; that of the current directory if not given
    dir: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Why {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let found = amend::environment(&ctx, &settings.directory(self.dir))?;
        let rows = rows(&found, &ctx.platform);
        let Some(row) = rows.iter().find(|row| row.name == self.tool) else {
            if let Some(evidence) = found.detected.system_evidence.get(&self.tool) {
                match self.json {
                    true => print_json(evidence)?,
                    false => {
                        print(&format!("{}, a system package\n{}", self.tool, read(evidence)))?
                    }
                }
                return Ok(ExitCode::SUCCESS);
            }
            let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
            let error = CommandError::failed(format!(
                "nothing asks for `{}` in `{}`",
                self.tool,
                found.root.display()
            ));
            return Err(match names.is_empty() {
                true => error,
                false => error.hint(format!("its tools are {}", names.join(", "))),
            });
        };
        match self.json {
            true => print_json(row)?,
            false => print(&reasons(row))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn reasons(row: &Row<'_>) -> String {
    let mut out = match (row.version, row.provider) {
        (Some(version), Some(provider)) => format!("{} {version}, from {provider}\n", row.name),
        _ => format!("{}, not locked\n", row.name),
    };
    if let Some(constraint) = &row.constraint {
        out.push_str(&format!("  asked for: {constraint}\n"));
    }
    out.push_str(&read(row.evidence));
    for by in row.needed_by {
        out.push_str(&format!("  needed by {by}\n"));
    }
    out
}

/// Where it was read, a line a statement.
fn read(evidence: &[Evidence]) -> String {
    let line = |e: &Evidence| {
        let strength = format!("{:?}", e.strength).to_lowercase();
        format!("    {}:{}: {} ({strength})\n", e.file, e.line, e.text)
    };
    evidence.iter().map(line).collect()
}
