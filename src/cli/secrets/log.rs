//! `zagi secrets log`: the record of each use.

use crate::cli::error::CommandError;
use crate::cli::output::{print, print_json, printable};
use crate::cli::settings::Settings;
use crate::secrets::audit::Log as Audit;

/// Show the record of each use, newest last
///
/// It is of this home, whatever the project. Every row holds the hash of the one before it; what
/// was changed or cut is said, and stops every release.
#[derive(Debug, clap::Args)]
pub struct Log {
    /// Only say whether it is whole; the first row that is not, if not
    #[arg(long, conflicts_with = "json")]
    verify: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        let ctx = settings.context()?;
        let log = Audit::new(ctx.home.root());
        let (rows, torn) = log.rows()?;
        if self.json {
            return print_json(&rows);
        }
        if self.verify {
            let tail = match torn {
                true => "; a row after them is not whole: the machine stopped while it was written",
                false => "",
            };
            let count = match rows.len() {
                1 => "1 row".to_owned(),
                n => format!("{n} rows"),
            };
            return print(&format!("{count}, each follows from the one before{tail}\n"));
        }
        let mut out = String::new();
        for row in &rows {
            let what = &row.of;
            let clean = |text: &str| printable(&text.replace(char::is_control, " "));
            let (names, by) = (clean(&what.names.join(",")), clean(&what.by));
            let file = clean(&what.file);
            let to = match what.to.as_str() {
                "" => String::new(),
                to => format!("  to {}", clean(to)),
            };
            let line = format!(
                "{}  {:<7} {names}{to}  {file}@{}  by {by} ({})\n",
                row.time, what.action, what.revision, what.pid
            );
            out.push_str(&line);
        }
        print(&out)
    }
}
