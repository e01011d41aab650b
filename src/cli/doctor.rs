//! `zagi doctor`: what this machine offers, and what to do about each lack.

use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::workspace::doctor::{self, Check, Verdict};

/// Show what this machine offers, and what to do about what it lacks
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let report = doctor::examine(&ctx);
        if self.json {
            print_json(&report)?;
        } else {
            for check in &report.checks {
                print(&line(check))?;
            }
            print(&format!("a mount would be: {}\n", report.presentation))?;
        }
        let bad = report.checks.iter().any(|c| c.verdict == Verdict::Missing);
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn line(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Good => "ok",
        Verdict::Lacking => "lacks",
        Verdict::Missing => "MISSING",
    };
    let mut line = format!("{mark:<8} {:<18} {}\n", check.name, check.found);
    if let Some(advice) = &check.advice {
        line.push_str(&format!("         {:<18} → {advice}\n", ""));
    }
    line
}
