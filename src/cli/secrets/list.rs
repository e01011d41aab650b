//! `zagi secrets list`: names, what they may be used for, who can read them. No values, and so no
//! identity is needed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::asked;
use super::session::{Session, Who};
use crate::cli::error::CommandError;
use crate::cli::output::{print, print_json};
use crate::cli::settings::Settings;
use crate::secrets::identity;
use crate::secrets::policy::{GRANTS, Policy, Release};

/// List the secrets: what each may be used for, and who can read them
#[derive(Debug, clap::Args)]
pub struct List {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Serialize)]
struct Report<'a> {
    path: &'a std::path::Path,
    project: &'a str,
    revision: u64,
    signer: String,
    secrets: Vec<Secret<'a>>,
    recipients: Vec<Reader<'a>>,
}

#[derive(Serialize)]
struct Secret<'a> {
    name: &'a str,
    release: &'static str,
    policy: BTreeMap<&'static str, &'a [String]>,
}

#[derive(Serialize)]
struct Reader<'a> {
    name: &'a str,
    key: &'a str,
    you: bool,
}

impl List {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        let session = Session::begin(settings, self.who)?;
        let vault = session.vault()?;
        if !self.json && settings.lent.is_none() {
            asked::say_missing(&session, vault.as_ref());
        }
        let Some(vault) = vault else {
            if self.json {
                return print("null\n");
            }
            session.say("no secrets; `zagi secrets set NAME` makes the first one");
            return Ok(());
        };
        let document = &vault.document;
        let own = identity::known(session.ctx.home.root())?;
        let report = Report {
            path: &vault.place.path,
            project: &document.project,
            revision: document.revision,
            signer: document.signer.to_string(),
            secrets: document.policies.iter().map(|(name, policy)| secret(name, policy)).collect(),
            recipients: document
                .recipients
                .iter()
                .map(|r| Reader { name: &r.name, key: &r.key, you: own.as_ref() == Some(&r.key) })
                .collect(),
        };
        if self.json {
            return print_json(&report);
        }
        print(&text(&report))
    }
}

fn secret<'a>(name: &'a str, policy: &'a Policy) -> Secret<'a> {
    let release = match policy.release() {
        Release::None => "none",
        Release::Brokered => "brokered",
        Release::Raw => "raw",
        Release::File => "file",
    };
    Secret { name, release, policy: policy.fields().collect() }
}

fn text(report: &Report<'_>) -> String {
    let width = |names: Vec<&str>| names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let wide = width(report.secrets.iter().map(|s| s.name).collect());
    let mut out = String::new();
    for secret in &report.secrets {
        let get = |field| secret.policy.get(field).map(|values| values.join(", "));
        let detail = match secret.release {
            "brokered" => {
                let mut parts = vec![get("host").unwrap_or_default()];
                let format = get("format").unwrap_or("{}".into());
                parts.push(format!("{}: {format}", get("header").unwrap_or_default()));
                parts.extend(get("method"));
                parts.extend(get("path"));
                parts.join("  ")
            }
            "file" => get("file").unwrap_or_default(),
            _ => String::new(),
        };
        let line = format!("{:<wide$}  {:<8}  {detail}", secret.name, secret.release);
        out.push_str(line.trim_end());
        out.push('\n');
        for field in GRANTS {
            if let Some(granted) = get(field) {
                out.push_str(&format!("{:wide$}  for {field} {granted}\n", ""));
            }
        }
    }
    out.push_str("\nread by\n");
    let wide = width(report.recipients.iter().map(|r| r.name).collect());
    for reader in &report.recipients {
        let you = if reader.you { "  (you)" } else { "" };
        out.push_str(&format!("{:<wide$}  {}{you}\n", reader.name, reader.key));
    }
    out
}
