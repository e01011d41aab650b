//! `zagi events`: paths as they change.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{print_bytes, quoted};
use super::settings::Settings;
use crate::workspace;
use crate::workspace::daemon::{EventKind, PathEvent};

/// Follow paths as they change in a workspace
///
/// One line a change: `created`, `changed` (its content), `attributes` or `removed`, and the
/// path, relative to the workspace; a directory ends in `/`, and stands for all that is in it
/// if it was moved or removed. `everything .` means that more changed than could be told one by
/// one. Ends when the workspace is unmounted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zagi events                       of the workspace around this \
                  directory\n  zagi events ./web --json | jq -r .path\n  zagi events | grep \
                  --line-buffered '\\.ts$' | while read -r change; do make; done"
)]
pub struct Events {
    /// A directory in the workspace; the current one if not given
    dir: Option<PathBuf>,
    /// Print each as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let ctx = settings.context()?;
        let dir = settings.directory(self.dir);
        let mut failed = None;
        workspace::follow(&ctx, &dir, &std::io::stdout(), &mut |events| {
            let text: String = events.iter().map(|event| line(event, self.json)).collect();
            failed = print_bytes(text.as_bytes()).err();
            failed.is_none()
        })?;
        failed.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

fn line(event: &PathEvent, json: bool) -> String {
    let kind = match event.kind {
        EventKind::Created => "created",
        EventKind::Changed => "changed",
        EventKind::Attributes => "attributes",
        EventKind::Removed => "removed",
        EventKind::Everything => "everything",
    };
    let (path, escaped) = quoted(event.path.as_bytes());
    if json {
        let mut value = serde_json::json!({
            "kind": kind,
            "path": path,
            "directory": event.directory,
        });
        if escaped {
            value["quoted"] = true.into();
        }
        return format!("{value}\n");
    }
    let shown = if path.is_empty() { "." } else { &*path };
    let slash = if event.directory && !path.is_empty() { "/" } else { "" };
    format!("{kind:<10} {shown}{slash}\n")
}
