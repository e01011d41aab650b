//! Files of zagi's in a repository that somebody else's git made: out of that git's sight.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use super::SourceError;
use super::git::{Git, Run};
use crate::context::Context;

/// Has the repository that `dir` is in not see `name`, which lies in `dir`, by its own
/// `info/exclude`: nothing in the tree changes. Where there is no repository, nothing is done.
pub fn exclude(ctx: &Context, dir: &Path, name: &str) -> Result<(), SourceError> {
    let address = dir.to_string_lossy();
    let words = ["-C", "", "rev-parse", "--show-prefix", "--git-path", "info/exclude"];
    let mut args = words.map(OsStr::new);
    args[1] = dir.as_os_str();
    let said = match Git::find(ctx).and_then(|git| git.run(Run::new(&address, &args))) {
        Ok(said) => String::from_utf8_lossy(&said).into_owned(),
        // No repository, no git, or not ours to read.
        Err(_) => return Ok(()),
    };
    let mut lines = said.lines();
    let (Some(prefix), Some(file)) = (lines.next(), lines.next()) else { return Ok(()) };
    let line = format!("/{prefix}{name}");
    let path = dir.join(file);
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(SourceError::io(&path)(e)),
    };
    if before.lines().any(|found| found == line) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().unwrap_or(dir)).map_err(SourceError::io(&path))?;
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(SourceError::io(&path))?;
    writeln!(file, "{gap}{line}").map_err(SourceError::io(&path))
}
