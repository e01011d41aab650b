//! `zagi env`: the tools of a project.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::audit::AuditCommand;
use super::error::CommandError;
use super::output::{print, print_json};
use super::settings::Settings;
use crate::context::Platform;
use crate::environment::detect::Evidence;
use crate::environment::lock::{FLAKE, Part, Tool};
use crate::environment::spec::{Service, Spec};
use crate::environment::system;
use crate::registry::nix::STORE;
use crate::workspace::amend::{self, Environment};

/// Show the tools of a project: which versions, from where
///
/// Of a workspace what it has; of any other directory what its `.zagi/env.lock` says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi env\n  zagi env audit\n  zagi env --json | jq '.tools[].version'"
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Env {
    #[command(subcommand)]
    command: Option<EnvCommand>,
    /// The project; that of the current directory if not given
    dir: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum EnvCommand {
    Audit(AuditCommand),
}

/// One tool.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    pub name: &'a str,
    /// What the lock has.
    pub version: Option<&'a str>,
    /// What is asked for.
    pub constraint: Option<String>,
    pub provider: Option<&'a str>,
    /// Where its parts come from, or where it is on this machine.
    pub from: Vec<String>,
    pub needed_by: &'a [String],
    pub evidence: &'a [Evidence],
}

#[derive(Serialize)]
struct Shown<'a> {
    root: &'a std::path::Path,
    tools: Vec<Row<'a>>,
    services: &'a BTreeMap<String, Service>,
    env: &'a BTreeMap<String, String>,
}

impl Env {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        if let Some(EnvCommand::Audit(audit)) = self.command {
            return audit.run(settings);
        }
        let ctx = settings.context()?;
        let found = amend::environment(&ctx, &settings.directory(self.dir))?;
        let tools = rows(&found, &ctx.platform);
        if self.json {
            let Spec { services, env, .. } = &found.detected.spec;
            print_json(&Shown { root: &found.root, tools, services, env })?;
        } else if tools.is_empty() {
            eprintln!("no tools needed");
        } else {
            print(&tools.iter().map(line).collect::<String>())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every tool that is asked for or locked, by name.
pub(super) fn rows<'a>(found: &'a Environment, platform: &Platform) -> Vec<Row<'a>> {
    let locked = found.lock.platform(platform).into_iter();
    let locked: BTreeMap<&str, &Tool> = locked.map(|tool| (tool.name.as_str(), tool)).collect();
    let (asked, flake) = (&found.asked, &found.detected.flake);
    let mut names: Vec<&str> = locked.keys().copied().collect();
    let answers = |tool: &str| {
        let flake = locked.get(FLAKE).filter(|_| !locked.contains_key(tool));
        flake.is_some_and(|flake| flake.answers.iter().any(|name| name == tool))
    };
    let asked_for = asked.iter().map(|asked| asked.tool.as_str());
    names.extend(asked_for.filter(|tool| !answers(tool)));
    names.extend(flake.iter().map(|_| FLAKE));
    names.sort_unstable();
    names.dedup();
    let row = |name: &'a str| {
        let tool = locked.get(name);
        let asked = asked.iter().find(|asked| asked.tool == name);
        Row {
            name,
            version: tool.map(|tool| tool.version.as_str()),
            constraint: asked.map(|asked| asked.constraint.to_string()),
            provider: tool.map(|tool| tool.provider.as_str()),
            from: tool.map_or_else(Vec::new, |tool| from(tool)),
            needed_by: found.needs.get(name).map_or(&[], Vec::as_slice),
            evidence: match (asked, flake) {
                (None, Some(flake)) if name == FLAKE => &flake.evidence,
                _ => asked.map_or(&[], |asked| asked.evidence.as_slice()),
            },
        }
    };
    let packages = locked.get(system::NAME).copied().into_iter();
    let packages = packages.flat_map(|tool| tool.asked.iter().map(move |name| (tool, name)));
    let packages = packages.map(|(tool, name)| Row {
        name,
        version: Some(system::version(tool, name)),
        constraint: None,
        provider: Some(&tool.provider),
        from: from(tool),
        needed_by: &[],
        evidence: &[],
    });
    names.into_iter().filter(|name| *name != system::NAME).map(row).chain(packages).collect()
}

fn from(tool: &Tool) -> Vec<String> {
    let address = |part: &Part| match part.url.as_str() {
        "" => format!("{STORE}/{}", part.name),
        url => url.to_owned(),
    };
    let parts = tool.parts.iter().map(address);
    parts.chain(tool.adopted.iter().map(|a| a.path.display().to_string())).collect()
}

fn line(row: &Row<'_>) -> String {
    // The host says enough; the whole is in the lock and in the JSON.
    let host =
        |from: &String| from.split('/').nth(2).filter(|_| from.contains("://")).map(str::to_owned);
    let from = match row.from.as_slice() {
        [] => String::new(),
        [one] => host(one).unwrap_or_else(|| one.clone()),
        [first, ..] => {
            let here = if first.starts_with(STORE) { STORE } else { "this machine" };
            let host = host(first).unwrap_or_else(|| here.into());
            format!("{host}, {} packages", row.from.len())
        }
    };
    let version = row.version.unwrap_or("not locked");
    let line = format!("{:<8} {version:<12} {:<7} {from}", row.name, row.provider.unwrap_or(""));
    format!("{}\n", line.trim_end())
}
