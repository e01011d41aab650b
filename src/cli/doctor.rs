//! `zagi doctor`: what this machine offers, and what to do about each lack.

use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::redteam::{self, Row};
use crate::workspace::doctor::{self, Check, Verdict, attack};

/// Show what this machine offers, and what to do about what it lacks
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Attack an agent's sandbox on this machine, and show whether it holds
    ///
    /// A process, files, sockets and a key are made for it and gone afterwards; nothing else of
    /// yours is touched. Each attack is made unconfined first, where it must work.
    #[arg(long)]
    attack: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        if self.attack {
            return attacked(&attack::attack(&ctx)?, self.json);
        }
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

/// The table of attacks.
fn attacked(rows: &[Row], json: bool) -> Result<ExitCode, CommandError> {
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let failed = count(redteam::Verdict::Failed);
    if json {
        print_json(&rows)?;
    } else {
        let mut out = format!("{:<4} {:<44} {:<12} inside\n", "", "", "unconfined");
        for row in rows {
            out.push_str(&attack_line(row));
        }
        out.push_str(&format!(
            "{} held, {failed} did not, {} not shown: they do not work here unconfined\n",
            count(redteam::Verdict::Held),
            count(redteam::Verdict::NotShown),
        ));
        print(&out)?;
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn attack_line(row: &Row) -> String {
    let control = if row.control.is_none() { "works" } else { "does not" };
    let said = |said: &Option<String>| {
        let said = said.as_deref().unwrap_or_default();
        said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect::<String>()
    };
    let inside = match row.verdict {
        redteam::Verdict::Failed => "WORKS TOO".to_owned(),
        redteam::Verdict::Held => format!("stopped: {}", said(&row.inside)),
        redteam::Verdict::NotShown => format!("not shown; unconfined: {}", said(&row.control)),
    };
    format!("{:<4} {:<44} {control:<12} {inside}\n", row.vector, row.what)
}
